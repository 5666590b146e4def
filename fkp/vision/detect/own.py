"""The detector that fkp trains: `fkp train --config configs/detector.yaml`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fkp.common.checksums import check_sums
from fkp.errors import FkpError
from fkp.shipped import shipped
from fkp.vision.detect.box_map import AS_TOLD, BoxMap
from fkp.vision.detect.candidates import Candidates, one_scale
from fkp.vision.detect.cells import decode
from fkp.vision.detect.session import small_session

#: The bundle that is used where none is named.
SHIPPED = "saved_models/detector"
#: Of what a bundle holds, what a detector reads.
_FILES = ("model.onnx", "config.json", "metrics.json")
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
        self._session = small_session((place / "model.onnx").read_bytes())

    def look(self, pixels_u8: np.ndarray) -> Candidates:
        """See `DetectorBackend.look`."""
        (told,) = self._session.run(None, {"images_u8": np.ascontiguousarray(pixels_u8.transpose(2, 0, 1))[None]})
        return one_scale(decode(told[0], pixels_u8.shape[0], pixels_u8.shape[1], self._doubt_score))
