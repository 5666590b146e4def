"""Bring the set `backgrounds`: photographs without faces, reduced, as a plain folder of JPEG files.

The manifest (`data/backgrounds_manifest.csv.gz`) says which files of which repositories. A line `# COMMIT  OWNER/NAME  LICENCE` before
its header names each repository; the columns are `name` (of the file in the set), `repository` (OWNER/NAME), `path`, `sha256` (of
upstream's file) and `doubt` (see `data/README.md`). The set keeps it as `ORIGIN.csv`.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import pandas as pd
from tqdm import tqdm

from fkp.common.files import install_dir, remove
from fkp.data.download import BadArchive, clear_disk_errors
from fkp.data.fetch import PAUSE_S, RETRIES, downloaded, workplace
from fkp.data.listed import no_file_name, read_table, refuse_others, sums_hold, write_sums
from fkp.data.unpack import unpack
from fkp.data.verify import sha256_of
from fkp.errors import FkpError
from fkp.vision.image import Image, read_image, write_image

#: Server of the repositories: it has their archives at /OWNER/NAME/archive/COMMIT.zip.
UPSTREAM_URL = "https://github.com"

#: Longer side of a photograph, which is never enlarged, and the quality of its JPEG file.
LONGEST_PX = 640
QUALITY = 90

#: In the set: its manifest, which also says the licence of each photograph.
ORIGIN = "ORIGIN.csv"

_COLUMNS = ["name", "repository", "path", "sha256", "doubt"]
_REPOSITORY = re.compile(r"# ([0-9a-f]{40})  ([\w.-]+/[\w.-]+)  (\S.*)")
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Repository:
    """Where photographs come from: `name` is OWNER/NAME, `license` that of its photographs."""

    name: str
    commit: str
    license: str

    @property
    def short(self) -> str:
        """Name of a checkout's folder."""
        return self.name.partition("/")[2]


@dataclass(frozen=True)
class Manifest:
    """Which photographs; `photographs` has one row for each, see the module, `text` is the whole manifest as it is kept."""

    repositories: list[Repository]
    photographs: pd.DataFrame
    text: str


def fetch_photographs(
    root: Path, manifest: Path, source: Path | None = None, url: str = UPSTREAM_URL, retries: int = RETRIES, pause_s: float = PAUSE_S
) -> tuple[int, bool]:
    """Reduce the photographs that a manifest names and install them as a folder at `root`.

    Args:
        root: Folder of the set. An older or damaged copy there is replaced, any other content is refused.
        manifest: See `read_manifest`.
        source: Folder with a checkout of each repository, under its name; None: download their archives.
        url: Server of the repositories, see `UPSTREAM_URL`.
        retries: Tries after the first one when a transfer breaks.
        pause_s: Seconds before the first retry; doubles each time.

    Returns:
        How many photographs, and False if the set at `root` was whole already and nothing was done.

    Raises:
        FkpError: The manifest cannot be used, `root` holds something else, photographs are missing or not those of the manifest, the
            server cannot be reached, or the disk is full. Archives that have come whole are kept for the next try.
    """
    listed = read_manifest(manifest)
    names = [*listed.photographs["name"]]
    with workplace(root) as (target, new):
        if _check_target(target) and _is_whole(target, listed):
            return len(names), False
        with ExitStack() as archives:  # Closed at the end: what breaks in one repository throws away no other's archive.
            for repository in listed.repositories:
                rows = listed.photographs[listed.photographs["repository"] == repository.name]
                if source is not None:
                    _reduce_all(rows, source / repository.short, str(source / repository.short), FkpError, new)
                    continue
                address = f"{url.rstrip('/')}/{repository.name}/archive/{repository.commit}.zip"
                try:
                    place = target.with_name(f"{target.name}.{repository.short}")
                    archive = archives.enter_context(downloaded(address, place, retries, pause_s))
                    _take(rows, archive, f"the download of {repository.name}", new)
                except BadArchive as error:
                    raise FkpError(str(error)) from error
            with clear_disk_errors(target):
                (new / ORIGIN).write_bytes(listed.text.encode())
                write_sums(new, [ORIGIN, *names])
                install_dir(new, target)
    return len(names), True


