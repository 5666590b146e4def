"""A face box as a square crop, and the affine that made it. Every crop in fkp comes from here.

Pixel coordinates have integers at pixel centres: the first pixel covers [-0.5, 0.5].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from fkp.scheme import Scheme
from fkp.vision.encoded import EncodedImage
from fkp.vision.image import Image

#: Largest factor of supersampling; a face that is shrunk more than this aliases a little.
_MAX_SUPERSAMPLING = 8

#: No corner of a box that somebody gives lies further away.
_MOST_PX = 1e5


def box_of_points(points_px: np.ndarray) -> np.ndarray:
    """Return the tight box [x0, y0, x1, y1] of (..., K, 2) points, as (..., 4) float32."""
    return np.concatenate([points_px.min(axis=-2), points_px.max(axis=-2)], axis=-1).astype(np.float32)


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Read a face box from "x0,y0,x1,y1" in pixels, of at least one pixel.

    Neither may it be so far away or so large that float32 pixels lose their meaning.

    Raises:
        ValueError: It is none.
    """
    x0, y0, x1, y1 = (float(part) for part in text.split(","))
    if not (-_MOST_PX < x0 < x1 < _MOST_PX and -_MOST_PX < y0 < y1 < _MOST_PX and min(x1 - x0, y1 - y0) >= 1):
        raise ValueError(f"{text!r} is no face box")
    return x0, y0, x1, y1


def roll_deg(points_px: np.ndarray, scheme: Scheme) -> np.ndarray:
    """How far faces are turned in the image, clockwise: (..., K, 2) points to (...) degrees in [-180, 180].

    The mean way from each point of one half to its partner in the other: 29 pairs shake less than the two eyes. Of a scheme
    without pairs it is 0: nothing tells.
    """
    x, y = np.moveaxis((points_px[..., scheme.right, :] - points_px[..., scheme.left, :]).sum(axis=-2), -1, 0)
    return np.degrees(np.arctan2(y, x))


def upright(ways_px: np.ndarray, points_px: np.ndarray, scheme: Scheme) -> np.ndarray:
    """Ways in the image, (..., K, 2), as those in the frame in which the face of the points (..., K, 2) stands upright."""
    angle = np.radians(roll_deg(points_px, scheme))[..., None]
    x, y = np.moveaxis(np.asarray(ways_px, np.float64), -1, 0)
    return np.stack([np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x], -1)


