"""Scenes that train a face detector: labelled faces of any size, place and turn before what is no face.

Faces come from the labelled set and from `data.extra`. What is behind them, and all of a scene without faces, are the photographs of
`detect.backgrounds` and labelled images whose face has been painted over. Nothing is drawn twice: a scene is made from its number in
the run alone, so that a resumed run sees the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from fkp.config import Config
from fkp.data import distractors
from fkp.data.scene_pool import AROUND, SMALL_PX, Pool
from fkp.vision.image import Image

#: Rows of a face's shape: low and high corner of its box, then eyes, tip of the nose and corners of the mouth.
SHAPE = 7
#: Faces shorter than this, or of which less than this part is inside the scene, neither count as found nor as missed.
_LEAST_PX, _LEAST_PART = 7.0, 0.5
#: Faces keep so far from each other: the distance of their middles as a part of their mean length.
_APART = 0.95


#: An image that is painted on, (H, W) whose face each pixel is of, and the number of the face that is painted.
_Onto = tuple[Image, np.ndarray, int]


class Scenes:
    """Makes scenes.

    Args:
        pool: Of what.
        config: `detect.size_px` is the side.
    """

    def __init__(self, pool: Pool, config: Config) -> None:
        self.pool, self.size_px, self.seed = pool, config.detect.size_px, config.train.seed

    def __call__(self, seed: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Make the scene of a seed.

        Returns:
            (3, S, S) uint8 RGB; (M, 7, 2) float32 shapes of its faces in pixels (integers at pixel centres), the box of a turned face
            being that of the face set upright, about its middle; (M,) bool, whether a detector must find it.
        """
        random = np.random.default_rng(seed)
        image = self._background(random)
        kind = random.random()
        if kind < 0.12:
            lengths = np.zeros(0)
        elif kind < 0.6:
            longest = 0.97 * self.size_px
            lengths = (
                np.exp(random.uniform(np.log(16), np.log(longest), 1)) if random.random() < 0.6 else random.uniform(0.3, 1, 1) * longest
            )
        elif kind < 0.82:
            lengths = np.exp(random.uniform(np.log(9), np.log(0.4 * self.size_px), int(random.integers(2, 7))))
        else:
            lengths = np.exp(random.uniform(np.log(6), np.log(28), 1)) * np.exp(random.normal(0, 0.15, int(random.integers(6, 40))))
        self._distract(image, random)
        shapes, seen = self._place(image, np.sort(lengths)[::-1], random)
        image = _photograph(image, random)
        counted = np.array([part >= _LEAST_PART and _length(shape) >= _LEAST_PX for shape, part in zip(shapes, seen, strict=True)], bool)
        return image.transpose(2, 0, 1).copy(), shapes.astype(np.float32), counted

    def alone(self, seed: Sequence[int], length_px: float) -> tuple[np.ndarray, np.ndarray]:
        """Make a scene of one face that nothing covers, in the middle half.

        Returns:
            (3, S, S) uint8 RGB and the face's (7, 2) shape, see `__call__`.
        """
        random = np.random.default_rng(seed)
        image = self._background(random)
        onto = (image, np.empty(image.shape[:2], np.int16), 0)
        middle = random.uniform(0.25, 0.75, 2) * self.size_px
        shape = self._paste(onto, int(random.integers(len(self.pool))), length_px, middle, random, whole=True)
        return _photograph(image, random).transpose(2, 0, 1).copy(), shape

    def _place(self, image: Image, lengths: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Put faces of these lengths into the image; their shapes, and how much of each one's box is seen at last."""
        shapes: list[np.ndarray] = []
        owner = np.full(image.shape[:2], -1, np.int16)
        alone = len(lengths) == 1
        for length in lengths:
            for _ in range(8):
                low, high = (0.05, 0.95) if alone else (-0.05, 1.05)
                middle = random.uniform(low, high, 2) * self.size_px
                if alone and length > 0.5 * self.size_px:
                    middle = self.size_px / 2 + random.normal(0, 0.12, 2) * self.size_px
                away = [np.linalg.norm(middle - shape[:2].mean(axis=0)) - _APART * (length + _length(shape)) / 2 for shape in shapes]
                if all(distance > 0 for distance in away):
                    painter = (image, owner, len(shapes))
                    shapes.append(self._paste(painter, int(random.integers(len(self.pool))), length, middle, random, whole=alone))
                    break
        seen = [_part_seen(owner == number, shape) for number, shape in enumerate(shapes)]
        return np.array(shapes).reshape(-1, SHAPE, 2), np.array(seen)

    def _paste(
        self, onto: _Onto, face: int, length: float, middle_px: np.ndarray, random: np.random.Generator, whole: bool, painted: bool = False
    ) -> np.ndarray:
        """Put a face into the image; `whole` with all that surrounds it, or cut out roundly. Returns its shape."""
        pool = self.pool
        shape = pool.shapes[face]
        window = pool.small[face] if length <= SMALL_PX / AROUND * 1.3 else pool.windows[face]
        side = window.shape[0]
        own = _length(shape) * side
        kind = random.random()
        turn = random.normal(0, 12 if kind < 0.7 else 35) if kind < 0.88 else random.uniform(-180, 180)
        flip = random.random() < 0.5
        if painted:
            window = distractors.painted_over(window, shape * side, random)
        (window,), zoom = _reduced([window], length / own)
        side = len(window)
        matrix = zoom * _rotation(turn)
        if flip:
            matrix = matrix @ np.diag([-1.0, 1.0])
        box_middle = shape[:2].mean(axis=0) * side - 0.5
        affine = np.concatenate([matrix, (middle_px - matrix @ box_middle)[:, None]], axis=1)
        mask = self._mask(face, side, whole, random)
        _blend(onto, window, mask, affine)
        there = (shape * side - 0.5) @ matrix.T + affine[:, 2]
        if flip:
            there[2:] = there[[3, 2, 4, 6, 5]]
        half = (shape[1] - shape[0]) * side * zoom / 2
        there[:2] = middle_px - half, middle_px + half
        return there

    def _mask(self, face: int, side: int, whole: bool, random: np.random.Generator) -> np.ndarray:
        """(side, side) float32, how much of the window is seen."""
        x0, y0, x1, y1 = (round(value * side) for value in self.pool.known[face])
        mask: np.ndarray = np.zeros((side, side), np.float32)
        mask[y0:y1, x0:x1] = 1
        if whole and random.random() < 0.7:
            return mask
        shape = self.pool.shapes[face] * side
        x, y = shape[:2].mean(axis=0)
        width, height = (shape[1] - shape[0]) * random.uniform(0.75, 1.05, 2)
        y -= 0.12 * height
        grid_y, grid_x = np.mgrid[:side, :side].astype(np.float32)
        away = np.sqrt(((grid_x - x) / width) ** 2 + ((grid_y - y) / height) ** 2)
        if random.random() < 0.5:  # With the shoulders.
            away = np.where((grid_y > y) & (np.abs(grid_x - x) < 1.1 * width), 0, away)
        return mask * np.clip((1 - away) / random.uniform(0.03, 0.25) + 1, 0, 1).astype(np.float32)

    def _background(self, random: np.random.Generator) -> Image:
        pool, size = self.pool, self.size_px
        kind = random.random()
        if kind < 0.12:
            return np.full((size, size, 3), random.integers(0, 256, 3) if random.random() < 0.5 else 0, np.uint8)
        if kind < 0.24:
            cells = random.integers(0, 256, (*random.integers(2, 24, 2), 3)).astype(np.uint8)
            return cv2.resize(cells, (size, size), interpolation=cv2.INTER_CUBIC if random.random() < 0.7 else cv2.INTER_NEAREST)
        if pool.backgrounds and kind < 0.85:
            source = pool.backgrounds[int(random.integers(len(pool.backgrounds)))]
        else:
            face = int(random.integers(len(pool)))
            window, (x0, y0, x1, y1) = pool.windows[face], pool.known[face]
            side = window.shape[0]
            source = distractors.painted_over(window, pool.shapes[face] * side, random)
            source = source[round(y0 * side) : max(round(y1 * side), 1), round(x0 * side) : max(round(x1 * side), 1)]
        height, width = source.shape[:2]
        part = min(height, width) * (random.uniform(0.35, 1.0) if random.random() < 0.7 else random.uniform(0.08, 0.35))
        x, y = random.uniform(0, 1, 2) * (width - part, height - part)
        cut = source[int(y) : max(int(y + part), int(y) + 1), int(x) : max(int(x + part), int(x) + 1)]
        cut = cut[:, ::-1] if random.random() < 0.5 else cut
        return cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA if part > size else cv2.INTER_LINEAR)

    def _distract(self, image: Image, random: np.random.Generator) -> None:
        """Pieces that look as if a face had been pasted there, and have none; see also `fkp.data.distractors`."""
        for _ in range(int(random.integers(1, 7)) if random.random() < 0.6 else 0):
            length = float(np.exp(random.uniform(np.log(8), np.log(0.5 * self.size_px))))
            middle = random.uniform(0, 1, 2) * self.size_px
            nobody = (image, np.empty(image.shape[:2], np.int16), -1)
            face, kind = int(random.integers(len(self.pool))), random.random()
            if kind < 0.25:
                self._paste(nobody, face, length, middle, random, whole=False, painted=True)
                continue
            piece, mask = self._distractor(face, kind, random)
            (piece, mask), zoom = _reduced([piece, mask], length / len(piece))
            matrix = zoom * _rotation(random.normal(0, 30))
            own_middle = np.full(2, (len(piece) - 1) / 2)
            _blend(nobody, piece, mask, np.concatenate([matrix, (middle - matrix @ own_middle)[:, None]], axis=1))

    def _distractor(self, face: int, kind: float, random: np.random.Generator) -> tuple[Image, np.ndarray]:
        """A drawn one, or a piece of a photograph; see `fkp.data.distractors.drawn`."""
        pool = self.pool
        if kind < 0.55:
            return distractors.drawn(random)
        if kind < 0.8 and pool.backgrounds:
            return distractors.piece_of(pool.backgrounds[int(random.integers(len(pool.backgrounds)))], random)
        window = pool.windows[face]
        beside = distractors.piece_beside(window, pool.shapes[face, :2].reshape(4) * len(window), pool.known[face] * len(window), random)
        return beside or distractors.drawn(random)


