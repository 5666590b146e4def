"""CSV in many orders: by its header, or as asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fkp.data import label_set
from fkp.data.formats import Source, recognise
from fkp.data.formats.points import Placement
from fkp.data.importer import Asked, import_set
from fkp.errors import FkpError
from fkp.scheme import load_scheme
from tests.data.formats.sources import COUNT, NAMES, csv_text, flat, name_of, points_of, write_images

PAIRS = [(axis, place) for place in range(68) for axis in "xy"]


def first_x(points: np.ndarray) -> str:
    return flat(points.T)


ORDERS: dict[str, tuple[str, Callable[[np.ndarray], str]]] = {
    "x_NAME": ("image," + ",".join(f"{axis}_{NAMES[place]}" for axis, place in PAIRS), flat),
    "NAME_x, all x first": ("image," + ",".join(f"{name}_{axis}" for axis in "xy" for name in NAMES), first_x),
    "x0": ("file," + ",".join(f"{axis}{place}" for axis, place in PAIRS), flat),
    "X_1": ("path," + ",".join(f"{axis.upper()}_{place + 1}" for axis, place in PAIRS), flat),
    "0x": ("filename," + ",".join(f"{place}{axis}" for axis, place in PAIRS), flat),
    "x,y,x,y": ("image," + ",".join("xy" * 68), flat),
    "y before x": ("image," + ",".join(f"{axis}{place}" for place in range(68) for axis in "yx"), lambda points: flat(points[:, ::-1])),
    "numbers": ("," + ",".join(map(str, range(136))), flat),
    "numbers from 1": ("image," + ",".join(map(str, range(1, 137))), flat),
    "shuffled": (
        "image," + ",".join(f"{axis}_{NAMES[place]}" for place in reversed(range(68)) for axis in "xy"),
        lambda points: flat(points[::-1]),
    ),
}


def brought(root: Path, text: str, **asked: object) -> label_set.LabelSet:
    write_images(root / "labels")
    (root / "labels" / "faces.csv").write_text(text)
    import_set(Asked(root / "labels", root / "set", **asked))  # type: ignore[arg-type]
    return label_set.read(root / "set")


def check(root: Path, text: str, **asked: str) -> None:
    """What is read is what was labelled; an image need only be there for that."""
    for number in range(COUNT):
        (root / name_of(number)).touch()
    (root / "faces.csv").write_text(text)
    source = Source(root, **asked)  # type: ignore[arg-type]
    form, paths = recognise(source)
    faces = [face for path in paths for face in form.read(path, source)]
    placement = Placement(faces, form, None)
    assert [face.image.name for face in faces] == [name_of(n) for n in range(COUNT)] and not source.faults
    assert (form.name, form.origin, placement.scheme.name) == ("csv", 0, "ibug68")
    for number, face in enumerate(faces):
        points, visible = placement(face)
        np.testing.assert_array_equal(points, points_of(number))
        assert np.all(visible)


@pytest.mark.parametrize("order", ORDERS)
def test_by_header(tmp_path: Path, order: str) -> None:
    header, line = ORDERS[order]
    check(tmp_path, csv_text(header, lambda n: f"{name_of(n)},{line(points_of(n))}"))


@pytest.mark.parametrize(
    ("order", "line"),
    [("xyxy", flat), ("yxyx", lambda points: flat(points[:, ::-1])), ("xxyy", first_x), ("yyxx", lambda points: flat(points.T[::-1]))],
)
def test_as_asked(tmp_path: Path, order: str, line: Callable[[np.ndarray], str]) -> None:
    text = csv_text("", lambda n: f"{name_of(n)},{line(points_of(n))}")
    with pytest.raises(FkpError, match=r"faces\.csv: it has no header: write one, or say the order of its numbers with --order"):
        check(tmp_path, text)
    check(tmp_path, text, order=order)


def test_further_columns_and_missing_points(tmp_path: Path) -> None:
    names = ",".join(f"x_{name},y_{name},visible_{name}" for name in NAMES)

    def row(n: int) -> str:
        cells = [f"{x},{y},{int(place != 9)}" for place, (x, y) in enumerate(points_of(n).tolist())]
        cells[3], cells[4], cells[5] = ",,0", "-1,-1,1", "NaN,nan,1"
        return f"{n},{name_of(n)},P{n // 2},{'test' if n > 8 else 'training'},30,20,90,80," + ",".join(cells)

    labels = brought(tmp_path, csv_text("age;image;identity;split;box_x;box_y;box_w;box_h;".replace(";", ",") + names, row))
    assert np.isnan(labels.points_px[:, 3:6]).all() and np.isfinite(labels.points_px[:, 6:]).all()
    assert not labels.visible[:, 3:6].any() and not labels.visible[:, 9].any() and labels.visible[:, 10:].all()
    assert labels.groups == [f"P{n // 2}" for n in range(COUNT)] and labels.subsets == ["train"] * 9 + ["test"] * 3
    assert labels.boxes_px[0].tolist() == [30, 20, 120, 100]


def test_semicolons_and_a_scheme_by_its_names(tmp_path: Path) -> None:
    five = load_scheme("five")
    at = [36, 45, 30, 48, 54]
    header = "image," + ",".join(f"{name}_{axis}" for name in five.landmarks for axis in "xy")
    text = csv_text(header, lambda n: f"{name_of(n)},{flat(points_of(n)[at])}").replace(",", ";")
    labels = brought(tmp_path, text)
    assert labels.scheme.name == "five"
    np.testing.assert_allclose(labels.points_px, [points_of(n)[at] for n in range(COUNT)], atol=6e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace("y_chin", "z_chin"), "its header names only one coordinate of point chin: name both"),
        (lambda text: text.replace(",60.25,", ",left,", 1), ": a coordinate is no finite number, or one of two is missing"),
        (lambda text: text.replace(name_of(4), "nobody.png"), "faces.csv, line 6: image nobody.png is missing"),
        (lambda text: text.replace("\n", ",more\n", 1), "faces.csv has 138 columns in its first line and 137 below"),
        (lambda text: text + f"{name_of(3)},{flat(points_of(3) + 1)}\n", "faces.csv, line 14: this face of the image is labelled twice"),
    ],
    ids=["half a point", "word", "missing image", "columns", "twice"],
)
def test_broken_tables_are_one_sentence(tmp_path: Path, change: Callable[[str], str], says: str) -> None:
    header, line = ORDERS["x_NAME"]
    text = csv_text(header, lambda n: f"{name_of(n)},{line(points_of(n))}")
    assert change(text) != text
    with pytest.raises(FkpError) as caught:
        brought(tmp_path, change(text))
    assert says in str(caught.value) and "\n" not in str(caught.value) and not (tmp_path / "set").exists()


def test_a_column_of_groups_must_be_there(tmp_path: Path) -> None:
    header, line = ORDERS["x_NAME"]
    with pytest.raises(FkpError, match="it has no column who: --group column: names one of image, x_left_jaw_0"):
        brought(tmp_path, csv_text(header, lambda n: f"{name_of(n)},{line(points_of(n))}"), group="column:who")
