"""What a manifest of files shares with every other: how it is read, files compared with it, and the sums of what was made of them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from fkp.data.verify import sha256_of
from fkp.errors import FkpError

#: In a set that was made of listed files: the sha256 of its other files, as `sha256sum` writes them.
SUMS = "SHA256SUMS"


def read_table(path: Path, columns: Sequence[str], texts: Sequence[str], what: str) -> tuple[str, list[str], pd.DataFrame]:
    """Read a manifest, plain or gzipped: lines that start with "#", then a CSV table.

    Args:
        path: Its file.
        columns: Names of the table's columns.
        texts: Those that are text even where they look like numbers.
        what: Is listed, for the message.

    Returns:
        The whole text, its lines before the header without their line ends, and the table.

    Raises:
        FkpError: It is missing, unreadable, has other columns or no row.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        lines = text.splitlines(keepends=True)
        head = [line.strip() for line in lines if line.startswith("#")]
        table = pd.read_csv(io.StringIO("".join(lines[len(head) :])), dtype=dict.fromkeys(texts, str))
    except FileNotFoundError as error:
        raise FkpError(f"manifest {path} is missing: run this in the project's folder, or name the manifest with --manifest") from error
    except (OSError, EOFError, ValueError) as error:
        raise FkpError(f"cannot read manifest {path}: {getattr(error, 'strerror', None) or error}") from error
    if list(table.columns) != list(columns) or not len(table):
        shown = ",".join(columns[:8]) + (" and so on" if len(columns) > 8 else "")
        raise FkpError(f"{path} is not a manifest of {what}: its header must be {shown}, and rows follow")
    return text, head, table


def no_file_name(names: Collection[str]) -> str | None:
    """The first of some names that is not one of a file in a folder."""
    return next((name for name in names if Path(name).name != name or "\\" in name), None)


def refuse_others(folder: Path, where: str, listed: dict[str, str], what: str, error: type[FkpError]) -> None:
    """Compare files with a manifest.

    Args:
        folder: Of the files.
        where: What names it in the message.
        listed: sha256 of each, by its path in the folder.
        what: They are, for the message.
        error: Is raised.

    Raises:
        FkpError: Some are damaged, missing or other ones.
    """
    names = [name for name, sha256 in listed.items() if sha256_of(folder / name) != sha256]
    if names:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        told = f"these are damaged, missing or other ones: {shown}; nothing was installed"
        raise error(f"{where} has not the {what} of the manifest, {told}")


def write_sums(folder: Path, names: Sequence[str]) -> None:
    """Write `SHA256SUMS` over files of a folder."""
    (folder / SUMS).write_text("".join(f"{sha256_of(folder / name)}  {name}\n" for name in names), encoding="utf-8")


def sums_hold(folder: Path, names: Collection[str]) -> bool:
    """Whether a folder's `SHA256SUMS` is over just these files, and each is as it was then."""
    try:
        sums = dict(line.split("  ", 1)[::-1] for line in (folder / SUMS).read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return False  # Not as it was written: the set is made again.
    return {*names} == sums.keys() and all(sha256_of(folder / name) == sha256 for name, sha256 in sums.items())
