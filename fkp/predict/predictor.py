"""Images to faces with a bundle, on ONNX Runtime: the offline end of the path that serving walks too."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from fkp.bundle import Bundle, open_bundle
from fkp.errors import FkpError
from fkp.predict.belief import Belief, belief_of
from fkp.predict.face import Face
from fkp.scheme import Scheme
from fkp.shipped import DEFAULT_BUNDLE
from fkp.vision.crop import Crop, box_of_points, roll_deg
from fkp.vision.detect import Detection, FaceDetector, iou, open_detector
from fkp.vision.encoded import EncodedImage
from fkp.vision.image import Image

#: A face in a given box that is turned by more than this, or whose points' box overlaps the given one by less (intersection
#: over union), is refined. From 15 degrees on that lowers the error of the shipped model on validation faces; with the
#: overlap nothing changes where boxes are exact, and a user's boxes may be anybody's: `benchmarks/robustness.py`.
MOST_ROLL_DEG = 15.0
LEAST_OVERLAP = 0.8

#: Two predictions agree when their points are so far apart on average, as a fraction of the face's length. With 0.01 the mean is
#: rarely taken; with 0.02 first ones count that were too far off (faces turned by 45 degrees: 4.18 % against 4.15).
AGREE_FRACTION = 0.015

#: Turns of the looks at a face that is doubted. Of detections in validation frames that are turned by 105 to 255 degrees 33 % are
#: right without them, 92 % with 180 alone and 96 % with all three; in given boxes all three find nearly every face, however it
#: is turned: `benchmarks/belief.py`.
TURNS_DEG = (90.0, 180.0, 270.0)

#: Crops that ONNX Runtime takes at once: its memory grows with them, and on a CPU more are not faster.
_MAX_CROPS = 16

T = TypeVar("T")
#: points_px (N, K, 2) and expected_error_px (N, K) of N crops, float32 in crop pixels.
Answer = tuple[np.ndarray, np.ndarray]
#: A search for faces: it yields crops (N, C, S, S) uint8, is sent the network's answer to them, and returns what it found.
Search = Generator[np.ndarray, Answer, T]
#: Box, score and crop of a face.
_Place = tuple[np.ndarray, float, Crop]


class Session(Protocol):
    """The network of a bundle, wherever it runs."""

    def run(self, crops_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, C, S, S) uint8 -> points_px (N, K, 2) and scale_px (N, K), float32 in crop pixels."""
        ...


