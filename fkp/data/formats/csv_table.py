"""CSV: one face a line, columns by their header in any order, or by `--order` where there is none.

Points: x_NAME and y_NAME, NAME_x and NAME_y, x0 and y0, x and y again and again, or plain numbers. Further columns: image (file, path and
the like; by default the first), group (identity, person, clip), subset (split: train, val, test), box_x0, box_y0, box_x1, box_y1 (or x, y,
w, h), visible_NAME.
An empty pair of cells, (0, 0), (-1, -1) and (-9999, -9999) are points that are not labelled.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from fkp.data import label_set
from fkp.data.formats.numbers import without_markers
from fkp.data.formats.registry import Face, Format, register
from fkp.data.formats.source import Source
from fkp.data.formats.subsets import subset_of_word
from fkp.errors import FkpError

_IMAGE = ("image", "file", "filename", "file_name", "image_name", "imagename", "image_path", "path", "img", "name")
_GROUP = ("group", "identity", "person", "subject", "person_id", "subject_id", "clip", "video")
_SUBSET = ("subset", "split", "set")
_BOXES = (("x0", "y0", "x1", "y1"), ("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"))
_SIDES = (("x", "y", "w", "h"), ("x", "y", "width", "height"), ("left", "top", "width", "height"))
_BOX_COLUMN = re.compile(r"(?:box|bbox|rect|face)[_\-. ]?(.+)")
_POINT_COLUMNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?P<name>.+)[_\-. ](?P<axis>x|y|v|visible)",
        r"(?P<axis>x|y|v|visible)[_\-. ](?P<name>.+)",
        r"(?P<axis>x|y|v)(?P<name>\d*)",
        r"(?P<name>\d+)(?P<axis>x|y|v)",
    )
)
_LEAST_COLUMNS = 5


@dataclass
class _Columns:
    """Which column holds what."""

    image: int
    points: list[tuple[int, int]]
    names: tuple[str, ...] | None = None
    visible: dict[int, int] = field(default_factory=dict)
    box: tuple[int, ...] = ()
    sides: bool = False
    group: int | None = None
    subset: int | None = None


def _read(path: Path, source: Source) -> Iterator[Face]:
    text, name = source.text(path), source.short(path)
    delimiter = _delimiter(text)
    first = next(csv.reader(text.splitlines()[:1], delimiter=delimiter), [])
    header = not _is_row(first)
    try:
        columns = _by_header(first, source) if header else _by_order(first, source.order)
        table = pd.read_csv(
            io.StringIO(text), sep=delimiter, header=None, skiprows=int(header), skip_blank_lines=False, dtype=str, keep_default_na=False
        )
    except (ValueError, pd.errors.ParserError) as error:  # Its own `EmptyDataError` is a ValueError.
        raise FkpError(f"{name}: {' '.join(str(error).split())}") from error
    if table.shape[1] != len(first):
        raise FkpError(f"{name} has {len(first)} columns in its first line and {table.shape[1]} below: write one cell a column")
    table = table[(table != "").any(axis=1)]
    lines = (table.index + 1 + int(header)).tolist()
    points, broken = _pairs(table, columns.points)
    visible = np.isfinite(points).all(-1)
    for point, column in columns.visible.items():
        visible[:, point] &= ~table.iloc[:, column].str.strip().str.lower().isin(["0", "0.0", "false", "no"]).to_numpy()
    boxes = np.full((len(table), 2, 2), np.nan)
    if columns.box:
        boxes, broken_box = _pairs(table, [(columns.box[0], columns.box[1]), (columns.box[2], columns.box[3])])
        broken |= broken_box
    if columns.sides:
        boxes[:, 1] += boxes[:, 0]
    told = {"image": columns.image, "group": columns.group, "subset": columns.subset}
    texts = {key: table.iloc[:, at].tolist() for key, at in told.items() if at is not None}
    for row, line in enumerate(lines):
        where = f"{name}, line {line}"
        if broken[row]:
            source.faults.append((where, "a coordinate is no finite number, or one of two is missing: correct or remove the line"))
            continue
        subset = texts["subset"][row].strip() if "subset" in texts else ""
        if subset and subset_of_word(subset) is None:
            source.faults.append((where, f"subset {subset} is not train, val or test: correct it"))
            continue
        image = source.image(texts["image"][row], path.parent, where)
        if image is not None:
            yield Face(
                where,
                image,
                points[row],
                columns.names,
                visible[row] if columns.visible else None,
                boxes[row].ravel().tolist() if np.isfinite(boxes[row]).all() else None,
                texts["group"][row].strip() or None if "group" in texts else None,
                subset_of_word(subset),
            )


def _pairs(table: pd.DataFrame, columns: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """(N, K, 2) points, NaN where both cells are empty or a marker, and (N,) whether a row has anything else that is no number."""
    cells = table.iloc[:, [at for pair in columns for at in pair]]
    values = cells.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64).reshape(len(table), -1, 2)
    empty = cells.apply(lambda cell: cell.str.strip().str.lower().isin(["", "nan"])).to_numpy().reshape(values.shape).all(-1)
    broken = ~(np.isfinite(values).all(-1) | empty).all(-1)
    return without_markers(values), broken


def _delimiter(text: str) -> str:
    first = text[: text.find("\n")] if "\n" in text else text
    return max(",;\t", key=first.count)


def _is_row(cells: list[str]) -> bool:
    """Whether a first line is no header: one word and numbers that do not count the columns."""
    numbers = [cell.strip() for cell in cells if _number(cell)]
    counted = all(number.isdigit() for number in numbers) and [int(n) - int(numbers[0]) for n in numbers] == list(range(len(numbers)))
    return len(numbers) >= max(_LEAST_COLUMNS - 1, len(cells) // 2) and not counted


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _by_order(cells: list[str], order: str | None) -> _Columns:
    """Columns of a file without a header.

    Raises:
        ValueError: No order is asked for, or the line is not an image's name and pairs of numbers.
    """
    if order is None:
        raise ValueError("it has no header: write one, or say the order of its numbers with --order xyxy, yxyx, xxyy or yyxx")
    numbers = [at for at, cell in enumerate(cells) if _number(cell)]
    words = [at for at in range(len(cells)) if at not in numbers]
    if len(words) != 1:
        raise ValueError(f"its first line has {len(words)} words and {len(numbers)} numbers: it needs an image's name and coordinates")
    return _Columns(words[0], _paired(numbers, order))


def _paired(columns: list[int], order: str) -> list[tuple[int, int]]:
    """The columns of x and y of each point.

    Raises:
        ValueError: They are odd.
    """
    if len(columns) % 2:
        raise ValueError(f"it has {len(columns)} coordinates, an odd number: write x and y of each point")
    half = len(columns) // 2
    one, other = (columns[::2], columns[1::2]) if order in ("xyxy", "yxyx") else (columns[:half], columns[half:])
    return list(zip(one, other, strict=True) if order.startswith("x") else zip(other, one, strict=True))


def _by_header(header: list[str], source: Source) -> _Columns:
    """Columns by their names.

    Raises:
        ValueError: They name no points, or half of one.
    """
    names = [cell.strip().lower() for cell in header]
    image, group, subset = (next((names.index(name) for name in known if name in names), None) for known in (_IMAGE, _GROUP, _SUBSET))
    if source.group_column is not None:
        if source.group_column.lower() not in names:
            raise ValueError(f"it has no column {source.group_column}: --group column: names one of {', '.join(header[:8])}, ...")
        group = names.index(source.group_column.lower())
    image = 0 if image is None else image
    box, sides = _box(names)
    free = [at for at in range(len(names)) if at not in {image, group, subset, *box}]
    if len(digits := [at for at in free if names[at].isdigit()]) >= _LEAST_COLUMNS - 1:
        return _Columns(image, _paired(digits, source.order or "xyxy"), None, {}, box, sides, group, subset)
    axes: dict[str, dict[str, int]] = {}
    bare = {"x": 0, "y": 0, "v": 0}
    for at in free:
        match = next((found for pattern in _POINT_COLUMNS if (found := pattern.fullmatch(names[at]))), None)
        if match is None:
            continue
        axis, point = match["axis"][0], match["name"]
        if not point:  # x, y, x, y and so on: numbered as they come.
            point, bare[axis] = str(bare[axis]), bare[axis] + 1
        axes.setdefault(point, {})[axis] = at
    whole = {point: found for point, found in axes.items() if {"x", "y"} <= found.keys()}
    if half := [point for point, found in axes.items() if len({"x", "y"} & found.keys()) == 1]:
        raise ValueError(f"its header names only one coordinate of point {half[0]}: name both")
    if not whole:
        raise ValueError("its header names no points: call the columns x_NAME and y_NAME, or see `fkp data import --help`")
    visible = {place: found["v"] for place, found in enumerate(whole.values()) if "v" in found}
    return _Columns(image, [(found["x"], found["y"]) for found in whole.values()], tuple(whole), visible, box, sides, group, subset)


def _box(names: list[str]) -> tuple[tuple[int, ...], bool]:
    """The four columns of the box, and whether the last two are its sides."""
    ends = {match[1]: at for at, name in enumerate(names) if (match := _BOX_COLUMN.fullmatch(name))}
    for known, sides in ((_BOXES, False), (_SIDES, True)):
        for four in known:
            if all(end in ends for end in four):
                return tuple(ends[end] for end in four), sides
    return (), False


def _recognises(path: Path, head: bytes) -> bool:
    if path.name.endswith("_frames_keypoints.csv"):  # See `fkp.data.formats.frames`.
        return False
    first = head.decode("latin-1").splitlines()[:1]
    cells = next(csv.reader(first, delimiter=_delimiter(first[0])), []) if first else []
    if _is_row(cells):
        return True
    names = [cell.strip().lower() for cell in cells]
    points = sum(name.isdigit() or any(pattern.fullmatch(name) for pattern in _POINT_COLUMNS) for name in names)
    return points >= _LEAST_COLUMNS - 1


def _write(root: Path, out: Path) -> None:
    labels = label_set.read(root)
    points = [f"{axis}_{name}" for name in labels.scheme.landmarks for axis in ("x", "y", "visible")]
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["image", "group", "subset", "box_x0", "box_y0", "box_x1", "box_y1", *points])
        for face, image in enumerate(labels.images):
            box = [f"{value:.3f}" if np.isfinite(value) else "" for value in labels.boxes_px[face]]
            cells = [
                cell
                for (x, y), seen in zip(labels.points_px[face].tolist(), labels.visible[face].tolist(), strict=True)
                for cell in ((f"{x:.3f}", f"{y:.3f}", int(seen)) if np.isfinite(x) else ("", "", 0))
            ]
            table.writerow([image, labels.groups[face], labels.subsets[face] or "", *box, *cells])
    labels.copy_images(out)


register(
    Format(
        "csv",
        "CSV: x_NAME and y_NAME, NAME_x and NAME_y, x0 and y0, or see --order; counted from 0",
        0.0,
        (".csv", ".tsv"),
        _recognises,
        _read,
        write=_write,
    )
)
