"""Bytes to pixels: the only place that decodes pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from fkp.errors import FkpError
from fkp.vision.header import burden

Image = np.ndarray
"""(H, W, 3) uint8, RGB, as displayed (EXIF orientation applied, transparency dropped)."""


def decode(data: bytes, name: str = "image") -> Image:
    """Decode a picture of any format OpenCV reads.

    Args:
        data: The file's bytes. The format is taken from the content: the YouTube-Faces frames are RGBA PNGs
            under `.jpg` names.
        name: What an error message calls the picture.

    Returns:
        (H, W, 3) uint8 RGB, EXIF orientation applied.

    Raises:
        FkpError: The bytes are not a picture that can be decoded.
    """
    if not data:
        raise FkpError(f"{name} is empty: replace it with a picture")
    if found := burden(data):
        raise FkpError(f"{name} has {found}: save it anew")
    # IMREAD_COLOR_RGB drops an alpha channel, reduces 16 bit to 8 and applies the EXIF orientation.
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:  # Its header promises more pixels than OpenCV allows (2^30 by default).
        raise FkpError(f"{name} has too many pixels to be decoded: make it smaller") from error
    if image is None:
        raise FkpError(f"{name} is not a picture that can be decoded: replace it with a whole JPEG, PNG or WebP file")
    return image


def read(path: str | Path) -> Image:
    """Read and decode one picture file; see `decode`.

    Raises:
        FkpError: The file is missing, unreadable or not a picture.
    """
    return decode(read_bytes(path), str(path))


def read_bytes(path: str | Path) -> bytes:
    """Read a file that is expected to be a picture.

    Raises:
        FkpError: The file is missing or unreadable.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FkpError(f"cannot read picture {path}: {error.strerror or error}") from error


def encode(image: Image, suffix: str) -> bytes:
    """Encode an RGB picture as a file's bytes; the suffix (".png", ".jpg") chooses the format.

    Raises:
        FkpError: There is no such format, or the picture does not fit into it.
    """
    try:
        done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise FkpError(f"no encoder for a {suffix!r} file, use .png or .jpg") from error
    if not done:
        raise FkpError(f"the picture could not be encoded as {suffix}")
    return data.tobytes()


def write(path: str | Path, image: Image) -> None:
    """Write an RGB picture; the suffix of `path` chooses the format.

    Raises:
        FkpError: The picture cannot be encoded in that format or the file cannot be written.
    """
    try:
        Path(path).write_bytes(encode(image, Path(path).suffix))
    except FkpError as error:
        raise FkpError(f"cannot write {path}: {error}") from error
    except OSError as error:
        raise FkpError(f"cannot write {path}: {error.strerror or error}") from error
