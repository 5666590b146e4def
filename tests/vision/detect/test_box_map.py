"""The affine from a detector's answer to the box of the points."""

from __future__ import annotations

import numpy as np
import pytest

from fkp.errors import FkpError
from fkp.vision.detect import AS_DETECTED, BoxMap

BY_POINTS = BoxMap(((0.1, 0.5, 0.0), (-0.2, 0.0, 0.25), (0.5, 0.0, 0.0), (2.0, 0.0, -1.0)))


def shapes(count: int) -> np.ndarray:
    """Boxes of any place and size with one facial point each, (count, 3, 2)."""
    random = np.random.default_rng(0)
    low = random.uniform(-50, 500, (count, 1, 2))
    side = random.uniform(20, 200, (count, 1, 1))
    return np.concatenate([low, low + side, low + side * random.uniform(0.3, 0.7, (count, 1, 2))], axis=1)


def test_constants_are_shift_and_size() -> None:
    box_map = BoxMap(((0.1,), (-0.2,), (0.5,), (2.0,)))
    box = np.array([[[0.0, 0], [10, 10]]])
    np.testing.assert_allclose(box_map(box), [[3.5, -7, 8.5, 13]])
    np.testing.assert_allclose(AS_DETECTED(box), [[0, 0, 10, 10]])


def test_a_facial_point_moves_and_stretches_the_box() -> None:
    # The point stands 0.2 of the side right of the middle and 0.4 below it.
    np.testing.assert_allclose(BY_POINTS(np.array([[[0.0, 0], [10, 10], [7, 9]]])), [[4.5, -4, 9.5, 12]])


def test_place_and_size_do_not_matter() -> None:
    some = shapes(5)
    np.testing.assert_allclose(BY_POINTS(3 * some + 7), 3 * BY_POINTS(some) + 7)


def test_no_points_give_a_box_without_area() -> None:
    wild = np.array([[[0.0, 0], [10, 10], [500, 500]]])
    box = BY_POINTS(wild)[0]
    assert (box[2:] - box[:2] >= 2.5 - 1e-9).all()


def test_fit_finds_the_affine_among_outliers_and_misses() -> None:
    gentle = BoxMap(((0.02, 0.1, 0.0), (0.05, 0.0, 0.2), (0.9, 0.0, 0.1), (0.8, 0.0, 0.3)))
    some = shapes(200)
    truth = gentle(some)
    truth[:5] += 0.2 * (truth[:5, 2:3] - truth[:5, :1])  # A wrong face nearby,
    some[5:15] = np.nan  # and some that were not found.
    fitted = BoxMap.fit(some, truth, 1)
    assert fitted is not None
    np.testing.assert_allclose(fitted.rows, gentle.rows, atol=3e-3)


def test_points_on_a_part_of_the_face_are_fitted_too() -> None:
    """Their box overlaps the detector's too little to tell by that whether both are of one face."""
    part = BoxMap(((0.02,), (0.1,), (0.4,), (0.3,)))
    some = shapes(12)
    truth = part(some)
    truth[3] += 999  # Another face.
    assert BoxMap.fit(some, truth, 0) is None
    fitted = BoxMap.fit(some, truth, 0, whole=False)
    assert fitted is not None
    np.testing.assert_allclose(fitted.rows, part.rows, atol=1e-3)


def test_too_few_faces_fit_nothing() -> None:
    some = shapes(29)
    assert BoxMap.fit(some, AS_DETECTED(some), 1) is None
    assert BoxMap.fit(some, AS_DETECTED(some), 0) is not None


@pytest.mark.parametrize(
    "rows", [None, "four", [[1.0]] * 3, [[1.0, 2.0]] * 4, [[1.0] * 5] * 4, [[float("nan")]] * 4, [[1.0], [1.0], [1.0], [1.0, 2.0, 3.0]]]
)
def test_a_calibration_that_cannot_be_used_is_refused(rows: object, red: object) -> None:
    with pytest.raises(FkpError, match="the calibration of red is not 4 rows of numbers for 1 points: calibrate it again"):
        BoxMap.from_json(rows, red.name, red.facial_points)


def test_a_calibration_survives_json(red: object) -> None:
    assert BoxMap.from_json([list(row) for row in BY_POINTS.rows], red.name, red.facial_points) == BY_POINTS
    assert BoxMap.from_json([[0], [0], [1], [1]], red.name, red.facial_points) == AS_DETECTED
