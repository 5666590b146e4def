"""The set out of upstream's zip archive, or out of one that would do harm: then nothing of it is written."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from fkp.data.download import MAX_BYTES, BadArchive, clear_disk_errors
from fkp.errors import FkpError


def unpack(
    archive: Path, folder: Path, max_bytes: int = MAX_BYTES, inner: str | None = "data", only: Collection[str] | None = None
) -> list[str]:
    """Unpack an archive's top folder, or a folder that lies in it, into an empty folder.

    Args:
        archive: Zip file. Nothing of it is written if any of its entries is unsafe.
        folder: Takes what is in the inner one.
        max_bytes: Bound of the unpacked size.
        inner: Name of the inner folder; None: the top folder.
        only: The paths in that folder that are wanted, where not all are.

    Returns:
        Paths, relative to `folder`, of entries whose bytes fail the archive's own checksum; they are left out.

    Raises:
        BadArchive: An entry would leave the folder, is a link or encrypted, the unpacked size is beyond the bound, or
            there is no such folder or nothing wanted in it.
        FkpError: The disk is full.
    """
    damaged = []
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = _entries_of(opened, inner, only)
            # zipfile never gives more bytes than the directory declares, so the declared sizes are a bound.
            size = sum(info.file_size for info, _ in entries)
            if size > max_bytes:
                raise BadArchive(f"the archive would unpack to {size / 1e9:.1f} GB, which the set does not: check --url")
            _check_free(folder, size)
            for info, name in tqdm(entries, desc="unpack", unit="file", disable=None):
                if not _write_entry(opened, info, folder / name):
                    damaged.append(name)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise BadArchive(f"the download is no readable zip archive ({error}): run the same command again, or check --url") from error
    return damaged


def _entries_of(opened: zipfile.ZipFile, inner: str | None, only: Collection[str] | None) -> list[tuple[zipfile.ZipInfo, str]]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in opened.infolist():
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename or re.match("[A-Za-z]:", info.filename):
            raise BadArchive(f"the archive has an entry that would leave its folder, {info.filename!r}: it is not upstream's, check --url")
        within = path.parts[1:] if inner is None else path.parts[2:]
        name = "/".join(within)
        if (inner is not None and path.parts[1:2] != (inner,)) or info.is_dir() or (only is not None and name not in only):
            continue
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG) or info.flag_bits & 1:
            raise BadArchive(f"the archive's entry {info.filename!r} is a link or encrypted: it is not upstream's, check --url")
        if not name or entries.setdefault(name, info) is not info:
            raise BadArchive(f"the archive has {info.filename!r} as a file or twice: it is not upstream's, check --url")
    folders = {str(parent) for name in entries for parent in PurePosixPath(name).parents}
    if not folders.isdisjoint(entries):
        raise BadArchive("the archive has one name as a file and as a folder: it is not upstream's, check --url")
    if not entries:
        lacks = "none of the wanted files" if inner is None else f"no folder {inner}/"
        raise BadArchive(f"the archive has {lacks} in its top folder: it is not upstream's, check --url")
    return [(info, name) for name, info in entries.items()]


def _write_entry(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> bool:
    try:
        with clear_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(info) as content, path.open("xb") as out:
                shutil.copyfileobj(content, out)
    except (zipfile.BadZipFile, zlib.error, EOFError):
        path.unlink(missing_ok=True)
        return False
    return True


def _check_free(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise FkpError(f"the disk of {folder.parent} has {free / 1e6:.0f} MB free and the set needs {size / 1e6:.0f} MB: free some space")
