"""dlib's imglab: one XML file, `<image file><box top left width height><part name x y/></box></image>`; pixels counted from 0.

`ignore='1'` marks boxes that are not to be learnt from; a box without parts labels no points.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fkp.data.formats.numbers import floats, size_of
from fkp.data.formats.registry import Face, Format, register
from fkp.data.formats.source import Source
from fkp.data.formats.xml_elements import Element, elements


def _read(path: Path, source: Source) -> Iterator[Face]:
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for image in elements(path, source, "image"):
        boxes = image.all("box")
        line = f"{source.short(path)}, line {image.line}"
        if not boxes:
            source.left_out.append((line, "an image without a face"))
            continue
        file = None
        for box in boxes:
            where = f"{source.short(path)}, line {box.line}"
            if reason := _no_label(box):
                source.left_out.append((where, reason))
                continue
            if file is None and (file := source.image(image.get("file"), path.parent, line)) is None:
                break
            parts = box.all("part")
            points = floats([part.get(axis) for part in parts for axis in "xy"])
            sides = floats([box.get(name) for name in ("left", "top", "width", "height")])
            if points is None or sides is None:
                source.faults.append((where, "a coordinate is no number: correct or remove the box"))
                continue
            left, top, width, height = sides
            names = tuple(part.get("name") for part in parts)
            yield Face(
                where,
                file,
                np.array(points).reshape(-1, 2),
                known.setdefault(names, names),
                box=(left, top, left + width - 1, top + height - 1),
                size_px=size_of(image.get("width"), image.get("height")),
            )


def _no_label(box: Element) -> str | None:
    if box.get("ignore") == "1":
        return "a box that its file says to ignore"
    return None if box.all("part") else "a box without points"


register(
    Format(
        "imglab",
        "dlib's imglab XML, counted from 0",
        0.0,
        (".xml",),
        lambda path, head: b"<dataset" in head,
        _read,
        ordered=False,
    )
)
