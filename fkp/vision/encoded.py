"""An image file that is decoded only as finely as it is looked at."""

from __future__ import annotations

from functools import cached_property

from fkp.errors import FkpError
from fkp.vision.header import Header, read_header
from fkp.vision.image import Image, decode_half, decode_image

#: JPEG files of so many pixels are decoded at half their size first, which libjpeg-turbo does in about half of the time. Smaller ones
#: gain few milliseconds, and their faces need the full size more often. Larger ones OpenCV refuses to decode in full, and so they stay.
HALVED_PIXELS = range(4_000_000, 2**30)

#: A crop whose pixels span at least so many of the image loses nothing at half the size.
_ENOUGH = 2.0


class EncodedImage:
    """An image as it was sent or read; what `Predictor` and the detectors take in place of its pixels.

    A large JPEG file whose sides are even is decoded at half its size (ITU-T T.81's blocks of 8 x 8 coefficients become 4 x 4 pixels, which
    are nearly the means of 2 x 2), and in full when something asks for more: a face or a window of the detector that is small, or whoever
    draws. What is asked decides, never the order, so that the same file gives the same answers however they are asked for. Coordinates
    are those of the full image all along. Both sizes together take a quarter more memory than the full one.

    Args:
        data: The file's bytes, see `vision.image.decode_image`.
        name: What an error message calls the image.
        header: Where it has been read already.

    Raises:
        FkpError: The bytes are not an image that can be decoded. `full` and what uses it may raise it later.
    """

    def __init__(self, data: bytes, name: str = "image", header: Header | None = None) -> None:
        self._data, self._name = data, name
        self.half: Image | None = decode_half(data, name) if _has_half(data, header) else None
        step, pixels = (1, self.full) if self.half is None else (2, self.half)
        #: Width and height of the full image, as displayed.
        self.size = (step * pixels.shape[1], step * pixels.shape[0])

    @cached_property
    def full(self) -> Image:
        """All pixels.

        Raises:
            FkpError: See the class.
        """
        return decode_image(self._data, self._name)

    def enough_for(self, zoom: float) -> tuple[Image, int]:
        """Pixels to sample from, and how many pixels of the full image one of them spans along each side: 1 or 2.

        Args:
            zoom: How many pixels of the full image a sample spans.
        """
        return (self.full, 1) if self.half is None or zoom < _ENOUGH else (self.half, 2)


def _has_half(data: bytes, header: Header | None) -> bool:
    try:
        header = header or read_header(data)
    except FkpError:  # Another format, or a header that only the decoder can make sense of, or refuse: it decodes in full.
        return False
    # Odd sides would be rounded, and an EXIF orientation would decide on which side: places would be half a pixel off.
    return header.format == "jpeg" and header.pixels in HALVED_PIXELS and header.width % 2 == header.height % 2 == 0
