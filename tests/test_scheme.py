"""The scheme of 68 points: regions, the mirror permutation and the lines between points."""

from __future__ import annotations

import pytest

from fkp.scheme import EDGES, INNER_51, LEFT_HALF, MIRROR, NUM_POINTS, OUTER_EYE_CORNERS, REGIONS

MIRRORED_REGION = {
    "jaw": "jaw",
    "left_brow": "right_brow",
    "right_brow": "left_brow",
    "nose": "nose",
    "left_eye": "right_eye",
    "right_eye": "left_eye",
    "mouth": "mouth",
}


def test_mirroring_twice_changes_nothing() -> None:
    assert len(MIRROR) == NUM_POINTS == 68
    assert [MIRROR[MIRROR[point]] for point in range(NUM_POINTS)] == list(range(NUM_POINTS))


def test_points_on_the_midline_stay() -> None:
    assert [point for point in range(NUM_POINTS) if MIRROR[point] == point] == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]


def test_known_pairs() -> None:
    for left, right in (
        (0, 16),
        (17, 26),
        (21, 22),
        (31, 35),
        (36, 45),
        (37, 44),
        (39, 42),
        (41, 46),
        (48, 54),
        (59, 55),
        (60, 64),
        (67, 65),
    ):
        assert MIRROR[left] == right


def test_a_point_is_in_the_left_half_or_its_partner_is_or_it_is_on_the_midline() -> None:
    right = [MIRROR[point] for point in LEFT_HALF]
    midline = [point for point in range(NUM_POINTS) if MIRROR[point] == point]
    assert sorted([*LEFT_HALF, *right, *midline]) == list(range(NUM_POINTS))
    assert set(REGIONS["left_eye"]) | set(REGIONS["left_brow"]) < set(LEFT_HALF)


def test_regions_hold_every_point_once() -> None:
    assert sorted(point for points in REGIONS.values() for point in points) == list(range(NUM_POINTS))
    assert set(INNER_51) == set(range(NUM_POINTS)) - set(REGIONS["jaw"])
    assert len(INNER_51) == 51


@pytest.mark.parametrize("region", REGIONS)
def test_a_mirrored_region_is_its_partner(region: str) -> None:
    assert {MIRROR[point] for point in REGIONS[region]} == set(REGIONS[MIRRORED_REGION[region]])


def test_outer_eye_corners_are_mirror_images_in_the_two_eyes() -> None:
    left, right = OUTER_EYE_CORNERS
    assert MIRROR[left] == right
    assert left in REGIONS["left_eye"]
    assert right in REGIONS["right_eye"]


def test_edges_join_points_of_one_region_and_are_symmetric() -> None:
    edges = {frozenset(edge) for edge in EDGES}
    assert len(edges) == len(EDGES)
    assert all(len(edge) == 2 for edge in edges)
    assert all(any(edge <= set(points) for points in REGIONS.values()) for edge in edges)
    assert {point for edge in edges for point in edge} == set(range(NUM_POINTS))
    assert {frozenset(MIRROR[point] for point in edge) for edge in edges} == edges


def test_closed_outlines() -> None:
    for first, last in ((36, 41), (42, 47), (48, 59), (60, 67)):
        assert frozenset((last, first)) in {frozenset(edge) for edge in EDGES}
