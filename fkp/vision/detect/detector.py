"""An image of any size to its faces, with whatever finds faces in a small square one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fkp.vision.crop import Crop
from fkp.vision.detect.box_map import BoxMap
from fkp.vision.detect.candidates import Candidates, merge
from fkp.vision.detect.windows import ZOOM, tile_levels, whole
from fkp.vision.image import Image

#: The first window is the image itself, the second one twice as long, with a black border.
_PLAIN, _PADDED = 1.0, 2.0

#: A face longer than this part of the image is left to the second window. On 196 training frames cut to the label's
#: box, scores from 0.5 (recall, median IoU): second window only where nothing was found 38 %, 0.44; this rule 99 %, 0.84.
_LARGE = 0.4

#: A tile's box may lie so near to a border inside the image, as part of the tile's side, before it counts as cut off.
_EDGE = 0.01

#: From this turn on the first crop is turned, too. Up to 45 degrees an upright first pass is enough for the second one; at 60
#: it fails for a third of the faces. BlazeFace finds 99 % of faces that lie on their side, and their eyes' line within 15
#: degrees: `benchmarks/detection.py`.
LEANING_DEG = 30.0


@dataclass(frozen=True)
class Detection:
    """One face.

    Attributes:
        box_xyxy: (4,) float32 [x0, y0, x1, y1] in image pixels. It may reach outside the image.
        score: The network's confidence, 0 to 1.
        roll_deg: Clockwise turn of the box about its middle; 0 unless the face leans far.
    """

    box_xyxy: np.ndarray
    score: float
    roll_deg: float = 0.0


class DetectorBackend(Protocol):
    """Finds faces in a square window of one size; may be called from several threads.

    Attributes:
        name: Under which a bundle keeps its calibration.
        size_px: Side of the window.
        smallest: Length of the smallest face that it finds nearly always, as part of the window's side.
        tile_score: A face that only tiles show needs this score: many windows make many errors.
        facial_points: How many it tells of each face; the first two are the eyes, the one on the viewer's left first.
        box_map: The built-in calibration.
    """

    name: str
    size_px: int
    smallest: float
    tile_score: float
    facial_points: int
    box_map: BoxMap

    def look(self, pixels_u8: np.ndarray) -> Candidates:
        """Find faces.

        Args:
            pixels_u8: (size_px, size_px, 3) RGB.

        Returns:
            Candidates in pixels of the window (integers at pixel centres); several of one face may be among them.
        """
        ...


class FaceDetector:
    """Finds any number of faces in an image of any size. May be called from several threads.

    The first window is the whole image. A face that fills most of it is found badly, because its surroundings are
    missing: if nothing is found, or a face longer than `_LARGE` of the image, a second window of twice the size decides
    about the faces of that length. Images with enough pixels are then seen in tiles a third as long, for small faces,
    and in tiles of a ninth if the tiles found some or nothing has been found: who is small is seldom small alone.
    """

    def __init__(self, backend: DetectorBackend, box_map: BoxMap | None = None, tiles: bool = True) -> None:
        """Compose it.

        Args:
            backend: The network.
            box_map: What becomes of its boxes; by default the built-in calibration.
            tiles: Whether to look for small faces in large images.
        """
        self.backend = backend
        self._box_map = backend.box_map if box_map is None else box_map
        self._tiles = tiles

    def detect(self, image: Image) -> list[Detection]:
        """Find the faces of an image, best first; no face is an empty list.

        Args:
            image: (H, W, 3) uint8 RGB of any size and shape.

        Raises:
            ValueError: The array is of another shape or type, or has no pixels.
        """
        found = self.find(image)
        roll_deg = self._roll_deg(found.shapes_px)
        boxes_xyxy = self._boxes(found.shapes_px, roll_deg).astype(np.float32)
        return [Detection(*face) for face in zip(boxes_xyxy, found.scores.tolist(), roll_deg.tolist(), strict=True)]

    def find(self, image: Image) -> Candidates:
        """Like `detect`, as the network tells it: in image pixels, before the calibration."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ValueError(f"an image is (H, W, 3) uint8 with some pixels, got {image.shape} {image.dtype}")
        height, width = image.shape[:2]
        found = self._look(image, whole(width, height, self.backend.size_px, _PLAIN))
        large = found.lengths_px > _LARGE * max(width, height)
        if large.any() or not len(found):
            padded = self._look(image, whole(width, height, self.backend.size_px, _PADDED))
            found = Candidates.join([found[~large], padded])
        found = merge(found)
        return self._find_small(image, found) if self._tiles else found

    def _roll_deg(self, shapes_px: np.ndarray) -> np.ndarray:
        """(N,) turn of the eyes' line, where it is large."""
        if self.backend.facial_points < 2:
            return np.zeros(len(shapes_px))
        x, y = (shapes_px[:, 3] - shapes_px[:, 2]).T
        roll_deg = np.degrees(np.arctan2(y, x))
        return np.where(np.abs(roll_deg) > LEANING_DEG, roll_deg, 0.0)

    def _boxes(self, shapes_px: np.ndarray, roll_deg: np.ndarray) -> np.ndarray:
        """(N, 4) calibrated boxes. The calibration knows upright faces: a leaning one is set upright for it."""
        middle = shapes_px[:, :2].mean(axis=1)
        angle = np.radians(roll_deg)[:, None]
        upright = shapes_px.copy()  # The detector's own box is as good for a turned face.
        upright[:, 2:] = _turned(shapes_px[:, 2:], middle, -angle)
        boxes_xyxy = self._box_map(upright)
        center, half = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) / 2
        center = _turned(center[:, None], middle, angle)[:, 0]
        return np.concatenate([center - half, center + half], axis=1)

    def _find_small(self, image: Image, found: Candidates) -> Candidates:
        """Add the faces that are too small for the whole image."""
        height, width = image.shape[:2]
        # A face that a tile may cut is at least found by the level above.
        overlap = ZOOM * self.backend.smallest
        for tiles in tile_levels(width, height, self.backend.size_px, overlap):
            known = len(found)
            parts = [self._look_into(image, tile, overlap) for tile in tiles]
            found = merge(Candidates.join([found, *parts]))
            if known and len(found) <= known:
                break
        return found

    def _look_into(self, image: Image, tile: Crop, overlap: float) -> Candidates:
        """The whole faces of a tile that are small enough to be left to it."""
        found = self._look(image, tile)
        size = np.array(image.shape[1::-1])
        low, high = (np.array(tile.center_px) + sign * tile.side_px / 2 for sign in (-1, 1))
        # Where the tile ends with the image there is nothing to be cut off.
        margin = _EDGE * tile.side_px
        low, high = np.where(low <= 0, -np.inf, low + margin), np.where(high >= size - 1, np.inf, high - margin)
        whole_ones = (found.shapes_px[:, 0] > low).all(axis=1) & (found.shapes_px[:, 1] < high).all(axis=1)
        small = found.lengths_px < overlap * tile.side_px
        return found[whole_ones & small & (found.scores >= self.backend.tile_score)]

    def _look(self, image: Image, window: Crop) -> Candidates:
        """Candidates of one window, in image pixels."""
        found = self.backend.look(np.ascontiguousarray(window.apply(image, 3).transpose(1, 2, 0)))
        return Candidates(window.undo(found.shapes_px).astype(np.float64), found.scores)


def _turned(points_px: np.ndarray, middle_px: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """(N, P, 2) points turned clockwise about (N, 2) middles by (N, 1) radians."""
    x, y = np.moveaxis(points_px - middle_px[:, None], -1, 0)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1) + middle_px[:, None]
