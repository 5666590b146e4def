"""Found faces for the annotators, trackers and datasets of `supervision` (https://github.com/roboflow/supervision, MIT)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fkp.errors import FkpError
from fkp.predict.belief import QUALITY_SCALE
from fkp.predict.face import Face

if TYPE_CHECKING:
    from supervision import KeyPoints


def to_key_points(faces: Sequence[Face]) -> KeyPoints:
    """Faces of one image as `supervision.KeyPoints`, in their order.

    Args:
        faces: As `Predictor` gives them, all of one scheme.

    Returns:
        `xy` (N, K, 2) in image pixels; `detection_confidence` (N,) their quality; `keypoint_confidence` (N, K) the same of each point;
        `visible` (N, K) where the network is not unsure; `class_id` 0; `data`: `class_name`, `box_xyxy`, `score` and `expected_error_px`.

    Raises:
        FkpError: supervision is not installed, or older than 0.29, whose KeyPoints have other fields.
        ValueError: The faces are of different schemes.
    """
    try:
        from supervision import KeyPoints
    except ImportError as error:
        raise FkpError("there is no supervision, whose KeyPoints are asked for: `pip install 'supervision>=0.29'` brings it") from error
    if "keypoint_confidence" not in inspect.signature(KeyPoints).parameters:
        raise FkpError("this supervision is older than 0.29: `pip install --upgrade supervision` brings a newer one")
    if not faces:
        return KeyPoints.empty()
    errors_px, boxes_xyxy = np.stack([face.expected_error_px for face in faces]), np.stack([face.box_xyxy for face in faces])
    longer_px = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).max(-1)
    fields: dict[str, Any] = {
        "class_id": np.zeros(len(faces), int),
        "keypoint_confidence": np.exp(-errors_px / (QUALITY_SCALE * longer_px[:, None])).astype(np.float32),
        "detection_confidence": np.array([face.quality for face in faces], np.float32),
        "visible": ~np.stack([face.unsure for face in faces]),
        "data": {
            "class_name": np.array(["face"] * len(faces)),
            "box_xyxy": boxes_xyxy,
            "score": np.array([face.score for face in faces], np.float32),
            "expected_error_px": errors_px,
        },
    }
    return KeyPoints(np.stack([face.points_px for face in faces]).astype(np.float32), **fields)
