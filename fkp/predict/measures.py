"""What is computed from a face's points, as columns of tables, and what a scheme has not the landmarks for."""

from __future__ import annotations

import numpy as np

from fkp.scheme import Scheme
from fkp.vision.openness import OPENINGS, measured, openness
from fkp.vision.pose import has_pose, head_pose

#: Names of the columns, all float; without a value where the scheme has not the landmarks.
COLUMNS = ("yaw_deg", "pitch_deg", "roll_deg", *(f"{name}_openness" for name in OPENINGS))


def measures(points_px: np.ndarray, scheme: Scheme) -> dict[str, float]:
    """The values of `COLUMNS` that (K, 2) points of a scheme tell."""
    pose = head_pose(points_px, scheme)
    told = {} if pose is None else vars(pose)
    return told | {f"{name}_openness": ratio for name, ratio in openness(points_px, scheme).items()}


def names(scheme: Scheme) -> list[str]:
    """What answers tell of a face of a scheme beside its points: `pose`, `openness.left_eye` and so on."""
    return [*(["pose"] if has_pose(scheme) else []), *(f"openness.{name}" for name in measured(scheme))]


def told_missing(scheme: Scheme) -> str:
    """One sentence on what a scheme has not the landmarks for; nothing where it has all."""
    missing = sorted({"pose", *(f"openness.{name}" for name in OPENINGS)} - set(names(scheme)))
    return f"scheme {scheme.name} has not the landmarks that tell {', '.join(missing)}: those stay empty" if missing else ""
