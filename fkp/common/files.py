"""Files and folders that appear whole, locks, and the folder of a long job (a run, a search, a table of faces)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from fkp.config import dotted
from fkp.errors import FkpError


def locked(path: Path, wait: bool = False) -> AbstractContextManager[Any]:
    """Hold a lock against all others until the end of the block; the kernel opens that of a process which is killed.

    Args:
        path: Its file, which is made and stays.
        wait: For one that holds it.

    Raises:
        TimeoutError: Another one holds it.
        OSError: The file cannot be made, or its file system has no locks.
    """
    from filelock import FileLock

    # Its substitute for a file system without locks would outlive a kill.
    return FileLock(path, blocking=wait, fallback_to_soft=False).acquire()


@contextlib.contextmanager
def exclusive(folder: Path, what: str, being: str = "trained", hint: str = "set track.storage") -> Iterator[None]:
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
        lock = locked(folder / ".lock")
    except TimeoutError as error:
        raise FkpError(f"{what} is being {being} by another process: wait for it or choose another name") from error
    except OSError as error:
        raise FkpError(f"cannot make the folder of {what}, {folder}: {error.strerror}: {hint}") from error
    with lock:
        yield


@contextlib.contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """A draft beside a file: where the block has written it and ends well it takes the file's place, and otherwise it goes.

    The draft keeps the suffix, by which some libraries know the format, and is on the disk before the file is lost.
    """
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield draft
        if draft.exists():
            sync(draft)
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_replace_dir(place: Path, keep: bool = False) -> Iterator[Path]:
    """The same for a folder: an empty draft beside `place`, which takes its place in one step, see `install_dir`."""
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".{place.name}-{uuid.uuid4().hex[:8]}")
    draft.mkdir()
    try:
        yield draft
        install_dir(draft, place, keep)
    finally:
        remove(draft)


def install_dir(new: Path, place: Path, keep: bool = False) -> None:
    """Put a finished folder in the place of an older one in one step: whoever looks, or ends it, finds the one or the other.

    Where two folders cannot be exchanged (NFS, macOS) it takes two steps; `put_back` mends what a kill between them leaves.

    Args:
        new: On the same disk, all of it written.
        place: A link is replaced, and what it names stays.
        keep: What is there already stays, and `new` goes.

    Raises:
        OSError: What was there still is.
    """
    for path in new.rglob("*"):
        if path.is_file():
            sync(path)  # A full disk may show only now, while the old folder still stands.
    try:
        os.rename(new, place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        if not keep:
            _exchange(new, place)
    sync(place.parent)
    remove(new)  # All is done by now: it names the old one.


def put_back(place: Path) -> None:
    """Restore a folder after a kill between the two steps of `install_dir`."""
    if not place.exists() and (aside := _aside(place)).exists():
        aside.rename(place)
    remove(_aside(place))


def remove(path: Path) -> None:
    """Remove a folder, or a link but not what it names; what cannot be removed stays."""
    if path.is_symlink():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.replaced")


def _exchange(new: Path, place: Path) -> None:
    if sys.platform == "linux":
        here, exchange = -100, 2  # linux/fcntl.h and linux/fs.h
        renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # An older musl has none.
        if renameat2 is not None and renameat2(here, os.fsencode(new), here, os.fsencode(place), exchange) == 0:
            return
        if renameat2 is not None and (code := ctypes.get_errno()) not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(code, os.strerror(code), str(place))
    put_back(place)
    os.rename(place, _aside(place))
    try:
        os.rename(new, place)
    except OSError:
        os.rename(_aside(place), place)
        raise
    remove(_aside(place))


def sync(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk.

    Raises:
        OSError: It is not.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, content: str | bytes | memoryview) -> Path:
    """Make or replace a file in one step; its folder is made.

    Returns:
        `path`.

    Raises:
        FkpError: It cannot be written; what was there still is.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_replace(path) as draft:
            draft.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise FkpError(f"cannot write {path}: {error.strerror or error}: free some space or choose another place") from error
    return path


def write_json(path: Path, state: Mapping[str, Any]) -> Path:
    """Make or replace a JSON file, see `write`.

    Raises:
        ValueError: A number is not finite: JSON has none such.
    """
    return write(path, json.dumps(state, indent=2, allow_nan=False) + "\n")


def check_same(asked: Mapping[str, Any], began: Mapping[str, Any], what: str, remedy: str | None = None) -> None:
    """Refuse to continue with something that was begun with other settings.

    Args:
        asked: What is asked for now.
        began: What it was begun with.
        what: Names it.
        remedy: What to do in place of repeating them.

    Raises:
        FkpError: Names every setting that differs.
    """
    now, then = dict(dotted(asked)), dict(dotted(began))
    different = [f"{key}={now.get(key)} (was {then.get(key)})" for key in sorted(now | then) if now.get(key) != then.get(key)]
    if different:
        remedy = remedy or "repeat them or choose another name"
        raise FkpError(f"{what} was begun with other settings: {', '.join(different)}; {remedy}")
