"""The order of faces: unsure ones that tell of others first, near-duplicates apart."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np

from fkp.data.face_shape import mean_face
from fkp.label.order import Guess, expected_pct, rank
from fkp.scheme import load_scheme


def guess(group: str, yaw_deg: float = 0.0, scale_px: float = 1.0, roll_deg: float = 0.0, noise: int | None = None) -> Guess:
    """The mean head, turned, about 200 px wide."""
    yaw, roll = np.radians([yaw_deg, roll_deg])
    x, y, z = mean_face().T
    seen = np.stack([np.cos(yaw) * x + np.sin(yaw) * z, y], -1) @ np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    points = 300 + 100 * seen + (0 if noise is None else np.random.default_rng(noise).normal(0, 1, seen.shape))
    return Guess(points, np.full(68, scale_px), np.array([200, 200, 400, 500.0]), group, f"{group}.jpg")


def test_each_face_comes_once_and_always_in_the_same_order() -> None:
    faces = [guess(f"p{i % 50}", yaw_deg=i % 37, scale_px=1 + i % 7, noise=i) for i in range(400)]
    order = rank(faces)
    assert sorted(order) == list(range(400))
    assert order == rank(faces)
    assert rank([]) == []
    assert rank(faces[:1]) == [0]


def test_near_duplicates_do_not_follow_each_other() -> None:
    """20 persons with 10 frames each, of which one person is much less sure than the others."""
    faces = [guess(f"p{i // 10}", yaw_deg=3 * (i // 10), scale_px=3.0 if i < 10 else 1.0, noise=i) for i in range(200)]
    order = rank(faces)
    groups = [faces[place].group for place in order]
    assert len(set(groups[:20])) >= 14, "most of the persons are among the first"
    assert not any(before == after for before, after in itertools.pairwise(groups[:60]))


def test_what_labelled_faces_tell_is_not_asked_again() -> None:
    """Two poses; ten faces of one are labelled, and of a person of the other pose."""
    faces = [guess(f"p{i}", yaw_deg=35.0 * (i % 2), noise=i) for i in range(100)]
    labelled = [guess("p1", yaw_deg=35.0, noise=1000 + i) for i in range(10)]
    assert rank(faces)[:8] != rank(faces, labelled=labelled)[:8]
    turned = sum(place % 2 for place in rank(faces)[:8])
    assert sum(place % 2 for place in rank(faces, labelled=labelled)[:8]) < turned
    assert faces[1].group not in {faces[place].group for place in rank(faces, labelled=labelled)[:40]}


def test_poses_are_spread_though_most_faces_look_ahead() -> None:
    yaw = np.r_[np.zeros(180), np.full(20, 35.0)]
    faces = [guess(f"p{i}", yaw_deg=of, noise=i) for i, of in enumerate(yaw)]
    assert 5 <= int((yaw[rank(faces)[:20]] > 0).sum()) <= 15, "a tenth of the faces, but more of the first twenty"


def test_of_faces_that_look_alike_the_set_learns_where_it_is_unsure() -> None:
    """Two poses as frequent as each other: the one that the model is less sure of comes first, and more often."""
    faces = [guess(f"p{i}", yaw_deg=30.0 * (i % 2), scale_px=1.0 + 0.3 * (i % 2), noise=i) for i in range(200)]
    first = Counter(place % 2 for place in rank(faces)[:40])
    assert first[1] > first[0]


def test_how_a_face_is_turned_in_the_image_does_not_matter() -> None:
    faces = [guess(f"p{i}", yaw_deg=i % 40, scale_px=1 + i % 3, noise=i) for i in range(60)]
    turned = [guess(f"p{i}", yaw_deg=i % 40, scale_px=1 + i % 3, roll_deg=0.0, noise=i) for i in range(60)]
    angle = np.radians(40)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned = [Guess(2 * face.points_px @ matrix + 50, 2 * face.scale_px, face.box, face.group, face.image) for face in turned]
    assert rank(turned) == rank(faces)


def test_what_is_left_comes_by_its_unsureness_in_turns_of_the_groups() -> None:
    faces = [guess(f"p{i % 3}", yaw_deg=i % 31, scale_px=1 + (i * 7 % 100) / 50, noise=i) for i in range(700)]
    rest = rank(faces)[300:]
    unsure = expected_pct(faces)
    for start in range(0, 60, 3):
        assert len({faces[place].group for place in rest[start : start + 3]}) == 3
    for group in range(3):
        of = [unsure[place] for place in rest if place % 3 == group]
        assert of == sorted(of, reverse=True)


def test_a_scheme_without_pairs_is_ordered_too() -> None:
    scheme = load_scheme('{"name": "plain", "landmarks": 5}')
    rng = np.random.default_rng(0)
    faces = [Guess(rng.normal(100, 30, (5, 2)), np.ones(5), np.array([0, 0, 200, 200.0]), "a", f"{i}.jpg") for i in range(9)]
    assert sorted(rank(faces, scheme)) == list(range(9))
