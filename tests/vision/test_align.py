"""Aligned crops: the five points stand where recognisers expect them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from fkp.errors import FkpError
from fkp.scheme import IBUG68, load_scheme
from fkp.vision.align import ARCFACE_PX, aligned_crop, five_points

FIVE = load_scheme("five")


@pytest.mark.parametrize("size_px", [112, 224])
@pytest.mark.parametrize("degrees", [0, 25, 170])
def test_a_turned_face_lies_on_the_template(degrees: int, size_px: int) -> None:
    turn = cv2.getRotationMatrix2D((40, 10), degrees, 2.6)
    points_px = ARCFACE_PX @ turn[:, :2].T + turn[:, 2]
    crop = aligned_crop(points_px, FIVE, size_px)
    np.testing.assert_allclose(crop.do(points_px), ARCFACE_PX * size_px / 112, atol=0.01)
    assert crop.size_px == size_px and not crop.mirrored


def test_it_is_the_similarity_of_least_squares() -> None:
    """OpenCV's estimate of all five points, without leaving any out, is the same."""
    points_px = ARCFACE_PX * 1.7 + np.random.default_rng(2).normal(0, 6, (5, 2)) + 40
    wanted, _ = cv2.estimateAffinePartial2D(points_px, ARCFACE_PX, method=cv2.LMEDS, maxIters=1, refineIters=0)
    best = aligned_crop(points_px, FIVE)
    off = lambda matrix: float(((points_px @ matrix[:, :2].T + matrix[:, 2] - ARCFACE_PX) ** 2).sum())  # noqa: E731
    assert off(best.matrix) <= off(wanted)
    for change in (0.3, -0.3):
        assert off(replace(best, angle_deg=best.angle_deg + change).matrix) > off(best.matrix)
        assert off(replace(best, side_px=best.side_px * (1 + change / 100)).matrix) > off(best.matrix)
        assert off(replace(best, center_px=(best.center_px[0] + change, best.center_px[1])).matrix) > off(best.matrix)


def test_an_eye_is_its_pupil_or_the_mean_of_its_outline() -> None:
    points_px = np.random.default_rng(0).uniform(0, 100, (68, 2))
    found = five_points(points_px, IBUG68)
    np.testing.assert_allclose(found[0], points_px[36:42].mean(0))
    np.testing.assert_allclose(found[[2, 3, 4]], points_px[[30, 48, 54]])
    wflw98 = load_scheme("wflw98")
    points_px = np.random.default_rng(0).uniform(0, 100, (98, 2))
    np.testing.assert_allclose(five_points(points_px, wflw98)[[0, 1]], points_px[[96, 97]])


def test_what_cannot_be_aligned_is_said() -> None:
    with pytest.raises(FkpError, match="scheme few has no left mouth corner: aligned crops need both eyes"):
        aligned_crop(np.zeros((3, 2)), replace(FIVE, name="few", landmarks=("left_pupil", "right_pupil", "nose_tip")))
    with pytest.raises(FkpError, match="a side of 16 to 1024 pixels, not 8"):
        aligned_crop(ARCFACE_PX, FIVE, 8)
    for points_px in (np.full((5, 2), 3.0), np.full((5, 2), np.nan)):
        with pytest.raises(FkpError, match="at one place or no numbers"):
            aligned_crop(points_px, FIVE)
