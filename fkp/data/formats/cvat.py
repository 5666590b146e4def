"""CVAT for images 1.1: one XML file. A face is a skeleton, one `points` of several points, or single points of one group or one image.

Its coordinates are those of the canvas, where the image's corner is 0 and so the first pixel's centre 0.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fkp.data.formats.numbers import floats, size_of
from fkp.data.formats.registry import Face, Format, register
from fkp.data.formats.source import Source
from fkp.data.formats.subsets import subset_of_word
from fkp.data.formats.xml_elements import Element, elements
from fkp.errors import FkpError


def _read(path: Path, source: Source) -> Iterator[Face]:
    if b"<mode>interpolation" in source.head(path, 64 << 10):
        raise FkpError(f"{source.short(path)} is of CVAT for video: export it as `CVAT for images 1.1`")
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for image in elements(path, source, "image"):
        line = f"{source.short(path)}, line {image.line}"
        faces = list(_faces(image, source, path))
        if not faces:
            source.left_out.append((line, "an image without points"))
            continue
        file = source.image(image.get("name"), path.parent, line)
        if file is None:
            continue
        for where, named, shapes in faces:
            places = [floats(shape.get("points").replace(";", ",").split(",")) for shape in shapes]
            if any(place is None or len(place) % 2 for place in places):
                source.faults.append((where, "a point is no pair of numbers: correct or remove it"))
                continue
            points = np.array([value for place in places for value in place or ()]).reshape(-1, 2)
            hidden = np.array([shape.get("occluded") == "1" for shape in shapes])
            outside = np.array([shape.get("outside") == "1" for shape in shapes])
            names = tuple(shape.get("label") for shape in shapes) if named else None
            yield Face(
                where,
                file,
                np.where(outside[:, None], np.nan, points) if named else points,
                known.setdefault(names, names) if names else None,
                visible=~hidden & ~outside if named else None,
                subset=subset_of_word(image.get("subset")),
                size_px=size_of(image.get("width"), image.get("height")),
            )


def _faces(image: Element, source: Source, path: Path) -> Iterator[tuple[str, bool, list[Element]]]:
    """Where each face stands, whether its points have names, and the elements that hold its points."""
    single: dict[str, dict[str, Element]] = {}
    for shape in image.inner:
        where = f"{source.short(path)}, line {shape.line}"
        if shape.tag == "skeleton":
            yield where, True, shape.all("points")
        elif shape.tag == "points" and ";" in shape.get("points"):
            yield where, False, [shape]
        elif shape.tag == "points":
            group = single.setdefault(shape.get("group_id"), {})
            if group.setdefault(shape.get("label"), shape) is not shape:
                reason = f"a second point {shape.get('label')} of one face: give the points of each face a group"
                source.faults.append((where, reason))
    for group in single.values():
        yield f"{source.short(path)}, line {next(iter(group.values())).line}", True, list(group.values())


register(
    Format(
        "cvat",
        "CVAT for images 1.1 XML: skeletons or points, from the image's corner",
        0.5,
        (".xml",),
        lambda path, head: b"<annotations" in head,
        _read,
    )
)
