"""Bring a set of faces that are cut out of a repository's images, as a label set for `data.extra`.

`sfhq` are faces of nobody in the mosaics that show them, `congress` portraits, each an image (a "mosaic" of one). A manifest
(`data/sfhq_manifest.csv.gz`) says which squares of which mosaics, and the landmarks in them. A line `# SHA256  NAME` before
its header names each mosaic; the columns are `name, mosaic, x, y, side, spread_pct, x0, y0, ... x67, y67`. A face is the square
[x, x + side) x [y, y + side) of the mosaic's pixels, black beyond its border, and its landmarks are in pixels of that square;
`spread_pct` is how far apart the networks that labelled it were, in percent of the distance of the outer eye corners.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from fkp.common.files import install_dir, remove
from fkp.data import label_set
from fkp.data.download import BadArchive, clear_disk_errors
from fkp.data.face_shape import first_fault
from fkp.data.fetch import PAUSE_S, RETRIES, downloaded, workplace
from fkp.data.label_set import LabelSet
from fkp.data.listed import no_file_name, read_table, refuse_others, sums_hold, write_sums
from fkp.data.unpack import unpack
from fkp.errors import FkpError
from fkp.scheme import IBUG68
from fkp.vision.image import Image, read_image, write_image


@dataclass(frozen=True)
class Upstream:
    """Where mosaics come from: the repository's address, a commit, their folder, and the licence, which `data/README.md` explains."""

    repository: str
    commit: str
    folder: str
    license: str

    @property
    def url(self) -> str:
        """Zip archive with one top folder that has `folder` in it."""
        return f"{self.repository}/archive/{self.commit}.zip"


UPSTREAMS = {
    "sfhq": Upstream("https://github.com/SelfishGene/SFHQ-T2I-dataset", "a8064474a09cbcec27a498f5bf51ad08298ba47c", "figures", "MIT"),
    "congress": Upstream(
        "https://github.com/voteview/member_photos", "687cf7a9212a445431ad7441d8bfd0b7bf297eff", "images/bio_guide", "public domain"
    ),
}

#: In the set while it is made.
_MOSAICS = "mosaics"
_PLACE = ["x", "y", "side"]
_COLUMNS = ["name", "mosaic", *_PLACE, "spread_pct", *(f"{axis}{point}" for point in range(len(IBUG68)) for axis in "xy")]
_SHA256 = re.compile(r"# ([0-9a-f]{64})  (\S.*)")
_MANIFEST_KEY = "manifest_sha256"


@dataclass(frozen=True)
class Manifest:
    """Which faces are cut.

    Attributes:
        mosaics: sha256 of each, by its name.
        faces: One row a face, see the module.
        sha256: Of the manifest's text.
    """

    mosaics: dict[str, str]
    faces: pd.DataFrame
    sha256: str

    @property
    def points_px(self) -> np.ndarray:
        """(N, 68, 2) float32 in pixels of the cut images."""
        return self.faces[_COLUMNS[-2 * len(IBUG68) :]].to_numpy(np.float32).reshape(-1, len(IBUG68), 2)


def fetch_faces(
    root: Path,
    manifest: Path,
    upstream: Upstream,
    source: Path | None = None,
    url: str | None = None,
    retries: int = RETRIES,
    pause_s: float = PAUSE_S,
) -> tuple[int, bool]:
    """Cut the faces that a manifest names and install them as a label set at `root`.

    Args:
        root: Folder of the set. An older or damaged copy there is replaced, any other content is refused.
        manifest: See `read_manifest`.
        upstream: Where the mosaics come from.
        source: Folder of the mosaics, or of a checkout, or a zip archive like the one at `url`; None: download that.
        url: In place of upstream's.
        retries: Tries after the first one when the transfer breaks.
        pause_s: Seconds before the first retry; doubles each time.

    Returns:
        How many faces, and False if the set at `root` was whole already and nothing was done.

    Raises:
        FkpError: The manifest cannot be used, `root` holds something else, the mosaics are missing or not those of the manifest, the
            server cannot be reached, or the disk is full.
    """
    listed = read_manifest(manifest)
    with workplace(root) as (target, new):
        if _check_target(target) and _is_whole(target, listed):
            return len(listed.faces), False
        with contextlib.ExitStack() as stack:
            folder = source
            if folder is None or not folder.is_dir():
                archive = folder or stack.enter_context(downloaded(url or upstream.url, target, retries, pause_s))
                folder = _unpacked(archive, upstream, listed, new)
            elif (folder / upstream.folder).is_dir():
                folder /= upstream.folder
            where = "the download" if source is None else str(source)
            refuse_others(folder, where, listed.mosaics, "mosaics", BadArchive if source is None else FkpError)
            with clear_disk_errors(target):
                _cut_all(listed, folder, new)
                _write_labels(listed, upstream, new)
                remove(new / _MOSAICS)
                install_dir(new, target)
    return len(listed.faces), True


