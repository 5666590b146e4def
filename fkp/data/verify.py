"""Is a set on disk whole, and what is in it: frames against the manifest, and the figures of the data card."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from fkp.config import DataConfig
from fkp.data.labels import CSV_FILES, load_labels, one_spelling
from fkp.errors import FkpError
from fkp.vision.image import spelled

_COLUMNS = ["split", "file", "sha256", "identity", "video", "frame", "fold"]

#: The manifest lists frames only. These are the sha256 of the label files that belong to upstream's frames, and
#: the digest by which a manifest is known to be upstream's (see `digest_of`).
_UPSTREAM = "5e1814f660a03058413a03c501c9ae9b109fb948ca983562d425bc7d8cce35f5"
_UPSTREAM_LABELS = {
    "training_frames_keypoints.csv": "9f3d1213429893d4955e2789076f6ce11e297253fed86337cffb6ca85bd61ec8",
    "test_frames_keypoints.csv": "348e5e1a5906001f64d3da627e4f61dc3de90771d6d92f5d93628029b3c85e65",
}


@dataclass(frozen=True)
class Fault:
    """One file of a set that is not as the manifest says. `path` is relative to the set's folder."""

    path: str
    what: Literal["missing", "differs", "not in the manifest"]

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def read_manifest(path: Path) -> dict[str, str]:
    """Read a manifest: path of each labelled frame relative to the set's folder ("training/a_00.jpg") -> hex sha256.

    Raises:
        FkpError: The file is missing, unreadable, has other columns or lists nothing.
    """
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = csv.DictReader(lines)
            if rows.fieldnames != _COLUMNS:
                raise FkpError(f"{path} is not a manifest: its first line must be {','.join(_COLUMNS)}")
            listed = {f"{row['split']}/{row['file']}": row["sha256"] for row in rows}
    except FileNotFoundError as error:
        raise FkpError(f"manifest {path} is missing: run this in the project's folder, or name the manifest with --manifest") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FkpError(f"cannot read manifest {path}: {getattr(error, 'strerror', None) or error}") from error
    if not listed:
        raise FkpError(f"manifest {path} lists no frame: restore it from the repository")
    return listed


def digest_of(listed: dict[str, str]) -> str:
    """Hex sha256 over a manifest's frames in sorted order: which version of which set it describes."""
    return hashlib.sha256("".join(f"{path} {sha256}\n" for path, sha256 in sorted(listed.items())).encode()).hexdigest()


def sha256_of(path: Path) -> str | None:
    """Hex sha256 of a file's bytes, None if there is no such file.

    Raises:
        FkpError: The file is there but cannot be read.
    """
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FkpError(f"cannot read {path}: {error.strerror or error}") from error


def check(root: Path, listed: dict[str, str]) -> list[Fault]:
    """Compare a set with a manifest: every frame, the label files, and that no other frame is labelled.

    Args:
        root: Folder of the set.
        listed: See `read_manifest`.

    Returns:
        The faults in the manifest's order; none if the set is whole.

    Raises:
        FkpError: A file is there but cannot be read, or a label file that is not pinned is broken.
    """
    faults = [*_compare(root, listed), *_compare(root, _labels_of(listed))]
    if not any(fault.path.endswith(".csv") for fault in faults):
        known = {one_spelling(path) for path in listed}
        faults += [Fault(path, "not in the manifest") for path in labelled(root) if one_spelling(path) not in known]
    return faults


def labelled(root: Path) -> list[str]:
    """The frames that a set's CSV files label, as paths relative to its folder.

    Raises:
        FkpError: See `fkp.data.labels.load_labels`.
    """
    table = load_labels(DataConfig(source="folder", root=str(root))).table
    return [f"{part}/{file}" for part, file in zip(table["part"], table["file"], strict=True)]


def _labels_of(listed: dict[str, str]) -> dict[str, str | None]:
    if digest_of(listed) == _UPSTREAM:
        return dict(_UPSTREAM_LABELS)
    return {f"{part}_frames_keypoints.csv": None for part in CSV_FILES}


