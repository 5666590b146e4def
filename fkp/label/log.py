"""What a person has set: an append-only log of commands, each on the disk before it is answered.

    log.jsonl   {"kind": "fkp label log 1", "scheme": {...}, "blind": 0.05}
                {"n": 1, "at": "...", "do": "move", "face": "...", "photo": "a.jpg", "seen": [x0, y0, x1, y1], "change": {...}}
                {"n": 2, "at": "...", "undo": 1}
                {"n": 3, "at": "...", "redo": 1}

A change holds the fields of a face that it replaces: `points` by name (null: as if never touched), `box`, `group`, `done`, `removed`. No
prediction is ever written here. A line that a kill has cut off is dropped; it was never answered.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from fkp.common import files
from fkp.errors import FkpError
from fkp.label.face import Face, changed, inverse, point_of, started
from fkp.scheme import Scheme, load_scheme

LOG = "log.jsonl"
KIND = "fkp label log 1"


class Conflict(Exception):
    """Another window has changed it meanwhile."""


class NotSaved(FkpError):
    """The disk has not taken a command; nothing has changed."""


@dataclass(frozen=True)
class Taken:
    """A model that was adapted to the labels.

    Attributes:
        name: Its folder.
        faces: How many it was adapted to.
        before_pct: NME of the model of before on held-out faces; None where it has no point in common.
        after_pct: NME of this one.
        n: Number of the command.
    """

    name: str
    faces: int
    before_pct: float | None
    after_pct: float
    n: int = 0


@dataclass(frozen=True)
class _Done:
    """A command that may be undone."""

    n: int
    face: str
    change: dict[str, Any]
    inverse: dict[str, Any]


class Log:
    """The log of one set, open for writing.

    Args:
        folder: Of the set.
        scheme: Of the points; None: as the log says.
        blind: Share of the faces that are labelled without guesses, where the log begins.

    Attributes:
        faces: What it says of each face that was touched.
        last: Number of the last command.
        models: Those that were taken, the last one goes on.

    Raises:
        FkpError: It cannot be read or written, or is of another scheme.
    """

    def __init__(self, folder: Path, scheme: Scheme | None, blind: float = 0.0) -> None:
        self.path = folder / LOG
        self.faces: dict[str, Face] = {}
        self.last = 0
        self.models: list[Taken] = []
        self._undo: list[_Done] = []
        self._redo: list[_Done] = []
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
            whole = content[: content.rfind(b"\n") + 1]
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            if len(whole) < len(content):
                os.ftruncate(self._file, len(whole))
        except OSError as error:
            raise FkpError(f"cannot open {self.path}: {error.strerror or error}: make the folder writable, or choose another") from error
        self._size = len(whole)
        if not whole:
            assert scheme is not None, "a new log is given its scheme"
            self.scheme, self.blind = scheme, blind
            self._append({"kind": KIND, "scheme": scheme.to_json(), "blind": blind})
            files.sync(folder)
        else:
            self._read(whole, scheme)

    @property
    def can_undo(self) -> bool:
        """Whether there is a command to take back."""
        return bool(self._undo)

    @property
    def can_redo(self) -> bool:
        """Whether there is one to do again."""
        return bool(self._redo)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def change(self, face: Face, do: str, change: dict[str, Any]) -> Face:
        """Change a face; on the disk when this returns.

        Args:
            face: As the caller knows it: as it is here, or untouched.
            do: What was done, in one word, for whoever reads the log.
            change: See the module.

        Raises:
            Conflict: Somebody has changed it meanwhile.
            NotSaved: The disk has not taken it.
        """
        known = self.faces.get(face.id)
        if face.version != (known.version if known else 0):
            raise Conflict
        number = self.last + 1
        begun = {} if known else started(face)
        self._append({"n": number, "at": _now(), "do": do, "face": face.id, **begun, "change": change})
        self._do(number, known or face, change)
        return self.faces[face.id]

    def take_model(self, model: Taken) -> None:
        """Remember the model that goes on; it is no command that can be undone.

        Raises:
            NotSaved: The disk has not taken it.
        """
        own = {"name": model.name, "faces": model.faces, "before_pct": model.before_pct, "after_pct": model.after_pct}
        self._append({"n": self.last + 1, "at": _now(), "model": own})
        self.last += 1
        self.models.append(replace(model, n=self.last))

    def undo(self, last: int) -> str | None:
        """Take back the last command; the face that it was about, None where there is none.

        Args:
            last: Number of the last command that the caller knows of.

        Raises:
            Conflict: There are later ones.
            NotSaved: The disk has not taken it.
        """
        return self._back_or_forth("undo", last)

    def redo(self, last: int) -> str | None:
        """Do again what was undone last, see `undo`."""
        return self._back_or_forth("redo", last)

    def _back_or_forth(self, way: Literal["undo", "redo"], last: int) -> str | None:
        if last != self.last:
            raise Conflict
        stack = self._undo if way == "undo" else self._redo
        if not stack:
            return None
        number = self.last + 1
        self._append({"n": number, "at": _now(), way: stack[-1].n})
        return self._walk(way, number)

    def _walk(self, way: Literal["undo", "redo"], number: int) -> str:
        here, there = (self._undo, self._redo) if way == "undo" else (self._redo, self._undo)
        command = here.pop()
        there.append(command)
        self.faces[command.face] = changed(self.faces[command.face], command.inverse if way == "undo" else command.change, number)
        self.last = number
        return command.face

    def _do(self, number: int, face: Face, change: dict[str, Any]) -> None:
        self._undo.append(_Done(number, face.id, change, inverse(face, change)))
        self._redo.clear()
        self.faces[face.id] = changed(face, change, number)
        self.last = number

    def _read(self, content: bytes, scheme: Scheme | None) -> None:
        lines = content.splitlines()
        try:
            head = json.loads(lines[0])
            if head["kind"] != KIND:
                raise ValueError(f"its kind is {head['kind']!r} and not {KIND!r}")
            self.scheme, self.blind = load_scheme(json.dumps(head["scheme"])), float(head["blind"])
        except (ValueError, TypeError, KeyError) as error:
            raise FkpError(f"{self.path} cannot be used ({error}): choose another --out") from error
        if scheme is not None and scheme.landmarks != self.scheme.landmarks:
            raise FkpError(f"{self.path.parent} was begun in scheme {self.scheme.name} and not in {scheme.name}: choose another --out")
        for place, line in enumerate(lines[1:], 2):
            try:
                self._replay(json.loads(line))
            except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
                raise FkpError(f"{self.path}, line {place}: {error}: correct the line, or remove it with all that follow") from error

    def _replay(self, line: dict[str, Any]) -> None:
        number = int(line["n"])
        if number != self.last + 1:
            raise ValueError(f"command {number} stands behind {self.last}")
        if "model" in line:
            self.last = number
            self.models.append(Taken(**line["model"], n=number))
        elif "undo" in line or "redo" in line:
            way: Literal["undo", "redo"] = "undo" if "undo" in line else "redo"
            stack = self._undo if way == "undo" else self._redo
            if stack[-1].n != line[way]:
                raise ValueError(f"{way} of {line[way]}, and {stack[-1].n} is the last")
            self._walk(way, number)
        else:
            name = line["face"]
            known = self.faces.get(name)
            if known is None:
                points = {key: point_of(value) for key, value in line.get("points", {}).items()}
                known = Face(name, line["photo"], tuple(line["seen"]), points, group=line.get("group"), drawn=bool(line.get("drawn")))
            self._do(number, known, line["change"])

    def _append(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        try:
            os.ftruncate(self._file, self._size)  # What an error left behind, where it could not be cut off then.
            if os.write(self._file, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise NotSaved(f"not saved: cannot write {self.path}: {error.strerror or error}: free some space and try again") from error
        self._size += len(data)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
