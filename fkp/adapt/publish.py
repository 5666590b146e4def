"""An adapted network as a bundle, with what is known of it."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fkp.adapt.faces import Faces, shown
from fkp.adapt.measure import Measured
from fkp.adapt.report import card
from fkp.adapt.ways import Adapter
from fkp.bundle import Bundle, drift, update_bundle, write_bundle
from fkp.bundle.quantize import CALIBRATION_CROPS
from fkp.config import Config
from fkp.data.labels import Catalog, split_digest
from fkp.errors import FkpError
from fkp.evaluation.detector_calibration import look
from fkp.evaluation.evaluate import ERROR_RADII, to_json
from fkp.evaluation.joint_errors import of_evaluation
from fkp.evaluation.leakage import ALL_TRAIN, DESCENT, LABELS_DIGEST
from fkp.evaluation.radii import stated_radii
from fkp.model.network import Network
from fkp.vision.detect import OWN, BoxMap, open_detector

#: With fewer, a detector's calibration is the base's: it fits 44 numbers.
LEAST_FOR_DETECTOR = 200
_DETECTOR_FRAMES = 400

_LOG = logging.getLogger(__name__)


def publish(
    out: Path,
    catalog: Catalog,
    base: Bundle,
    adapter: Adapter,
    config: Config,
    network: Network,
    faces: Faces,
    measured: Measured,
    summary: dict[str, Any],
) -> Bundle:
    """Write the bundle.

    Args:
        out: Its folder.
        catalog: The set.
        base: The model of before.
        adapter: What made the network.
        config: Of the network.
        network: Calibrated; adapted to all faces.
        faces: Those.
        measured: On held-out faces, by networks that were adapted to the others.
        summary: The JSON report.

    Raises:
        FkpError: See `write_bundle`.
    """
    evaluation = measured.after
    known: dict[str, Any] = {
        LABELS_DIGEST: catalog.digest,
        "data_digest": catalog.digest,
        DESCENT: adapter.ancestor.descent,
        ALL_TRAIN: True,
        "adapted": {
            name: summary[name] for name in ("way", "ways", "penalty", "blend", "before", "after", "gain", "faces", "faces_measured")
        },
        "validation": {
            config.scheme.nme_key: evaluation.metrics()[config.scheme.nme_key],
            "faces": len(evaluation),
            "split_digest": _digest(catalog, config, evaluation.rows),
        },
        **stated_radii(evaluation),
    }
    if len(evaluation) >= drift.LEAST_FACES:
        known[drift.REFERENCE] = measured.reference()
    spread = np.unique(np.linspace(0, len(faces) - 1, min(CALIBRATION_CROPS, len(faces))).astype(int))
    crops_u8 = faces.plain_u8[spread] if config.export.int8 else None
    bundle = write_bundle(out, network, config, known, "", _face_boxes(catalog, base, faces.rows), crops_u8)
    bundle = replace(bundle, metrics=known)
    tested = replace(measured.after, radii=known[ERROR_RADII])
    known["test"] = to_json([tested], bundle)["splits"]
    joint = of_evaluation(evaluation, base)
    return update_bundle(out, known, card(config, summary, base), joint_errors=joint.to_json())


def _digest(catalog: Catalog, config: Config, rows: np.ndarray) -> str:
    """What validates: errors compare only where this is equal."""
    parts = [split_digest(catalog, config.data), rows.tolist()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _face_boxes(catalog: Catalog, base: Bundle, rows: np.ndarray) -> dict[str, Any]:
    """Calibration of the face detector to boxes of these labels; the base's own where there are too few faces, or no detector."""
    if len(rows) < LEAST_FOR_DETECTOR:
        return base.face_boxes
    try:
        detector = open_detector(OWN)
    except FkpError as error:
        _LOG.warning("the bundle keeps the base's calibration of the face detector: %s", error)
        return base.face_boxes
    chosen = rows[np.linspace(0, len(rows) - 1, min(_DETECTOR_FRAMES, len(rows))).astype(int)]
    found = [look(detector, catalog, part) for part in shown(np.array_split(chosen, -(-len(chosen) // 10)), "face detector")]
    shapes, boxes = (np.concatenate(parts) for parts in zip(*found, strict=True))
    box_map = BoxMap.fit(shapes, boxes, detector.backend.facial_points)
    if box_map is None:
        _LOG.warning("the bundle keeps the base's calibration of the face detector: it finds too few of these faces")
        return base.face_boxes
    return {**base.face_boxes, detector.backend.name: [list(row) for row in box_map.rows]}