def read_manifest(path: Path) -> Manifest:
    """Read a manifest, plain or gzipped.

    Raises:
        FkpError: It is missing, unreadable, has other columns, or a row that cannot be used.
    """
    text, head, photographs = read_table(path, _COLUMNS, _COLUMNS[:4], "photographs")
    matches = [match for line in head if (match := _REPOSITORY.fullmatch(line))]
    found = Manifest([Repository(match[2], match[1], match[3]) for match in matches], photographs, text)
    if fault := _first_fault(found):
        raise FkpError(f"{path}: {fault}: restore it from the repository")
    return found


def _first_fault(found: Manifest) -> str | None:
    photographs, texts = found.photographs, found.photographs[_COLUMNS[:4]]
    if texts.isna().any(axis=None):
        return "a cell is empty"
    others = [name for name in photographs["name"] if not name.endswith(".jpg")]
    if (odd := no_file_name(photographs["name"]) or next(iter(others), None)) is not None:
        return f"name {odd!r} is no plain name of a .jpg file"
    if photographs["name"].duplicated().any():
        return "a name stands twice"
    if (odd := next((path for path in photographs["path"] if _leaves(path)), None)) is not None:
        return f"path {odd!r} leaves its repository"
    if (odd := next((text for text in photographs["sha256"] if not _SHA256.fullmatch(text)), None)) is not None:
        return f"{odd!r} is no sha256"
    if unknown := sorted({*photographs["repository"]} - {repository.name for repository in found.repositories}):
        return f"no line before the header has the commit and the licence of {unknown[0]}"
    return None


def _leaves(path: str) -> bool:
    return Path(path).is_absolute() or ".." in Path(path).parts or "\\" in path


def _check_target(target: Path) -> bool:
    """Whether a set of an earlier fetch lies at the target; False if nothing does.

    Raises:
        FkpError: Something else is there that installing would destroy.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    if not (target / ORIGIN).is_file():
        raise FkpError(f"{target} exists and holds something else: move it away or name another --root")
    return True


def _is_whole(target: Path, listed: Manifest) -> bool:
    same = sha256_of(target / ORIGIN) == hashlib.sha256(listed.text.encode()).hexdigest()
    return same and sums_hold(target, [ORIGIN, *listed.photographs["name"]])


def _take(rows: pd.DataFrame, archive: Path, where: str, new: Path) -> None:
    """Reduce what an archive holds; one that is bad goes."""
    folder = new / "unpacked"
    folder.mkdir()
    try:
        unpack(archive, folder, inner=None, only={*rows["path"]})  # What is damaged is left out, and missed by its name.
        _reduce_all(rows, folder, where, BadArchive, new)
    except BadArchive:
        archive.unlink()
        raise
    remove(folder)


def _reduce_all(rows: pd.DataFrame, folder: Path, where: str, error: type[FkpError], new: Path) -> None:
    refuse_others(folder, where, dict(zip(rows["path"], rows["sha256"], strict=True)), "photographs", error)
    for name, path in tqdm(rows[["name", "path"]].itertuples(index=False), desc="reduce", unit="photograph", total=len(rows), disable=None):
        write_image(new / name, reduced(read_image(folder / path)), QUALITY)


def reduced(image: Image, longest_px: int = LONGEST_PX) -> Image:
    """An image whose longer side is at most so many pixels, by averaging; a smaller one as it is."""
    height, width = image.shape[:2]
    scale = longest_px / max(height, width)
    if scale >= 1:
        return image
    return cv2.resize(image, (max(round(width * scale), 1), max(round(height * scale), 1)), interpolation=cv2.INTER_AREA)
