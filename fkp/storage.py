"""Places that may lie in this machine's folders, on a mount that many share, or in a bucket: s3://, gs://."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fkp.errors import FkpError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


def is_uri(place: str) -> bool:
    """Whether a place is an address and not a folder of this machine."""
    return "://" in place


def absolute(place: str) -> str:
    """The same place for a process that starts in another folder."""
    return place if is_uri(place) else str(Path(place).absolute())


def join(place: str, *names: str) -> str:
    """The place of something inside a place."""
    return "/".join([place.rstrip("/"), *names])


@functools.lru_cache(maxsize=32)  # To open a bucket asks for its region.
def open_place(place: str) -> tuple[FileSystem, str]:
    """The file system of a place, and the place's path in it.

    Raises:
        FkpError: There is no file system for such an address.
    """
    from pyarrow import ArrowException, fs

    if not is_uri(place):
        return fs.LocalFileSystem(), str(Path(place).absolute())
    try:
        found, path = fs.FileSystem.from_uri(place)
    except (ArrowException, OSError, ValueError) as error:
        raise FkpError(f"cannot use {place}: {reason(error)}: name a folder, s3://BUCKET/PATH or gs://BUCKET/PATH") from error
    return found, path


def size_bytes(path: str) -> int | None:
    """Size of a file; None where there is none.

    Raises:
        FkpError: The place cannot be asked.
    """
    from pyarrow import fs

    with errors(path):
        system, inner = open_place(path)
        found = system.get_file_info(inner)
    return found.size if found.type == fs.FileType.File else None


def sizes_bytes(place: str) -> dict[str, int]:
    """Name -> size of the files that lie in a place; empty where there is no such place.

    Raises:
        FkpError: The place cannot be asked.
    """
    from pyarrow import fs

    with errors(place):
        system, inner = open_place(place)
        found = system.get_file_info(fs.FileSelector(inner, allow_not_found=True))
    return {entry.base_name: entry.size for entry in found if entry.type == fs.FileType.File}


def read_bytes(path: str) -> bytes:
    """Content of a file.

    Raises:
        FkpError: It cannot be read.
    """
    with errors(path):
        system, inner = open_place(path)
        with system.open_input_stream(inner) as stream:
            data: bytes = stream.read()
    return data


def write_bytes(path: str, data: bytes) -> None:
    """Write a file; it appears whole or not at all. Folders on the way are made.

    Raises:
        FkpError: It cannot be written.
    """
    with errors(path):
        system, inner = open_place(path)
        if is_uri(path):  # A bucket shows an object when all of it has arrived, and has no folders.
            with system.open_output_stream(inner) as stream:
                stream.write(data)
            return
        place = Path(inner)
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.{os.getpid()}.new")
        try:
            draft.write_bytes(data)
            os.replace(draft, place)
        finally:
            draft.unlink(missing_ok=True)


@contextlib.contextmanager
def errors(place: str) -> Iterator[None]:
    """Turn what a file system raises while the block runs into one sentence.

    Raises:
        FkpError: The place refused or failed.
    """
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError) as error:
        raise FkpError(f"cannot use {place}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What a file system means, in a few words, and what to do."""
    return " ".join(str(error).split())[:300]
