"""Drawing: where the colours land, and what must not be touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fkp.scheme import IBUG68
from fkp.vision.draw import draw_box, draw_face, region_colours


def scattered_points() -> np.ndarray:
    """(68, 2) in the middles of a 9 x 9 lattice's cells, 40 px apart."""
    lattice = np.stack(np.meshgrid(np.arange(9), np.arange(9)), axis=-1).reshape(-1, 2)[: len(IBUG68)]
    return lattice.astype(np.float32) * 40 + 20


def test_each_point_has_its_region_s_colour() -> None:
    image = np.zeros((380, 380, 3), np.uint8)
    points_px = scattered_points()
    drawn = draw_face(image, points_px)
    assert set(region_colours(IBUG68)) == set(IBUG68.regions)
    for region, points in IBUG68.regions.items():
        for point in points:
            x, y = points_px[point].astype(int)
            np.testing.assert_array_equal(drawn[y, x], region_colours(IBUG68)[region], err_msg=f"point {point}")


def test_the_image_is_not_changed() -> None:
    image = np.full((380, 380, 3), 77, np.uint8)
    drawn = draw_face(image, scattered_points(), np.array([5, 5, 300, 300]), scattered_points() + 3)
    assert (image == 77).all()
    assert drawn.shape == image.shape
    assert (drawn != 77).any()


def test_truth_and_box_are_white() -> None:
    image = np.zeros((380, 380, 3), np.uint8)
    points_px = scattered_points()
    drawn = draw_face(image, points_px, box_xyxy=np.array([2.0, 4.0, 370.0, 372.0]), truth_px=points_px + np.array([12, 9]))
    assert (drawn[29, 32] > 200).all()
    np.testing.assert_array_equal(drawn[200, 2], [255, 255, 255])
    np.testing.assert_array_equal(drawn[4, 200], [255, 255, 255])


def test_a_disc_is_as_large_as_the_expected_error() -> None:
    image = np.full((380, 380, 3), 100, np.uint8)
    points_px, errors_px = scattered_points(), np.full(len(IBUG68), 12.0)
    plain = draw_face(image, points_px)
    changed = (draw_face(image, points_px, expected_error_px=errors_px) != plain).any(-1)
    untouched = (plain == 100).all(-1)  # Edges cover some discs.
    inside, outside = ([(y + up, x + up) for x, y in points_px.astype(int) if untouched[y + up, x + up]] for up in (8, 10))
    assert len(inside) > 40 and all(changed[place] for place in inside), "11.3 px away"
    assert len(outside) > 40 and not any(changed[place] for place in outside), "14.1 px away"


def test_a_hollow_point_is_a_ring() -> None:
    image = np.full((380, 380, 3), 100, np.uint8)
    points_px = scattered_points()
    hollow = np.arange(len(IBUG68)) % 2 == 1
    plain, drawn = draw_face(image, points_px), draw_face(image, points_px, hollow=hollow)
    for point, (x, y) in enumerate(points_px.astype(int)):
        about = np.s_[y - 5 : y + 6, x - 5 : x + 6]
        assert (drawn[about] == plain[about]).all() != hollow[point], point
    # Where no line ends, the middle of a ring is the image.
    ends = {end for edge in IBUG68.edges for end in edge}
    alone = replace(IBUG68, edges=())
    x, y = points_px[1].astype(int)
    ring = draw_face(image, points_px, scheme=alone, hollow=hollow)
    assert 1 in ends and (ring[y, x] == 100).all() and (ring[y - 5 : y + 6, x - 5 : x + 6] != 100).any()


def test_a_dashed_box_has_corners_and_gaps() -> None:
    drawn = draw_box(np.zeros((200, 200, 3), np.uint8), np.array([20.0, 30.0, 180.0, 150.0]), dashed=True)
    solid = draw_box(np.zeros((200, 200, 3), np.uint8), np.array([20.0, 30.0, 180.0, 150.0]))
    assert all((drawn[y, x] > 100).all() for x in (20, 180) for y in (30, 150))
    assert 0.4 < (drawn[30, 20:180] > 100).all(-1).mean() < 0.7 < (solid[30, 20:180] > 100).all(-1).mean()
    far = np.array([-1e9, 10.0, 1e9, 90.0], np.float32)
    assert draw_box(drawn, far, dashed=True).shape == draw_box(drawn, np.zeros(4), dashed=True).shape == drawn.shape


@pytest.mark.parametrize("place", [-1e9, 1e9, -50.0])
def test_points_far_outside_do_no_harm(place: float) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    points_px = np.full((len(IBUG68), 2), place, np.float32)
    assert (draw_face(image, points_px) == 0).all()
    assert (draw_face(image, points_px, expected_error_px=np.full(len(IBUG68), 9.0)) == 0).all()


def test_larger_faces_get_larger_points() -> None:
    def inked(zoom: int) -> int:
        return int((draw_face(np.zeros((380 * zoom, 380 * zoom, 3), np.uint8), scattered_points() * zoom).max(axis=-1) > 0).sum())

    assert inked(3) > 4 * inked(1)
