"""The figures of the tables, against values by hand, plain loops and numeric integration."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fkp.evaluation import metrics
from fkp.scheme import IBUG68


def _faces(count: int, seed: int = 0) -> np.ndarray:
    """Random points whose outer eye corners are 50 px apart or more."""
    truth_px = np.random.default_rng(seed).uniform(20, 80, (count, 68, 2)).astype(np.float32)
    truth_px[:, 36, 0] -= 60
    truth_px[:, 45, 0] += 60
    return truth_px


def test_nme_by_hand() -> None:
    truth_px = np.zeros((2, 68, 2))
    truth_px[:, 45] = (30, 40)  # 50 px from point 36
    points_px = truth_px + np.array([3, 4])
    points_px[1, 17:] = truth_px[1, 17:]
    assert metrics.normaliser_px(truth_px) == pytest.approx([50, 50])
    assert metrics.nme_pct(points_px, truth_px) == pytest.approx([10, 10 * 17 / 68])
    assert metrics.nme_pct(points_px, truth_px, IBUG68.groups["inner51"]) == pytest.approx([10, 0])
    assert metrics.nme_pct(points_px, truth_px, IBUG68.regions["jaw"]) == pytest.approx([10, 10])


def test_nme_equals_a_plain_loop() -> None:
    truth_px, points_px = _faces(5), _faces(5, seed=1)
    points = IBUG68.regions["mouth"]
    for face, nme in enumerate(metrics.nme_pct(points_px, truth_px, points)):
        total = 0.0
        for point in points:
            total += math.dist(points_px[face, point].tolist(), truth_px[face, point].tolist())
        assert nme == pytest.approx(100 * total / len(points) / math.dist(truth_px[face, 36].tolist(), truth_px[face, 45].tolist()))


def test_nme_is_normalised_by_the_truth_alone() -> None:
    truth_px = _faces(3)
    points_px = truth_px.copy()
    points_px[:, 45] = points_px[:, 36]
    assert np.isfinite(metrics.nme_pct(points_px, truth_px)).all()


@pytest.mark.parametrize("factor", [0.1, 1.0, 7.0])
def test_nme_does_not_change_with_the_size_or_place_of_the_image(factor: float) -> None:
    truth_px, points_px = _faces(4).astype(np.float64), _faces(4, seed=1).astype(np.float64)
    moved = metrics.nme_pct(points_px * factor + 13, truth_px * factor + 13)
    assert moved == pytest.approx(metrics.nme_pct(points_px, truth_px))


def test_auc_equals_numeric_integration() -> None:
    nme = np.random.default_rng(0).gamma(3, 2, 501)
    grid = np.linspace(0, 8, 20_001)
    ced = (nme[None] <= grid[:, None]).mean(axis=1)
    assert metrics.auc_pct(nme, 8) == pytest.approx(100 * np.trapezoid(ced, grid) / 8, abs=0.01)


def test_auc_and_failure_at_the_ends() -> None:
    assert metrics.auc_pct(np.zeros(3)) == 100
    assert metrics.auc_pct(np.array([8.0, 9.0])) == 0
    assert metrics.auc_pct(np.array([4.0])) == pytest.approx(50)
    assert metrics.failure_pct(np.array([8.0, 8.01, 20.0, 1.0]), 8) == 50
    assert metrics.failure_pct(np.array([8.0, 8.01, 20.0, 1.0]), 10) == 25


def test_summary_has_every_key_and_is_consistent() -> None:
    truth_px = _faces(30)
    points_px = truth_px + np.random.default_rng(2).normal(0, 6, truth_px.shape)
    figures = metrics.summary(points_px, truth_px)
    names = ["", "_inner51", *(f"_{region}" for region in IBUG68.regions)]
    keys = {f"nme{name}_interocular_pct" for name in names}
    assert set(figures) == keys | {"median_nme_interocular_pct", "auc_08_pct", "failure_08_pct", "failure_10_pct", "points_measured"}
    assert figures["points_measured"] == 30 * 68
    assert all(type(value) is float for value in figures.values())
    by_region = sum(figures[f"nme_{region}_interocular_pct"] * len(points) for region, points in IBUG68.regions.items())
    assert by_region / 68 == pytest.approx(figures["nme_interocular_pct"])
    jaw = figures["nme_jaw_interocular_pct"]
    assert (figures["nme_inner51_interocular_pct"] * 51 + jaw * 17) / 68 == pytest.approx(figures["nme_interocular_pct"])


def test_summary_of_the_truth_itself_is_perfect() -> None:
    figures = metrics.summary(_faces(3), _faces(3))
    assert figures["auc_08_pct"] == 100
    assert not any(value for key, value in figures.items() if key not in ("auc_08_pct", "points_measured"))


def test_coverage_of_samples_of_the_stated_density_equals_the_levels() -> None:
    rng = np.random.default_rng(0)
    scale_px = np.exp(rng.normal(0, 1, (3000, 68)))
    # |e| / s of exp(-|e| / s) / (2 pi s^2) is the sum of two exponential variables.
    error_px = scale_px * rng.exponential(size=(2, *scale_px.shape)).sum(axis=0)
    levels = np.array([0.05, 0.25, 0.5, 0.68, 0.95, 0.99])
    assert metrics.coverage(error_px, 2 * scale_px, levels) == pytest.approx(levels, abs=0.005)
    assert error_px.mean() == pytest.approx((2 * scale_px).mean(), rel=0.02)
    assert (metrics.coverage(2 * error_px, 2 * scale_px, levels) < levels).all()


def test_coverage_radius_solves_the_distribution() -> None:
    for level in (0.1, 0.68, 0.95):
        low, high = 0.0, 50.0  # radius / s by bisection of 1 - (1 + r) exp(-r)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if 1 - (1 + middle) * math.exp(-middle) < level else (low, middle)
        just = np.array([low * 3 - 1e-6, low * 3 + 1e-6])
        assert metrics.coverage(just, np.full(2, 6.0), [level]) == pytest.approx([0.5])


def test_levels_are_answered_in_their_order() -> None:
    assert metrics.coverage(np.array([1.0]), np.array([2.0]), [0.95, 0.0]).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("which", ["truth", "prediction"])
def test_a_value_that_is_not_finite_is_refused(value: float, which: str) -> None:
    truth_px, points_px = _faces(2), _faces(2)
    {"truth": truth_px, "prediction": points_px}[which][1, 5, 0] = value
    with pytest.raises(ValueError, match=rf"the {which} of face 1 .* not finite"):
        metrics.summary(points_px, truth_px)


def test_degenerate_truth_is_refused() -> None:
    truth_px = _faces(3)
    truth_px[2, 45] = truth_px[2, 36]
    with pytest.raises(ValueError, match=r"normaliser of truth 2 .* is 0 or missing"):
        metrics.nme_pct(_faces(3), truth_px)


def test_other_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        metrics.nme_pct(np.zeros((2, 5, 2)), _faces(2))
    with pytest.raises(ValueError, match="1 predictions do not go with 2 truths"):
        metrics.nme_pct(_faces(1), _faces(2))
    with pytest.raises(ValueError, match="no points"):
        metrics.nme_pct(_faces(2), _faces(2), ())
    with pytest.raises(ValueError, match="no face"):
        metrics.summary(_faces(0), _faces(0))
    with pytest.raises(ValueError, match="not finite"):
        metrics.failure_pct(np.array([np.nan]), 8)
    with pytest.raises(ValueError, match="limit must be positive"):
        metrics.auc_pct(np.ones(2), 0)


@pytest.mark.parametrize(
    ("error", "expected", "level", "message"),
    [
        (np.ones(3), np.ones(2), 0.5, "shape"),
        (np.ones(0), np.ones(0), 0.5, "shape"),
        (-np.ones(2), np.ones(2), 0.5, "an error is negative"),
        (np.ones(2), np.full(2, np.nan), 0.5, "an expected error is negative or not finite"),
        (np.ones(2), np.ones(2), 1.0, "level"),
        (np.ones(2), np.ones(2), np.nan, "level"),
    ],
)
def test_coverage_refuses_bad_arguments(error: np.ndarray, expected: np.ndarray, level: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.coverage(error, expected, [level])


def test_measured_radii_hold_what_they_state_on_other_faces() -> None:
    rng = np.random.default_rng(0)
    expected_px = np.exp(rng.normal(0, 1, (2000, 68)))
    # Of a lighter tail than the density: its own radii of 68 and 95 % hold another part.
    error_px = expected_px * np.abs(rng.normal(1.0, 0.3, expected_px.shape))
    radii = metrics.error_radii(error_px[:1000], expected_px[:1000])
    levels = [0.05, 0.5, 0.68, 0.95]
    assert metrics.coverage(error_px[1000:], expected_px[1000:], levels, radii) == pytest.approx(levels, abs=0.01)
    assert metrics.coverage(error_px[1000:], expected_px[1000:], [0.95])[0] > 0.99
    with pytest.raises(ValueError, match="expected error is zero"):
        metrics.error_radii(np.ones(3), np.zeros(3))


def test_auroc_is_the_chance_that_a_bad_face_scores_above_a_good_one() -> None:
    nme = np.arange(40.0)
    assert metrics.auroc_pct(nme, nme) == 100
    assert metrics.auroc_pct(-nme, nme) == 0
    assert metrics.auroc_pct(np.ones(40), nme) == 50
    score = nme.copy()
    score[39] = 18.5  # The worst of the two worst falls between 19 good faces and 19 others.
    assert metrics.auroc_pct(score, nme) == pytest.approx(100 * (1 + 19 / 38) / 2)
    with pytest.raises(ValueError, match="of 5 faces none are the worst 5%"):
        metrics.auroc_pct(np.ones(5), np.ones(5))
    with pytest.raises(ValueError, match="score is not finite"):
        metrics.auroc_pct(np.full(40, np.nan), nme)


def test_turn_is_that_of_the_nose_between_the_ends_of_the_jaw() -> None:
    faces = np.zeros((3, 68, 2))
    faces[:, 16] = 10, 10
    faces[0, 30] = 5, 5
    faces[1, 30] = 12, 8  # Beyond the jaw's line, over its last end: only the way along it counts.
    faces[2, 30] = 3, 2
    assert metrics.turn(faces) == pytest.approx([0, 0.5, 0.25])


def test_points_that_are_not_labelled_count_nowhere() -> None:
    truth, found = _faces(4), _faces(4, seed=1)
    plain = metrics.nme_pct(found, truth)
    truth[1, :17] = np.nan
    nme = metrics.nme_pct(found, truth)
    assert nme[1] == pytest.approx(metrics.nme_pct(found, _faces(4), IBUG68.groups["inner51"])[1])
    np.testing.assert_array_equal(nme[[0, 2, 3]], plain[[0, 2, 3]])
    told = metrics.summary(found, truth)
    assert told["points_measured"] == 4 * 68 - 17
    assert np.isfinite(list(told.values())).all()
    jaw = metrics.nme_pct(found, _faces(4), IBUG68.regions["jaw"])
    assert told["nme_jaw_interocular_pct"] == pytest.approx(jaw[[0, 2, 3]].mean())
    error, expected = metrics.point_error_px(found, truth), np.full((4, 68), 30.0)
    known = np.isfinite(error)
    assert known.sum() == 4 * 68 - 17
    np.testing.assert_array_equal(metrics.coverage(error, expected, [0.5]), metrics.coverage(error[known], expected[known], [0.5]))
    assert metrics.error_radii(error, expected) == metrics.error_radii(error[known], expected[known])
    truth[:, :17] = np.nan
    assert "nme_jaw_interocular_pct" not in metrics.summary(found, truth), "a region that nobody labelled has no figure"
    truth[0, 36] = np.nan
    with pytest.raises(ValueError, match=r"normaliser of truth 0 .*distance of the outer eye corners.* is 0 or missing"):
        metrics.normaliser_px(truth)
