"""A folder whose files are listed with their checksums, in the format of sha256sum."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from fkp.errors import FkpError

SUMS = "SHA256SUMS"


def check_sums(folder: Path, names: Sequence[str], optional: Sequence[str] = ()) -> tuple[set[str], str]:
    """Check the files of a bundle.

    Args:
        folder: The bundle.
        names: Files that it must have.
        optional: Files that it may have.

    Returns:
        The names that are listed, and the hex sha256 of the list.

    Raises:
        FkpError: There is no list, or a file is not listed, missing or changed.
    """
    if not (folder / SUMS).is_file():
        raise FkpError(f"{folder} is not a bundle (no {SUMS} in it): name the folder that training printed")
    sums = (folder / SUMS).read_bytes()
    lines = [line.partition("  ") for line in sums.decode(errors="replace").splitlines()]
    listed = {name: digest for digest, _, name in lines}
    for name in (*names, *(name for name in optional if name in listed)):
        if name not in listed:
            raise FkpError(f"bundle {folder}: {SUMS} does not list {name}: write the bundle again")
        try:
            actual = sha256(folder / name)
        except OSError as error:
            raise FkpError(f"bundle {folder}: cannot read {name} ({error.strerror}): copy the bundle again") from error
        if actual != listed[name]:
            raise FkpError(f"bundle {folder}: {name} differs from its checksum: copy the bundle again, do not serve it")
    return set(listed), hashlib.sha256(sums).hexdigest()


def write_sums(folder: Path, names: Sequence[str]) -> None:
    """List the files of these names that are there."""
    lines = [f"{sha256(folder / name)}  {name}\n" for name in names if (folder / name).exists()]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
