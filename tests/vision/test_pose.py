"""Head pose: angles that are known come back, whatever the scheme."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fkp.data.synthetic.face import Expression, Identity, View, points_of
from fkp.data.synthetic.render import place_points
from fkp.scheme import IBUG68, load_scheme
from fkp.vision.pose import canonical_points, has_pose, head_pose

ANGLES = [(0, 0, 0), (30, 0, 0), (-30, 0, 0), (0, 25, 0), (0, -25, 0), (0, 0, 40), (0, 0, 170), (-50, 20, -30), (70, -20, 100)]


def canonical(name: str) -> np.ndarray:
    """(K, 3) places of a scheme's landmarks in the canonical face, y down; what it has not is far off and must not count."""
    return np.nan_to_num(canonical_points(load_scheme(name).landmarks), nan=-70.0)


@pytest.mark.parametrize("scheme", ["ibug68", "ibug51", "wflw98", "cofw29", "five", "mediapipe478"])
@pytest.mark.parametrize("angles_deg", ANGLES, ids=str)
def test_a_known_pose_comes_back(scheme: str, angles_deg: tuple[int, int, int]) -> None:
    """`View` says which way is positive: to the viewer's right, down, clockwise."""
    view = View(*map(math.radians, angles_deg), scale_px=7.0, origin_px=(300.0, -20.0))
    pose = head_pose(view.project(canonical(scheme)).astype(np.float32), load_scheme(scheme))
    assert pose is not None
    np.testing.assert_allclose([pose.yaw_deg, pose.pitch_deg, pose.roll_deg], angles_deg, atol=0.01)


def test_drawn_heads_of_other_people_with_expressions_and_noise() -> None:
    """Their shape is another one than the canonical face. What a network's points give is told by `benchmarks/pose.py`."""
    rng = np.random.default_rng(3)
    errors = []
    for _ in range(120):
        angles_deg = rng.uniform((-60, -25, -180), (60, 25, 180))
        view = View(*np.radians(angles_deg), scale_px=60.0)
        points_px = place_points(points_of(Identity.draw(rng), Expression.draw(rng)), view) + rng.normal(0, 1.5, (68, 2))
        pose = head_pose(points_px, IBUG68)
        assert pose is not None
        errors.append(np.abs((np.array([pose.yaw_deg, pose.pitch_deg, pose.roll_deg]) - angles_deg + 180) % 360 - 180))
    assert (np.median(errors, axis=0) < (4, 4, 2.5)).all(), np.median(errors, axis=0)


def test_a_scheme_without_the_points_has_no_pose() -> None:
    points_px = np.random.default_rng(0).uniform(0, 100, (4, 2))
    flat = replace(IBUG68, landmarks=("left_eye_outer", "left_eye_inner", "right_eye_inner", "right_eye_outer"))
    others = replace(IBUG68, landmarks=("chin", "left_brow_0", "nose_tip", "point_3"))
    for scheme in (flat, others):
        assert not has_pose(scheme)
        assert head_pose(points_px, scheme) is None


@pytest.mark.parametrize(
    "points_px", [np.full((68, 2), np.nan), np.zeros((68, 2)), np.arange(68)[:, None] * np.array([[1.0, 2.0]])], ids=str
)
def test_points_that_are_no_face_have_none(points_px: np.ndarray) -> None:
    assert head_pose(points_px, IBUG68) is None
