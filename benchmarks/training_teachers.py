"""What more the teachers of `benchmarks/teachers` could teach the shipped network: each way alone, same budget, see `training_sources.py`.

    python benchmarks/training_teachers.py TRAIN FACES MANIFEST SET [--only mesh size] [--photographs FOLDER ...] [--root DIR]

TRAIN and FACES are folders of `faces.py` that both teachers answered for: the training frames and those of which `label.py` made MANIFEST;
SET is the label set of it. All rows train the labels and that set.

mesh    MediaPipe's mesh as a second task: the network also finds every fifth point of the mesh that the crop shows, as many as the labels
        or more, each of which counts as much as a labelled point. What it answers for them is not looked at: the rows of its head go.
size    How far the labels of the frames lie from the teachers' answers in x and y, a median by tenths of the faces' size, is taken out.
mean    The mean of the teachers in place of the labels of the frames, by maps that have not seen the persons.
half    Labels half of the way to it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from training_rows import Material, add_options, material_of, photographs, table, with_sets

from fkp.common.files import write
from fkp.data.crop_cache import CropSet
from fkp.errors import FkpError, run_command
from fkp.scheme import IBUG68, load_scheme

sys.path.append(str(Path(__file__).resolve().parent / "teachers"))
from label import MESH, Folder, Map, read
from turned import labels_of

ROWS = ["mesh", "size", "mean", "half"]
#: Of the mesh's points.
EACH = 5
#: A point of the mesh is a task where so many of the faces show it in an unchanged crop.
SHOWN = 0.97
SIZES = 10
#: Two lists of the same labels, in two frames: further apart than this, px, they are not of the same faces.
_SAME_PX = 0.6


def main() -> None:
    """Train what is missing of the list, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("frames", "faces", "manifest", "set"):
        parser.add_argument(name, type=Path, metavar=name.upper())
    parser.add_argument("--only", nargs="+", choices=ROWS, default=ROWS, metavar="NAME")
    add_options(parser)
    arguments = parser.parse_args()
    material, frames = material_of(arguments), read(arguments.frames)
    others = photographs(material.config, arguments.photographs)
    both = with_sets(material, [str(arguments.set)])
    plain = {
        "size": partial(without_size_shift, both=both, frames=frames),
        "mean": partial(toward_teachers, both=both, frames=frames, part=1.0),
        "half": partial(toward_teachers, both=both, frames=frames, part=0.5),
    }
    if chosen_rows := {name: row for name, row in plain.items() if name in arguments.only}:
        table(material, chosen_rows, others)
    if "mesh" in arguments.only:
        faces, names = read(arguments.faces), sorted(path.name for path in (arguments.set / "images").iterdir())
        told = labels_of(arguments.manifest)
        place = {row["name"]: number for number, row in enumerate(faces.rows)}
        places = [place[name] for name in names]
        mesh_px = np.concatenate([frames.told[MESH], faces.told[MESH][places]])
        cut = np.array([[float(faces.rows[number][axis]) for axis in "xy"] for number in places])
        label_px = np.concatenate([frames.points_px, np.stack([told[name] for name in names]) + cut[:, None]])
        crops, chosen = with_mesh(both, to_crops(mesh_px, label_px, both.points_px), material)
        path = arguments.out / "mesh.json"
        write(path, json.dumps(scheme_with(chosen)))
        print(f"({len(chosen)} points of the mesh beside {len(IBUG68)} labelled ones)", flush=True)
        table(material, {"mesh": lambda _: crops}, others, str(path))


def to_crops(points_px: np.ndarray, label_px: np.ndarray, crop_px: np.ndarray) -> np.ndarray:
    """(N, K, 2) points beside labels (N, 68, 2) to the crops in which the same labels are `crop_px`: moved and scaled, not turned.

    Raises:
        FkpError: The labels are those of other faces.
    """
    before, after = (np.nanmean(points, 1, keepdims=True) for points in (label_px, crop_px))
    flat = label_px - before
    scale = (flat * (crop_px - after)).sum((1, 2), keepdims=True) / (flat**2).sum((1, 2), keepdims=True)
    away = np.abs(flat * scale + after - crop_px).max((1, 2))
    if not (away < _SAME_PX).all():
        raise FkpError(f"the labels of {int((away >= _SAME_PX).sum())} faces are not those that train: make the folders of the same sets")
    return (points_px - before) * scale + after


