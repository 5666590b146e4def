"""Labels: what is refused, folds and splits, and the one place where the labels' shift is taken out."""

from __future__ import annotations

import csv
import unicodedata
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from fkp.config import DataConfig
from fkp.data import splits
from fkp.data.face_shape import box_of_label, first_fault, mean_face
from fkp.data.labels import LABEL_BIAS_PX, Catalog, check_label, load_labels, root_of, split_digest
from fkp.errors import FkpError
from fkp.scheme import IBUG68
from fkp.vision.crop import box_of_points
from fkp.vision.detect import iou
from tests.faces import face

REPO = Path(__file__).parents[2]
MANIFEST = REPO / "data" / "manifest.csv"
REAL = REPO.parent / "shared" / "data" / "P1_Facial_Keypoints" / "data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the YouTube-Faces set is not there: P1_Facial_Keypoints/data")

HEADER = "," + ",".join(str(column) for column in range(136))


FACE = face(50, 40, 40)


def row(name: str, *values: object) -> str:
    """A CSV line: the given values, then those of a face up to the 136th."""
    return ",".join([name, *map(str, values), *(f"{value:g}" for value in FACE.ravel()[len(values) :])])


def write_set(root: Path, training: list[str], test: list[str]) -> DataConfig:
    """The two CSV files of a set without frames."""
    for part, rows in (("training", training), ("test", test)):
        (root / f"{part}_frames_keypoints.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return DataConfig(source="folder", root=str(root))


# --- what is read -----------------------------------------------------------------------------------------------


def test_rows_in_the_order_of_the_files(tmp_path: Path) -> None:
    faces = load_labels(write_set(tmp_path, [row("Ada_B_12.jpg", 1, 2, 3), row("Cy_00.png")], [row("Ada_B_013.jpg", -4.5)]))
    assert len(faces) == 3
    assert faces.points_raw_px.shape == (3, 68, 2) and faces.points_raw_px.dtype == np.float32
    assert faces.points_raw_px[0, :2].tolist() == [[1, 2], [3, FACE[1, 1]]] and faces.points_raw_px[2, 0, 0] == -4.5
    first = faces.table.iloc[0]
    assert (first["part"], first["identity"], first["video"], first["frame"]) == ("training", "Ada_B", 1, 2)
    assert faces.path(2) == tmp_path / "test" / "Ada_B_013.jpg" and faces.table["frame"].iat[2] == 13


def test_empty_lines_are_nothing(tmp_path: Path) -> None:
    data = write_set(tmp_path, [row("Ada_00.jpg"), "", row("Ada_01.jpg"), "", ""], [])
    assert load_labels(data).table["file"].tolist() == ["Ada_00.jpg", "Ada_01.jpg"]


def test_one_file_may_label_nothing(tmp_path: Path) -> None:
    faces = load_labels(write_set(tmp_path, [row("Ada_B_12.jpg")], []))
    assert len(faces) == 1 and faces.table["video"].dtype.kind == "i"
    assert len(faces.rows("test", DataConfig(split="published"))) == 0


def test_same_name_in_both_files_is_two_frames(tmp_path: Path) -> None:
    assert len(load_labels(write_set(tmp_path, [row("Ada_B_12.jpg")], [row("Ada_B_12.jpg")]))) == 2


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        pytest.param(["Ada_00.jpg" + ",5" * 135], "line 2: a coordinate is not a finite number", id="one number short"),
        pytest.param(["Ada_00.jpg" + ",5" * 137], "has 138 columns: it needs a file name and 136 coordinates", id="one number more"),
        pytest.param([row("Ada_00.jpg"), "Ada_01.jpg" + ",5" * 137], "Expected 137 fields in line 3, saw 138", id="a longer row"),
        pytest.param([row("Ada_00.jpg"), row("Ada_01.jpg", "NaN")], "line 3: a coordinate is not a finite number", id="NaN"),
        pytest.param([row("Ada_00.jpg", "inf")], "line 2: a coordinate is not a finite number", id="infinite"),
        pytest.param([row("Ada_00.jpg", 5, "left")], "line 2: a coordinate is not a finite number", id="a word"),
        pytest.param([row("Ada_00.jpg"), "", row("Ada_01.jpg", "NaN")], "line 4: a coordinate", id="after an empty line"),
        pytest.param([row("Ada_00" + 30 * "9" + ".jpg")], "is not of the form", id="a frame that no machine counts to"),
        pytest.param([row("Ada_00.jpg", "")], "line 2: a coordinate is not a finite number", id="empty"),
        pytest.param([row("Ada.jpg")], "file name 'Ada.jpg' is not of the form <Identity>_<clip digit><frame digit>.jpg", id="no digits"),
        pytest.param([row("../Ada_00.jpg")], "is not of the form", id="leaves the folder"),
        pytest.param([row("..\\Ada_00.jpg")], "is not of the form", id="backslash"),
        pytest.param([row("")], "is not of the form", id="no name"),
        pytest.param([row("Ada_00.jpg"), row("Ada_00.jpg", 3)], "frame Ada_00.jpg is labelled twice", id="twice"),
        pytest.param([], "the two CSV files label no frame", id="nothing"),
    ],
)
def test_broken_labels_are_one_sentence(tmp_path: Path, rows: list[str], says: str) -> None:
    data = write_set(tmp_path, rows, [])
    with pytest.raises(FkpError) as caught:
        load_labels(data)
    assert says in str(caught.value) and str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("columns", [0, 1, 30, 135, 137])
