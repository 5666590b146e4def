"""The detector that fkp trains: `fkp train --config configs/detector.yaml`."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime

from fkp.common.checksums import check_sums
from fkp.errors import FkpError
from fkp.shipped import shipped
from fkp.vision.detect.box_map import AS_TOLD, BoxMap
from fkp.vision.detect.candidates import Candidates, one_scale

#: The bundle that is used where none is named.
SHIPPED = "saved_models/detector"
#: Of what a bundle holds, what a detector reads.
_FILES = ("model.onnx", "config.json", "metrics.json")
#: See `fkp.model.detection`, whose numbers these are: the network's code needs torch, and finding faces does not.
STRIDES, UNIT = (8, 16, 32), 4.0
#: Measured of a detector, in its bundle's metrics.json under "detector": see `DetectorBackend`.
SETTINGS = ("min_score", "doubt_score", "tile_score", "sure_px", "least_px")


class OwnDetector:
    """See `DetectorBackend`.

    Args:
        folder: A bundle of `task=detect`; None: the one that ships.

    Raises:
        FkpError: It is no such bundle, or a file of it is missing or changed.
    """

    size_px = 256
    coarse_px = 640
    facial_points = 5
    #: Its boxes are those of the labelled points already.
    box_map: BoxMap = AS_TOLD

    def __init__(self, folder: Path | None = None) -> None:
        place = shipped(SHIPPED) if folder is None else folder
        _, digest = check_sums(place, _FILES)
        if json.loads((place / "config.json").read_text(encoding="utf-8")).get("task") != "detect":
            raise FkpError(f"{place} is no face detector but a landmark model: name a bundle of `fkp train --task detect`")
        measured = json.loads((place / "metrics.json").read_text(encoding="utf-8"))["detector"]
        self.min_score, self._doubt_score, self.tile_score, self.sure_px, self.least_px = (float(measured[name]) for name in SETTINGS)
        # A calibration that a landmark bundle keeps is for the detector that ships.
        self.name = "fkp" if folder is None or folder.resolve() == shipped(SHIPPED).resolve() else f"fkp-{digest[:12]}"
        options = onnxruntime.SessionOptions()
        # The network is too small to gain from more threads, and servers run one detector a core.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # It would keep a plan of its memory for each shape.
        self._session = onnxruntime.InferenceSession((place / "model.onnx").read_bytes(), options, providers=["CPUExecutionProvider"])

    def look(self, pixels_u8: np.ndarray) -> Candidates:
        """See `DetectorBackend.look`."""
        (told,) = self._session.run(None, {"images_u8": np.ascontiguousarray(pixels_u8.transpose(2, 0, 1))[None]})
        return one_scale(decode(told[0], pixels_u8.shape[0], pixels_u8.shape[1], self._doubt_score))


def decode(told: np.ndarray, height: int, width: int, least_score: float) -> Candidates:
    """Turn what cells tell into candidates: `fkp.model.detection.decode`, of the cells that see a face.

    Args:
        told: (A, 15) of an image's cells.
        height: Of the image, in pixels.
        width: Likewise.
        least_score: What a cell must tell to count, 0 to 1.

    Returns:
        Candidates in pixels of the image (integers at pixel centres).
    """
    kept = np.flatnonzero(told[:, 0] >= np.log(least_score / (1 - least_score)))
    numbers = told[kept].astype(np.float64)
    finite = np.isfinite(numbers).all(axis=1)
    kept, numbers = kept[finite], numbers[finite]
    middles, strides = (values[kept] for values in _cells(height, width))
    unit = UNIT * strides[:, None]
    middle = middles + numbers[:, 1:3] * strides[:, None]
    half = np.exp(np.clip(numbers[:, 3:5], -6, 6)) * unit / 2
    points = middles[:, None] + numbers[:, 5:].reshape(-1, 5, 2) * unit[:, None]
    shapes = np.concatenate([(middle - half)[:, None], (middle + half)[:, None], points], axis=1) - 0.5
    return Candidates(shapes, 1 / (1 + np.exp(-np.clip(numbers[:, 0], -80, 80))))


@lru_cache(64)
def _cells(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Middles (A, 2) in pixels from the image's border, and strides (A,)."""
    middles = []
    for stride in STRIDES:
        x, y = ((np.arange(side // stride) + 0.5) * stride for side in (width, height))
        middles.append(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    strides = np.repeat(np.array(STRIDES, np.float64), [len(some) for some in middles])
    return np.concatenate(middles), strides