class Predictor:
    """Finds points with a bundle; safe to share between threads.

    Args:
        bundle: A bundle or its folder; by default the shipped champion.
        threads: Cores a call may use; crops of one call run as one batch.
        detector: What finds the faces, see `vision.detect.open_detector`.
        session: Runs the network instead of ONNX Runtime, see `torch_session`.
        min_quality: Detected faces of a lower `Face.quality` are left out; 0 keeps all. By default the bundle's own, see `belief`.

    Raises:
        FkpError: See `open_bundle`; or ONNX Runtime cannot run its network.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path = DEFAULT_BUNDLE,
        threads: int = 1,
        detector: str | None = None,
        session: Session | None = None,
        min_quality: float | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self.config, self.scheme = self.bundle.config, self.bundle.config.scheme
        self._session = session or _OnnxSession(self.bundle, threads)
        self._detector_name = detector
        self.belief = belief_of(self.bundle)
        self.min_quality = self.belief.min_quality if min_quality is None else min_quality

    def __call__(self, image: Image | EncodedImage, boxes_xyxy: Sequence[np.ndarray] | None = None) -> list[Face]:
        """Find the faces of an image, see `find`."""
        return self.find(image, boxes_xyxy)[0]

    def find(self, image: Image | EncodedImage, boxes_xyxy: Sequence[np.ndarray] | None = None) -> tuple[list[Face], int]:
        """Find the faces of an image, and count what was left out.

        Faces of the detector are refined, and those in given boxes that do not fit; see `search`.

        Args:
            image: (H, W, 3) uint8 RGB, see `vision.image.decode_image`; or a file, which is decoded only as finely as its faces need.
            boxes_xyxy: Boxes about tight around each face's points; without them the detector looks for faces.

        Returns:
            One `Face` a box, in their order, or the detector's faces, best first; no face is an empty list. And how many
            detections were left out because the network does not believe them; of given boxes none is.

        Raises:
            ValueError: A box is not finite or has no area.
            FkpError: See `detector`.
        """
        kept, left_out = self.find_all(image, boxes_xyxy)
        return kept, len(left_out)

    def find_all(self, image: Image | EncodedImage, boxes_xyxy: Sequence[np.ndarray] | None = None) -> tuple[list[Face], list[Face]]:
        """As `find`, with the faces that were left out in place of their number."""
        found = self.detector.detect(image) if boxes_xyxy is None else given_boxes(boxes_xyxy)
        judged = self.judge(image, found, given=boxes_xyxy is not None)
        faces = drive(judged, self.run)
        return [face for face, kept in faces if kept], [face for face, kept in faces if not kept]

    def of_detections(self, image: Image, found: Sequence[Detection]) -> list[Face | None]:
        """Find the points of faces that the detector found, in their order; None for one that is not believed."""
        return drive(self.search(image, found), self.run)

    def predict_once(self, image: Image, boxes_xyxy: Sequence[np.ndarray]) -> list[Face]:
        """Find the faces in boxes from one crop each, as the box has it."""
        return drive(self._predict_once(image, [self._first(face) for face in given_boxes(boxes_xyxy)]), self.run)

    def refine(self, image: Image, faces: Sequence[Face], mirrored: bool = False) -> list[Face]:
        """Find the points of faces anew, each in a crop around those it has, where it stands upright.

        Args:
            image: (H, W, 3) uint8 RGB: the same image, or a video's next.
            faces: From a call on such an image; their scores stay.
            mirrored: Whether the network sees them mirrored. The points are those of the image all the same. Without effect for a
                scheme without pairs: nothing tells which points would change places.
        """
        return drive(self._predict_once(image, [self._refined(face, mirrored) for face in faces]), self.run)

    def search(
        self, image: Image | EncodedImage, found: Sequence[Detection], given: bool = False, min_quality: float | None = None
    ) -> Search[list[Face | None]]:
        """As `judge`: for each of `found` its face, or None where it is to be left out."""
        judged = yield from self.judge(image, found, given, min_quality)
        return [face if kept else None for face, kept in judged]

    def judge(
        self, image: Image | EncodedImage, found: Sequence[Detection], given: bool = False, min_quality: float | None = None
    ) -> Search[list[tuple[Face, bool]]]:
        """Find the points of faces: in the crop of each box, then refined in a mirrored crop around these, and both fused.

        Without pairs the second crop is not mirrored, and stands as the one before.
        A face that the network doubts is also looked at in turned crops, and an answer that it does not doubt is taken: detectors
        find faces that are upside down and take them for upright ones, and a box says nothing about how its face is turned.
        Who runs the network is left open: a caller here and now, or batches over several requests. All walk this one path.

        Args:
            image: (H, W, 3) uint8 RGB, or a file.
            found: The faces.
            given: Whether their boxes are a user's: they stay, only faces that do not fit them are refined, and none is left out.
            min_quality: In place of the predictor's own.

        Returns:
            For each of `found` its face, and whether it is kept: of those that the detector found, one that the network believes less
            than `min_quality` is to be left out.

        Raises:
            ValueError: A box is not finite or has no area.
        """
        faces = yield from self._predict_once(image, [self._first(face) for face in found])
        places = [place for place, face in enumerate(faces) if not given or needs_refinement(face)]
        refined = yield from self._fused(image, [faces[place] for place in places])
        for place, face in zip(places, refined, strict=True):
            faces[place] = replace(face, box_xyxy=found[place].box_xyxy) if given else face
        places = [place for place, face in enumerate(faces) if face.quality < self.belief.doubt]
        turned = yield from self._turned(image, [found[place] for place in places])
        for place, face in zip(places, turned, strict=True):
            # An answer that is doubted, too, turns nothing over: heads in profile often look a little less strange upside down.
            if face.quality >= self.belief.doubt:
                faces[place] = replace(face, box_xyxy=found[place].box_xyxy) if given else face
        least = self.min_quality if min_quality is None else min_quality
        return [(face, given or face.quality >= least) for face in faces]

    def _turned(self, image: Image | EncodedImage, found: Sequence[Detection]) -> Search[list[Face]]:
        """Look at each face turned, and once more at the turn that is believed most, for a turned box fits less well."""
        turned = [replace(face, roll_deg=face.roll_deg + turn) for face in found for turn in TURNS_DEG]
        first = yield from self._predict_once(image, [self._first(face) for face in turned])
        looks = yield from self._fused(image, first)
        best = [max(looks[place : place + len(TURNS_DEG)], key=_quality) for place in range(0, len(looks), len(TURNS_DEG))]
        upright = yield from self._predict_once(image, [self._refined(face, mirrored=False) for face in best])
        return (yield from self._fused(image, upright))

    def _fused(self, image: Image | EncodedImage, faces: Sequence[Face]) -> Search[list[Face]]:
        """Refine each face in a mirrored crop, and fuse both answers."""
        refined = yield from self._predict_once(image, [self._refined(face, mirrored=True) for face in faces])
        return [fuse(*both) for both in zip(faces, refined, strict=True)]

    def _predict_once(self, image: Image | EncodedImage, places: Sequence[_Place]) -> Search[list[Face]]:
        if not places:
            return []
        answer = yield np.stack([crop.apply(image, self.config.input.channels) for _, _, crop in places])
        return [_face(self.scheme, self.belief, *place, *each) for place, *each in zip(places, *answer, strict=True)]

    def _first(self, face: Detection) -> _Place:
        return face.box_xyxy, face.score, self.crop(face.box_xyxy, face.roll_deg)

    def _refined(self, face: Face, mirrored: bool) -> _Place:
        """Around the points of a face, turned with it; around its box where these have no extent."""
        box_xyxy = box_of_points(face.points_px)
        # Written so that points that are not finite have none.
        if not ((box_xyxy[2:] > box_xyxy[:2]).all() and np.isfinite(box_xyxy).all()):
            return face.box_xyxy, face.score, self.crop(face.box_xyxy, 0.0 if self.scheme.pairs else face.roll_deg)
        size_px, scale = self.config.input.size_px, self.config.input.crop_scale
        # Without pairs the points tell neither how the face is turned nor which of them change places in a mirror.
        known = bool(self.scheme.pairs)
        angle_deg = None if known else face.roll_deg
        return box_xyxy, face.score, Crop.of_points(face.points_px, self.scheme, size_px, scale, mirrored and known, angle_deg)

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

    def run(self, crops_u8: np.ndarray) -> Answer:
        """Run the network.

        Args:
            crops_u8: (N, C, S, S) uint8.

        Returns:
            points_px (N, K, 2) and expected_error_px (N, K), float32 in crop pixels.
        """
        starts = range(0, max(len(crops_u8), 1), _MAX_CROPS)
        answers = [self._session.run(crops_u8[first : first + _MAX_CROPS]) for first in starts]
        points_px, scale_px = map(np.concatenate, zip(*answers, strict=True))
        return points_px, 2 * scale_px  # The expected radius under the head's density, see losses.radial_laplace_nll.


def given_boxes(boxes_xyxy: Sequence[Sequence[float] | np.ndarray]) -> list[Detection]:
    """Boxes of a user in place of a detector's, for `Predictor.search`."""
    return [Detection(np.asarray(box, np.float32), 1.0) for box in boxes_xyxy]


