"""Pictures to faces with a bundle, on ONNX Runtime: the offline end of the path that serving walks too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from fkp.bundle import Bundle, open_bundle
from fkp.errors import FkpError
from fkp.scheme import MIRROR
from fkp.shipped import DEFAULT_BUNDLE
from fkp.vision import image as images
from fkp.vision.crop import Crop, box_of_points, roll_deg
from fkp.vision.detect import BLAZEFACE, Detection, FaceDetector, iou, open_detector

#: A face in a given box that is turned by more than this, or whose points' box overlaps the given one by less (intersection
#: over union), is looked at again. From 15 degrees on that lowers the error of the shipped model on validation faces; with the
#: overlap nothing changes where boxes are exact, and a user's boxes may be anybody's: `benchmarks/robustness.py`.
MOST_ROLL_DEG = 15.0
LEAST_OVERLAP = 0.8

#: Two looks agree when their points are so far apart on average, as part of the face's length. With 0.01 the mean is rarely
#: taken; with 0.02 first looks count that were too far off (faces turned by 45 degrees: 4.18 % against 4.15).
AGREE_PART = 0.015

_MIRROR = list(MIRROR)


@dataclass(frozen=True)
class Face:
    """One face of a picture, everything in pixels of that picture.

    Attributes:
        box_xyxy: (4,) float32, where the face was looked for: a box that was given, or tight around the 68 points.
        score: The detector's confidence, 1 for a box that was given.
        points_px: (68, 2) float32.
        expected_error_px: (68,) float32, how far from the truth the network expects each point to be.
    """

    box_xyxy: np.ndarray
    score: float
    points_px: np.ndarray
    expected_error_px: np.ndarray

    def to_json(self) -> dict[str, object]:
        """Plain JSON, rounded to hundredths of a pixel."""
        return {
            "box": np.round(self.box_xyxy.astype(float), 2).tolist(),
            "score": round(self.score, 4),
            "keypoints": np.round(self.points_px.astype(float), 2).tolist(),
            "expected_error_px": np.round(self.expected_error_px.astype(float), 2).tolist(),
        }


class Session(Protocol):
    """The network of a bundle, wherever it runs."""

    def run(self, crops_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, C, S, S) uint8 -> points_px (N, 68, 2) and scale_px (N, 68), float32 in crop pixels."""
        ...


