"""The format of a set of one's own: what `fkp data import` writes and `--data.root` reads.

    my_set/
      set.json      kind, scheme, where it comes from, how many
      labels.jsonl  one face a line
      scheme.json   only of a scheme that is not built in
      images/       the image files as they were

A line of labels.jsonl is {"image": "images/a.jpg", "group": "Ada", "subset": null, "box": null, "points": [[x, y], null, ...],
"visible": [true, false, ...]}. Faces of one group (a person, a clip, images that are nearly the same) are never on both sides of the
identity split. `subset` is train, val or test where the labels say so (`--data.split published`), `box` is [x0, y0, x1, y1] where they have
one; training does not use it. Points are in the scheme's order, in pixels of the image as it is displayed, the first pixel's centre at
(0, 0); null is a point that is not labelled, and one that is labelled and covered by something has `visible` false.

A line may also have "weights": {"chin": 0.2, ...}: how much a label counts beside one of weight 1, by the name of its landmark, more than 0
and at most 1; a landmark that is not named there has 1. `fkp adapt` heeds them, no other command does.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from fkp.errors import FkpError
from fkp.scheme import Scheme, as_setting, built_in, load_scheme
from fkp.vision import image as images

SET, LABELS, SCHEME, IMAGES = "set.json", "labels.jsonl", "scheme.json", "images"
KIND = "fkp set 1"

#: Decimals of a coordinate in the file: a thousandth of a pixel.
_DECIMALS = 3
_KEYS, _WEIGHTS = {"image", "group", "subset", "box", "points", "visible"}, "weights"


@dataclass(frozen=True)
class LabelSet:
    """The labels of a set, one row a face.

    Attributes:
        root: Its folder; empty for one that has yet to be written.
        scheme: Of the points.
        images: Image of each face, below the folder.
        groups: What must stay together.
        subsets: train, val, test or None.
        boxes_px: (N, 4) float32 x0, y0, x1, y1 as labelled, NaN where there is none.
        points_px: (N, K, 2) float32, NaN where a point is not labelled.
        visible: (N, K) bool; False where a point is covered or not labelled.
        digest: Hex sha256 over labels and scheme.
        weights: (N, K) float32 in (0, 1], how much each label counts; None: all the same.
    """

    root: Path
    scheme: Scheme
    images: list[str]
    groups: list[str]
    subsets: list[Literal["train", "val", "test"] | None]
    boxes_px: np.ndarray
    points_px: np.ndarray
    visible: np.ndarray
    digest: str = ""
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.points_px)

    def box_px(self, face: int) -> list[float]:
        """x0, y0, x1, y1: as labelled, or the tight box of the points."""
        box, points = self.boxes_px[face], self.points_px[face]
        found = box if np.isfinite(box).all() else np.concatenate([np.nanmin(points, axis=0), np.nanmax(points, axis=0)])
        return [round(value, _DECIMALS) for value in found.tolist()]

    def size_px(self, image: str) -> tuple[int, int]:
        """Width and height of an image.

        Raises:
            FkpError: It is missing or broken.
        """
        height, width = images.read_image(self.root / image).shape[:2]
        return width, height

    def copy_images(self, out: Path) -> None:
        """Copy all images into a folder, under their names.

        Raises:
            FkpError: One is missing.
        """
        for image in dict.fromkeys(self.images):
            (out / image).parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(images.spelled(self.root / image), out / image)
            except FileNotFoundError as error:
                raise FkpError(f"image {self.root / image} is missing: bring it back, or import the set again") from error


def is_label_set(place: str | Path) -> bool:
    """Whether a folder holds a set of this format."""
    return (Path(place) / SET).is_file()


def scheme_setting(root: Path) -> str:
    """The scheme of a set as `data.scheme` takes it.

    Raises:
        FkpError: The set says none that can be used.
    """
    scheme = _scheme(root)
    return as_setting(scheme.name if scheme.name in built_in() else str(root / SCHEME))


def write(folder: Path, labels: LabelSet, about: dict[str, Any]) -> None:
    """Write all of a set but its images.

    Args:
        folder: Where.
        labels: The faces.
        about: What else set.json says.

    Raises:
        OSError: The disk is full, or the like.
    """
    scheme = labels.scheme
    head = {"kind": KIND, "scheme": scheme.name, "landmarks": len(scheme), "faces": len(labels), **about}
    (folder / SET).write_text(json.dumps(head, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    if scheme.name not in built_in():
        (folder / SCHEME).write_text(json.dumps(scheme.to_json(), indent=1) + "\n", encoding="utf-8")
    # As float64: a float32 rounded to three decimals would be written with nine.
    points, boxes = (np.round(some.astype(np.float64), _DECIMALS) for some in (labels.points_px, labels.boxes_px))
    there = np.asarray(np.isfinite(points).all(-1))
    with (folder / LABELS).open("w", encoding="utf-8") as file:
        for face, image in enumerate(labels.images):
            line = {
                "image": image,
                "group": labels.groups[face],
                "subset": labels.subsets[face],
                "box": boxes[face].tolist() if np.isfinite(boxes[face]).all() else None,
                "points": [place if known else None for place, known in zip(points[face].tolist(), there[face].tolist(), strict=True)],
                "visible": labels.visible[face].tolist(),
            }
            if labels.weights is not None and (own := _named(labels.weights[face], there[face], scheme)):
                line[_WEIGHTS] = own
            file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def _named(weights: np.ndarray, there: np.ndarray, scheme: Scheme) -> dict[str, float]:
    told = zip(scheme.landmarks, np.round(weights.astype(np.float64), _DECIMALS).tolist(), there.tolist(), strict=True)
    return {name: max(weight, 10**-_DECIMALS) for name, weight, known in told if known and weight != 1}


def read(root: Path, faults: dict[int, str] | None = None) -> LabelSet:
    """Read the labels of a set; its images are looked at when they are asked for.

    Args:
        root: Its folder.
        faults: Takes why a line cannot be used, by its number from 1, instead of an error.

    Raises:
        FkpError: It is no such set, or a line of it cannot be used.
    """
    scheme = _scheme(root)
    path = root / LABELS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FkpError(f"cannot read {path}: {error.strerror or error}: import the set again") from error
    rows: list[dict[str, Any]] = []
    points, visible, boxes, weights = [], [], [], []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            _check(row, scheme)
            whole = [(np.nan, np.nan) if place is None else place for place in row["points"]]
            place_px = _array(whole, (len(scheme), 2), "points")
            box_px = np.full(4, np.nan, np.float32) if row["box"] is None else _array(row["box"], (4,), "box")
            seen = np.array(row["visible"], bool)
            weight = _weights(row.get(_WEIGHTS, {}), scheme)
        except (ValueError, TypeError) as error:
            if faults is None:
                raise FkpError(f"{path}, line {number}: {error}: correct or remove the line") from error
            faults[number] = f"{error}: correct or remove the line"
            continue
        rows.append(row)
        points.append(place_px)
        visible.append(seen)
        boxes.append(box_px)
        weights.append(weight)
    if not rows:
        raise FkpError(f"{path} labels no face that can be used: import the set again")
    return LabelSet(
        root,
        scheme,
        [row["image"] for row in rows],
        [row["group"] for row in rows],
        [row["subset"] for row in rows],
        np.stack(boxes),
        np.stack(points),
        np.stack(visible),
        hashlib.sha256(json.dumps(scheme.landmarks).encode() + content).hexdigest(),
        np.stack(weights) if any(_WEIGHTS in row for row in rows) else None,
    )


def read_head(root: Path) -> dict[str, Any]:
    """What set.json says.

    Raises:
        FkpError: It is missing or no such file.
    """
    path = root / SET
    try:
        head: dict[str, Any] = json.loads(path.read_bytes())
        if head["kind"] != KIND:
            raise ValueError(f"its kind is {head['kind']!r} and not {KIND!r}")
        head["scheme"] = str(head["scheme"])
    except OSError as error:
        raise FkpError(f"cannot read {path}: {error.strerror or error}: `fkp data import` makes a set") from error
    except (ValueError, TypeError, KeyError) as error:
        raise FkpError(f"{path} cannot be used ({error}): import the set again") from error
    return head


def _scheme(root: Path) -> Scheme:
    name = read_head(root)["scheme"]
    return load_scheme(name if name in built_in() else str(root / SCHEME))


def _check(row: Any, scheme: Scheme) -> None:
    if not isinstance(row, dict) or row.keys() - {_WEIGHTS} != _KEYS:
        raise ValueError(f"it needs {', '.join(sorted(_KEYS))}, may have {_WEIGHTS}, and nothing else")
    name = row["image"]
    # A set is copied between machines: it names no file outside its folder.
    if not isinstance(name, str) or not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError(f"image {name!r} is no name below the folder")
    if not isinstance(row["group"], str) or not row["group"]:
        raise ValueError("group is no name")
    if row["subset"] not in (None, "train", "val", "test"):
        raise ValueError(f"subset {row['subset']!r} is not train, val, test or null")
    for key in ("points", "visible"):
        if not isinstance(row[key], list) or len(row[key]) != len(scheme):
            count = len(row[key]) if isinstance(row[key], list) else "no list of"
            raise ValueError(f"{count} {key} and not the {len(scheme)} of {scheme.name}")


def _weights(named: Any, scheme: Scheme) -> np.ndarray:
    if not isinstance(named, dict):
        raise ValueError("weights are no object of names and numbers")
    found = np.ones(len(scheme), np.float32)
    for name, weight in named.items():
        if name not in scheme.landmarks:
            raise ValueError(f"{scheme.name} has no {name!r} to weigh")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1:
            raise ValueError(f"the weight of {name} is {weight!r} and not a number above 0 and up to 1")
        found[scheme.landmarks.index(name)] = weight
    return found


def _array(values: Sequence[Any], shape: tuple[int, ...], what: str) -> np.ndarray:
    try:
        found = np.array(values, np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{what} are not pairs of numbers") from error
    # Of a point both numbers are finite, or none is there.
    if found.shape != shape or not (np.isfinite(found).all(-1) | np.isnan(found).all(-1)).all():
        raise ValueError(f"{what} are not pairs of finite numbers" if what == "points" else f"{what} is not four numbers")
    return found
