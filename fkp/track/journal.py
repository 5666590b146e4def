"""An append-only file of operations, one JSON line each, and beside it how far they were delivered.

`FILE` begins with a header line; `FILE.state` is replaced in one step after every delivery. One process at a time holds
both. A line that a kill tore off is cut away when the file is opened again: its operation was never acknowledged.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fkp.common.files import write_json
from fkp.errors import FkpError

_KIND = "fkp outbox 1"
_START = f'{{"kind": "{_KIND}"'.encode()


@dataclass(frozen=True)
class Header:
    """The first line.

    Attributes:
        id: Unique; names this file's runs in the store.
        experiment: Of the runs.
        uri: Of the store, without a password.
    """

    id: str
    experiment: str
    uri: str


@dataclass
class State:
    """How far a journal was delivered.

    Attributes:
        offset: Bytes of the journal that were delivered; 0: nothing, not even the header was looked at.
        delivered: Operations that were delivered, those that were dropped among them.
        dropped: Operations that the store refuses for ever.
        runs: MLflow run of each key.
        uri: Of the store, where it has moved since the journal was begun.
    """

    offset: int = 0
    delivered: int = 0
    dropped: int = 0
    runs: dict[str, str] = field(default_factory=dict)
    uri: str | None = None


def read_header(path: Path) -> Header | None:
    """Header of a journal; None where none was begun.

    Raises:
        FkpError: The file is something else, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            line = file.readline()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FkpError(f"cannot read {path}: {error.strerror}") from error
    if not line.endswith(b"\n") and line[: len(_START)] == _START[: len(line)]:
        return None  # A kill tore the header off: nothing was written behind it.
    try:
        fields = json.loads(line)
        assert fields.pop("kind") == _KIND
        return Header(**fields)
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise FkpError(f"{path} is not the record of a search: name the file that the search printed") from error


def read_state(path: Path) -> State:
    """State of a journal; a new one where there is none, because delivering twice does no harm.

    Raises:
        FkpError: It cannot be read.
    """
    place = state_path(path)
    try:
        return State(**json.loads(place.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, TypeError) as error:
        raise FkpError(f"cannot read {place} ({error}): delete it, everything is delivered again then") from error


def write_state(path: Path, state: State) -> None:
    """Replace the state in one step."""
    write_json(state_path(path), asdict(state))


def state_path(path: Path) -> Path:
    """Where the state of a journal lies."""
    return path.with_name(f"{path.name}.state")


class Journal:
    """A journal held by this process; it is made where it is missing.

    Args:
        path: The file.
        experiment: For the header of a new journal.
        uri: The same.

    Attributes:
        end: Size in bytes: whole lines.

    Raises:
        FkpError: Another process holds it, it is something else, or it cannot be written.
    """

    def __init__(self, path: Path, experiment: str, uri: str) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise FkpError(f"cannot write {path}: {error.strerror}: choose another place") from error
        try:
            self._lock()
            read_header(path)  # Refuses a file that is not ours before a byte of it is touched.
            self.end = self._cut_torn_line()
            if not self.end:
                self.append({"kind": _KIND, **asdict(Header(uuid.uuid4().hex, experiment, uri))})
            header = read_header(path)
            assert header is not None
            self.header = header
        except BaseException:
            os.close(self._descriptor)
            raise

    def append(self, content: dict[str, Any]) -> None:
        """Write one line.

        Raises:
            FkpError: The disk is full or gone. The file keeps only whole lines.
            ValueError: The content is no JSON.
        """
        line = (json.dumps(content) + "\n").encode()
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):
                os.ftruncate(self._descriptor, self.end)
                raise OSError(0, "No space left on device")
        except OSError as error:
            raise FkpError(f"cannot write {self.path}: {error.strerror}: free some space") from error
        self.end += len(line)

    def operations(self, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
        """Each operation from a place in the file to its present end, with the place behind it.

        Raises:
            FkpError: A line is broken, or the place is not the beginning of one.
        """
        with self.path.open("rb") as file:
            file.seek(offset)
            lines = file.read(self.end - offset).splitlines(keepends=True)
        for line in lines:
            try:
                content = json.loads(line)
                is_header = content.get("kind") == _KIND
            except (ValueError, AttributeError) as error:
                raise FkpError(f"{self.path} is broken at byte {offset}: it was changed by something else") from error
            offset += len(line)
            if not is_header:
                yield content, offset

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FkpError(f"{self.path} is held by another process: it delivers the record itself, wait until it ends") from error

    def _cut_torn_line(self) -> int:
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            os.ftruncate(self._descriptor, end)
        return end
