"""COCO keypoints: one JSON file with `images`, `annotations` and `categories`; of COCO-WholeBody the face's 68 points.

A keypoint is x, y, v: v is 0 where it is not labelled, 1 where it is labelled and not visible, 2 where it is visible. Pixels are counted
from 0 and a keypoint is the index of its pixel (Detectron2 adds 0.5 to count from the image's corner): T.-Y. Lin et al., ECCV 2014.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fkp.data import label_set
from fkp.data.formats import json_files
from fkp.data.formats.numbers import size_of
from fkp.data.formats.registry import Face, Format, register
from fkp.data.formats.source import Source
from fkp.errors import FkpError

#: Any JSON file may lie beside labels; the tables of this one are lists.
_TABLE = re.compile(rb'"(?:images|annotations|categories|licenses)"\s*:\s*\[')

#: Where the points of an annotation stand, and its box.
_KEYS = {"keypoints": "bbox", "face_kpts": "face_box"}


def _read(path: Path, source: Source) -> Iterator[Face]:
    name, content = source.short(path), json_files.load(path, source)
    images, annotations, categories = _tables(content, name)
    files: dict[Any, Path | None] = {}
    for number, annotation in enumerate(annotations):
        where = f"{name}, annotation {annotation.get('id', number)}"
        key = "face_kpts" if "face_kpts" in annotation else "keypoints"
        values = annotation.get(key)
        if reason := _no_face(annotation, values):
            source.left_out.append((where, reason))
            continue
        try:
            keypoints = np.array(values, np.float64).reshape(-1, 3)
            entry = images[annotation["image_id"]]
            box = [float(value) for value in annotation.get(_KEYS[key]) or ()]
        except (ValueError, TypeError, KeyError) as error:
            source.faults.append((where, f"{_wrong(error)}: correct or remove it"))
            continue
        if annotation["image_id"] not in files:
            files[annotation["image_id"]] = source.image(str(entry["file_name"]), path.parent, f"{name}, image {entry['id']}")
        file = files[annotation["image_id"]]
        if file is not None:
            yield Face(
                where,
                file,
                np.where(keypoints[:, 2:] > 0, keypoints[:, :2], np.nan),
                None if key == "face_kpts" else categories.get(annotation.get("category_id")),
                visible=keypoints[:, 2] > 1,
                box=(box[0], box[1], box[0] + box[2], box[1] + box[3]) if len(box) == 4 else None,
                size_px=size_of(entry.get("width"), entry.get("height")),
            )


def _tables(content: Any, name: str) -> tuple[dict[Any, Any], list[dict[str, Any]], dict[Any, tuple[str, ...]]]:
    try:
        images = {entry["id"]: entry for entry in content["images"] if entry["file_name"]}
        annotations = [dict(entry) for entry in content["annotations"]]
        told = {entry["id"]: tuple(map(str, entry.get("keypoints") or ())) for entry in content.get("categories") or ()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FkpError(f"{name} is JSON but no COCO file ({_wrong(error)}): it needs images, annotations and their keypoints") from error
    if not any(key in annotation for annotation in annotations for key in _KEYS):
        raise FkpError(f"{name} is a COCO file without keypoints: export it with them")
    return images, annotations, {number: names for number, names in told.items() if names}


def _no_face(annotation: dict[str, Any], values: Any) -> str | None:
    if annotation.get("iscrowd") == 1:
        return "a crowd"
    if not values or annotation.get("face_valid") is False or (isinstance(values, list) and len(values) % 3 == 0 and not any(values[2::3])):
        return "no point is labelled"
    return None


def _wrong(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"there is no {error.args[0]!r}" if isinstance(error.args[0], str) else f"there is no image {error.args[0]}"
    return "a value has another form"


def _write(root: Path, out: Path) -> None:
    labels = label_set.read(root)
    number = {file: place for place, file in enumerate(dict.fromkeys(labels.images), 1)}
    size = {file: labels.size_px(file) for file in number}
    annotations = []
    for face, file in enumerate(labels.images):
        there = np.isfinite(labels.points_px[face]).all(-1)
        seen = there.astype(int) * (1 + labels.visible[face])
        x0, y0, x1, y1 = labels.box_px(face)
        annotations.append(
            {
                "id": face + 1,
                "image_id": number[file],
                "category_id": 1,
                "keypoints": [
                    value
                    for (x, y), v in zip(np.nan_to_num(labels.points_px[face]).tolist(), seen.tolist(), strict=True)
                    for value in (x, y, v)
                ],
                "num_keypoints": int(there.sum()),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
            }
        )
    content = {
        "images": [{"id": place, "file_name": file, "width": size[file][0], "height": size[file][1]} for file, place in number.items()],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "face", "supercategory": "person", "keypoints": list(labels.scheme.landmarks), "skeleton": []}],
    }
    (out / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    labels.copy_images(out)


register(
    Format(
        "coco",
        "COCO keypoints JSON, counted from 0",
        0.0,
        (".json",),
        lambda path, head: json_files.starts_with(head, b"{") and _TABLE.search(head) is not None,
        _read,
        write=_write,
    )
)
