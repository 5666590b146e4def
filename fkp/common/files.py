"""Files that appear whole, and the folder of a long job (a run, a search, a table of faces), held against a second process."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fkp.config import dotted
from fkp.errors import FkpError


@contextlib.contextmanager
def claimed(folder: Path, what: str, being: str = "trained", hint: str = "set track.storage") -> Iterator[None]:
    """Make a folder and hold it against other processes while the block runs.

    Args:
        folder: To make and hold.
        what: Names its owner in errors: "run first".
        being: What the other process does with it, for the same errors.
        hint: What to do where the folder cannot be made.

    Raises:
        FkpError: It cannot be made, or another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise FkpError(f"cannot make the folder of {what}, {folder}: {error.strerror}: {hint}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FkpError(f"{what} is being {being} by another process: wait for it or choose another name") from error
        yield


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft beside a file: where the block has written it and ends well it takes the file's place, and otherwise it goes.

    The draft keeps the suffix, by which some libraries know the format, and is on the disk before the file is lost.
    """
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield draft
        if draft.exists():
            with draft.open("rb+") as handle:
                os.fsync(handle.fileno())
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write(path: Path, content: str | bytes) -> Path:
    """Make or replace a file in one step; its folder is made.

    Returns:
        `path`.

    Raises:
        FkpError: It cannot be written; what was there still is.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft:
            draft.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise FkpError(f"cannot write {path}: {error.strerror or error}: free some space or choose another place") from error
    return path


def write_json(path: Path, state: Mapping[str, Any]) -> Path:
    """Make or replace a JSON file, see `write`."""
    return write(path, json.dumps(state, indent=2) + "\n")


def check_same(asked: Mapping[str, Any], began: Mapping[str, Any], what: str) -> None:
    """Refuse to go on with something that was begun with other settings.

    Raises:
        FkpError: Names every setting that differs.
    """
    now, then = dict(dotted(asked)), dict(dotted(began))
    different = [f"{key}={now.get(key)} (was {then.get(key)})" for key in sorted(now | then) if now.get(key) != then.get(key)]
    if different:
        raise FkpError(f"{what} was begun with other settings: {', '.join(different)}; repeat them or choose another name")