class Predictor:
    """Finds points with a bundle; safe to share between threads.

    Args:
        bundle: A bundle or its folder; by default the shipped champion.
        threads: Cores a call may use; crops of one call run as one batch.
        detector: What finds the faces, see `vision.detect.open_detector`.
        session: Runs the network instead of ONNX Runtime, see `torch_session`.

    Raises:
        FkpError: See `open_bundle`; or ONNX Runtime cannot run its network.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path = DEFAULT_BUNDLE,
        threads: int = 1,
        detector: str = BLAZEFACE,
        session: Session | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self.config = self.bundle.config
        self._session = session or _OnnxSession(self.bundle, threads)
        self._detector_name = detector

    def __call__(self, image: images.Image, boxes_xyxy: Sequence[np.ndarray] | None = None) -> list[Face]:
        """Find the faces of a picture.

        Faces of the detector are looked at twice; those in given boxes where these do not fit. See `of_both_looks`.

        Args:
            image: (H, W, 3) uint8 RGB, see `vision.image.decode`.
            boxes_xyxy: Boxes about tight around each face's points; without them the detector looks for faces.

        Returns:
            One `Face` a box, in their order, or the detector's faces, best first; no face is an empty list.

        Raises:
            ValueError: A box is not finite or has no area.
            FkpError: See `detector`.
        """
        if boxes_xyxy is not None:
            faces = self.once(image, boxes_xyxy)
            places = [place for place, face in enumerate(faces) if not fits(face)]
            again = self.again(image, [faces[place] for place in places], mirrored=True)
            for place, face in zip(places, again, strict=True):
                faces[place] = replace(of_both_looks(faces[place], face), box_xyxy=faces[place].box_xyxy)
            return faces
        return self.of_detections(image, self.detector.detect(image))

    def once(self, image: images.Image, boxes_xyxy: Sequence[np.ndarray]) -> list[Face]:
        """Find the faces in boxes with one look at each, as the box has it."""
        boxes = [np.asarray(box, np.float32) for box in boxes_xyxy]
        return self._points(boxes, [1.0] * len(boxes), [self.crop(box) for box in boxes], image)

    def of_detections(self, image: images.Image, found: Sequence[Detection]) -> list[Face]:
        """Find the points of faces that the detector found."""
        crops = [self.crop(face.box_xyxy, face.roll_deg) for face in found]
        faces = self._points([face.box_xyxy for face in found], [face.score for face in found], crops, image)
        return [of_both_looks(*both) for both in zip(faces, self.again(image, faces, mirrored=True), strict=True)]

    def again(self, image: images.Image, faces: Sequence[Face], mirrored: bool = False) -> list[Face]:
        """Find the points of faces anew, each in a crop around those it has, where it stands upright.

        Args:
            image: (H, W, 3) uint8 RGB: the same picture, or a video's next.
            faces: From a call on such a picture; their scores stay.
            mirrored: Whether the network sees them mirrored. The points are those of the picture all the same.
        """
        crops = [self.second_crop(face, mirrored) for face in faces]
        return self._points([second_box(face) for face in faces], [face.score for face in faces], crops, image)

    def _points(self, boxes: Sequence[np.ndarray], scores: Sequence[float], crops: Sequence[Crop], image: images.Image) -> list[Face]:
        if not crops:
            return []
        pixels = np.stack([crop.apply(image, self.config.input.channels) for crop in crops])
        return [face_of_answer(*each) for each in zip(boxes, scores, crops, *self.run(pixels), strict=True)]

    @cached_property
    def detector(self) -> FaceDetector:
        """The face detector, with the calibration that the bundle keeps; loaded when first needed.

        Raises:
            FkpError: See `vision.detect.open_detector`.
        """
        return open_detector(self._detector_name, self.bundle.face_boxes)

    def crop(self, box_xyxy: np.ndarray, roll_deg: float = 0.0) -> Crop:
        """The crop this bundle's network wants of a box that is turned by `roll_deg` about its middle."""
        return Crop.of_box(box_xyxy, self.config.input.size_px, self.config.input.crop_scale, roll_deg)

    def second_crop(self, face: Face, mirrored: bool) -> Crop:
        """The crop of a second look: around the points of the first, turned with the face, if they have some extent."""
        if not _has_extent(face):
            return self.crop(face.box_xyxy)
        return Crop.of_points(face.points_px, self.config.input.size_px, self.config.input.crop_scale, mirrored)

    def run(self, crops_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run the network.

        Args:
            crops_u8: (N, C, S, S) uint8.

        Returns:
            points_px (N, 68, 2) and expected_error_px (N, 68), float32 in crop pixels.
        """
        points_px, scale_px = self._session.run(crops_u8)
        return points_px, 2 * scale_px  # The expected radius under the head's density, see losses.radial_laplace_nll.


def face_of_answer(box_xyxy: np.ndarray, score: float, crop: Crop, points_crop_px: np.ndarray, error_crop_px: np.ndarray) -> Face:
    """Take the network's answer (68, 2) and (68,) back from its crop into the picture."""
    if crop.mirrored:
        points_crop_px, error_crop_px = points_crop_px[_MIRROR], error_crop_px[_MIRROR]
    return Face(box_xyxy, score, crop.undo(points_crop_px), error_crop_px * np.float32(crop.px_per_crop_px))


def of_both_looks(first: Face, second: Face) -> Face:
    """One answer of two: their mean where they agree, and else the second, whose crop is the better one.

    The second look is at the mirrored face, so that the two err differently. On validation faces found by the detector the
    NME of one look is 4.08 %, that of this answer 4.01: `benchmarks/detection.py`.
    """
    low, high = np.split(box_of_points(second.points_px), 2)
    apart = float(np.linalg.norm(first.points_px - second.points_px, axis=-1).mean())
    # Written so that answers that are not finite do not agree.
    if not apart <= AGREE_PART * float((high - low).max()):
        return second
    points_px, error_px = (first.points_px + second.points_px) / 2, (first.expected_error_px + second.expected_error_px) / 2
    return replace(second, points_px=points_px, expected_error_px=error_px)


def second_box(face: Face) -> np.ndarray:
    """The box (4,) of a second look: tight around the points of the first, if they have some extent."""
    return box_of_points(face.points_px) if _has_extent(face) else face.box_xyxy


def fits(face: Face) -> bool:
    """Whether a face stands in its box as in training: upright, and filling it. If not, a second crop shows it better."""
    upright = abs(float(roll_deg(face.points_px))) <= MOST_ROLL_DEG
    return upright and float(iou(face.box_xyxy, box_of_points(face.points_px))) >= LEAST_OVERLAP


def _has_extent(face: Face) -> bool:
    # Written so that points that are not finite have none.
    box_xyxy = box_of_points(face.points_px)
    return bool((box_xyxy[2:] > box_xyxy[:2]).all() and np.isfinite(box_xyxy).all())


class _OnnxSession:
    def __init__(self, bundle: Bundle, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(bundle.onnx_path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises many kinds; each means that it cannot run this file.
            raise FkpError(f"{bundle.onnx_path} cannot be run ({' '.join(str(error).split())[:160]}): export it again") from error

    def run(self, crops_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points_px, scale_px = self._session.run(["points_px", "scale_px"], {"crops_u8": crops_u8})
        return points_px, scale_px