def advance(search: Search[T], answer: Answer | None = None) -> np.ndarray | T:
    """Go on with a search: the next crops it asks for, or what it returns at its end.

    Args:
        search: It may be in another thread each time.
        answer: To the crops before; None at the beginning.
    """
    try:
        return next(search) if answer is None else search.send(answer)
    except StopIteration as end:  # Caught here, because no future may hold it.
        return end.value


def drive(search: Search[T], run: Callable[[np.ndarray], Answer]) -> T:
    """Go through with a search, the network run here."""
    step = advance(search)
    while isinstance(step, np.ndarray):
        step = advance(search, run(step))
    return step


def fuse(first: Face, refined: Face) -> Face:
    """One answer of two: their mean where they agree, and else the refined one, whose crop is the better one.

    It is of the mirrored face, so that the two err differently. On validation faces found by the detector the NME of the first
    is 4.08 %, that of this answer 4.01: `benchmarks/detection.py`.
    """
    low, high = np.split(box_of_points(refined.points_px), 2)
    apart = float(np.linalg.norm(first.points_px - refined.points_px, axis=-1).mean())
    # Written so that answers that are not finite do not agree.
    if not apart <= AGREE_FRACTION * float((high - low).max()):
        return refined
    points_px, error_px = (first.points_px + refined.points_px) / 2, (first.expected_error_px + refined.expected_error_px) / 2
    return replace(refined, points_px=points_px, expected_error_px=error_px)


def _quality(face: Face) -> float:
    return face.quality


def needs_refinement(face: Face) -> bool:
    """Whether a face stands in its box otherwise than in training: turned, or not filling it. A second crop shows it better."""
    upright = abs(float(roll_deg(face.points_px, face.scheme))) <= MOST_ROLL_DEG
    return not (upright and float(iou(face.box_xyxy, box_of_points(face.points_px))) >= LEAST_OVERLAP)


def _face(
    scheme: Scheme, belief: Belief, box_xyxy: np.ndarray, score: float, crop: Crop, points_crop_px: np.ndarray, error_crop_px: np.ndarray
) -> Face:
    """Take the network's answer (K, 2) and (K,) back from its crop into the image."""
    if crop.mirrored:
        mirror = list(scheme.mirror)
        points_crop_px, error_crop_px = points_crop_px[mirror], error_crop_px[mirror]
    points_px, error_px = crop.undo(points_crop_px), error_crop_px * np.float32(crop.px_per_crop_px)
    return Face(box_xyxy, score, points_px, error_px, scheme, crop.angle_deg, belief)


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
