"""The photographs that are to be labelled, and the faces that a model finds on them: in the background, and kept for the next start.

    found.jsonl              a photograph a line: its size, its fingerprint, the boxes of its faces
    guesses-DIGEST.jsonl     a face a line: what that model says of it

Both may be removed at any time: they are made again.
"""

from __future__ import annotations

import base64
import glob
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fkp.errors import FkpError
from fkp.predict.inputs import list_images
from fkp.scheme import Scheme
from fkp.vision.fingerprint import Fingerprint
from fkp.vision.image import decode_image, encode_image, read_bytes, shown, spelled

_HEADS = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png"}


@dataclass(frozen=True)
class Photos:
    """Named photographs.

    Attributes:
        paths: Where each lies; the order is that of the command.
        faults: What is left out, and why.
    """

    paths: dict[str, Path]
    faults: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, sources: Sequence[str]) -> Photos:
        """The photographs of folders, files and patterns, each named by its path below the folder that all of these share.

        Raises:
            FkpError: There are none.
        """
        found = [os.path.abspath(spelled(Path(path))) for path in list_images(sources)]
        folder = os.path.commonpath([_folder_of(source) for source in sources])
        paths, faults = {}, {}
        for path in found:
            name = Path(os.path.relpath(path, folder)).as_posix()
            if name != shown(name):
                faults[shown(name)] = f"the name of {shown(name)} is not UTF-8: rename it"
            elif ".." in Path(name).parts:
                paths[Path(path).name] = Path(path)
            else:
                paths[name] = Path(path)
        return cls(paths, faults)

    def read(self, name: str, out: Path) -> bytes:
        """The file's bytes; of one that has vanished its copy in the set.

        Raises:
            FkpError: There is neither.
        """
        path = self.paths.get(name)
        copy = out / "images" / name
        if path is None or (not path.is_file() and copy.is_file()):
            path = copy
        return read_bytes(path)


def for_browser(data: bytes, name: str) -> tuple[bytes, str]:
    """An image as every browser shows it, and its type.

    Raises:
        FkpError: It is none.
    """
    for head, kind in _HEADS.items():
        if data.startswith(head):
            return data, kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return data, "image/webp"
    return encode_image(decode_image(data, name), ".png"), "image/png"


@dataclass(frozen=True)
class Found:
    """What is known of a photograph.

    Attributes:
        stamp: Size and time of the file that was looked at.
        size: Width and height in pixels.
        print: Its fingerprint.
        boxes: (x0, y0, x1, y1) of each face by its id.
        fault: Why it cannot be used.
        around: What the boxes are tight around, see `around`; empty: not known.
    """

    stamp: tuple[int, int]
    size: tuple[int, int] = (0, 0)
    print: Fingerprint | None = None
    boxes: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)
    fault: str = ""
    around: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        told = self.print and [_text(value) for value in (self.print.hash_u16, self.print.mirrored_u16, self.print.grey_u8)]
        return {"stamp": self.stamp, "size": self.size, "print": told, "boxes": self.boxes, "fault": self.fault, "around": self.around}

    @classmethod
    def of(cls, row: dict[str, Any]) -> Found:
        """The inverse of `to_json`."""
        kinds, told = (np.uint16, np.uint16, np.uint8), row["print"]
        parts = told and [np.frombuffer(base64.b64decode(text), kind) for text, kind in zip(told, kinds, strict=True)]
        own = Fingerprint(parts[0], parts[1], parts[2].reshape(16, 16)) if parts else None
        boxes = {name: tuple(box) for name, box in row["boxes"].items()}
        return cls(tuple(row["stamp"]), tuple(row["size"]), own, boxes, row["fault"], row.get("around", ""))


class Cache:
    """A file of lines that may be lost: key -> JSON; the last line of a key counts, and lines that cannot be read do not.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Any] = {}
        if path.exists():
            for line in path.read_bytes().splitlines():
                try:
                    key, value = json.loads(line)
                    self.rows[key] = value
                except (ValueError, TypeError):
                    continue  # Cut off by a kill: it is made again.

    def put(self, key: str, value: Any) -> None:
        """Keep a value.

        Raises:
            OSError: The disk is full, or the like; it is kept in memory all the same.
        """
        self.rows[key] = value
        with self.path.open("ab") as file:
            file.write(b"\n" * bool(file.tell() and not _ends(self.path)) + json.dumps([key, value], ensure_ascii=False).encode() + b"\n")


def around(scheme: Scheme) -> str:
    """Names the landmarks that a model's boxes are tight around: those of another scheme are of another size."""
    return hashlib.sha256(json.dumps(scheme.landmarks).encode()).hexdigest()[:12]


def stamp_of(path: Path) -> tuple[int, int]:
    """Size and time of a file.

    Raises:
        FkpError: It is not there.
    """
    try:
        told = path.stat()
    except OSError as error:
        raise FkpError(f"cannot read image {path}: {error.strerror or error}") from error
    return told.st_size, told.st_mtime_ns


def face_id(photo: str, number: int) -> str:
    """The name of a face that was found: the same each time that the photograph is looked at."""
    return f"{hashlib.sha256(photo.encode()).hexdigest()[:12]}-{number}"


def second_id(face: str) -> str:
    """The name of a face that is labelled once more."""
    return f"{face}-again"


def is_second(face: str) -> bool:
    """Whether a face is another one, labelled once more."""
    return face.endswith("-again")


def photo_id(photo: str) -> str:
    """What the page calls a photograph."""
    return hashlib.sha256(photo.encode()).hexdigest()[:16]


def share_of(face: str) -> float:
    """A number from 0 to 1 that a face draws by its name."""
    return int(hashlib.sha256(f"blind {face}".encode()).hexdigest()[:12], 16) / 16**12


def _folder_of(source: str) -> str:
    path = Path(source)
    if path.is_dir():
        return os.path.abspath(path)
    if glob.has_magic(source) and not path.exists():
        plain = path.parts[: next(place for place, part in enumerate(path.parts) if glob.has_magic(part))]
        return os.path.abspath(Path(*plain))
    return os.path.abspath(path.parent)


def _ends(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _text(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