def _reduced(squares: Sequence[np.ndarray], zoom: float) -> tuple[Sequence[np.ndarray], float]:
    """Squares of one size that are to be drawn with a zoom, and the zoom that is left: bilinear sampling alone would skip pixels."""
    side = len(squares[0])
    if zoom >= 0.6:
        return squares, zoom
    smaller = max(round(side * zoom * 1.3), 4)
    return [cv2.resize(square, (smaller, smaller), interpolation=cv2.INTER_AREA) for square in squares], zoom * side / smaller


def _rotation(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _blend(onto: _Onto, window: Image, mask: np.ndarray, affine: np.ndarray) -> None:
    """Lay a window over the image, as far as the mask lets it be seen; only the part that it covers is touched."""
    (image, owner, number), side = onto, window.shape[0]
    corners = np.array([(0, 0), (side, 0), (0, side), (side, side)]) @ affine[:, :2].T + affine[:, 2]
    x0, y0 = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, image.shape[0])
    x1, y1 = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, image.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    there = affine - np.array([[0, 0, x0], [0, 0, y0]])
    size = (int(x1 - x0), int(y1 - y0))
    cover = cv2.warpAffine(mask, there, size, flags=cv2.INTER_LINEAR)
    seen = cv2.warpAffine(window, there, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    image[y0:y1, x0:x1] = cv2.blendLinear(seen, np.ascontiguousarray(image[y0:y1, x0:x1]), cover, 1 - cover)
    owner[y0:y1, x0:x1][cover > 0.5] = number


def _length(shape: np.ndarray) -> float:
    return float((shape[1] - shape[0]).max())


def _part_seen(mine: np.ndarray, shape: np.ndarray) -> float:
    """Part of a face's box that nothing else covers, and no border cuts off."""
    (x0, y0), (x1, y1) = np.round(shape[:2]).astype(int)
    inside = mine[max(y0, 0) : max(y1 + 1, 0), max(x0, 0) : max(x1 + 1, 0)]
    return float(inside.sum() / max((x1 + 1 - x0) * (y1 + 1 - y0), 1))


def _photograph(image: Image, random: np.random.Generator) -> Image:
    """Light, colour, blur, noise and compression, as cameras have them."""
    value: np.ndarray = image.astype(np.float32)
    if random.random() < 0.8:
        gain = np.exp(random.normal(0, 0.12, 3) + random.normal(0, 0.3))
        value = (value - 127) * np.exp(random.normal(0, 0.2)) * gain.astype(np.float32) + 127 + random.normal(0, 25)
    if random.random() < 0.3:
        value = 255 * (np.clip(value, 0, 255) / 255) ** np.exp(random.normal(0, 0.35))
    if random.random() < 0.12:
        value = np.repeat(value.mean(axis=2, keepdims=True), 3, axis=2)
    if random.random() < 0.2:
        value = cv2.GaussianBlur(value, (0, 0), random.uniform(0.4, 1.6))
    if random.random() < 0.25:
        value = value + random.standard_normal(value.shape, dtype=np.float32) * random.uniform(2, 14)
    image = np.clip(value, 0, 255).astype(np.uint8)
    if random.random() < 0.3:
        # OpenCV takes the first channel for blue: the noise of the compression is one of other colours, which nobody sees.
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(25, 90))])
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return image
