"""What a person names (images, folders, patterns) as one list of image files."""

from __future__ import annotations

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from fkp.errors import FkpError
from fkp.vision.image import IMAGE_SUFFIXES, shown, spelled


def list_images(sources: Sequence[str]) -> list[str]:
    """List the images of some sources, each file once.

    Args:
        sources: Files; folders, of which every image at any depth counts, without hidden files and without following
            links to folders; patterns with `*`, `?`, `[...]` and `**` (any depth), whose matches are files or folders.

    Returns:
        Paths as they were named or found, source by source, and sorted within a folder or pattern: the same for the same
        files. A named file stands here even if it is missing, so that its error is told like that of a broken one. What
        is left out of folders is told on stderr in one line.

    Raises:
        FkpError: A folder or a pattern has no images, or a folder cannot be listed.
    """
    found: dict[str, str] = {}
    others: dict[str, str] = {}
    for source in sources:
        left: list[str] = []
        matches = list(_of_source(source, left))
        if not matches:
            kind = f"folder {source} holds" if _is_folder(source) else f"pattern {source} matches"
            but = f" but {_told(left)}" if left else ""
            raise FkpError(f"{kind} no images ({', '.join(sorted(IMAGE_SUFFIXES))}){but}: name another place")
        for places, paths in ((found, matches), (others, left)):
            for path in paths:
                places.setdefault(os.path.abspath(spelled(Path(path))), path)
    if unnamed := [path for place, path in others.items() if place not in found]:
        print(f"left out of folders: {_told(unnamed)}", file=sys.stderr)
    return list(found.values())


def _told(paths: Sequence[str]) -> str:
    """How many files of which kinds, the most first."""
    kinds = Counter(Path(path).suffix.lower() or "without a suffix" for path in paths)
    heic = ": convert HEIC photographs to JPEG" if kinds.keys() & {".heic", ".heif", ".hif"} else ""
    return ", ".join(f"{count} {shown(kind)}" for kind, count in kinds.most_common()) + heic


def _of_source(source: str, left: list[str]) -> Iterator[str]:
    """The images of a source; the folder's files that are none go to `left`."""
    if _is_folder(source):
        yield from _of_folder(source, left)
    elif glob.has_magic(source) and not os.path.exists(source):  # noqa: PTH110  See _is_folder.
        for match in sorted(glob.glob(source, recursive=True)):  # noqa: PTH207  Of pathlib there is none for absolute patterns.
            if not _is_folder(match):
                yield match
            elif "**" not in source:  # Whose own matches reach into every folder already.
                yield from _of_folder(match, left)
    else:
        yield source


def _is_folder(path: str) -> bool:
    # Unlike pathlib's, this answers also for a name that is too long and for a place that is closed to us.
    return os.path.isdir(path)  # noqa: PTH112


def _of_folder(folder: str, left: list[str]) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise FkpError(f"cannot list folder {error.filename}: {error.strerror}: make it readable or name its files") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = str(Path(place) / name)
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield path
            elif not name.startswith("."):
                left.append(path)
