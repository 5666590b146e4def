"""What the first bytes of an image say, read without decoding it: format and size.

A few bytes can promise thousands of millions of pixels, so a server asks here before it decodes.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal

from fkp.errors import FkpError
from fkp.vision import boxes

Format = Literal["jpeg", "png", "webp"]

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
#: JPEG markers that begin a frame and so hold its size: C0 to CF without DHT (C4), JPG (C8) and DAC (CC).
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: JPEG markers that stand alone, without a length: TEM, RST0 to RST7, SOI.
_LONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
#: Any other marker; FF 00 in a scan is the byte FF.
_MARKER = re.compile(rb"\xff+[^\x00\x01\xd0-\xd8\xff]")
#: Encoders make ten to twenty.
_MOST_SCANS = 64
_FOREIGN = {
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"<svg": "an SVG drawing",
    b"%PDF": "a PDF document",
    b"8BPS": "a Photoshop file",
    b"FUJIFILMCCD-RAW": "a raw photograph",
}
#: UTF-8 and UTF-16 may say so at a text's beginning.
_UTF8, _UTF16 = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_PRINTABLE = bytes(range(0x20, 0x7F)) + b"\t\r\n"
_PACKED_CHUNKS = frozenset({b"zTXt", b"iTXt", b"iCCP"})
_MOST_PACKED_CHUNKS = 16


@dataclass(frozen=True)
class Header:
    """An image's own statement about itself.

    Attributes:
        format: By content, whatever name or type it was sent under.
        width: Pixels as stored, before an EXIF orientation is applied.
        height: Likewise.
    """

    format: Format
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Pixels of the (first) image."""
        return self.width * self.height


def read_header(data: bytes, name: str = "image") -> Header:
    """Read format and size of a JPEG, PNG or WebP file.

    Args:
        data: The file's bytes.
        name: What an error message calls the image.

    Raises:
        FkpError: Another format, or a header that is cut off or says no size.
    """
    try:
        if data.startswith(_JPEG):
            return Header("jpeg", *_jpeg_size(data))
        if data.startswith(_PNG):
            return Header("png", *_png_size(data))
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return Header("webp", *_webp_size(data))
    except (struct.error, IndexError, _NoSize) as error:
        raise FkpError(f"{name} has a broken header: replace it with a whole JPEG, PNG or WebP file") from error
    kind = foreign(memoryview(data))
    raise FkpError(f"{name} is not a JPEG, PNG or WebP file{f' but {kind}' if kind else ''}: convert it to one of them")


def foreign(view: memoryview) -> str | None:
    """What a file is that people take for an image, and OpenCV does not decode; None for any other."""
    brands = boxes.brands(view)
    if not brands & {b"avif", b"avis"} and brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
        return "an HEIC photograph"
    if brands & {b"crx "}:
        return "a raw photograph"
    if brands & {b"isom", b"iso2", b"mp41", b"mp42", b"qt  ", b"M4V "} or bytes(view[:4]) == b"\x1aE\xdf\xa3":
        return "a video"
    start = bytes(view[:256]).lstrip()
    return next((kind for sign, kind in _FOREIGN.items() if start.startswith(sign) or (sign == b"<svg" and sign in start)), None)


def is_text(data: bytes) -> bool:
    """Whether these bytes begin as text does, such as JSON or base64, and as none that people take for an image."""
    begins = data.startswith(_UTF16) or not data[:256].removeprefix(_UTF8).translate(None, _PRINTABLE)
    return bool(data) and begins and foreign(memoryview(data)) is None


def burden(data: bytes) -> str | None:
    """What makes an image cost far more to decode than its size tells, in a few words; None where nothing does.

    A file that is merely cut off is the decoder's matter: it may hold a whole first frame.

    Args:
        data: An image of any format.
    """
    view = memoryview(data)  # A column of Arrow hands out buffers, which cannot be compared.
    if view[: len(_PNG)] == _PNG:
        return _png_burden(view)
    return _jpeg_burden(view) if view[: len(_JPEG)] == _JPEG else None


def _png_burden(view: memoryview) -> str | None:
    """Walk over the chunks (PNG specification, 5.3).

    OpenCV takes the memory that a chunk's length promises before it finds that the file ends: 4 GiB, and three seconds, for an
    image of 96 x 96 pixels. And it inflates each text and profile up to 8 MB, which takes 40 ms and eight kilobytes of a file.
    """
    place = len(_PNG)
    packed = 0
    while place + 8 <= len(view) and (kind := bytes(view[place + 4 : place + 8])) != b"IEND":
        length = int.from_bytes(view[place : place + 4], "big")
        if length > len(view):
            return f"a chunk of {length} bytes, more than the file"
        packed += kind in _PACKED_CHUNKS
        place += 12 + length
    return f"{packed} compressed texts and profiles" if packed > _MOST_PACKED_CHUNKS else None


def _jpeg_burden(view: memoryview) -> str | None:
    """Walk over the segments and scans (ITU-T T.81, B.1.1), leniently, as decoders do.

    A progressive file may go over its pixels any number of times: 40 bytes a scan, a millisecond of 24 megapixels.
    """
    place, scans = 2, 0
    while (marker := _MARKER.search(view, place)) is not None and (kind := view[marker.end() - 1]) != 0xD9:
        scans += kind == 0xDA
        place = marker.end() + max(int.from_bytes(view[marker.end() : marker.end() + 2], "big"), 2)
    return f"{scans} scans" if scans > _MOST_SCANS else None


class _NoSize(ValueError):
    pass


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Walk over the segments to the frame header (ITU-T T.81, B.2.2)."""
    place = 2
    while True:
        if data[place] != 0xFF:
            raise _NoSize
        while data[place] == 0xFF:  # Any number of fill bytes may precede a marker.
            place += 1
        marker = data[place]
        place += 1
        if marker in _LONE_MARKERS:
            continue
        (length,) = struct.unpack_from(">H", data, place)
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", data, place + 3)
            return _positive(width, height)
        # The image begins, or ends, without a size. And FF 00 is no marker: decoders skip these two bytes alone, so that
        # a length read behind them would lead past the frame header that they decode by.
        if marker in (0x00, 0xD9, 0xDA) or length < 2:
            raise _NoSize
        place += length


def _png_size(data: bytes) -> tuple[int, int]:
    """IHDR is the first chunk (PNG specification, 11.2.1)."""
    if data[12:16] != b"IHDR":
        raise _NoSize
    return _positive(*struct.unpack_from(">II", data, 16))


def _webp_size(data: bytes) -> tuple[int, int]:
    """The first chunk is VP8 (lossy), VP8L (lossless) or VP8X with the canvas (RFC 9649, 2.5 to 2.7)."""
    kind = data[12:16]
    if kind == b"VP8 ":
        if data[23:26] != b"\x9d\x01\x2a":
            raise _NoSize
        width, height = struct.unpack_from("<HH", data, 26)
        return _positive(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        if data[20] != 0x2F:
            raise _NoSize
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        fields = data[24:30]
        if len(fields) < 6:
            raise _NoSize
        return int.from_bytes(fields[:3], "little") + 1, int.from_bytes(fields[3:], "little") + 1
    raise _NoSize


def _positive(width: int, height: int) -> tuple[int, int]:
    if not width or not height:
        raise _NoSize
    return width, height
