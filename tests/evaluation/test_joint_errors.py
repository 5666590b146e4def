"""The correlation of errors: found again where errors were drawn from one, and shrunk where faces tell little."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fkp.bundle import Bundle, open_bundle
from fkp.bundle.joint_errors import JointErrors, by_distance
from fkp.data.face_shape import mean_face
from fkp.evaluation.joint_errors import fit_joint_errors
from fkp.scheme import IBUG68

SHAPE = 100 * mean_face()[:, :2] + 200


def drawn(faces: int, correlation: np.ndarray, seed: int = 0, roll_deg: float = 0.0) -> tuple[np.ndarray, ...]:
    """Points, stated errors, truth and groups of faces whose errors follow a correlation in their own frames; each states its size."""
    rng = np.random.default_rng(seed)
    stated = rng.uniform(1, 4, (faces, 1)) * rng.uniform(0.5, 2, 68)
    errors = rng.multivariate_normal(np.zeros(136), correlation, faces).reshape(-1, 68, 2) * stated[..., None] * 0.8
    cos, sin = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    turn = np.array([[cos, sin], [-sin, cos]])
    points = np.tile(SHAPE @ turn, (faces, 1, 1))
    return points, stated, points + errors @ turn, np.arange(faces) // 2


def sliding() -> np.ndarray:
    """All points of the jaw err along with each other in y, and nothing else hangs together; it mirrors into itself."""
    correlation = np.eye(136)
    jaw = 2 * np.arange(17) + 1
    correlation[np.ix_(jaw, jaw)] = 0.8 + 0.2 * np.eye(17)
    return correlation


@pytest.mark.parametrize("roll_deg", [0.0, 35.0])
def test_it_is_found_again_however_faces_are_turned(roll_deg: float) -> None:
    found = fit_joint_errors(*drawn(600, sliding(), roll_deg=roll_deg), IBUG68)
    assert found.faces == 600
    assert found.share > 0.5
    assert found.measured is not None
    assert np.abs(found.measured - sliding()).max() < 0.2
    assert np.abs(found.measured - sliding()).mean() < 0.03


def test_few_faces_are_believed_less_than_many_and_one_that_knew_more_is_believed_too() -> None:
    few, many = (fit_joint_errors(*drawn(faces, sliding()), IBUG68) for faces in (24, 600))
    assert few.share < many.share

    def off(joint: JointErrors) -> float:
        return float(np.abs(joint.correlation(SHAPE) - sliding()).mean())

    with_base = fit_joint_errors(*drawn(24, sliding()), IBUG68, base=many)
    assert off(with_base) < 0.8 * off(few)


def test_errors_that_follow_the_distance_alone_are_left_to_it() -> None:
    found = fit_joint_errors(*drawn(40, by_distance(SHAPE)), IBUG68)
    assert np.abs(found.correlation(SHAPE) - by_distance(SHAPE)).mean() < 0.05


def test_points_that_are_not_labelled_count_nowhere() -> None:
    points, stated, truth, groups = drawn(300, sliding())
    holes = truth.copy()
    holes[::2, 20:40] = np.nan
    found, whole = (fit_joint_errors(points, stated, of, groups, IBUG68).measured for of in (holes, truth))
    assert found is not None
    assert whole is not None
    assert np.isfinite(found).all()
    assert np.abs(found - whole).mean() < 0.05
    holes[:, 30] = np.nan
    never = fit_joint_errors(points, stated, holes, groups, IBUG68)
    assert np.isfinite(never.correlation(SHAPE)).all()


def test_too_few_groups_tell_nothing() -> None:
    points, stated, truth, _ = drawn(30, sliding())
    assert fit_joint_errors(points, stated, truth, np.zeros(30), IBUG68).measured is None
    assert JointErrors().to_json() == {}


def test_the_json_brings_it_back() -> None:
    found = fit_joint_errors(*drawn(60, sliding()), IBUG68)
    again = JointErrors.from_json(json.loads(json.dumps(found.to_json())))
    assert (again.share, again.reach, again.freedom, again.faces) == (found.share, found.reach, found.freedom, 60)
    assert again.correlation(SHAPE) == pytest.approx(found.correlation(SHAPE), abs=1e-4)
    assert len(json.dumps(found.to_json())) < 30_000


@pytest.mark.parametrize("name", ["champion", "tiny", "large"])
def test_the_shipped_models_bring_theirs(name: str) -> None:
    bundle: Bundle = open_bundle(Path(__file__).resolve().parents[2] / "saved_models" / name)
    joint = JointErrors.of(bundle)
    assert joint.faces == bundle.metrics["validation"]["faces"]
    values = np.linalg.eigvalsh(joint.correlation(SHAPE))
    assert values.min() > 0
    assert joint.correlation(SHAPE)[2 * 8 + 1, 2 * 7 + 1] > 0.3, "the chin and the point beside it go up and down together"
