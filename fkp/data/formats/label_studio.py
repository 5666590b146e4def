"""Label Studio's exports JSON and JSON-MIN: a list of tasks with `keypointlabels`, in percent of the image.

All points of an annotation are one face, unless they lie in regions (`parentID`): then each region is one. 0 % is the image's corner.
Uploaded images carry eight digits and a dash before their name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from fkp.data.formats import json_files
from fkp.data.formats.numbers import size_of
from fkp.data.formats.registry import Face, Format, register
from fkp.data.formats.source import Source
from fkp.errors import FkpError

_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")
_LABELS = "keypointlabels"
_WORDS = (b'"keypointlabels"', b'"annotations"', b'"completions"')


def _read(path: Path, source: Source) -> Iterator[Face]:
    name, tasks = source.short(path), json_files.load(path, source)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise FkpError(f"{name} is JSON but no list of tasks as Label Studio exports it: export it as JSON")
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for number, task in enumerate(tasks):
        where = f"{name}, task {task.get('id', number)}"
        faces = [face for results in _annotations(task) for face in _faces(results, source, where)]
        if not faces:
            source.left_out.append((where, "no point is labelled"))
            continue
        image = _image(task, path, source, where)
        for results in faces if image is not None else []:
            try:
                sizes = {size_of(result["original_width"], result["original_height"]) for result in results.values()}
                turned = any(result.get("image_rotation") for result in results.values())
                percent = np.array([[float(result["value"][axis]) for axis in "xy"] for result in results.values()])
            except (KeyError, TypeError, ValueError):
                source.faults.append((where, "a point has no place or no size of its image: export it again"))
                continue
            size = sizes.pop() if len(sizes) == 1 else None
            if size is None or turned:
                source.faults.append((where, "its image was turned, or has two sizes: label it as its file is"))
                continue
            names = tuple(results)
            assert image is not None
            yield Face(where, image, percent / 100 * size, known.setdefault(names, names), size_px=size)


def _annotations(task: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """The results of each annotation that was not cancelled."""
    for annotation in task.get("annotations") or task.get("completions") or ():
        if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
            yield [result for result in annotation.get("result") or () if isinstance(result, dict)]
    for value in task.values():  # JSON-MIN
        if isinstance(value, list) and value and all(isinstance(item, dict) and _LABELS in item for item in value):
            yield [{**item, "type": _LABELS, "value": item} for item in value]


def _faces(results: list[dict[str, Any]], source: Source, where: str) -> Iterator[dict[str, dict[str, Any]]]:
    """The points of each face of an annotation, by their names in the alphabet's order."""
    faces: dict[str, dict[str, dict[str, Any]]] = {}
    for result in results:
        value = result.get("value")
        labels = value.get(_LABELS) if isinstance(value, dict) else None
        if result.get("type") == _LABELS and labels:
            face = faces.setdefault(str(result.get("parentID")), {})
            if face.setdefault(str(labels[0]), result) is not result:
                source.faults.append(
                    (where, f"a second point {labels[0]} of one face: give each face a region, and its points that parent")
                )
    yield from (dict(sorted(face.items())) for face in faces.values())


def _image(task: dict[str, Any], path: Path, source: Source, where: str) -> Path | None:
    data = task.get("data") if isinstance(task.get("data"), dict) else task
    assert isinstance(data, dict)
    keys = ("image", "img", *data)
    named = next((value for key in keys if isinstance(value := data.get(key), str) and value), "")
    parts = urlsplit(named)
    name = unquote(parse_qs(parts.query).get("d", [parts.path])[0])
    plain = Path(name).with_name(_UPLOADED.sub("", Path(name).name)) if Path(name).name else Path(name)
    # As it was before it was uploaded, or as the server keeps it.
    return source.image(name if not source.has(plain.name) else str(plain), path.parent, where)


register(
    Format(
        "labelstudio",
        "Label Studio's JSON or JSON-MIN: keypoint labels, in percent",
        0.5,
        (".json",),
        lambda path, head: json_files.starts_with(head, b"[") and any(word in head for word in _WORDS),
        _read,
        ordered=False,
    )
)
