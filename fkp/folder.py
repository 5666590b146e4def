"""The folder of a long job (a run, a search, a table of faces): held against a second process, its state written in one step."""

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


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def write_json(path: Path, state: Mapping[str, Any]) -> None:
    """Replace a JSON file in one step."""
    write_text(path, json.dumps(state, indent=2) + "\n")


def check_same(asked: Mapping[str, Any], began: Mapping[str, Any], what: str) -> None:
    """Refuse to go on with something that was begun with other settings.

    Raises:
        FkpError: Names every setting that differs.
    """
    now, then = dict(dotted(asked)), dict(dotted(began))
    different = [f"{key}={now.get(key)} (was {then.get(key)})" for key in sorted(now | then) if now.get(key) != then.get(key)]
    if different:
        raise FkpError(f"{what} was begun with other settings: {', '.join(different)}; repeat them or choose another name")
