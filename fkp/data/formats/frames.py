"""The layout of the YouTube-Faces keypoint set: two CSV files and two folders, see `fkp.data.labels`. The persons' names are the groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fkp.config import DataConfig
from fkp.data.formats.registry import Face, Format, register
from fkp.data.formats.source import Source
from fkp.data.labels import CSV_FILES, load_labels
from fkp.scheme import DEFAULT

_FILES = {f"{part}_frames_keypoints.csv": part for part in CSV_FILES}


def _read(path: Path, source: Source) -> Iterator[Face]:
    catalog = load_labels(DataConfig(source="folder", root=str(path.parent), scheme=source.scheme or DEFAULT))
    part = _FILES[path.name]
    for row in (catalog.table["part"] == part).to_numpy().nonzero()[0].tolist():
        where = f"{source.short(path)}, frame {catalog.table['file'].iat[row]}"
        if not catalog.path(row).is_file():
            source.faults.append((where, f"image {source.short(catalog.path(row))} is missing: bring it"))
            continue
        yield Face(
            where,
            catalog.path(row),
            catalog.points_raw_px[row],
            group=catalog.table["identity"].iat[row],
            subset="test" if part == "test" else "train",
        )


register(
    Format(
        "frames",
        "two CSV files <part>_frames_keypoints.csv beside the folders training/ and test/",
        0.0,
        (".csv",),
        lambda path, head: path.name in _FILES,
        _read,
    )
)
