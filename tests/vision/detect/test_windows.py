"""Windows cover an image, their number is bounded, and their pixels are where they say."""

from __future__ import annotations

import numpy as np
import pytest

from fkp.vision.detect.pyramid import Pyramid
from fkp.vision.detect.windows import CLOSE_PX, MAX_CLOSE, MAX_TILED_PX, OVERLAP_PX, STRIDE_PX, TILE_PX, Window, close, padded, tiles, whole


@pytest.mark.parametrize("size", [(300, 100), (1, 1), (20_000, 100), (4000, 3000), (97, 613)])
def test_the_whole_image_stands_in_the_middle(size: tuple[int, int]) -> None:
    for window, length in ((whole(*size, 256), 256), (padded(*size, 256), 128)):
        low, high = window.corners_px
        np.testing.assert_allclose((low + high) / 2, (np.array(size) - 1) / 2, atol=1e-6)
        assert max(size) / window.zoom == pytest.approx(length)
        assert window.width % STRIDE_PX == window.height % STRIDE_PX == 0
        assert (low <= -0.5 + 1e-6).all() and (high - low >= size).all()
        assert window.width * window.height <= 256 * 256


@pytest.mark.parametrize("size", [(6000, 4000), (8192, 8192), (20_000, 100), (1100, 700), (40_000, 30_000)])
@pytest.mark.parametrize("length", [600, 1067, 4000])
def test_every_small_face_is_whole_in_some_tile(size: tuple[int, int], length: float) -> None:
    found = list(tiles(*size, length))
    zoom = found[0].zoom
    assert all(max(tile.width, tile.height) <= TILE_PX and tile.width % STRIDE_PX == tile.height % STRIDE_PX == 0 for tile in found)
    assert np.prod(size) / zoom**2 <= MAX_TILED_PX * 1.001 and sum(tile.width * tile.height for tile in found) < 2 * MAX_TILED_PX
    side = (OVERLAP_PX - 1) * zoom
    faces = np.random.default_rng(0).uniform(-0.5, np.maximum(np.array(size) - side, 1), (300, 1, 2))
    low, high = (np.array(corner) for corner in zip(*(tile.corners_px for tile in found), strict=True))
    assert ((faces >= low - 1e-6) & (faces + np.minimum(side, size) <= high + 1)).all(axis=2).any(axis=1).all()


def test_close_windows_show_each_box_larger_and_share_neighbours() -> None:
    boxes = np.array([[100, 100, 116, 116], [120, 100, 136, 116], [900, 700, 990, 790], [0, 0, 16, 16], [500, 500, 900, 900]], float)
    found = list(close(1000, 800, boxes, 4.0))
    # The first two share one; the last one is too long for a window.
    assert [round(window.zoom, 2) for window in found] == [1.0, 1.33, 1.0]
    for window, box in zip(found, boxes[[0, 2, 3]], strict=True):
        low, high = window.corners_px
        assert (low <= box[:2] + 0.5).all() and (high >= box[2:] - 0.5).all()
    assert list(close(1000, 800, boxes, 1.2)) == []


def test_the_number_of_close_windows_is_bounded() -> None:
    x, y = np.meshgrid(np.arange(50) * 400.0, np.arange(40) * 400.0)
    low = np.stack([x.ravel(), y.ravel()], axis=1)
    found = list(close(20_000, 16_000, np.concatenate([low, low + 60], axis=1), 10.0))
    assert len(found) == MAX_CLOSE and {(window.width, window.height) for window in found} == {(CLOSE_PX, CLOSE_PX)}


@pytest.mark.parametrize("zoom", [0.5, 1.0, 1.3, 2.0, 7.9, 13.0])
def test_what_a_window_shows_is_where_it_says(zoom: float) -> None:
    y, x = np.mgrid[:611, :905]
    image = np.stack([x / 4, y / 4, np.full_like(x, 100)], axis=-1).astype(np.uint8)
    window = Window(200.0, 100.0, zoom, 32, 32)
    shown = Pyramid(image).cut(window)
    places = window.undo(np.stack(np.meshgrid(np.arange(32), np.arange(32)), axis=-1).astype(float))
    np.testing.assert_allclose(shown[..., :2], places / 4, atol=1.3)
    around = Pyramid(image).cut(Window(-5 * zoom, -3 * zoom, zoom, 32, 32))
    assert not around[:2].any() and not around[:, :4].any() and around[4:, 6:, 2].min() == 100
