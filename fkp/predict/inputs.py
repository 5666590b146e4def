"""What a person names (pictures, folders, patterns) as one list of picture files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fkp.errors import FkpError

#: What is taken out of a folder. A file that is named, or matched by a pattern, is taken whatever it is called.
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})


def pictures(sources: Sequence[str]) -> list[str]:
    """List the pictures of some sources, each file once.

    Args:
        sources: Files; folders, of which every picture at any depth counts, without hidden files and without following
            links to folders; patterns with `*`, `?`, `[...]` and `**` (any depth), whose matches are files or folders.

    Returns:
        Paths as they were named or found, source by source, and sorted within a folder or pattern: the same for the same
        files. A named file stands here even if it is missing, so that its error is told like that of a broken one.

    Raises:
        FkpError: A folder or a pattern has no pictures, or a folder cannot be listed.
    """
    found: dict[str, str] = {}
    for source in sources:
        matches = list(_of_source(source))
        if not matches:
            kind = f"folder {source} holds" if _is_folder(source) else f"pattern {source} matches"
            raise FkpError(f"{kind} no pictures ({', '.join(sorted(PICTURE_SUFFIXES))}): name another place")
        for path in matches:
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def shown(path: str) -> str:
    """A path as text that can be written: bytes that are not UTF-8, as in names from old archives, become escapes."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _of_source(source: str) -> Iterator[str]:
    if _is_folder(source):
        yield from _of_folder(source)
    elif glob.has_magic(source) and not os.path.exists(source):  # noqa: PTH110  See _is_folder.
        for match in sorted(glob.glob(source, recursive=True)):  # noqa: PTH207  Of pathlib there is none for absolute patterns.
            if not _is_folder(match):
                yield match
            elif "**" not in source:  # Whose own matches reach into every folder already.
                yield from _of_folder(match)
    else:
        yield source


def _is_folder(path: str) -> bool:
    # Unlike pathlib's, this answers also for a name that is too long and for a place that is closed to us.
    return os.path.isdir(path)  # noqa: PTH112


def _of_folder(folder: str) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise FkpError(f"cannot list folder {error.filename}: {error.strerror}: make it readable or name its files") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in PICTURE_SUFFIXES:
                yield str(Path(place) / name)
