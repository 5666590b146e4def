"""A sheet of labelled faces to look at: whether points lie where they should, and have the right numbers."""

from __future__ import annotations

import numpy as np

from fkp.data.label_set import LabelSet
from fkp.vision.crop import Crop
from fkp.vision.draw import draw_numbered
from fkp.vision.image import Image, read_image

FACES = 24
_COLUMNS = 6
_SIDE_PX = 400
#: Side of a cell's window as a multiple of the face's box.
_SCALE = 1.25


def sheet(labels: LabelSet) -> Image:
    """Draw 24 faces, spread evenly over the set, with numbered points; hollow ones are covered.

    Returns:
        (rows * 400, 2400, 3) uint8 RGB; black where there is no face.

    Raises:
        FkpError: An image cannot be read any more.
    """
    chosen = np.unique(np.linspace(0, len(labels) - 1, min(FACES, len(labels))).round().astype(int)).tolist()
    rows = -(-len(chosen) // _COLUMNS)
    grid = np.zeros((rows, _COLUMNS, _SIDE_PX, _SIDE_PX, 3), np.uint8)
    for cell, face in enumerate(chosen):
        points_px = labels.points_px[face]
        box = np.concatenate([np.nanmin(points_px, axis=0), np.nanmax(points_px, axis=0)])
        crop = Crop.of_box(box, _SIDE_PX, _SCALE)
        pixels = np.ascontiguousarray(crop.apply(read_image(labels.root / labels.images[face]), 3).transpose(1, 2, 0))
        grid[divmod(cell, _COLUMNS)] = draw_numbered(pixels, crop.do(points_px), labels.visible[face], labels.scheme)
    return grid.swapaxes(1, 2).reshape(rows * _SIDE_PX, _COLUMNS * _SIDE_PX, 3)
