"""What a corrected point tells of the others: against sampling, and against what a face must do."""

from __future__ import annotations

import numpy as np
import pytest

from fkp.bundle import open_bundle
from fkp.bundle.joint_errors import JointErrors, by_distance
from fkp.data.face_shape import mean_face
from fkp.label.posterior import Errors
from fkp.predict import DEFAULT_BUNDLE
from fkp.scheme import IBUG68, load_scheme

POINTS = 300 + 100 * mean_face()[:, :2]
SIZE = float(IBUG68.size_px(POINTS))
SCALE = np.full(68, 2.0)
CHIN, BESIDE, BROW = 8, 9, 19
ERRORS = Errors(IBUG68, JointErrors())


def test_neighbours_move_with_a_corrected_point_and_far_ones_stay() -> None:
    points, scale = ERRORS.condition(POINTS, SCALE, {CHIN: POINTS[CHIN] + (6, 2)}, SIZE)
    moved = points - POINTS
    assert moved[CHIN].tolist() == pytest.approx([6, 2])
    assert 1.5 < moved[BESIDE, 0] < 6
    assert 0.5 < moved[BESIDE, 1] < 2
    assert np.linalg.norm(moved[BROW]) < 0.2
    assert scale[CHIN] < 0.5 * SCALE[CHIN]


def test_a_correction_as_large_as_expected_shrinks_circles_and_an_enormous_one_widens_them() -> None:
    small = ERRORS.condition(POINTS, SCALE, {CHIN: POINTS[CHIN] + (1, 1)}, SIZE)[1]
    assert small[BESIDE] < 0.85 * SCALE[BESIDE]
    assert (small <= SCALE).all()
    large = ERRORS.condition(POINTS, SCALE, {CHIN: POINTS[CHIN] + (40, 0)}, SIZE)[1]
    assert large[BROW] > 1.5 * SCALE[BROW], "a face that is so wrong in one place is no longer trusted in the others"


def test_it_is_the_mean_and_the_spread_of_sampled_errors() -> None:
    """Errors are drawn from the stated distribution; those whose observed point is near the correction are averaged."""
    scheme = load_scheme('{"name": "few", "landmarks": 4, "pairs": [[0, 1]]}')
    points, scale = np.array([[0, 0], [40, 0], [20, 20], [20, 45.0]]), np.array([1, 2, 1.5, 3.0])
    errors = Errors(scheme, JointErrors(reach=1.0, freedom=1e9), person_pct=1e-6)
    sd = np.repeat(scale * 2 / np.sqrt(np.pi / 2), 2)
    covariance = by_distance(points, 1.0) * sd * sd[:, None]
    drawn = np.random.default_rng(0).multivariate_normal(np.zeros(8), covariance, 400_000).reshape(-1, 4, 2)
    near = drawn[np.linalg.norm(drawn[:, 2] - (2, 1), axis=-1) < 0.3]
    assert len(near) > 2000
    found, shrunk = errors.condition(points, scale, {2: points[2] + (2, 1)}, 40.0)
    assert found - points == pytest.approx(near.mean(0), abs=0.15)
    radii = np.linalg.norm(near - near.mean(0), axis=-1).mean(0)
    assert 2 * shrunk[[0, 1, 3]] == pytest.approx(radii[[0, 1, 3]], rel=0.06), "2 s is the expected error of what is left"


def test_the_whole_face_turns_with_its_errors() -> None:
    """A measured correlation that slides the chin sideways only does so in the frame of the face."""
    measured = np.eye(136)
    measured[2 * CHIN, 2 * BROW] = measured[2 * BROW, 2 * CHIN] = 0.9
    errors = Errors(IBUG68, JointErrors(measured, share=1.0))
    upright = errors.condition(POINTS, SCALE, {CHIN: POINTS[CHIN] + (5, 0)}, SIZE)[0] - POINTS
    assert upright[BROW, 0] > 3
    assert abs(upright[BROW, 1]) < 1e-9
    quarter = np.array([[0, 1], [-1, 0.0]])  # (x, y) @ this = (-y, x): clockwise by 90 degrees.
    turned = errors.condition(POINTS @ quarter, SCALE, {CHIN: (POINTS[CHIN] + (5, 0)) @ quarter}, SIZE)[0] - POINTS @ quarter
    assert turned == pytest.approx(upright @ quarter, abs=1e-6)


def test_the_next_point_is_the_one_that_lowers_the_total_most() -> None:
    scale = SCALE.copy()
    scale[27:31] = 8.0
    chosen = ERRORS.next_point(scale, {}, POINTS, SIZE)
    totals = [ERRORS.condition(POINTS, scale, {k: POINTS[k]}, SIZE)[1] for k in range(68)]
    # A correction of zero surprises nobody, and so takes the same factor from all circles whichever point it is of.
    assert chosen == int(np.argmin([total.sum() for total in totals]))
    assert chosen in range(27, 31)
    fixed = {chosen: POINTS[chosen]}
    assert ERRORS.next_point(scale, fixed, POINTS, SIZE) not in (chosen, None)
    assert ERRORS.next_point(scale, fixed, POINTS, SIZE, among=[3, chosen]) == 3
    assert ERRORS.next_point(scale, fixed, POINTS, SIZE, among=[chosen]) is None


def test_more_corrections_of_the_same_shift_bring_the_rest_nearer() -> None:
    truth = POINTS + (5, -3)
    left = [
        np.linalg.norm(ERRORS.condition(POINTS, SCALE, {k: truth[k] for k in fixed}, SIZE)[0] - truth, axis=1).mean()
        for fixed in ([], [8], [8, 0, 16], [8, 0, 16, 30, 19, 24, 36, 45, 54])
    ]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.7 * left[0]


def test_a_bundle_without_measured_errors_has_those_of_the_distance() -> None:
    bundle = open_bundle(DEFAULT_BUNDLE)
    errors = Errors.of(bundle)
    assert errors.scheme == bundle.config.scheme
    assert 1.5 < errors.circle_90 < Errors.circle_90, "labels on a grid have no long tail"
    bare = Errors(bundle.config.scheme, JointErrors.of(type(bundle)(bundle.path, bundle.config, {}, "")))
    assert bare.condition(POINTS, SCALE, {8: POINTS[8] + 3}, SIZE)[0] == pytest.approx(
        ERRORS.condition(POINTS, SCALE, {8: POINTS[8] + 3}, SIZE)[0]
    )


@pytest.mark.parametrize(
    ("points", "scale", "fixed", "size"),
    [
        (POINTS[:5], SCALE, {}, SIZE),
        (POINTS, np.zeros(68), {}, SIZE),
        (POINTS * np.nan, SCALE, {}, SIZE),
        (POINTS, SCALE, {68: np.zeros(2)}, SIZE),
        (POINTS, SCALE, {3: np.array([np.inf, 0])}, SIZE),
        (POINTS, SCALE, {}, 0.0),
    ],
)
def test_what_cannot_be_is_refused(points: np.ndarray, scale: np.ndarray, fixed: dict[int, np.ndarray], size: float) -> None:
    with pytest.raises(ValueError, match=r"scheme|finite|size"):
        ERRORS.condition(points, scale, fixed, size)
