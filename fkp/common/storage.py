"""Places that may lie in this machine's folders, on a mount that many share, or in a bucket: s3://, gs://.

A bucket's endpoint, region and credentials come from the environment or the machine, as everywhere (AWS_ENDPOINT_URL,
AWS_REGION, AWS_ACCESS_KEY_ID, ~/.aws, a role; GOOGLE_APPLICATION_CREDENTIALS). Nothing here keeps or passes on a secret.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import queue
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fkp.common.files import write
from fkp.errors import FkpError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


def is_uri(place: str) -> bool:
    """Whether a place is an address and not a folder of this machine."""
    return "://" in place


def absolute(place: str) -> str:
    """The same place for a process that starts in another folder."""
    return place if is_uri(place) else str(Path(place).absolute())


def local_copy(place: str, below: Path) -> Path:
    """The folder on this machine for what lies in a place: the place itself if it is a folder, else one in `below`."""
    if not is_uri(place):
        return Path(place)
    return below / f"{place.rsplit('/', 1)[-1]}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


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
    if not is_uri(path):
        write(Path(path), data)
        return
    with errors(path):
        system, inner = open_place(path)
        with system.open_output_stream(inner) as stream:  # A bucket shows an object when all of it has arrived.
            stream.write(data)


def upload(folder: Path, place: str, last: str) -> None:
    """Copy the files of a folder into a place; the one named `last` when all others have arrived.

    Raises:
        FkpError: The folder cannot be read, or the place cannot be written.
    """
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: (path.name == last, path))
    for path in files:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise FkpError(f"cannot read {path}: {error.strerror}") from error
        write_bytes(join(place, path.relative_to(folder).as_posix()), data)


def check_writable(place: str, seconds: float = 45.0) -> None:
    """Write a small object into a bucket and delete it again; a folder shows by itself whether it can be written.

    The clients of buckets repeat what fails for minutes, so the answer is waited for in a thread.

    Raises:
        FkpError: There is no such bucket, it refuses, or it does not answer in time.
    """
    if not is_uri(place):
        return
    answers = queue.SimpleQueue[Exception | None]()

    def ask() -> None:
        try:
            with errors(place):
                system, inner = open_place(place)
                probe = join(inner, f".fkp-probe-{uuid.uuid4().hex}")
                with system.open_output_stream(probe) as stream:
                    stream.write(b"fkp")
                system.delete_file(probe)
        except Exception as error:  # It is raised below, in the thread that waits.
            answers.put(error)
        else:
            answers.put(None)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise FkpError(f"{place} did not answer within {seconds:g} s: look at the network, the endpoint and the credentials") from None
    if answer is not None:
        raise answer


#: What the clients say, and what it means for the user.
_MEANINGS = {
    "NO_SUCH_BUCKET": "there is no such bucket: make it, or name another one",
    "INVALID_ACCESS_KEY_ID": "the access key is not known there: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "InvalidAccessKeyId": "the access key is not known there: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "SIGNATURE_DOES_NOT_MATCH": "the secret key is wrong: set AWS_SECRET_ACCESS_KEY",
    "SignatureDoesNotMatch": "the secret key is wrong: set AWS_SECRET_ACCESS_KEY",
    "ACCESS_DENIED": "there is no such bucket, or these credentials may not list, read, write and delete there",
    "PERMISSION_DENIED": "there is no such bucket, or these credentials may not list, read, write and delete there",
    "NETWORK_CONNECTION": "nothing answers there: look at the network and at AWS_ENDPOINT_URL",
    "OAuth2 access token": "there are no credentials: set GOOGLE_APPLICATION_CREDENTIALS",
}


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
    """What a file system means, in a few words."""
    text = " ".join(str(error).split())
    return next((meaning for sign, meaning in _MEANINGS.items() if sign in text), text[:300])
