"""`fkp data import`: labels of any known format become a set of one's own, see `fkp.data.label_set`.

What is wrong is found before anything is written, and the set appears whole or not at all.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from fkp.common.files import atomic_replace_dir
from fkp.data import label_set
from fkp.data.face_shape import first_fault
from fkp.data.formats import Face, Format, Source, recognise
from fkp.data.formats.points import Placement
from fkp.data.formats.subsets import subset_of_path
from fkp.data.grouping import Grouping, joined_groups
from fkp.data.import_summary import groups_told, left_out_told, number_of, points_told, scheme_flag, splits_told
from fkp.data.label_set import LabelSet
from fkp.data.labels import check_label
from fkp.data.sheet import sheet
from fkp.errors import FkpError
from fkp.scheme import Scheme
from fkp.vision.fingerprint import Fingerprint, fingerprint
from fkp.vision.image import decode_image, read_bytes, write_image

LEAST_FACES = 10

#: Overlap (intersection over union) of the boxes of two labels of one image from which on they label the same face.
_SAME_FACE = 0.6

#: What ends sooner shows no bar.
_QUIET_S = 2.0

SHEET, LEFT_OUT = "sheet.jpg", "left_out.txt"

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Asked:
    """What is asked of an import.

    Attributes:
        place: Folder or file of the labels.
        out: The new set.
        format: Name in `FORMATS`; None: by what the files are.
        scheme: Name or file; None: by names and number of the points.
        images: A further folder of images.
        group: "image", "folder", "column:NAME" or a pattern; None: as the labels say, or else each image.
        order: Of coordinates in a CSV that does not say it.
        origin: Coordinate of the first pixel's centre in the labels; None: the format's.
        link: Link the images instead of copying them.
        skip_broken: Leave out faces that cannot be used, instead of refusing all.
    """

    place: Path
    out: Path
    format: str | None = None
    scheme: str | None = None
    images: Path | None = None
    group: str | None = None
    order: str | None = None
    origin: float | None = None
    link: bool = False
    skip_broken: bool = False


def import_set(asked: Asked) -> list[str]:
    """Import labelled faces; return what was found, line by line.

    Raises:
        FkpError: There are no labels, some cannot be used, or the set cannot be written; then nothing is.
    """
    if os.path.lexists(asked.out):
        raise FkpError(f"{asked.out} exists already: choose another --out, or remove it first")
    grouping = Grouping(asked.group)
    source = Source(asked.place, asked.images, asked.order, grouping.column, asked.scheme)
    form, paths = recognise(source, asked.format)
    origin = form.origin if asked.origin is None else asked.origin
    faces = list(_progress(_read(form, paths, source), "labels", "face"))
    if not faces:
        _settle_faults(source, asked)
        raise FkpError(f"{asked.place} labels no face that can be used{_first(source.left_out)}")
    placement = Placement(faces, form, asked.scheme)
    labels, faces = _placed(faces, placement, origin, source)
    names = _names_of({face.image for face in faces})
    for face in faces:
        face.group = grouping.of(face, names[face.image].removeprefix(f"{label_set.IMAGES}/"))
    prints, images, labels, faces = _examined(faces, labels, source)
    own = [face.group or "" for face in faces]
    _settle_faults(source, asked)
    if len(labels) < LEAST_FACES:
        raise FkpError(f"{asked.place} has {len(labels)} faces to learn from and a set needs {LEAST_FACES}{_first(source.left_out)}")
    groups = joined_groups(own, [face.image for face in faces], images, prints)
    if len(set(groups)) == 1:
        raise FkpError(f"all {len(groups)} faces are of one group ({groups[0]}) and a split needs two: {grouping.mend(len(set(own)))}")
    labels = replace(labels, images=[names[face.image] for face in faces], groups=groups)
    if asked.place.is_dir():
        source.left_out += [(source.short(path), "an image without a label") for path in sorted({*source.all_images} - names.keys())]
    try:
        with atomic_replace_dir(asked.out) as draft:
            _copy({path: names[path] for path in images}, draft, asked.link)
            label_set.write(draft, labels, {"format": form.name, "origin": origin, "images": len(images), "groups": len(set(groups))})
            if source.left_out:
                (draft / LEFT_OUT).write_text("".join(f"{where}: {reason}\n" for where, reason in source.left_out), encoding="utf-8")
            write_image(draft / SHEET, sheet(replace(labels, root=draft)))
    except OSError as error:
        way = (
            ": leave out --link where set and images are on different disks" if asked.link else ": free some space or choose another --out"
        )
        raise FkpError(f"cannot write {asked.out}: {error.strerror or error}{way}") from error
    return [
        f"{asked.place}: {form.about}: {len(labels)} faces in {len(images)} images, from {number_of(len(paths), 'file')}",
        f"first pixel at {origin:g} in the labels{'' if asked.origin is None else ', as asked'}, at 0 in the set",
        f"scheme {labels.scheme.name}: {len(labels.scheme)} points, known {placement.how}; {points_told(labels)}",
        groups_told(grouping.about, own, groups),
        *splits_told(labels),
        *left_out_told(source.left_out, asked.out / LEFT_OUT),
        f"{asked.out}: {label_set.LABELS}, {len(images)} images ({'linked' if asked.link else 'copied'}); look at {asked.out / SHEET}",
        f"train on it: fkp train --data.root {asked.out}" + scheme_flag(labels.scheme, asked.out),
    ]


def _read(form: Format, paths: Sequence[Path], source: Source) -> Iterator[Face]:
    """The faces of all files; where each file or folder is named after a subset, and not all after one, that is theirs."""
    places = [path.relative_to(source.root) for path in paths]
    hints = [subset_of_path(place.parent / "_" if form.file_a_face else place) for place in places]
    hinted = all(hints) and len(set(hints)) > 1
    for path, hint in zip(paths, hints, strict=True):
        for face in form.read(path, source):
            face.subset = face.subset or (hint if hinted else None)
            yield face


def _progress(items: Iterable[_Item], what: str, unit: str, total: int | None = None) -> Iterable[_Item]:
    """The same items, with a bar for what takes longer than two seconds; in a log file a line every half minute."""
    return tqdm(items, what, total, unit=unit, delay=_QUIET_S, mininterval=0.5 if sys.stderr.isatty() else 30.0)


def _placed(faces: list[Face], placement: Placement, origin: float, source: Source) -> tuple[LabelSet, list[Face]]:
    """The faces whose points fit into the scheme, as labels in pixels; images and groups are yet to come."""
    kept, points, visible, boxes = [], [], [], []
    for face in faces:
        found = placement(face)
        if isinstance(found, str):
            source.faults.append((face.where, found))
            continue
        kept.append(face)
        points.append(found[0] - origin)
        visible.append(found[1])
        boxes.append(np.full(4, np.nan) if face.box is None else np.asarray(face.box, np.float64) - origin)
    scheme = placement.scheme
    shaped = np.array(points, np.float32).reshape(-1, len(scheme), 2)
    wrong = _no_faces(shaped, scheme)
    source.faults += [(kept[row].where, reason) for row, reason in wrong.items()]
    rows = np.array([row for row in range(len(kept)) if row not in wrong], int)
    labels = LabelSet(
        Path(),
        scheme,
        [],
        [],
        [kept[row].subset for row in rows],
        np.array(boxes, np.float32).reshape(-1, 4)[rows],
        shaped[rows],
        np.array(visible, bool).reshape(-1, len(scheme))[rows],
    )
    return labels, [kept[row] for row in rows]


def _no_faces(points_px: np.ndarray, scheme: Scheme) -> dict[int, str]:
    """Rows whose points are no face, and why.

    Raises:
        FkpError: It is so of the set as a whole.
    """
    found = first_fault(points_px, scheme)
    if found is None or not len(points_px):
        return {}
    if len(points_px) == 1:
        return {0: found[1]}
    half = len(points_px) // 2
    wrong = {**_no_faces(points_px[:half], scheme), **{half + row: reason for row, reason in _no_faces(points_px[half:], scheme).items()}}
    if not wrong:
        raise FkpError(found[1])
    return wrong


def _examined(faces: list[Face], labels: LabelSet, source: Source) -> tuple[list[Fingerprint], list[Path], LabelSet, list[Face]]:
    """Decode every image once; the images that are whole, their fingerprints, and the faces that they show."""
    rows_of: dict[Path, list[int]] = {}
    for row, face in enumerate(faces):
        rows_of.setdefault(face.image, []).append(row)

    def examine(path: Path) -> tuple[Fingerprint | None, list[tuple[int, str]]]:
        rows = rows_of[path]
        try:
            image = decode_image(read_bytes(path), source.short(path))
        except FkpError as error:
            return None, [(rows[0], str(error)), *((row, "") for row in rows[1:])]
        height, width = image.shape[:2]
        wrong = []
        for row in rows:
            told = faces[row].size_px
            if told is not None and told != (width, height):
                mend = (
                    "label it as it is displayed, turned by its EXIF data" if told == (height, width) else "bring the one that was labelled"
                )
                wrong.append((row, f"labelled as {told[0]} x {told[1]} pixels and {path.name} has {width} x {height}: {mend}"))
                continue
            try:
                check_label(labels.points_px[row], height, width, faces[row].where, labels.scheme)
            except FkpError as error:
                wrong.append((row, str(error).removeprefix(f"{faces[row].where}: ")))
        return fingerprint(image), wrong + _twice(rows, labels)

    prints, images, wrong = [], [], dict[int, str]()
    with ThreadPoolExecutor() as pool:  # Decoding leaves the interpreter's lock.
        for path, (found, faults) in zip(rows_of, _progress(pool.map(examine, rows_of), "images", "image", len(rows_of)), strict=True):
            wrong.update(faults)
            if found is not None and len(faults) < len(rows_of[path]):
                prints.append(found)
                images.append(path)
    source.faults += [(faces[row].where, reason) for row, reason in sorted(wrong.items()) if reason]
    rows = np.array([row for row in range(len(faces)) if row not in wrong], int)
    labels = replace(
        labels,
        subsets=[labels.subsets[row] for row in rows],
        boxes_px=labels.boxes_px[rows],
        points_px=labels.points_px[rows],
        visible=labels.visible[rows],
    )
    return prints, images, labels, [faces[row] for row in rows]


def _twice(rows: Sequence[int], labels: LabelSet) -> list[tuple[int, str]]:
    """Those of the faces of one image that are labelled before, too."""
    if len(rows) < 2:
        return []
    points = labels.points_px[rows]
    low, high = np.nanmin(points, axis=1), np.nanmax(points, axis=1)
    sides = np.clip(np.minimum(high[:, None], high) - np.maximum(low[:, None], low), 0, None)
    inner, area = sides.prod(-1), (high - low).prod(-1)
    same = np.triu(inner > _SAME_FACE * (area[:, None] + area - inner), 1).any(0)
    return [(rows[place], "this face of the image is labelled twice: keep one label") for place in np.flatnonzero(same).tolist()]


def _settle_faults(source: Source, asked: Asked) -> None:
    """Leave out what cannot be used where that is asked.

    Raises:
        FkpError: It is not asked, and there is such.
    """
    if source.faults and not asked.skip_broken:
        where, reason = source.faults[0]
        more = f"; {len(source.faults) - 1} more cannot be used, and --skip-broken leaves them out" if len(source.faults) > 1 else ""
        raise FkpError(f"{where}: {reason}{more}")
    source.left_out += source.faults
    source.faults.clear()


def _first(left_out: Sequence[tuple[str, str]]) -> str:
    return f": {len(left_out)} are left out, the first {left_out[0][0]}: {left_out[0][1]}" if left_out else ": label more"


def _names_of(images: Collection[Path]) -> dict[Path, str]:
    """Where each image goes in the set: below the folder that all share."""
    folder = Path(os.path.commonpath([path.absolute().parent for path in images])) if images else Path()
    return {path: f"{label_set.IMAGES}/{path.absolute().relative_to(folder).as_posix()}" for path in images}


def _copy(names: dict[Path, str], out: Path, link: bool) -> None:
    for folder in {(out / name).parent for name in names.values()}:
        folder.mkdir(parents=True, exist_ok=True)

    def bring(path: Path) -> None:
        if link:
            os.link(os.path.realpath(path), out / names[path])
            return
        with path.open("rb") as image, (out / names[path]).open("wb") as copy:
            shutil.copyfileobj(image, copy)
            copy.flush()
            os.fsync(copy.fileno())  # It waits for the disk, and eight wait at once; `install_dir` finds nothing left to write.

    with ThreadPoolExecutor(8) as pool:
        for _ in _progress(pool.map(bring, names), "copies", "image", len(names)):
            pass
