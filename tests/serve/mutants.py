"""Broken images without end: real JPEG, PNG and WebP files, each damaged in one of many ways. The same seed, the same bytes."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from PIL import Image as Pillow

Mutation = Callable[[bytes, np.random.Generator, list[bytes]], bytes]

_PNG = b"\x89PNG\r\n\x1a\n"
_BOMB_BYTES = 64 * 1024 * 1024


def whole_images(image: np.ndarray) -> dict[str, bytes]:
    """One file of every kind of pixel, size and container that is answered, and of some that are not.

    Args:
        image: (H, W, 3) uint8 RGB.
    """
    small = Pillow.fromarray(image).resize((96, 96))
    frames = [Pillow.fromarray(np.roll(np.asarray(small), 10 * step, axis=1)) for step in range(1, 4)]
    exif = Pillow.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    made: dict[str, tuple[str, Pillow.Image, dict[str, object]]] = {
        "jpeg": ("JPEG", small, {}),
        "jpeg-progressive": ("JPEG", small, {"progressive": True}),
        "jpeg-exif": ("JPEG", small, {"exif": exif}),
        **{f"jpeg-{mode}": ("JPEG", small.convert(mode), {}) for mode in ("L", "CMYK")},
        **{f"png-{mode}": ("PNG", small.convert(mode), {}) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")},
        "png-animated": ("PNG", small, {"save_all": True, "append_images": frames}),
        "webp": ("WEBP", small, {}),
        "webp-lossless": ("WEBP", small.convert("RGBA"), {"lossless": True}),
        "webp-animated": ("WEBP", small, {"save_all": True, "append_images": frames}),
        "gif": ("GIF", small, {}),
        "tiff": ("TIFF", small, {}),
    }
    files = {}
    for name, (kind, image, options) in made.items():
        data = io.BytesIO()
        image.save(data, kind, **options)  # type: ignore[arg-type]
        files[name] = data.getvalue()
    files["png-RGB16"] = cv2.imencode(".png", np.asarray(small).astype(np.uint16) * 257)[1].tobytes()
    return files


def mutants(image: np.ndarray, count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield (what was done to what, bytes)."""
    rng = np.random.default_rng(seed)
    files = whole_images(image)
    every, names, ways = list(files.values()), list(files), list(MUTATIONS)
    for _ in range(count):
        name, way = names[rng.integers(len(names))], ways[rng.integers(len(ways))]
        yield f"{way} of {name}", MUTATIONS[way](files[name], rng, every)


def _flip_bits(data: bytes, rng: np.random.Generator, _: list[bytes]) -> bytes:
    flipped = bytearray(data)
    # Half of the time near the beginning, where the headers are.
    end = len(data) if rng.random() < 0.5 else min(len(data), 200)
    for place in rng.integers(end, size=rng.integers(1, 65)):
        flipped[place] ^= 1 << rng.integers(8)
    return bytes(flipped)


def _truncate(data: bytes, rng: np.random.Generator, _: list[bytes]) -> bytes:
    return data[: rng.integers(len(data))]


def _splice(data: bytes, rng: np.random.Generator, every: list[bytes]) -> bytes:
    other = every[rng.integers(len(every))]
    return data[: rng.integers(min(len(data), 300))] + other[rng.integers(min(len(other), 300)) :]


def _repeat(data: bytes, rng: np.random.Generator, _: list[bytes]) -> bytes:
    begin, end = sorted(rng.integers(len(data), size=2))
    return data[:end] + data[begin:end] * int(rng.integers(1, 20)) + data[end:]


def _remove(data: bytes, rng: np.random.Generator, _: list[bytes]) -> bytes:
    begin, end = sorted(rng.integers(len(data), size=2))
    return data[:begin] + data[end:]


def _noise(data: bytes, rng: np.random.Generator, _: list[bytes]) -> bytes:
    begin = int(rng.integers(12, len(data)))
    return data[:begin] + rng.bytes(int(rng.integers(1, 500))) + data[begin:]


def _extreme_numbers(data: bytes, rng: np.random.Generator, _: list[bytes]) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(2, min(len(data) - 4, 300), size=rng.integers(1, 5)):
        changed[place : place + 4] = [b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00"][rng.integers(4)]
    return bytes(changed)


def _wrong_size(data: bytes, rng: np.random.Generator, _: list[bytes]) -> bytes:
    """Another size in the header, with the checksum that belongs to it."""
    size = int(2 ** rng.uniform(0, 16)), int(2 ** rng.uniform(0, 16))
    if data.startswith(_PNG):
        head = b"IHDR" + struct.pack(">II", *size) + data[24:29]
        return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    if data.startswith(b"\xff\xd8") and frame > 0:
        return data[: frame + 5] + struct.pack(">HH", *(min(side, 65535) for side in size)) + data[frame + 9 :]
    if data[12:16] == b"VP8X":
        return data[:24] + b"".join((side - 1).to_bytes(3, "little") for side in size) + data[30:]
    return _extreme_numbers(data, rng, [])


def _bomb(data: bytes, rng: np.random.Generator, _: list[bytes]) -> bytes:
    """A profile, a text or an EXIF block of 64 MiB in 64 KiB."""
    if not data.startswith(_PNG):
        return _long_segments(data, rng, [])
    kind, head = [(b"iCCP", b"a\0\0"), (b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"eXIf", b"MM\0*")][rng.integers(4)]
    return data[:33] + png_chunk(kind, head + _packed_zeros()) * int(rng.integers(1, 4)) + data[33:]


@functools.cache
def _packed_zeros() -> bytes:
    return zlib.compress(bytes(_BOMB_BYTES), 9)


def _long_segments(data: bytes, rng: np.random.Generator, _: list[bytes]) -> bytes:
    """EXIF that is noise, much of it or none, before anything else."""
    if data.startswith(b"\xff\xd8"):
        segment = b"\xff\xe1" + struct.pack(">H", 65535) + b"Exif\0\0MM\0*" + rng.bytes(65535 - 12)
        return data[:2] + segment * int(rng.integers(1, 17)) + data[2:]
    if data.startswith(_PNG):
        return data[:33] + png_chunk(b"eXIf", rng.bytes(int(rng.integers(70_000)))) + data[33:]
    return data + b"EXIF" + struct.pack("<I", 2**31) + rng.bytes(100)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk with length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


MUTATIONS: dict[str, Mutation] = {
    "flipped bits": _flip_bits,
    "the beginning": _truncate,
    "two halves": _splice,
    "repeated parts": _repeat,
    "removed parts": _remove,
    "noise in the middle": _noise,
    "extreme numbers": _extreme_numbers,
    "a wrong size": _wrong_size,
    "a bomb in the header": _bomb,
    "long segments": _long_segments,
}
