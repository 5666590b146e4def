"""The log as a set that `fkp train`, `fkp adapt` and `fkp data export` read: `fkp.data.label_set`, written anew from the log each time."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from fkp.common.files import atomic_replace
from fkp.data import label_set
from fkp.data.face_shape import first_fault
from fkp.data.label_set import LabelSet
from fkp.data.near_duplicates import clusters_of
from fkp.errors import FkpError
from fkp.label.face import Face
from fkp.label.photos import Photos
from fkp.scheme import Scheme
from fkp.vision.fingerprint import Fingerprint

#: The set is written this long after the last change, and so many times as long as that took.
_QUIET_S = 1.0
_SHARE = 10


class Writer:
    """Writes a set a while after each change, in a thread of its own.

    Args:
        write: Does it, and raises nothing.
    """

    def __init__(self, write: Callable[[], None]) -> None:
        self._write, self._changed, self._ended = write, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="set", daemon=True)
        self._changed.set()
        self._thread.start()

    def changed(self) -> None:
        """There is something to write."""
        self._changed.set()

    def close(self) -> None:
        """Write it for the last time."""
        self._ended.set()
        self._changed.set()
        self._thread.join()
        self._write()

    def _run(self) -> None:
        took_s = 0.0
        while not self._ended.is_set():
            self._changed.wait()
            self._changed.clear()
            if self._ended.wait(max(_QUIET_S, _SHARE * took_s)):
                return
            began = time.monotonic()
            self._write()
            took_s = time.monotonic() - began


def labels_of(faces: Iterable[Face], scheme: Scheme, prints: Mapping[str, Fingerprint], blind: Iterable[str]) -> LabelSet:
    """Faces as labels, in the order of their photographs.

    Args:
        faces: Those that are `usable`.
        scheme: Of the points.
        prints: Of the photographs, by name: those that are nearly the same come into one group.
        blind: Faces that were labelled without guesses: they are the test subset, and all others train.
    """
    kept = sorted(faces, key=lambda face: (face.photo, face.id))
    hidden = {*blind}
    points, visible = _arrays(kept, scheme)
    boxes = np.array([face.box or face.seen for face in kept], np.float32).reshape(-1, 4)
    test, train = "test", "train" if hidden else None
    subsets: list[Literal["train", "val", "test"] | None] = [test if face.id in hidden else train for face in kept]  # type: ignore[misc]
    images = [f"{label_set.IMAGES}/{face.photo}" for face in kept]
    return LabelSet(Path(), scheme, images, groups_of(kept, prints), subsets, boxes, points, visible)


def groups_of(faces: list[Face], prints: Mapping[str, Fingerprint], went: Callable[[float], None] = lambda part: None) -> list[str]:
    """The group of each face: as it was named, else its photograph's; those of photographs that are nearly the same are one.

    `went`: see `clusters_of`.
    """
    names = [name for name in dict.fromkeys(face.photo for face in faces) if name in prints]
    cluster = dict(zip(names, clusters_of([prints[name] for name in names], went).tolist(), strict=True)) if names else {}
    leader: dict[str, str] = {}

    def find(group: str) -> str:
        while leader.get(group, group) != group:
            group = leader[group]
        return group

    first: dict[tuple[str, object], str] = {}
    own = [face.group or face.photo for face in faces]
    for face, group in zip(faces, own, strict=True):
        for key in (("photo", face.photo), *((("like", cluster[face.photo]),) if face.photo in cluster else ())):
            other = find(first.setdefault(key, group))
            mine = find(group)
            # A name that a person gave stays.
            if other != mine:
                low, high = sorted((other, mine), key=lambda name: (name in prints, name))
                leader[high] = low
    return [find(group) for group in own]


def write_set(out: Path, labels: LabelSet, photos: Photos) -> list[str]:
    """Write the set, each file whole or not at all; images are copied once.

    Returns:
        What is wrong: photographs that have vanished, whose faces are left out until they are back.

    Raises:
        FkpError: It cannot be written; what was there still is, and so is the log.
    """
    lost: dict[str, str] = {}
    try:
        for image in dict.fromkeys(labels.images):
            try:
                _copy(photos, image.removeprefix(f"{label_set.IMAGES}/"), out)
            except FkpError as error:
                lost[image] = str(error)
        kept = [row for row, image in enumerate(labels.images) if image not in lost]
        if kept or (out / label_set.LABELS).exists():
            write_labels(out, chosen(labels, kept))
    except OSError as error:
        raise FkpError(f"cannot write {out}: {error.strerror or error}: free some space; the log has all of your work") from error
    return list(lost.values())


def chosen(labels: LabelSet, rows: list[int]) -> LabelSet:
    """Some faces of a set."""
    return replace(
        labels,
        images=[labels.images[row] for row in rows],
        groups=[labels.groups[row] for row in rows],
        subsets=[labels.subsets[row] for row in rows],
        boxes_px=labels.boxes_px[rows],
        points_px=labels.points_px[rows],
        visible=labels.visible[rows],
    )


def write_labels(folder: Path, labels: LabelSet) -> None:
    """Write the files of a set but its images, each in one step.

    Raises:
        OSError: The disk is full, or the like.
    """
    about = {"format": "label", "origin": 0.0, "images": len(set(labels.images)), "groups": len(set(labels.groups))}
    with tempfile.TemporaryDirectory(prefix=".set-", dir=folder) as draft:
        label_set.write(Path(draft), labels, about)
        for name in (label_set.SCHEME, label_set.LABELS, label_set.SET):
            path = Path(draft) / name
            if path.exists():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                path.replace(folder / name)


def write_part(out: Path, labels: LabelSet) -> Path:
    """Write some faces of a set as one of their own, which shares its images; its folder.

    Raises:
        FkpError: It cannot be written.
    """
    folder = out / ".adapt"
    try:
        folder.mkdir(exist_ok=True)
        link = folder / label_set.IMAGES
        if not link.is_symlink():
            link.symlink_to(Path("..") / label_set.IMAGES)
        write_labels(folder, labels)
    except OSError as error:
        raise FkpError(f"cannot write {folder}: {error.strerror or error}: free some space") from error
    return folder


def _copy(photos: Photos, name: str, out: Path) -> None:
    target = out / label_set.IMAGES / name
    if target.is_file():
        return
    source = photos.paths.get(name)
    if source is None or not source.is_file():
        raise FkpError(f"photograph {name} is gone: bring it back, and its labels are in the set again")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(target) as draft:
        shutil.copyfile(source, draft)


def fault_of(face: Face, scheme: Scheme) -> str | None:
    """Why a finished face can be in no set; None where it can."""
    points, _ = _arrays([face], scheme)
    fault = first_fault(points, scheme)
    return fault and fault[1].partition(":")[0]


def _arrays(faces: Sequence[Face], scheme: Scheme) -> tuple[np.ndarray, np.ndarray]:
    """(N, K, 2) points, NaN where one is not labelled, and (N, K) whether they are seen.

    Those that were accepted count as those that were set: what is set is what was far off, and by it alone a model learns to move too far.
    """
    points = np.full((len(faces), len(scheme), 2), np.nan, np.float32)
    visible = np.zeros((len(faces), len(scheme)), bool)
    place = {name: number for number, name in enumerate(scheme.landmarks)}
    for row, face in enumerate(faces):
        for name, point in face.points.items():
            if point.state != "missing":
                points[row, place[name]] = point.x, point.y
                visible[row, place[name]] = point.state == "visible"
    return points, visible
