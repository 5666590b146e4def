"""What a format of labels is, and all that are known. A format is one file beside this one that calls `register`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fkp.data.formats.source import Source
from fkp.errors import FkpError

Subset = Literal["train", "val", "test"]


@dataclass
class Face:
    """One labelled face as its file has it.

    Attributes:
        where: File and line, or what else finds it again.
        image: Its image's file.
        points: (K, 2) float64 in the file's coordinates, NaN where a point is not labelled.
        names: (K,) of the points, where the file has such; equal ones are one object.
        visible: (K,) bool, where the file says it.
        box: (4,) x0, y0, x1, y1 in the file's coordinates, where it has one.
        group: Person or clip, where the file says it.
        subset: Likewise.
        size_px: Width and height of the image, where the file says them.
    """

    where: str
    image: Path
    points: np.ndarray
    names: tuple[str, ...] | None = None
    visible: np.ndarray | None = None
    box: Sequence[float] | None = None
    group: str | None = None
    subset: Subset | None = None
    size_px: tuple[int, int] | None = None


@dataclass(frozen=True)
class Format:
    """A format of labels.

    Attributes:
        name: By which `--format` names it.
        about: A few words.
        origin: Coordinate of the centre of the image's first pixel: 0 or 1 where pixels are counted, 0.5 where the image's corner is 0.
        recognises: Of a file and its first 64 KiB, whether it is one.
        read: The faces of a file. What is wrong with one goes to the `Source`; a file that is none raises `FkpError`.
        ordered: Whether the file lists a face's points in an order of their own, so that they are known by their place, too.
        suffixes: Lower case, of the files that may be some.
        file_a_face: Whether each face has a file of its own.
        write: Writes (root of a label set, a new folder), where the format can be exported.
    """

    name: str
    about: str
    origin: float
    suffixes: tuple[str, ...]
    recognises: Callable[[Path, bytes], bool]
    read: Callable[[Path, Source], Iterator[Face]]
    ordered: bool = True
    file_a_face: bool = False
    write: Callable[[Path, Path], None] | None = None


FORMATS: dict[str, Format] = {}

_HEAD_BYTES = 64 << 10


def register(found: Format) -> None:
    """Make a format known."""
    FORMATS[found.name] = found


def recognise(source: Source, asked: str | None = None) -> tuple[Format, list[Path]]:
    """Find the format of what lies at a place, and the files that hold its labels, sorted.

    Raises:
        FkpError: There are no labels, or labels of several formats and none is asked for.
    """
    if asked is not None and asked not in FORMATS:
        raise FkpError(f"unknown format {asked}: choose one of {', '.join(sorted(FORMATS))}")
    suffixes = {suffix for known in FORMATS.values() for suffix in known.suffixes}
    files = [path for path in source.files if path.suffix.lower() in suffixes]
    found: dict[str, list[Path]] = {}
    for path in files:
        head = b""
        for known in FORMATS.values():
            if path.suffix.lower() in known.suffixes and asked in (None, known.name):
                head = head or source.head(path, _HEAD_BYTES)
                if known.recognises(path, head):
                    found.setdefault(known.name, []).append(path)
                    break
    if not found:
        raise FkpError(f"{source.place} {_nothing(source, files, asked)}")
    if len(found) > 1:
        told = ", ".join(f"{len(paths)} of {name} (such as {source.short(paths[0])})" for name, paths in found.items())
        raise FkpError(f"{source.place} holds labels of several formats: {told}: say which with --format, or name one file")
    ((name, paths),) = found.items()
    return FORMATS[name], sorted(paths)


def _nothing(source: Source, files: list[Path], asked: str | None) -> str:
    if not source.files:
        return "holds no file: name the folder or the file of your labels"
    kinds = f"the format {asked}" if asked else f"the formats {', '.join(FORMATS)}"
    looked = f"; {source.short(files[0])} is none" if files else ""
    return f"holds no labels of {kinds}{looked}: `fkp data import --help` says what each looks like"