def test_wrong_column_count(tmp_path: Path, columns: int) -> None:
    data = write_set(tmp_path, [row("Ada_00.jpg")], [])
    header, line = ["", *map(str, range(columns))], ["Ada_00.jpg", *["5"] * columns]
    (tmp_path / "training_frames_keypoints.csv").write_text(f"{','.join(header)}\n{','.join(line)}\n")
    found = columns + 1 if columns else 0  # Without a number the header is an empty line.
    with pytest.raises(FkpError, match=rf"has {found} columns: it needs a file name and 136 coordinates"):
        load_labels(data)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01", b'"'])
def test_no_csv_at_all(tmp_path: Path, content: bytes) -> None:
    data = write_set(tmp_path, [row("Ada_00.jpg")], [])
    (tmp_path / "test_frames_keypoints.csv").write_bytes(content)
    with pytest.raises(FkpError, match=r"test_frames_keypoints\.csv"):
        load_labels(data)


def test_missing_csv_says_how_to_get_it(tmp_path: Path) -> None:
    data = write_set(tmp_path, [row("Ada_00.jpg")], [])
    (tmp_path / "test_frames_keypoints.csv").unlink()
    with pytest.raises(FkpError, match=r"test_frames_keypoints\.csv is missing: `fkp data fetch`"):
        load_labels(data)


def test_own_set_needs_a_root() -> None:
    with pytest.raises(FkpError, match=r"data\.source=folder needs data\.root"):
        load_labels(DataConfig(source="folder"))
    assert root_of(DataConfig(source="ytfaces")) == Path("data/ytfaces")


def test_points_a_little_outside_pass_and_far_outside_do_not() -> None:
    points_px = np.full((68, 2), 10, np.float32)
    points_px[45] = 20, 15
    for x, y in ((-50, 0), (149, 0), (0, -50), (0, 129)):  # half the longer side of a 100 x 80 frame
        points_px[7] = x, y
        check_label(points_px, 80, 100, "a.jpg")
        points_px[7] = x + np.sign(x), y + np.sign(y)
        with pytest.raises(FkpError, match=r"a\.jpg: a point lies 51 px outside the 100 x 80 frame"):
            check_label(points_px, 80, 100, "a.jpg")


# --- labels that are finite and no face -------------------------------------------------------------------------

HEADERS = {
    "as upstream's": HEADER,
    "from one": "," + ",".join(map(str, range(1, 137))),
    "x0, y0": "file," + ",".join(f"{axis}{point}" for point in range(68) for axis in "xy"),
    "x, y": "file," + ",".join("xy" * 68),
    "0_x, 0_y": "file," + ",".join(f"{point}_{axis.upper()}" for point in range(1, 69) for axis in "xy"),
    "words": "file," + ",".join(f"value {place} of it" for place in range(136)),
}
OTHER_HEADERS = {
    "x before y": "file," + ",".join(f"{axis}{point}" for axis in "xy" for point in range(68)),
    "y0, x0": "file," + ",".join(f"{axis}{point}" for point in range(68) for axis in "yx"),
    "other points": "file," + ",".join(f"{axis}_{point}" for point in [*range(17, 68), *range(17)] for axis in "xy"),
    "shuffled columns": "," + ",".join(map(str, [*range(68, 136), *range(68)])),
    "y, x without numbers": "file," + ",".join("yx" * 68),
}


