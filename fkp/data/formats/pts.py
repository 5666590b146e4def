"""300-W: a `.pts` file beside each image, one point a line, counted from 1 (C. Sagonas et al., ICCVW 2013).

    version: 1
    n_points:  68
    {
    115.167660 220.807529
    ...
    }

Some releases leave out all lines but those of the points.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fkp.data import label_set
from fkp.data.formats.numbers import floats, without_markers
from fkp.data.formats.registry import Face, Format, register
from fkp.data.formats.source import Source
from fkp.errors import FkpError


def _read(path: Path, source: Source) -> Iterator[Face]:
    where, promised, rows = source.short(path), None, []
    for number, line in enumerate(source.text(path).splitlines(), 1):
        words = line.replace(",", " ").split()
        if words and words[0].lower().startswith("n_points"):
            promised = words[-1].rpartition(":")[2]
        elif words and words[0].rstrip(":").lower() != "version" and words not in (["{"], ["}"]):
            pair = floats(words)
            if pair is None or len(pair) != 2:
                source.faults.append((f"{where}, line {number}", f"{line.strip()[:40]!r} is no point: write x and y"))
                return
            rows.append(pair)
    if not rows:
        source.left_out.append((where, "no point in it"))
        return
    if promised is not None and promised != str(len(rows)):
        source.faults.append((where, f"its header says {promised} points and it has {len(rows)}: correct or remove it"))
        return
    image = _image(path, source)
    if image is not None:
        yield Face(where, image, without_markers(np.array(rows)))


def _image(path: Path, source: Source) -> Path | None:
    found = source.beside(path.parent, path.stem) or (source.beside(source.images, path.stem) if source.images else [])
    if len(found) == 1:
        return found[0]
    if found:
        told = " and ".join(image.name for image in found)
        source.faults.append((source.short(path), f"it may label {told}: remove the one that it does not label"))
    else:
        source.faults.append((source.short(path), f"no image {path.stem}.jpg or .png stands beside it: bring it, or remove the file"))
    return None


def _write(root: Path, out: Path) -> None:
    labels = label_set.read(root)
    labels.copy_images(out)
    for face, image in enumerate(labels.images):
        path = (out / image).with_suffix(".pts")
        if path.exists():
            raise FkpError(f"{image} holds several faces, or another image has its name, and a .pts file holds one: export coco or csv")
        # What the format has no word for, other tools mark so.
        points = np.where(np.isfinite(labels.points_px[face]), labels.points_px[face] + 1, -1)
        rows = "".join(f"{x:.3f} {y:.3f}\n" for x, y in points.tolist())
        path.write_text(f"version: 1\nn_points: {len(points)}\n{{\n{rows}}}\n", encoding="utf-8")


register(
    Format(
        "pts",
        "300-W: a .pts file beside each image, counted from 1",
        1.0,
        (".pts",),
        lambda path, head: True,
        _read,
        file_a_face=True,
        write=_write,
    )
)
