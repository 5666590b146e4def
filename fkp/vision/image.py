"""Bytes to pixels: the only place that decodes images."""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from fkp.common.files import atomic_replace
from fkp.errors import FkpError
from fkp.vision import boxes
from fkp.vision.header import burden, foreign

Image = np.ndarray
"""(H, W, 3) uint8, RGB, as displayed (EXIF orientation, or AVIF's own, applied, transparency dropped)."""

#: Which files of a folder are taken for images. A file that is named, or matched by a pattern, is taken whatever it is called.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".webp", ".avif", ".gif", ".jp2", ".j2k"}
    | {".bmp", ".dib", ".tif", ".tiff", ".pnm", ".ppm", ".pgm", ".pbm"}
)


def decode_image(data: bytes, name: str = "image") -> Image:
    """Decode an image of any format OpenCV reads.

    Args:
        data: The file's bytes. The format is taken from the content: the YouTube-Faces frames are RGBA PNGs
            under `.jpg` names.
        name: What an error message calls the image.

    Returns:
        (H, W, 3) uint8 RGB, as displayed.

    Raises:
        FkpError: The bytes are not an image that can be decoded.
    """
    view = memoryview(data)  # A column of Arrow hands out buffers, which cannot be compared.
    avif = bool(boxes.brands(view) & {b"avif", b"avis"})
    # IMREAD_COLOR_RGB drops an alpha channel, reduces 16 bit to 8 and applies the EXIF orientation, which in AVIF counts nothing.
    image = _decoded(data, name, cv2.IMREAD_COLOR_RGB | (cv2.IMREAD_IGNORE_ORIENTATION if avif else 0))
    return _transformed(image, boxes.transforms(view)) if avif else image


def decode_half(data: bytes, name: str = "image") -> Image:
    """Decode a JPEG file at half its size, for less than half of the time from some megapixels on.

    Args:
        data: The bytes of a JPEG file; other formats would be decoded in full and then made smaller.
        name: What an error message calls the image.

    Returns:
        (ceil(H / 2), ceil(W / 2), 3) uint8 RGB, as displayed.

    Raises:
        FkpError: See `decode_image`.
    """
    # Of the two names for this scale the other one is BGR, which OpenCV does not let stand beside RGB.
    return _decoded(data, name, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_2)


def _decoded(data: bytes, name: str, flags: int) -> Image:
    if not data:
        raise FkpError(f"{name} is empty: replace it with an image")
    if found := burden(data):
        raise FkpError(f"{name} has {found}: save it anew")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:  # Its header promises more pixels than OpenCV allows (2^30 by default).
        raise FkpError(f"{name} has too many pixels to be decoded: make it smaller") from error
    if image is None and (kind := foreign(memoryview(data))):
        way = "end the name of --out in .mp4" if kind == "a video" else "convert it to JPEG"
        raise FkpError(f"{name} is {kind}, which is not decoded here: {way}")
    if image is None:
        raise FkpError(f"{name} is not an image that can be decoded: replace it with a whole JPEG, PNG or WebP file")
    return image


def _transformed(image: Image, steps: Sequence[tuple[bytes, memoryview]]) -> Image:
    """An AVIF image as its file says that it is displayed; see `boxes.transforms`."""
    for kind, told in steps:
        if kind == b"irot":  # Quarter turns against the clock.
            image = np.rot90(image, told[0] & 3)
        elif kind == b"imir":
            image = image[:, ::-1] if told[0] & 1 else image[::-1]
        elif len(told) >= 32:  # A size and the middle's offset from the image's middle, as fractions.
            pairs = struct.unpack_from(">IIIIiIiI", told)
            width, height, right, down = (part / max(whole, 1) for part, whole in zip(pairs[::2], pairs[1::2], strict=True))
            x, y = (round((size - part) / 2 + off) for size, part, off in ((image.shape[1], width, right), (image.shape[0], height, down)))
            part = image[max(y, 0) : max(y + round(height), 0), max(x, 0) : max(x + round(width), 0)]
            image = part if part.size else image
    return np.ascontiguousarray(image)


def read_image(path: str | Path) -> Image:
    """Read and decode one image file; see `decode_image`.

    Raises:
        FkpError: The file is missing, unreadable or not an image.
    """
    return decode_image(read_bytes(path), str(path))


def read_bytes(path: str | Path) -> bytes:
    """Read a file that is expected to be an image.

    Raises:
        FkpError: The file is missing or unreadable.
    """
    try:
        return spelled(Path(path)).read_bytes()
    except OSError as error:
        raise FkpError(f"cannot read image {path}: {error.strerror or error}") from error


def spelled(path: Path) -> Path:
    """The file of a name, which may be there in another spelling that looks the same: Unicode's composed or decomposed form.

    macOS and archives made there decompose names (NFD); Linux and Windows keep what was typed, mostly composed (NFC).
    """
    if path.name.isascii() or path.exists():
        return path
    names = [unicodedata.normalize(form, path.name) for form in ("NFC", "NFD")]
    return next((other for other in map(path.with_name, names) if other.exists()), path)


def shown(path: str) -> str:
    """A path as text that can be written: bytes that are not UTF-8, as in names from old archives, become escapes."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def encode_image(image: Image, suffix: str, quality: int | None = None) -> bytes:
    """Encode an RGB image as a file's bytes; the suffix (".png", ".jpg") chooses the format, `quality` (0 to 100) that of a JPEG.

    Raises:
        FkpError: There is no such format, or the image does not fit into it.
    """
    try:
        options = [] if quality is None else [cv2.IMWRITE_JPEG_QUALITY, quality]
        done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    except cv2.error as error:
        raise FkpError(f"no encoder for a {suffix!r} file, use .png or .jpg") from error
    if not done:
        raise FkpError(f"the image could not be encoded as {suffix}")
    return data.tobytes()


def write_image(path: str | Path, image: Image, quality: int | None = None) -> None:
    """Write an RGB image, whole or not at all; the suffix of `path` chooses the format, see `encode_image`.

    Raises:
        FkpError: The image cannot be encoded in that format or the file cannot be written.
    """
    try:
        data = encode_image(image, Path(path).suffix, quality)
        with atomic_replace(Path(path)) as draft:
            draft.write_bytes(data)
    except FkpError as error:
        raise FkpError(f"cannot write {path}: {error}") from error
    except OSError as error:
        raise FkpError(f"cannot write {path}: {error.strerror or error}") from error