def write_as(root: Path, header: str, rows: list[str]) -> DataConfig:
    data = write_set(root, [], [row("Cy_00.jpg")])
    (root / "training_frames_keypoints.csv").write_text("\n".join([*([header] if header else []), *rows]) + "\n")
    return data


@pytest.mark.parametrize("header", HEADERS)
def test_headers_that_tell_the_order(tmp_path: Path, header: str) -> None:
    assert len(load_labels(write_as(tmp_path, HEADERS[header], [row("Ada_00.jpg")]))) == 2


@pytest.mark.parametrize("header", OTHER_HEADERS)
def test_a_header_that_tells_another_order_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(FkpError, match=r"training_frames_keypoints\.csv, line 1: the header tells another order of the columns"):
        load_labels(write_as(tmp_path, OTHER_HEADERS[header], [row("Ada_00.jpg")]))


@pytest.mark.parametrize("first", ["Ada_00.jpg", " Ada_00.jpg", "Zoë_00.png"])
def test_a_missing_header_is_refused(tmp_path: Path, first: str) -> None:
    with pytest.raises(FkpError, match=r"training_frames_keypoints\.csv, line 1: the header is missing"):
        load_labels(write_as(tmp_path, "", [row(first), row("Ada_01.jpg")]))


def csv_row(name: str, points: np.ndarray) -> str:
    return ",".join([name, *(f"{value:.6g}" for value in np.asarray(points).ravel())])


NO_FACES = {
    "x before y": (FACE.T, "all x stand before all y"),
    "y before x": (FACE.T[::-1], "all x stand before all y, or all y before all x"),
    "parts of the frame": (FACE / 150, "its coordinates are parts of the frame, multiply them by width and height"),
    "from -1 to 1": (FACE / 75 - 1, "its coordinates are parts of the frame"),
    "a dot": (FACE / 50 + 40, "the face is only 1.6 x 1.6 px large"),
    "y, x": (FACE[:, ::-1], "the face is mirrored"),
    "left and right": (FACE[list(IBUG68.mirror)], "the face is mirrored"),
    "y upwards": ([0, 150] + FACE * [1, -1], "the face is mirrored"),
    "noise": (np.random.default_rng(0).uniform(0, 150, (68, 2)), "the points form no face"),
    "a line": (np.linspace(0, 150, 136), "the points form no face"),
    "stretched": (FACE * [10, 1], "the points form no face"),
    "a point two faces away": (np.where(np.arange(68)[:, None] == 30, FACE[30] + [160, 0], FACE), "the points form no face"),
    "one point far away": (np.where(np.arange(68)[:, None] == 30, 2000, FACE), "the points form no face"),
}


@pytest.mark.parametrize("case", NO_FACES)
def test_a_label_that_is_no_face_is_refused(tmp_path: Path, case: str) -> None:
    points, says = NO_FACES[case]
    with pytest.raises(FkpError, match=rf"training_frames_keypoints\.csv, line 4: .*{says}") as caught:
        load_labels(write_set(tmp_path, [row("Ada_00.jpg"), "", csv_row("Ada_01.jpg", np.asarray(points)), row("Ada_02.jpg")], []))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("by", [1, -1])
def test_points_with_other_numbers_are_refused(tmp_path: Path, by: int) -> None:
    with pytest.raises(FkpError, match=r"line 2: the points of this and most other faces have other numbers"):
        load_labels(write_set(tmp_path, [csv_row(f"Ada_0{place}.jpg", np.roll(face(50, 40, 40, place), by, 0)) for place in range(5)], []))


@pytest.mark.parametrize("yaw", [-60, 0, 60])
@pytest.mark.parametrize("roll", [0, 90, 180])
def test_turned_heads_are_faces(yaw: float, roll: float) -> None:
    head = mean_face()
    (cos_y, sin_y), (cos_r, sin_r) = ((np.cos(np.radians(angle)), np.sin(np.radians(angle))) for angle in (yaw, roll))
    seen = np.stack([cos_y * head[:, 0] + sin_y * head[:, 2], head[:, 1]], axis=-1) @ np.array([[cos_r, sin_r], [-sin_r, cos_r]])
    assert first_fault((100 + 60 * seen)[None]) is None


