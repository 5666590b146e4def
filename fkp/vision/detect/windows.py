"""The parts of an image, and their scales, in which a detector sees it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

#: Sides of windows are multiples of it: the coarsest grid of the networks.
STRIDE_PX = 32
#: Black around the image in `padded`, at least.
_BORDER_PX = 32
#: Sides of a tile, and what neighbours have in common. Larger ones leave the processor's cache, smaller ones overlap more.
TILE_PX, OVERLAP_PX = 512, 64
#: Pixels of all tiles of one image, overlaps apart: 16 tiles.
MAX_TILED_PX = 16 * TILE_PX**2
#: Windows around the doubts of one pass, and their sides.
MAX_CLOSE, CLOSE_PX = 64, 128
#: Longest face that is left to a closer look, as part of its window.
OF_WINDOW = 0.75
#: How long a doubted face is to be in its window.
_WANTED_PX = 36.0
#: How many times closer it is seen there at least, by its length before: boxes of the smallest faces may be three times too long.
_LENGTHS_PX, _CLOSER = (24.0, 32.0), (3.0, 1.25)


@dataclass(frozen=True)
class Window:
    """An upright part of an image, all of it reduced by one factor.

    Attributes:
        left_px: Its left border in image pixels, counted from the image's own.
        top_px: Likewise.
        zoom: Image pixels that one of its pixels spans.
        width: In its own pixels.
        height: Likewise.
    """

    left_px: float
    top_px: float
    zoom: float
    width: int
    height: int

    def undo(self, points_px: np.ndarray) -> np.ndarray:
        """Map (..., 2) points from the window to the image (integers at pixel centres)."""
        return (points_px + 0.5) * self.zoom + (self.left_px - 0.5, self.top_px - 0.5)

    @property
    def corners_px(self) -> tuple[np.ndarray, np.ndarray]:
        """Low and high corner, (2,) each, in image pixels (integers at pixel centres)."""
        return self.undo(np.array([-0.5, -0.5])), self.undo(np.array([self.width, self.height]) - 0.5)


def whole(width: int, height: int, length: float, border_px: int = 0) -> Window:
    """The whole image, its longer side `length` pixels long, in the middle; what is around it, `border_px` at least, is black."""
    zoom = max(width, height) / length
    columns, lines = (STRIDE_PX * math.ceil((side / zoom + 2 * border_px - 1e-6) / STRIDE_PX) for side in (width, height))
    return Window((width - columns * zoom) / 2, (height - lines * zoom) / 2, zoom, columns, lines)


def padded(width: int, height: int, size_px: int) -> Window:
    """The whole image half as long as `size_px`, with surroundings: a face that fills its image is found badly without."""
    return whole(width, height, size_px / 2, _BORDER_PX)


def tiles(width: int, height: int, length: float) -> Iterator[Window]:
    """Windows that cover the image, its longer side `length` pixels long, or less where that were more than `MAX_TILED_PX`."""
    most = math.sqrt(MAX_TILED_PX * max(width, height) / min(width, height))
    zoom = max(width, height) / min(length, most)
    spans = [_spans(side, zoom) for side in (width, height)]
    for top_px, lines in spans[1]:
        for left_px, columns in spans[0]:
            yield Window(left_px, top_px, zoom, columns, lines)


def _spans(side_px: int, zoom: float) -> list[tuple[float, int]]:
    """Where tiles begin along a side of the image, evenly spread, and how long they are in their own pixels."""
    length = side_px / zoom
    if length <= TILE_PX:
        columns = STRIDE_PX * math.ceil(length / STRIDE_PX)
        return [((side_px - columns * zoom) / 2, columns)]
    count = math.ceil((length - OVERLAP_PX) / (TILE_PX - OVERLAP_PX))
    columns = min(STRIDE_PX * math.ceil(((length - OVERLAP_PX) / count + OVERLAP_PX) / STRIDE_PX), TILE_PX)
    return [((side_px - columns * zoom) * number / (count - 1), columns) for number in range(count)]


def close(width: int, height: int, boxes_xyxy: np.ndarray, zoom: float) -> Iterator[Window]:
    """Windows with a closer look at boxes, as close as the image has pixels for; neighbours of one size share one.

    A box that fills more of such a window than `OF_WINDOW`, or would be hardly larger in it, gets none.

    Args:
        width: Of the image, in pixels.
        height: Likewise.
        boxes_xyxy: (N, 4), the most important ones first: only `MAX_CLOSE` windows are made.
        zoom: Image pixels that a pixel spanned where the boxes were seen.
    """
    lengths = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).max(axis=1)
    zooms = np.maximum(np.minimum(lengths / _WANTED_PX, zoom / np.interp(lengths / zoom, _LENGTHS_PX, _CLOSER)), 1.0)
    left = (zooms <= zoom / min(_CLOSER)) & (lengths < OF_WINDOW * CLOSE_PX * zooms)
    for _ in range(MAX_CLOSE):
        if not left.any():
            return
        first = int(np.argmax(left))
        nearer = float(zooms[first])
        side = CLOSE_PX * nearer
        middle = (boxes_xyxy[first, :2] + boxes_xyxy[first, 2:]) / 2 + 0.5
        # Within the image where that is large enough.
        most = np.array((width, height)) - side
        low = np.where(most > 0, np.clip(middle - side / 2, 0, np.maximum(most, 0)), most / 2)
        yield Window(float(low[0]), float(low[1]), nearer, CLOSE_PX, CLOSE_PX)
        margin = lengths[:, None] / 2
        inside = (boxes_xyxy[:, :2] - margin > low).all(axis=1) & (boxes_xyxy[:, 2:] + margin < low + side).all(axis=1)
        left &= ~(inside & (zooms < 1.5 * nearer) & (zooms > nearer / 1.5))
        left[first] = False
