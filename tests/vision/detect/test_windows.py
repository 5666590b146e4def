"""Tiles cover an image, and their number is bounded."""

from __future__ import annotations

import numpy as np
import pytest

from fkp.vision.detect.windows import MAX_TILES, tile_levels, whole


def test_the_whole_image_stands_in_the_middle() -> None:
    window = whole(300, 100, 256, 2.0)
    np.testing.assert_allclose(window.undo(np.array([[-0.5, -0.5], [255.5, 255.5]])), [[-150.5, -250.5], [449.5, 349.5]], atol=1e-3)


@pytest.mark.parametrize(("size", "counts"), [((767, 700), []), ((768, 768), [16]), ((6000, 4000), [12, 117]), ((8192, 2929), [8, 65])])
def test_levels(size: tuple[int, int], counts: list[int]) -> None:
    assert [len(tiles) for tiles in tile_levels(*size, 256, 0.3)] == counts


@pytest.mark.parametrize("size", [(6000, 4000), (8192, 8192), (8192, 300), (2400, 1600)])
def test_every_small_face_is_whole_in_some_tile(size: tuple[int, int]) -> None:
    levels = tile_levels(*size, 256, 0.3)
    assert levels
    assert sum(map(len, levels)) <= MAX_TILES
    random = np.random.default_rng(0)
    for tiles in levels:
        centers, side = np.array([tile.center_px for tile in tiles]), tiles[0].side_px
        faces = random.uniform(0, np.maximum(np.array(size) - 0.3 * side, 1), (300, 1, 2))
        low, high = centers - side / 2 - 1, centers + side / 2 + 1
        length = np.minimum(0.3 * side, np.array(size))
        assert ((faces >= low) & (faces + length <= high)).all(axis=2).any(axis=1).all()