MARKERS = {
    "-1": ("-1", "-1"),
    "-1.0": ("-1.0", "-1.0"),
    "0": ("0", "0"),
    "empty": ("", ""),
    "nan": ("NaN", "nan"),
    "-9999": ("-9999", "-9999"),
    "-99 and -100": ("-99", "-100"),
}


@pytest.mark.parametrize("marker", MARKERS)
def test_a_point_that_is_not_labelled_is_missing(tmp_path: Path, marker: str) -> None:
    cells = row("Ada_00.jpg").split(",")
    cells[1:35] = [*MARKERS[marker]] * 17
    faces = load_labels(write_set(tmp_path, [",".join(cells)], []))
    assert np.isnan(faces.points_raw_px[0, :17]).all() and np.isnan(faces.points_px[0, :17]).all()
    np.testing.assert_array_equal(faces.points_raw_px[0, 17:], FACE[17:])
    check_label(faces.points_raw_px[0], 120, 120, "a.jpg")
    overlap = iou(box_of_label(faces.points_px[0]), box_of_points(FACE))
    assert overlap > 0.95, "the box of the face is not that of the points that are left"


@pytest.mark.parametrize("marker", [(9999, 9999), (1e6, 1e6), (-2, -2), (-1, 40)], ids=str)
@pytest.mark.parametrize("points", [slice(0, 10), slice(17)], ids=["half the jaw", "the jaw"])
def test_a_marker_that_is_not_known_is_named(tmp_path: Path, marker: tuple[float, float], points: slice) -> None:
    """A mean head can be stretched so that it fits: the more points stand there, the better."""
    face_px = face(250, 240, 40)
    face_px[points] = marker
    place = rf"\({marker[0]:g}, {marker[1]:g}\)".replace("+", r"\+")
    with pytest.raises(FkpError, match=rf"line 3: 1[07] points stand at {place}: leave the cells of a point empty that is not labelled"):
        load_labels(write_set(tmp_path, [row("Ada_00.jpg"), csv_row("Ada_01.jpg", face_px)], []))


