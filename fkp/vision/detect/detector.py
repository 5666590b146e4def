"""An image of any size to its faces, with whatever finds faces in a small square one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fkp.vision.detect.box_map import BoxMap
from fkp.vision.detect.candidates import Candidates, iou, merge
from fkp.vision.detect.pyramid import Pyramid
from fkp.vision.detect.windows import OF_WINDOW, OVERLAP_PX, Window, close, padded, tiles, whole
from fkp.vision.encoded import EncodedImage
from fkp.vision.image import Image

#: A face longer than this part of the backend's `size_px` is left to a window with surroundings. On 196 training frames cut to the
#: label's box, scores from 0.5 (recall, median IoU): such a window only where nothing was found 38 %, 0.44; this rule 99 %, 0.84.
_LARGE = 0.4

#: From so many times `size_px` on an image is large: its first pass is `coarse_px` long.
_LARGE_IMAGE = 3

#: Where nothing is found and something has this part of `min_score`, the image is looked at turned, by so many quarters: a detector knows
#: few faces that stand on their heads. Then in these lengths, as parts of `size_px`: some are found at one size and not at another.
_MAYBE, _QUARTERS, _AGAIN = 0.55, (1, 2, 3), (1 / 3, 2 / 3, 0.8)

#: A window's box may lie so near to a border inside the image, as part of the window's side, before it counts as cut off.
_EDGE = 0.01

#: A candidate longer than so many `sure_px` is no small face: a closer look would change nothing.
_SMALL = 3.0

#: The next pass is worth it from so many times the length on.
_FINER = 1.5

#: A coarse box and a close one that overlap more (intersection over union) are of one face.
_SAME = 0.15

#: A face so much smaller than `FaceDetector.smallest_face` is not looked at closely.
_BELOW = 0.75

#: Default of `FaceDetector.smallest_face`: 30 pixels of 12 megapixels.
SMALLEST_FACE = 0.0075

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
    """Finds faces in a window; may be called from several threads.

    Attributes:
        name: Under which a bundle keeps its calibration.
        size_px: Longer side of a small image, at which it sees faces from a tenth to the whole of it.
        coarse_px: Longer side of the first pass over a large image.
        sure_px: Length of the smallest face that it finds nearly always, with an exact box.
        least_px: Length of the smallest face that it nearly always gives a score at all.
        min_score: What it takes for a face; below it there is doubt.
        tile_score: A face that only a closer look or a tile shows needs this score: many windows make many errors.
        facial_points: How many it tells of each face; the first two are the eyes, the one on the viewer's left first.
        box_map: The built-in calibration.
    """

    name: str
    size_px: int
    coarse_px: int
    sure_px: float
    least_px: float
    min_score: float
    tile_score: float
    facial_points: int
    box_map: BoxMap

    def look(self, pixels_u8: np.ndarray) -> Candidates:
        """Find faces.

        Args:
            pixels_u8: (H, W, 3) RGB; both sides are multiples of `windows.STRIDE_PX`.

        Returns:
            Candidates in pixels of the window (integers at pixel centres), doubtful ones among them; several of one face, too.
        """
        ...


class FaceDetector:
    """Finds any number of faces in an image of any size. May be called from several threads.

    The first pass is over the whole image, reduced. A face that fills most of it is found badly, because its surroundings are
    missing: if nothing is found, or a large face is or may be there, a window with black surroundings decides about the large ones.
    What is small or doubtful is looked at closely, in windows of its own, where the image has more pixels of it. If then nothing has
    been found, or a face about as small as this pass can show, a finer pass follows in tiles: who is small is seldom small alone.
    """

    def __init__(
        self, backend: DetectorBackend, box_map: BoxMap | None = None, tiles: bool = True, smallest_face: float = SMALLEST_FACE
    ) -> None:
        """Compose it.

        Args:
            backend: The network.
            box_map: What becomes of its boxes; by default the built-in calibration.
            tiles: Whether to look for faces that are too small for the first pass.
            smallest_face: Length of the smallest face to be looked for, as part of the image's longer side. The cost of an image without
                faces grows with the square of its inverse; a larger one makes the first pass cheaper, too.
        """
        self.backend = backend
        self._box_map = backend.box_map if box_map is None else box_map
        self._tiles, self.smallest_face = tiles, smallest_face

    def detect(self, image: Image | EncodedImage) -> list[Detection]:
        """Find the faces of an image, best first; no face is an empty list.

        Args:
            image: (H, W, 3) uint8 RGB of any size and shape, or a file.

        Raises:
            ValueError: The array is of another shape or type, or has no pixels.
            FkpError: The file is decoded in full here for the first time, and cannot be.
        """
        found = self.find(image)
        roll_deg = self._roll_deg(found.shapes_px)
        boxes_xyxy = self._boxes(found.shapes_px, roll_deg).astype(np.float32)
        return [Detection(*face) for face in zip(boxes_xyxy, found.scores.tolist(), roll_deg.tolist(), strict=True)]

    def find(self, image: Image | EncodedImage) -> Candidates:
        """Like `detect`, as the network tells it: in image pixels, before the calibration."""
        if isinstance(image, np.ndarray) and (image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0):
            raise ValueError(f"an image is (H, W, 3) uint8 with some pixels, got {image.shape} {image.dtype}")
        pyramid = Pyramid(image)
        width, height = pyramid.size
        window = whole(width, height, self._first_px(max(width, height)))
        seen = self._look(pyramid, window)
        size_px, found, at_large = self.backend.size_px, self._sure(seen), seen
        large_px = _LARGE * size_px * window.zoom
        if max(window.width, window.height) > size_px:
            # A pass over a large image is for its small faces, and may show nothing of one that is a quarter as long as it.
            plain = whole(width, height, size_px)
            at_large = self._look(pyramid, plain)
            longer = self._sure(at_large)
            found = Candidates.join([found[found.lengths_px <= large_px], longer[longer.lengths_px > large_px / 2]])
            large_px = _LARGE * size_px * plain.zoom
        if (at_large.lengths_px > large_px).any() or not len(found):
            around = self._sure(self._look(pyramid, padded(width, height, size_px)))
            found = Candidates.join([found[found.lengths_px <= large_px], around])
        if not len(found) and (seen.scores >= _MAYBE * self.backend.min_score).any():
            found = self._look_again(pyramid)
        found = merge(found)
        return self._find_small(pyramid, found, seen, window.zoom) if self._tiles else found

    def _look_again(self, pyramid: Pyramid) -> Candidates:
        """What is found in the image turned, or else at other lengths."""
        size_px = self.backend.size_px
        window = whole(*pyramid.size, size_px)
        for quarters in _QUARTERS:
            if len(found := self._sure(self._look(pyramid, window, quarters))):
                return found
        for part in _AGAIN:
            window = whole(*pyramid.size, part * size_px, round((1 - part) * size_px / 2))
            if len(found := self._sure(self._look(pyramid, window))):
                break
        return found

    def _first_px(self, longest: int) -> float:
        """Length of the first pass over an image."""
        backend = self.backend
        large = self._tiles and longest >= _LARGE_IMAGE * backend.size_px
        enough = max(backend.sure_px / self.smallest_face, backend.size_px / 2) if self._tiles else backend.size_px
        return min(backend.coarse_px if large else backend.size_px, enough)

    def _sure(self, found: Candidates) -> Candidates:
        return found[found.scores >= self.backend.min_score]

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

    def _find_small(self, pyramid: Pyramid, found: Candidates, seen: Candidates, zoom: float) -> Candidates:
        """Add the faces that are too small for the first pass.

        Args:
            pyramid: The image.
            found: Its faces so far.
            seen: All candidates of the first pass, of which the small and the doubtful ones are looked at closely.
            zoom: Image pixels that a pixel of the first pass spans.
        """
        backend, (width, height) = self.backend, pyramid.size
        found = self._look_closely(pyramid, found, seen, zoom)
        finest = max(max(width, height) * self.smallest_face / backend.least_px, 1.0)
        if zoom < _FINER * finest or (len(found) and found.lengths_px.min() > backend.sure_px * zoom):
            return found
        windows = list(tiles(width, height, max(width, height) / finest))
        seen = Candidates.join([self._look_into(pyramid, window, OVERLAP_PX) for window in windows])
        bold = seen[seen.scores >= backend.tile_score]
        return self._look_closely(pyramid, merge(Candidates.join([found, bold])), seen, windows[0].zoom)

    def _look_closely(self, pyramid: Pyramid, found: Candidates, seen: Candidates, zoom: float) -> Candidates:
        """Settle the doubts of a pass: is it a face, and where exactly?"""
        small_px = self.backend.sure_px * zoom
        doubts = merge(seen[seen.lengths_px < _SMALL * small_px])
        exact = found[found.lengths_px >= small_px]
        # A part of a face that is known, such as its mouth, may look a little like another one.
        middle = doubts.shapes_px[:, None, :2].mean(axis=2)
        within = ((exact.shapes_px[None, :, 0] < middle) & (middle < exact.shapes_px[None, :, 1])).all(axis=2)
        known = (within | (iou(doubts.boxes_xyxy[:, None], exact.boxes_xyxy[None]) > _SAME)).any(axis=1)
        least_px = _BELOW * self.smallest_face * max(pyramid.size)
        doubts = doubts[~known & (doubts.lengths_px >= least_px)]
        windows = list(close(*pyramid.size, doubts.boxes_xyxy, zoom))
        if not windows:
            return found
        clear = self._sure(Candidates.join([self._look_into(pyramid, window, OF_WINDOW * window.width) for window in windows]))
        # The close box takes the coarse one's place, which is a pixel or two of the pass off.
        replaced = (iou(found.boxes_xyxy[:, None], clear.boxes_xyxy[None]) > _SAME).any(axis=1) & (found.lengths_px < small_px)
        return merge(Candidates.join([found[~replaced], clear]))

    def _look_into(self, pyramid: Pyramid, window: Window, most_px: float) -> Candidates:
        """The whole faces of a window that are small enough to be left to it: up to `most_px` of its pixels."""
        found = self._look(pyramid, window)
        size = np.array(pyramid.size)
        low, high = window.corners_px
        # Where the window ends with the image there is nothing to be cut off.
        margin = _EDGE * min(window.width, window.height) * window.zoom
        low, high = np.where(low <= 0, -np.inf, low + margin), np.where(high >= size - 1, np.inf, high - margin)
        whole_ones = (found.shapes_px[:, 0] > low).all(axis=1) & (found.shapes_px[:, 1] < high).all(axis=1)
        return found[whole_ones & (found.lengths_px < most_px * window.zoom)]

    def _look(self, pyramid: Pyramid, window: Window, quarters: int = 0) -> Candidates:
        """Candidates of one window, in image pixels, by a look at it turned by so many quarters to the left."""
        pixels_u8 = pyramid.cut(window)
        found = self.backend.look(np.ascontiguousarray(np.rot90(pixels_u8, quarters)) if quarters else pixels_u8)
        height, width = pixels_u8.shape[:2]
        return Candidates(window.undo(_undo_quarters(found.shapes_px, quarters, width, height)), found.scores)


def _undo_quarters(shapes_px: np.ndarray, quarters: int, width: int, height: int) -> np.ndarray:
    """(N, 2 + P, 2) shapes of an image that was turned by quarters to the left, in the image before, of `width` x `height`."""
    if not quarters:
        return shapes_px
    x, y = np.moveaxis(shapes_px, -1, 0)
    before = np.stack({1: (width - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, height - 1 - x)}[quarters], axis=-1)
    before[:, 0], before[:, 1] = before[:, :2].min(axis=1), before[:, :2].max(axis=1)
    return before


def _turned(points_px: np.ndarray, middle_px: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """(N, P, 2) points turned clockwise about (N, 2) middles by (N, 1) radians."""
    x, y = np.moveaxis(points_px - middle_px[:, None], -1, 0)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1) + middle_px[:, None]
