"""An image at the scales at which a detector sees it."""

from __future__ import annotations

import math

import cv2
import numpy as np

from fkp.vision.detect.windows import Window
from fkp.vision.encoded import EncodedImage
from fkp.vision.image import Image

#: A window is sampled from the halving that it shrinks by a factor of 0.84 to 1.68: below two, bilinear sampling skips no pixel.
_SHARPER = 0.25


class Pyramid:
    """An image, its half, its quarter and so on, each made when a window first needs it.

    Averages of 2 x 2 pixels cost 4 ms of 12 megapixels down to 500 x 375; OpenCV's average by any factor (`INTER_AREA`), 37. In memory
    they are a third of the image.

    Args:
        image: (H, W, 3) uint8; or a file, whose half may come from its decoder and whose full size is then decoded when a window needs it.
    """

    def __init__(self, image: Image | EncodedImage) -> None:
        self._image = image
        self.size = image.size if isinstance(image, EncodedImage) else (image.shape[1], image.shape[0])
        #: The half, the quarter and so on.
        self._smaller: list[Image] = [image.half] if isinstance(image, EncodedImage) and image.half is not None else []

    def cut(self, window: Window) -> np.ndarray:
        """Return what a window shows, (height, width, 3) uint8; outside the image it is black.

        Raises:
            FkpError: The file is decoded in full here for the first time, and cannot be.
        """
        wanted = max(math.floor(math.log2(window.zoom) + _SHARPER), 0)
        while len(self._smaller) < wanted and min(self._level(len(self._smaller)).shape[:2]) > 1:
            self._smaller.append(_half(self._level(len(self._smaller))))
        level = min(wanted, len(self._smaller))
        pixels, step = self._level(level), window.zoom / 2**level
        x, y = (border / 2**level + (step - 1) / 2 for border in (window.left_px, window.top_px))
        # Only the part that is seen: OpenCV warps no image of more than 32,767 pixels a side.
        x0, y0 = (max(math.floor(first) - 1, 0) for first in (x, y))
        seen = pixels[y0 : max(math.ceil(y + step * window.height) + 2, 0), x0 : max(math.ceil(x + step * window.width) + 2, 0)]
        matrix = np.array([[step, 0, x - x0], [0, step, y - y0]])
        return cv2.warpAffine(seen, matrix, (window.width, window.height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)

    def _level(self, number: int) -> Image:
        if number:
            return self._smaller[number - 1]
        return self._image.full if isinstance(self._image, EncodedImage) else self._image


def _half(image: Image) -> Image:
    """Averages of 2 x 2 pixels; an odd last row or column is left out, so that places keep their exact scale."""
    height, width = (side // 2 for side in image.shape[:2])
    return cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
