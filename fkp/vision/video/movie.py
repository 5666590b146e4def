"""What an MP4 or QuickTime file says of its video beyond what OpenCV passes on, and frame times of a rate that changes, written into one.

Structures: ISO/IEC 14496-12, 8.2 (movie), 8.3 (track), 8.6 (times and edits).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fkp.vision.boxes import box, changed, children, inner
from fkp.vision.video.library import Turn

_MEDIA = (b"trak", b"mdia")
_FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})


@dataclass(frozen=True)
class Movie:
    """A video's own account.

    Attributes:
        codec: Four characters, such as "avc1".
        turn: By which a frame is displayed.
        starts_s: When its first frame is shown; the time before is empty.
        shown_s: Seconds of the media that are shown: edits may leave out its beginning and end. 0 where it does not say.
    """

    codec: str
    turn: Turn
    starts_s: float
    shown_s: float


def read_movie(path: Path) -> Movie | None:
    """Read a file's account of its first video track; None for another format, or a file without one."""
    _, moov = _moov(path)
    for kind, track in children(memoryview(moov)):
        if kind == b"trak" and bytes(inner(track, b"mdia", b"hdlr")[8:12]) == b"vide":
            try:
                return _movie(memoryview(moov), track)
            except struct.error:  # A box that is cut off: whether the video can be decoded tells its decoder.
                return None
    return None


def _movie(moov: memoryview, track: memoryview) -> Movie:
    scale, _ = _clock(inner(moov, b"mvhd"))
    media_scale, length = _clock(inner(track, b"mdia", b"mdhd"))
    header, edits = inner(track, b"tkhd"), inner(track, b"edts", b"elst")
    a, b, _, c, d = struct.unpack_from(">5i", header, 52 if header[0] else 40)
    entry = struct.Struct(">QqI" if edits[:1].tobytes() == b"\1" else ">IiI")
    listed = list(entry.iter_unpack(edits[8 : 8 + (len(edits) - 8) // entry.size * entry.size])) if len(edits) > 8 else []
    starts = 0
    for span, place, _ in listed:
        if place != -1:
            break
        starts += span
    shown = sum(span for span, place, _ in listed if place != -1)
    return Movie(
        codec=bytes(inner(track, b"mdia", b"minf", b"stbl", b"stsd")[12:16]).decode("latin-1"),
        turn=(int(np.sign(a)), int(np.sign(b)), int(np.sign(c)), int(np.sign(d))),
        starts_s=starts / scale,
        shown_s=shown / scale or length / media_scale,
    )


def _clock(header: memoryview) -> tuple[int, int]:
    """Units a second and length of a header, `mvhd` or `mdhd`."""
    scale, length = struct.unpack_from(">IQ", header, 20) if header[0] else struct.unpack_from(">II", header, 12)
    return max(scale, 1), length


def write_times(path: Path, times_s: Sequence[float], last_s: float) -> None:
    """Set when each frame of a video is shown, in place; the file is one that OpenCV wrote, with its account at the end.

    Args:
        path: An MP4 file of one track without reordered frames.
        times_s: (N,) rising, from 0 on; before the first nothing is shown.
        last_s: How long the last frame is shown.
    """
    place, content = _moov(path)
    moov = memoryview(content)
    scale, _ = _clock(inner(moov, b"mvhd"))
    media_scale, _ = _clock(inner(moov, *_MEDIA, b"mdhd"))
    ticks = np.round(np.array([*times_s, times_s[-1] + last_s]) * media_scale).astype(np.int64)
    spans = np.maximum(np.diff(ticks), 1)
    starts, length = round(times_s[0] * scale), round(int(spans.sum()) / media_scale * scale)
    runs = np.flatnonzero(np.diff(spans, prepend=-1))
    table = np.column_stack([np.diff(runs, append=len(spans)), spans[runs]]).astype(">u4").tobytes()
    edits = [struct.pack(">IiI", starts, -1, 1 << 16)] if starts else []
    edits.append(struct.pack(">IiI", length, 0, 1 << 16))

    def lasting(at: int, length: int) -> Callable[[memoryview], bytes]:
        return lambda was: bytes(was[:at]) + length.to_bytes(4, "big") + bytes(was[at + 4 :])

    changes: list[tuple[Sequence[bytes], Callable[[memoryview], bytes]]] = [
        ((b"mvhd",), lasting(16, starts + length)),
        ((b"trak", b"tkhd"), lasting(20, starts + length)),
        ((*_MEDIA, b"mdhd"), lasting(16, int(spans.sum()))),
        ((b"trak", b"edts", b"elst"), lambda _: struct.pack(">II", 0, len(edits)) + b"".join(edits)),
        ((*_MEDIA, b"minf", b"stbl", b"stts"), lambda _: struct.pack(">II", 0, len(runs)) + table),
    ]
    for way, change in changes:
        content = changed(memoryview(content), way, change)
    with path.open("rb+") as file:
        file.seek(place)
        file.write(box(b"moov", content))


def _moov(path: Path) -> tuple[int, bytes]:
    """Where a file's account of itself begins, and its content; empty where it has none."""
    with path.open("rb") as file:
        place = 0
        while len(head := file.read(16)) >= 8:
            size, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if not place and kind not in _FIRST_BOXES:
                break
            start = 16 if size == 1 else 8
            size = int.from_bytes(head[8:16], "big") if size == 1 else size
            if kind == b"moov":
                file.seek(place + start)
                return place, file.read(size - start if size else -1)
            if size < start:  # 0: it reaches to the file's end.
                break
            place += size
            file.seek(place)
    return 0, b""