@dataclass(frozen=True)
class Crop:
    """A square window on an image, sampled on a `size_px` x `size_px` grid.

    Attributes:
        center_px: Middle of the window, (x, y) in image pixels.
        side_px: Length of the window's side in image pixels.
        size_px: Side of the crop in crop pixels.
        angle_deg: Clockwise rotation of the window in the image.
        mirrored: Whether the crop shows the window mirrored left to right.
    """

    center_px: tuple[float, float]
    side_px: float
    size_px: int
    angle_deg: float = 0.0
    mirrored: bool = False

    @classmethod
    def of_box(cls, box_xyxy: np.ndarray, size_px: int, scale: float, angle_deg: float = 0.0) -> Crop:
        """Window of `scale` times the longer side of a box, around its middle, and turned with it by `angle_deg`.

        Raises:
            ValueError: The box is not finite or has no area.
        """
        x0, y0, x1, y1 = (float(v) for v in box_xyxy)
        side = max(x1 - x0, y1 - y0)
        if not math.isfinite(x0 + y0 + x1 + y1) or min(x1 - x0, y1 - y0) <= 0:
            raise ValueError(f"a face box needs finite corners and some area, got {[x0, y0, x1, y1]}")
        return cls(((x0 + x1) / 2, (y0 + y1) / 2), side * scale, size_px, angle_deg)

    @classmethod
    def of_points(
        cls, points_px: np.ndarray, scheme: Scheme, size_px: int, scale: float, mirrored: bool = False, angle_deg: float | None = None
    ) -> Crop:
        """Window around the (K, 2) points of a face, turned with it: the face stands upright in the crop.

        Args:
            points_px: They may lie on a line, as two always do: the longer side of their box alone counts.
            scheme: Of the points.
            size_px: Side of the crop in crop pixels.
            scale: Of the window's side to the longer side of the upright box.
            mirrored: Whether the crop shows it mirrored.
            angle_deg: How the face is turned; None: by `roll_deg` of the points.

        Raises:
            ValueError: The points are not finite or have no extent.
        """
        angle_deg = float(roll_deg(points_px, scheme)) if angle_deg is None else angle_deg
        upright = cls((0.0, 0.0), 1.0, 1, angle_deg)
        low, high = np.split(box_of_points(upright.do(points_px)).astype(np.float64), 2)
        side_px = float((high - low).max())
        if not (math.isfinite(side_px) and side_px > 0):
            raise ValueError("a face's points need finite places and some extent")
        x, y = (float(v) for v in upright.undo((low + high) / 2))
        return cls((x, y), side_px * scale, size_px, angle_deg, mirrored)

    @property
    def matrix(self) -> np.ndarray:
        """(2, 3) float64 affine: image pixels to crop pixels."""
        zoom = self.size_px / self.side_px
        angle = math.radians(self.angle_deg)
        cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
        middle = (self.size_px - 1) / 2
        x, y = self.center_px
        matrix = np.array([[cos, sin, middle - cos * x - sin * y], [-sin, cos, middle + sin * x - cos * y]])
        if self.mirrored:
            matrix[0] = np.array([0, 0, self.size_px - 1]) - matrix[0]
        return matrix

    def apply(self, image: Image | EncodedImage, channels: int) -> np.ndarray:
        """Sample the window; what lies outside the image is black.

        Args:
            image: (H, W, 3) uint8 RGB, or a file, of which no more is decoded than this window needs.
            channels: 1 for grey (ITU-R BT.601 luma), 3 for RGB.

        Returns:
            (channels, size_px, size_px) uint8.

        Raises:
            FkpError: The file is decoded here for the first time, and cannot be.
        """
        if isinstance(image, EncodedImage):
            pixels, step = image.enough_for(self.px_per_crop_px)
            x, y = ((place + 0.5) / step - 0.5 for place in self.center_px)
            return replace(self, center_px=(x, y), side_px=self.side_px / step).apply(pixels, channels)
        # Only what the window shows is made grey: 12 megapixels take ten times as long as the crop itself.
        corners = self.undo(np.array([[x, y] for x in (-0.5, self.size_px - 0.5) for y in (-0.5, self.size_px - 0.5)]))
        sides = image.shape[1], image.shape[0]
        low = [min(max(int(first), 0), side - 1) for first, side in zip(np.floor(corners.min(axis=0)) - 1, sides, strict=True)]
        high = [
            min(max(int(last), first + 1), side) for last, first, side in zip(np.ceil(corners.max(axis=0)) + 2, low, sides, strict=True)
        ]
        pixels = image[low[1] : high[1], low[0] : high[0]]
        if channels == 1:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        # Bilinear sampling aliases when it shrinks: sample on a finer grid and average it.
        fine = min(max(math.ceil(self.side_px / self.size_px - 0.25), 1), _MAX_SUPERSAMPLING)
        matrix = self.matrix * fine
        matrix[:, 2] += (fine - 1) / 2 + matrix[:, :2] @ low
        crop = cv2.warpAffine(pixels, matrix, (self.size_px * fine,) * 2, flags=cv2.INTER_LINEAR)
        if fine > 1:
            crop = cv2.resize(crop, (self.size_px,) * 2, interpolation=cv2.INTER_AREA)
        return crop[None] if channels == 1 else np.ascontiguousarray(crop.transpose(2, 0, 1))

    def do(self, points_px: np.ndarray) -> np.ndarray:
        """Map (..., 2) points from image pixels to crop pixels."""
        matrix = self.matrix
        return (points_px @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)

    def undo(self, points_crop_px: np.ndarray) -> np.ndarray:
        """Map (..., 2) points from crop pixels back to image pixels."""
        matrix = cv2.invertAffineTransform(self.matrix)
        return (points_crop_px @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)

    @property
    def px_per_crop_px(self) -> float:
        """Image pixels that one crop pixel spans; turns a length in the crop into one in the image."""
        return self.side_px / self.size_px