def test_of_closed_eyes_alone_the_view_is_not_judged() -> None:
    """Their lids lie on each other, and a head that is seen from within fits them no worse."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = mean_face()[:, :2] + rng.normal(0, 0.03, (68, 2))
        points[[37, 38, 43, 44]] = points[[41, 40, 47, 46]]
        points[36:48, 1] *= rng.uniform(-0.3, 0.3)
        points[[*range(36), *range(48, 68)]] = np.nan
        assert first_fault(100 + 60 * points[None]) is None


@pytest.mark.parametrize("hidden", [[36], [*range(36), *range(38, 45), *range(46, 68)]], ids=["an eye corner", "all but three"])
def test_too_few_points_are_refused(tmp_path: Path, hidden: list[int]) -> None:
    cells = row("Ada_00.jpg").split(",")
    for point in hidden:
        cells[1 + 2 * point : 3 + 2 * point] = ["-1", "-1"]
    with pytest.raises(FkpError, match="line 2: too few points are labelled, left eye outer and right eye outer and 4 more are needed"):
        load_labels(write_set(tmp_path, [",".join(cells)], []))


# --- one person in two spellings --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Zoë", "한글", "Ångström"])
def test_one_person_in_two_spellings_is_one(tmp_path: Path, name: str) -> None:
    composed, decomposed = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    data = write_set(tmp_path, [row(f"{composed}_00.jpg"), row(f"{decomposed}_01.jpg")], [row(f"{decomposed}_10.jpg")])
    faces = load_labels(data)
    assert composed != decomposed and faces.table["identity"].nunique() == 1 and faces.table["fold"].nunique() == 1
    (tmp_path / "training").mkdir()
    for number, there in enumerate((decomposed, composed)):  # Each file in the other spelling than its row.
        path = tmp_path / "training" / f"{there}_0{number}.jpg"
        path.write_bytes(b"x")
        assert faces.path(number) == path and faces.read_bytes(number) == b"x"
    twice = write_set(tmp_path, [row(f"{composed}_00.jpg"), row(f"{decomposed}_00.jpg")], [])
    with pytest.raises(FkpError, match="is labelled twice in one file"):
        load_labels(twice)


# --- the labels' shift ------------------------------------------------------------------------------------------


def test_shift_is_taken_out_exactly_once(tmp_path: Path) -> None:
    data = write_set(tmp_path, [row("Ada_00.jpg", 10, 20)], []).updated({"label_bias_px": (1.5, -0.25)})
    faces = load_labels(data)
    assert faces.points_raw_px[0, 0].tolist() == [10, 20]
    for _ in range(2):  # reading does not shift again
        assert faces.points_px[0, 0].tolist() == [8.5, 20.25]
    assert faces.points_px.dtype == np.float32
    np.testing.assert_array_equal(faces.points_px + faces.label_bias_px, faces.points_raw_px)


def test_each_source_has_its_own_shift(tmp_path: Path) -> None:
    data = write_set(tmp_path, [row("Ada_00.jpg")], [])
    for source, (x, y) in LABEL_BIAS_PX.items():
        faces = load_labels(data.updated({"source": source}))
        np.testing.assert_allclose(faces.points_px[0, 0], FACE[0] - (x, y), atol=1e-5)
    assert LABEL_BIAS_PX["ytfaces"][0] == 1.15
    zero = load_labels(data.updated({"source": "ytfaces", "label_bias_px": (0.0, 0.0)}))
    np.testing.assert_array_equal(zero.points_px, zero.points_raw_px)


# --- digest -----------------------------------------------------------------------------------------------------


def test_digest_changes_with_either_csv_and_only_then(tmp_path: Path) -> None:
    data = write_set(tmp_path, [row("Ada_00.jpg")], [row("Cy_00.jpg")])
    before = load_labels(data).digest
    assert load_labels(data).digest == before
    write_set(tmp_path, [row("Ada_00.jpg", 51)], [row("Cy_00.jpg")])
    changed = load_labels(data).digest
    write_set(tmp_path, [row("Ada_00.jpg")], [row("Cy_00.jpg", 51)])
    assert len({before, changed, load_labels(data).digest}) == 3
    write_set(tmp_path, [row("Ada_00.jpg")], [row("Cy_00.jpg")])
    assert load_labels(data.updated({"label_bias_px": (1.0, 1.0)})).digest == before


# --- folds and splits -------------------------------------------------------------------------------------------


def manifest_rows() -> list[dict[str, str]]:
    with MANIFEST.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def everybody(tmp_path: Path) -> Catalog:
    """The whole manifest as a set, so that splits are tested on the real persons without their frames."""
    parts: dict[str, list[str]] = {"training": [], "test": []}
    for listed in manifest_rows():
        parts[listed["split"]].append(row(listed["file"]))
    return load_labels(write_set(tmp_path, parts["training"], parts["test"]))


def test_fold_of_is_the_manifests_for_every_row() -> None:
    rows = manifest_rows()
    assert len(rows) == 4232
    assert [splits.fold_of(listed["identity"]) for listed in rows] == [int(listed["fold"]) for listed in rows]


def test_names_are_taken_apart_as_in_the_manifest(everybody: Catalog) -> None:
    found = everybody.table[["part", "file", "identity", "video", "frame", "fold"]].astype(str).to_numpy().tolist()
    assert found == [[listed[key] for key in ("split", "file", "identity", "video", "frame", "fold")] for listed in manifest_rows()]


@pytest.mark.parametrize(("test_fold", "val_fold"), [(0, 1), (3, 0), (4, 2)])
def test_no_person_in_two_parts_of_the_identity_split(everybody: Catalog, test_fold: int, val_fold: int) -> None:
    data = DataConfig(test_fold=test_fold, val_fold=val_fold)
    rows = {part: everybody.rows(part, data) for part in ("train", "val", "test")}
    persons = {part: set(everybody.table["identity"].iloc[chosen]) for part, chosen in rows.items()}
    assert all(len(chosen) > 500 for chosen in rows.values())
    assert not persons["train"] & persons["val"] and not persons["train"] & persons["test"] and not persons["val"] & persons["test"]
    assert sorted(np.concatenate(list(rows.values()))) == list(range(len(everybody)))
    assert set(everybody.table["fold"].iloc[rows["test"]]) == {test_fold}


def test_published_split_is_the_two_files(everybody: Catalog) -> None:
    data = DataConfig(split="published")
    train, val, test = (everybody.rows(part, data) for part in ("train", "val", "test"))
    part = everybody.table["part"].to_numpy()
    assert len(test) == 770 and (part[test] == "test").all()
    assert len(train) + len(val) == 3462 and (part[np.concatenate([train, val])] == "training").all()
    persons = everybody.table["identity"]
    assert not set(persons.iloc[train]) & set(persons.iloc[val])


@pytest.mark.parametrize("split", ["identity", "published"])
def test_the_rest_of_the_validation_fold_trains(everybody: Catalog, split: Literal["identity", "published"]) -> None:
    whole, quarter, tenth = (DataConfig(split=split, val_share=share) for share in (1.0, 0.25, 0.1))
    val = [set(everybody.rows("val", data)) for data in (whole, quarter, tenth)]
    assert val[0] > val[1] > val[2] and 0.15 < len(val[1]) / len(val[0]) < 0.35
    train = [set(everybody.rows("train", data)) for data in (whole, quarter)]
    assert train[1] == train[0] | (val[0] - val[1])
    np.testing.assert_array_equal(everybody.rows("test", quarter), everybody.rows("test", whole))
    persons = everybody.table["identity"].to_numpy()
    assert not set(persons[list(train[1])]) & set(persons[list(val[1])])


def test_who_is_drawn_depends_on_the_name_alone(everybody: Catalog) -> None:
    persons = everybody.table["identity"].to_numpy()
    draws = splits.draws_of(persons)
    assert ((draws > 0) & (draws <= 1)).all() and abs(np.mean(draws) - 0.5) < 0.05
    np.testing.assert_array_equal(splits.draws_of(persons[::-7]), draws[::-7])
    assert splits.draws_of(np.array([], str)).shape == (0,)


def test_limit_keeps_the_first_of_each_part(everybody: Catalog) -> None:
    for part in ("train", "val", "test"):
        assert everybody.rows(part, DataConfig(limit=7)).tolist() == everybody.rows(part, DataConfig())[:7].tolist()


@needs_real
def test_real_set() -> None:
    faces = load_labels(DataConfig(source="ytfaces", root=str(REAL)))
    assert faces.points_raw_px.shape == (4232, 68, 2)
    assert faces.table["identity"].nunique() == 347
    assert len(faces.table[["identity", "video"]].drop_duplicates()) == 1154
    found = faces.table[["part", "file", "identity", "video", "frame", "fold"]].astype(str).to_numpy().tolist()
    listed = [[line[key] for key in ("split", "file", "identity", "video", "frame", "fold")] for line in manifest_rows()]
    assert sorted(found) == sorted(listed)  # the manifest is sorted by name, the CSV files are not
    assert faces.digest == "1e446bc785bfaaa4e799edfa2c4b3419ab05b49e9e6babe8b348e7d5f00e60ac"


def test_the_split_digest_names_the_faces_that_are_compared(tmp_path: Path) -> None:
    data = write_set(tmp_path, [row("Ada_B_12.jpg"), row("Cy_00.png")], [])
    faces = load_labels(data)
    digest = split_digest(faces, data)
    assert len(digest) == 64
    assert split_digest(load_labels(data), data.updated({"cache_dir": "elsewhere"})) == digest
    others = [{"split": "published"}, {"test_fold": 3}, {"val_fold": 4}, {"val_share": 0.5}, {"limit": 5}]
    digests = [split_digest(faces, data.updated(update)) for update in others]
    assert set(splits.faces_of(data)) == {"split", "test_fold", "val_fold", "limit"}, "as before there was val_share: old digests hold"
    shifted = data.updated({"label_bias_px": (1.0, 0.0)})
    digests.append(split_digest(load_labels(shifted), shifted))
    write_set(tmp_path, [row("Ada_B_12.jpg"), row("Cy_00.png", 51)], [])
    digests.append(split_digest(load_labels(data), data))
    assert len({digest, *digests}) == 1 + len(digests)
