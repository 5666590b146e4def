"""The square windows through which a detector sees an image."""

from __future__ import annotations

import math

from fkp.vision.crop import Crop

#: A tile's side is the one of the level above divided by this.
ZOOM = 3

#: Network runs on the tiles of one image. Two levels of BlazeFace on an image of 3:2 are 129.
MAX_TILES = 200


def whole(width: int, height: int, size_px: int, padding: float) -> Crop:
    """The whole image in a square of `padding` times its longer side; what is around it is black."""
    return Crop(((width - 1) / 2, (height - 1) / 2), max(width, height) * padding, size_px)


def tile_levels(width: int, height: int, size_px: int, overlap: float) -> list[list[Crop]]:
    """Tiles that cover the image, coarse levels first.

    There are as many levels as the image has pixels for, and as `MAX_TILES` allows.

    Args:
        width: Of the image, in pixels.
        height: Likewise.
        size_px: Side of the detector's input. A tile that shows less than so many pixels would show nothing new.
        overlap: What neighbours have in common, as part of a tile's side.
    """
    levels: list[list[Crop]] = []
    side = max(width, height) / ZOOM
    left = MAX_TILES
    while side >= size_px:
        tiles = [Crop((x, y), side, size_px) for y in _middles(height, side, overlap) for x in _middles(width, side, overlap)]
        left -= len(tiles)
        if left < 0:
            break
        levels.append(tiles)
        side /= ZOOM
    return levels


def _middles(length: int, side: float, overlap: float) -> list[float]:
    """Evenly spread middles of tiles, the first and the last of them flush with the image's borders."""
    if side >= length:
        return [(length - 1) / 2]
    count = math.ceil((length - side) / (side * (1 - overlap))) + 1
    first = (side - 1) / 2
    return [first + (length - side) * number / (count - 1) for number in range(count)]
