"""Distractors: of many kinds, and nothing of a face in them."""

from __future__ import annotations

import numpy as np

from fkp.data.distractors import drawn, piece_beside, piece_of


def test_drawn_ones_differ_and_can_be_seen() -> None:
    random = np.random.default_rng(0)
    made = [drawn(random) for _ in range(60)]
    assert all(image.dtype == np.uint8 and image.shape == (64, 64, 3) and mask.shape == (64, 64) for image, mask in made)
    assert len({image.tobytes() for image, _ in made}) == 60
    seen = [np.ptp(image[mask > 0.5].astype(int), axis=0).max() for image, mask in made]
    assert np.median(seen) > 40 and min(mask.max() for _, mask in made) == 1
    assert 0 < sum((mask < 0.5).any() for _, mask in made) < 30, "some are discs before whatever is there"


def test_a_piece_beside_a_face_shows_little_of_it() -> None:
    random = np.random.default_rng(1)
    window = np.zeros((120, 120, 3), np.uint8)
    window[35:85, 35:85] = 255
    box, known = np.array([35.0, 35.0, 85.0, 85.0]), np.array([0.0, 10.0, 120.0, 120.0])
    window[:10] = 99  # Outside its image.
    pieces = [piece_beside(window, box, known, random) for _ in range(100)]
    found = [piece for piece in pieces if piece is not None]
    assert len(found) > 60
    for image, mask in found:
        assert image.shape[:2] == mask.shape and (image == 255).all(axis=2).sum() <= 0.12 * 50 * 50 and not (image == 99).any()
    assert any((image == 255).any() for image, _ in found), "the face's border may be in it: ears"
    assert piece_beside(window, box, np.array([0.0, 10.0, 8.0, 18.0]), random) is None, "there is no room"


def test_a_piece_of_a_small_photograph_is_a_square() -> None:
    random = np.random.default_rng(2)
    sides = {piece_of(np.zeros((height, 40, 3), np.uint8), random)[0].shape for height in (5, 9, 300) for _ in range(20)}
    assert all(height == width for height, width, _ in sides) and min(sides)[0] == 5 and max(sides)[0] <= 20