def _compare(root: Path, wanted: dict[str, str] | dict[str, str | None]) -> Iterator[Fault]:
    for path, sha256 in wanted.items():
        found = sha256_of(spelled(root / path))
        if found is None:
            yield Fault(path, "missing")
        elif sha256 is not None and found != sha256:
            yield Fault(path, "differs")


@dataclass(frozen=True)
class Stats:
    """The figures of a set. Lengths are in pixels of the raw frame, points are the raw labels.

    Attributes:
        persons, clips, frames: How many.
        width_px, height_px: Smallest, median and largest frame.
        points_outside: Points beyond the outermost pixel centres of their frame.
        frames_with_outside: Frames with such a point.
        negative_coordinates: Coordinates below zero.
        eye_distance_px: Median of what errors are divided by.
        normaliser: What that is.
        splits: Split -> faces in train, val and test.
        shared: Split -> persons and clips of test that train or val has too.
    """

    persons: int
    clips: int
    frames: int
    width_px: tuple[int, float, int]
    height_px: tuple[int, float, int]
    points_outside: int
    frames_with_outside: int
    negative_coordinates: int
    eye_distance_px: float
    normaliser: str
    splits: dict[str, tuple[int, int, int]]
    shared: dict[str, tuple[int, int]]

    def lines(self) -> list[str]:
        """The figures as lines for a terminal."""
        out = [
            f"{self.persons} persons, {self.clips} clips, {self.frames} frames",
            f"frame width  {_spread(self.width_px)}",
            f"frame height {_spread(self.height_px)}",
            f"{self.points_outside} points of {self.frames_with_outside} frames lie outside the frame; "
            f"{self.negative_coordinates} coordinates are negative",
            f"median {self.normaliser} {self.eye_distance_px:.1f} px",
        ]
        for split, (train, val, test) in self.splits.items():
            persons, clips = self.shared[split]
            shared = f"{persons} persons and {clips} clips of test are in train or val"
            out.append(f"split {split}: train {train}, val {val}, test {test}; {shared}")
        return out


def describe(data: DataConfig) -> Stats:
    """Measure a set; reads every frame.

    Raises:
        FkpError: The labels cannot be read (see `fkp.data.labels.load_labels`), or a frame is missing or no image.
    """
    faces = load_labels(data)
    points_px = faces.points_raw_px
    # Decoding leaves the interpreter's lock, so threads use all cores: 1.5 s for 4,232 frames on two.
    with ThreadPoolExecutor() as pool:
        shapes = list(pool.map(lambda row: faces.image(row).shape, range(len(faces))))
    size_px = np.array([(width, height) for height, width, _ in shapes])
    beyond = np.logical_or(points_px < 0, points_px > size_px[:, None] - 1)
    outside = beyond[..., 0] | beyond[..., 1]
    clip = faces.table["identity"] + "_" + faces.table["video"].astype(str)
    splits, shared = {}, {}
    for split in get_args(DataConfig.model_fields["split"].annotation):
        train, val, test = (faces.rows(subset, data.under_split(split)) for subset in ("train", "val", "test"))
        splits[split] = (len(train), len(val), len(test))
        known = np.concatenate([train, val])
        shared[split] = (_in_both(faces.table["identity"], test, known), _in_both(clip, test, known))
    return Stats(
        persons=faces.table["identity"].nunique(),
        clips=clip.nunique(),
        frames=len(faces),
        width_px=_min_median_max(size_px[:, 0]),
        height_px=_min_median_max(size_px[:, 1]),
        points_outside=int(outside.sum()),
        frames_with_outside=int(outside.any(axis=1).sum()),
        negative_coordinates=int((points_px < 0).sum()),
        eye_distance_px=float(np.median(faces.scheme.size_px(points_px))),
        normaliser=faces.scheme.normaliser_text,
        splits=splits,
        shared=shared,
    )


def _in_both(names: pd.Series, some: np.ndarray, others: np.ndarray) -> int:
    return len(set(names.iloc[some]) & set(names.iloc[others]))


def _min_median_max(values: np.ndarray) -> tuple[int, float, int]:
    return int(values.min()), float(np.median(values)), int(values.max())


def _spread(values: tuple[int, float, int]) -> str:
    return f"{values[0]} to {values[2]} px, median {values[1]:g}"