def with_mesh(both: CropSet, mesh_px: np.ndarray, material: Material) -> tuple[CropSet, list[int]]:
    """The faces with points of the mesh after their labels, NaN where there is no answer, and which those are."""
    size_px, wide_px = material.config.input.size_px, both.crops_u8.shape[-1]
    start = (wide_px - size_px) / 2
    shown = ((mesh_px > start) & (mesh_px < start + size_px - 1)).all(-1).mean(0) > SHOWN
    mirror = np.array(load_scheme("mediapipe478").mirror)
    chosen = sorted(
        {number for first in range(0, len(mirror), EACH) for number in (first, int(mirror[first])) if shown[[number, mirror[number]]].all()}
    )
    return CropSet(both.crops_u8, np.concatenate([both.points_px, mesh_px[:, chosen]], 1).astype(np.float32), both.rows), chosen


def scheme_with(chosen: list[int]) -> Mapping[str, object]:
    """The labels' scheme, and points of the mesh after theirs."""
    plain, first = IBUG68.to_json(), len(IBUG68)
    place = {number: first + at for at, number in enumerate(chosen)}
    pairs = [[place[left], place[right]] for left, right in load_scheme("mediapipe478").pairs if left in place and right in place]
    landmarks = [*plain["landmarks"], *(f"dense_{number}" for number in chosen)]
    return plain | {"name": "ibug68mesh", "landmarks": landmarks, "pairs": [*plain["pairs"], *pairs]}


def told_by_teachers(material: Material, frames: Folder) -> np.ndarray:
    """(K, 68, 2) mean answers of the teachers in the wide crops of the frames that they answered for."""
    known = frames.answered
    told_px = np.empty((len(known), len(IBUG68), 2))
    for number in np.unique(material.fold):  # By a map that has not seen the persons, or it follows each label a little.
        mine = material.fold == number
        told_px[mine & known] = Map.fit(_part(frames, ~mine), tuple(frames.told))(_part(frames, mine))
    return to_crops(told_px[known], frames.points_px[known], material.labels.points_px[known])


def toward_teachers(material: Material, both: CropSet, frames: Folder, part: float) -> CropSet:
    """The faces, the frames' labels moved a part of the way to the teachers' mean answer where there is one."""
    points_px, known = both.points_px.copy(), np.flatnonzero(frames.answered)
    points_px[known] += (part * (told_by_teachers(material, frames) - points_px[known])).astype(np.float32)
    return CropSet(both.crops_u8, points_px, both.rows)


def without_size_shift(material: Material, both: CropSet, frames: Folder) -> CropSet:
    """The faces, the frames' labels without what their distance from the teachers' answers has to do with the faces' size."""
    catalog, rows, known = material.catalog, material.labels.rows, frames.answered
    told_px = told_by_teachers(material, frames)
    size_px = IBUG68.size_px(catalog.points_px[rows])
    to_frame = size_px / IBUG68.size_px(material.labels.points_px)  # Pixels of the frame in one of the crop.
    away_px = (material.labels.points_px[known] - told_px).mean(1) * to_frame[known][:, None]
    edges = np.quantile(size_px[known], np.linspace(0, 1, SIZES + 1))
    tenth = np.searchsorted(edges[1:-1], size_px[known])
    shift_px = np.stack([np.median(away_px[tenth == part], 0) for part in range(SIZES)])
    middle_px = np.array([np.median(size_px[known][tenth == part]) for part in range(SIZES)])
    for size, (x, y) in zip(middle_px, shift_px, strict=True):
        print(f"(eyes {size:.0f} px apart: labels {x:+.2f}, {y:+.2f} px from the teachers)", flush=True)
    shift_px = np.stack([np.interp(size_px, middle_px, shift_px[:, axis]) for axis in range(2)], 1)
    points_px = both.points_px.copy()
    points_px[: len(rows)] -= (shift_px / to_frame[:, None])[:, None]
    return CropSet(both.crops_u8, points_px, both.rows)


def _part(folder: Folder, chosen: np.ndarray) -> Folder:
    rows = [folder.rows[number] for number in np.flatnonzero(chosen)]
    return Folder(rows, folder.points_px[chosen], {name: points[chosen] for name, points in folder.told.items()})


if __name__ == "__main__":
    run_command(main)
