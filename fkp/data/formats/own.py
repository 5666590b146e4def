"""A set that was imported before, see `fkp.data.label_set`: to group it otherwise, or after its labels were corrected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fkp.data import label_set
from fkp.data.formats.registry import Face, Format, register
from fkp.data.formats.source import Source


def _read(path: Path, source: Source) -> Iterator[Face]:
    labels = label_set.read(path.parent)
    for face, name in enumerate(labels.images):
        where = f"{source.short(path)}, face {face + 1}"
        image = path.parent / name
        if not image.is_file():
            source.faults.append((where, f"image {name} is missing: bring it"))
            continue
        yield Face(
            where,
            image,
            labels.points_px[face],
            labels.scheme.landmarks,
            labels.visible[face],
            labels.boxes_px[face].tolist() if np.isfinite(labels.boxes_px[face]).all() else None,
            labels.groups[face],
            labels.subsets[face],
        )


register(
    Format(
        "fkp",
        "a set that was imported before",
        0.0,
        (".jsonl",),
        lambda path, head: path.name == label_set.LABELS and label_set.is_label_set(path.parent),
        _read,
    )
)
