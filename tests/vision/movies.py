"""Videos as phones and cameras write them, made of what OpenCV writes by changing the file's own account."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fkp.vision import boxes
from fkp.vision.video import opencv

MEDIA = (b"trak", b"mdia")
TABLES = (*MEDIA, b"minf", b"stbl")
FPS, WIDTH, HEIGHT = 25.0, 64, 48
#: Units a second of OpenCV's files at 25 frames a second: of the movie, and of its track.
SCALE, MEDIA_SCALE = 1000, 12800


def frame(number: int) -> np.ndarray:
    """Brighter from frame to frame: red at the top left, green at the top right, blue below."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[: HEIGHT // 2, : WIDTH // 2, 0] = image[: HEIGHT // 2, WIDTH // 2 :, 1] = image[HEIGHT // 2 :, :, 2] = 40 + 10 * number
    return image


def number_of(image: np.ndarray) -> int:
    """Which frame a decoded one is."""
    return round((float(np.median(image.max(axis=-1))) - 40) / 10)


def plain(path: Path, images: Iterable[np.ndarray]) -> Path:
    """A video at 25 frames a second."""
    with opencv.written(path, path, FPS, None) as write:
        for image in images:
            write(image)
    return path


def account(path: Path) -> tuple[bytes, bytes]:
    """What stands before a file's account of itself, and the account."""
    data = path.read_bytes()
    place = data.rindex(b"moov") - 4
    return data[:place], data[place + 8 :]


def rewritten(path: Path, *changes: tuple[Sequence[bytes], bytes]) -> Path:
    """The same file with some boxes replaced: (path, content)."""
    before, moov = account(path)
    for way, content in changes:
        moov = boxes.changed(memoryview(moov), way, lambda _, to=content: to)  # type: ignore[misc]
    path.write_bytes(before + boxes.box(b"moov", moov))
    return path


def spans(*runs: tuple[int, float]) -> tuple[Sequence[bytes], bytes]:
    """Runs of (frames, seconds that each of them is shown)."""
    table = b"".join(struct.pack(">II", count, round(seconds * MEDIA_SCALE)) for count, seconds in runs)
    return (*TABLES, b"stts"), struct.pack(">II", 0, len(runs)) + table


def edits(*entries: tuple[float, float]) -> tuple[Sequence[bytes], bytes]:
    """(seconds that are shown, from where in the media; -1 for nothing)."""
    rows = (struct.pack(">IiI", round(shown * SCALE), -1 if start < 0 else round(start * MEDIA_SCALE), 1 << 16) for shown, start in entries)
    return (b"trak", b"edts", b"elst"), struct.pack(">II", 0, len(entries)) + b"".join(rows)


def turned(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """The same file, displayed by a matrix."""
    header = bytes(boxes.inner(memoryview(account(path)[1]), b"trak", b"tkhd"))
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    return rewritten(path, ((b"trak", b"tkhd"), header[:40] + matrix + header[76:]))


def squeezed(path: Path, across: int, down: int) -> Path:
    """The same file with pixels that are not square, as a `pasp` box says it."""
    table = bytes(boxes.inner(memoryview(account(path)[1]), *TABLES, b"stsd"))
    entry = bytes(boxes.inner(memoryview(table[8:]), b"mp4v"))
    inside = b"".join(boxes.box(kind, content) for kind, content in boxes.children(memoryview(entry)[78:]) if kind != b"pasp")
    pasp = boxes.box(b"pasp", struct.pack(">II", across, down))
    return rewritten(path, ((*TABLES, b"stsd"), table[:8] + boxes.box(b"mp4v", entry[:78], pasp, inside)))


def sounding(path: Path) -> Path:
    """The same file with a sound track before its images, as some recorders order them."""
    before, moov = account(path)
    mdia = boxes.inner(memoryview(moov), *MEDIA)
    kept = b"".join(boxes.box(kind, content) for kind, content in boxes.children(mdia) if kind == b"mdhd")
    handler = boxes.box(b"hdlr", bytes(8) + b"soun" + bytes(13))
    header = boxes.box(b"tkhd", bytes(boxes.inner(memoryview(moov), b"trak", b"tkhd")[:12]) + (99).to_bytes(4, "big") + bytes(68))
    path.write_bytes(before + boxes.box(b"moov", boxes.box(b"trak", header, boxes.box(b"mdia", kept, handler)), moov))
    return path


def recoded(path: Path, codec: bytes) -> Path:
    """The same file, which says that it is in another codec."""
    before, moov = account(path)
    path.write_bytes(before + boxes.box(b"moov", moov.replace(b"mp4v", codec).replace(b"esds", b"free")))
    return path