def read_manifest(path: Path) -> Manifest:
    """Read a manifest, plain or gzipped.

    Raises:
        FkpError: It is missing, unreadable, has other columns, or a row that cannot be used.
    """
    text, head, faces = read_table(path, _COLUMNS, ("name", "mosaic"), "cut faces")
    mosaics = {match[2]: match[1] for line in head if (match := _SHA256.fullmatch(line))}
    found = Manifest(mosaics, faces, hashlib.sha256(text.encode()).hexdigest())
    if fault := _first_fault(found):
        raise FkpError(f"{path}: {fault}: restore it from the repository")
    return found


def _first_fault(found: Manifest) -> str | None:
    faces = found.faces
    numbers = faces[[name for name in _COLUMNS if name not in ("name", "mosaic")]]
    if not all(np.issubdtype(kind, np.number) for kind in numbers.dtypes) or not np.isfinite(numbers.to_numpy()).all():
        return "a cell is not a finite number"
    if not all(np.issubdtype(faces[name].dtype, np.integer) for name in _PLACE) or (faces["side"] < 1).any():
        return "a place is not in whole pixels"
    if faces[["name", "mosaic"]].isna().any(axis=None):
        return "a name is missing"
    for column in ("name", "mosaic"):
        if (odd := no_file_name(faces[column])) is not None:
            return f"{column} {odd!r} is no plain file name"
    if faces["name"].duplicated().any():
        return "a name stands twice"
    if unknown := sorted({*faces["mosaic"]} - {*found.mosaics}):
        return f"no line before the header has the sha256 of {unknown[0]}"
    fault = first_fault(found.points_px)
    return None if fault is None else f"{faces['name'].iat[fault[0]]}: {fault[1]}"


def _check_target(target: Path) -> bool:
    """Whether a set of an earlier fetch lies at the target; False if nothing does.

    Raises:
        FkpError: Something else is there that installing would destroy.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    if not label_set.is_label_set(target) or _MANIFEST_KEY not in label_set.read_head(target):
        raise FkpError(f"{target} exists and holds something else: move it away or name another --root")
    return True


def _is_whole(target: Path, listed: Manifest) -> bool:
    names = [label_set.SET, label_set.LABELS, *_image_names(listed)]
    return label_set.read_head(target)[_MANIFEST_KEY] == listed.sha256 and sums_hold(target, names)


def _unpacked(archive: Path, upstream: Upstream, listed: Manifest, new: Path) -> Path:
    """The folder of the mosaics, out of an archive."""
    if not archive.is_file():
        raise FkpError(f"there is no {archive}: --source is the folder of the mosaics, or a zip archive of their repository")
    place = new / _MOSAICS
    place.mkdir()
    # What is damaged is left out, and missed by its name.
    unpack(archive, place, inner=None, only={f"{upstream.folder}/{name}" for name in listed.mosaics})
    return place / upstream.folder


def _cut_all(listed: Manifest, folder: Path, new: Path) -> None:
    (new / label_set.IMAGES).mkdir()
    with tqdm(total=len(listed.faces), desc="cut", unit="face", disable=None) as bar:
        for mosaic, rows in listed.faces.groupby("mosaic"):
            image = read_image(folder / str(mosaic))
            for name, x, y, side in rows[["name", *_PLACE]].itertuples(index=False):
                write_image(new / label_set.IMAGES / name, cut(image, x, y, side))
                bar.update()


def cut(image: Image, x: int, y: int, side: int) -> Image:
    """The square [x, x + side) x [y, y + side) of an image's pixels, black beyond its border: (side, side, 3)."""
    height, width = image.shape[:2]
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
    out = np.zeros((side, side, 3), np.uint8)
    if left < right and top < bottom:
        out[top - y : bottom - y, left - x : right - x] = image[top:bottom, left:right]
    return out


def _image_names(listed: Manifest) -> list[str]:
    return [f"{label_set.IMAGES}/{name}" for name in listed.faces["name"]]


def _write_labels(listed: Manifest, upstream: Upstream, new: Path) -> None:
    count, names = len(listed.faces), _image_names(listed)
    boxes, visible = np.full((count, 4), np.nan, np.float32), np.ones((count, len(IBUG68)), bool)
    labels = LabelSet(new, IBUG68, names, list(listed.faces["name"]), [None for _ in names], boxes, listed.points_px, visible)
    about = {"license": upstream.license, "source": f"{upstream.repository} at {upstream.commit[:12]}", _MANIFEST_KEY: listed.sha256}
    label_set.write(new, labels, about)
    write_sums(new, [label_set.SET, label_set.LABELS, *names])
