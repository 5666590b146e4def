"""A detector's boxes against those of the labels: the calibration that a bundle keeps."""

from __future__ import annotations

import logging

import numpy as np

from fkp.config import DataConfig
from fkp.data.face_shape import box_of_label
from fkp.data.labels import Catalog
from fkp.errors import FkpError
from fkp.scheme import IBUG68
from fkp.vision.detect import OWN, BoxMap, FaceDetector, open_detector

#: Frames of a calibration, which fits 44 numbers at most; about 15 s.
_FRAMES = 2000

logger = logging.getLogger(__name__)


def look(detector: FaceDetector, catalog: Catalog, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best face of each frame as the detector tells it, and where it should be.

    Returns:
        (N, 2 + P, 2) shapes, see `Candidates`, with rows of NaN where nothing is found; and (N, 4) tight boxes of the labels.
    """
    shapes = np.full((len(rows), 2 + detector.backend.facial_points, 2), np.nan)
    for place, row in enumerate(rows):
        found = detector.find(catalog.image(int(row)))
        if len(found):
            shapes[place] = found.shapes_px[0]
    return shapes, box_of_label(catalog.points_px[rows], catalog.scheme).astype(np.float64)


def fit(detector: FaceDetector, catalog: Catalog, data: DataConfig) -> BoxMap | None:
    """Calibrate a detector on frames spread over the training subset; None if it finds too few of their faces.

    The built-in calibration is for the points of ibug68. It is useless for those of another scheme, for which ten faces give at
    least the shift and the size: the box's middle and its longer side are all that a crop takes of it.
    """
    rows = catalog.rows("train", data)
    spread = rows[np.linspace(0, len(rows) - 1, min(_FRAMES, len(rows))).astype(int)]
    seen, whole = look(detector, catalog, spread), catalog.scheme.landmarks == IBUG68.landmarks
    box_map = BoxMap.fit(*seen, detector.backend.facial_points, whole)
    if box_map is not None or whole:
        return box_map
    if (box_map := BoxMap.fit(*seen, 0, whole)) is not None:
        logger.info("few training faces are found: the calibration of the face detector is a shift and a size alone")
    return box_map


def calibrate(catalog: Catalog, data: DataConfig, name: str = OWN) -> dict[str, list[list[float]]]:
    """What `bundle.write_bundle` keeps of a detector: its calibration by its name.

    It is empty where the detector is not installed, or finds too few of these faces: for such a bundle the built-in
    calibration holds. A training that has taken hours must not be lost to that, so it is a warning and not an error.
    """
    try:
        detector = open_detector(name)
    except FkpError as error:
        logger.warning("the bundle keeps no calibration of the face detector: %s", error)
        return {}
    box_map = fit(detector, catalog, data)
    if box_map is None:
        logger.warning("the bundle keeps no calibration of the face detector: it finds too few of the training faces")
        return {}
    return {detector.backend.name: [list(row) for row in box_map.rows]}
