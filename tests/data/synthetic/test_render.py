"""The made-up faces: repeatable, labelled exactly, varied, and written whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fkp.config import DataConfig
from fkp.data import splits
from fkp.data.labels import CSV_FILES, check_label, load_labels
from fkp.data.synthetic.face import SHAPES, SUPERSAMPLING, Expression, Identity, Painter, View, points_of
from fkp.data.synthetic.render import _photograph, frame_of, place_points, render, write_set
from fkp.errors import FkpError
from fkp.scheme import IBUG68
from fkp.vision.crop import box_of_points
from fkp.vision.image import read_image

FACES, SEED = 60, 7


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "made" / "synthetic"
    write_set(folder, FACES, SEED)
    return folder


@pytest.fixture(scope="module")
def many_points_px() -> np.ndarray:
    """(200, 68, 2): many faces' points."""
    return np.stack([frame_of(index, SEED)[3] for index in range(200)])


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _plain(**changes: float) -> np.ndarray:
    """(68, 3) points of the mean person with an expression."""
    person = Identity.draw(np.random.default_rng(0))
    return points_of(Identity(**{**vars(person), "shape": (0.0,) * len(SHAPES)}), Expression(**changes))


# Repeatable


def test_a_frame_depends_on_seed_and_index_alone() -> None:
    backwards = {index: frame_of(index, SEED) for index in (31, 5, 0)}
    for index in (0, 5, 31):
        name, is_test, image, points_px = frame_of(index, SEED)
        assert (name, is_test) == backwards[index][:2]
        assert np.array_equal(image, backwards[index][2])
        assert np.array_equal(points_px, backwards[index][3])


def test_same_seed_writes_equal_bytes_and_a_larger_set_begins_with_a_smaller(root: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "small", 12, SEED)
    large, small = _content(root), _content(tmp_path / "small")
    frames = {name for name in small if name.endswith(".jpg")}
    assert len(frames) == 12
    assert all(large[name] == small[name] for name in frames)
    write_set(tmp_path / "again", 12, SEED)
    assert _content(tmp_path / "again") == small


def test_other_seeds_and_other_frames_differ() -> None:
    a, b, c = frame_of(0, 0)[3], frame_of(0, 1)[3], frame_of(30, 0)[3]
    assert not np.allclose(a, b)
    assert not np.allclose(a, c)


def test_frames_of_a_person_share_the_person() -> None:
    names = [frame_of(index, SEED)[0] for index in (0, 30, 60, 270, 300)]
    assert names == ["Person_0001_00.jpg", "Person_0001_01.jpg", "Person_0001_02.jpg", "Person_0001_14.jpg", "Person_0031_00.jpg"]


# The points


def test_image_and_points_have_the_promised_form() -> None:
    for index in range(20):
        _, _, image, points_px = frame_of(index, SEED)
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert 110 <= min(image.shape[:2]) <= max(image.shape[:2]) <= 320
        assert image.std() > 5
        assert points_px.shape == (68, 2)
        assert points_px.dtype == np.float32
        assert np.isfinite(points_px).all()
        inside = ((points_px >= 0) & (points_px <= np.array(image.shape[1::-1]) - 1)).all(axis=1)
        assert inside.mean() > 0.8


def test_the_mean_face_is_symmetric_and_in_ibug_order() -> None:
    points_px = place_points(_plain(), View(scale_px=100))
    assert np.abs(points_px[list(IBUG68.mirror)] * (-1, 1) - points_px).max() < 1e-9
    x, y = points_px.T
    assert (np.diff(x[:17]) > 0).all()  # the jaw runs from the viewer's left to the right
    assert y.argmax() == 8
    assert (np.diff(x[17:27]) > 0).all()
    assert (np.diff(y[27:31]) > 0).all()
    assert (np.diff(x[31:36]) > 0).all()
    for corner, inner, upper, lower in ((36, 39, [37, 38], [40, 41]), (45, 42, [43, 44], [46, 47])):
        assert abs(x[corner]) > abs(x[inner])
        assert y[upper].max() < y[corner] < y[lower].min()
    assert (np.diff(x[48:55]) > 0).all()
    assert (np.diff(x[54:60]) < 0).all()
    assert y[[61, 62, 63]].max() < y[[65, 66, 67]].min()
    centre = {name: y[list(points)].mean() for name, points in IBUG68.regions.items()}
    assert centre["left_brow"] < centre["left_eye"] < centre["nose"] < centre["mouth"]


@pytest.mark.parametrize("expression", [{}, {"mouth_open": 1.0}, {"smile": 1.0}, {"pucker": 1.0, "mouth_open": 1.0}, {"blink_left": 1.0}])
def test_turning_the_other_way_is_the_mirror_image(expression: dict[str, float]) -> None:
    left = place_points(_plain(**expression), View(-0.6, 0.2, 0.3, 100))
    if "blink_left" in expression:
        expression = {"blink_right": 1.0}
    right = place_points(_plain(**expression), View(0.6, 0.2, -0.3, 100))
    assert np.abs(right[list(IBUG68.mirror)] * (-1, 1) - left).max() < 1e-9


def test_a_turned_jaw_lies_outside_the_features_it_could_cover() -> None:
    x = place_points(_plain(), View(np.radians(40), 0, 0, 100))[:, 0]
    assert x[16] > x[45]  # the far cheek stays beyond the far eye
    assert x[12] > x[54]  # and beyond the far corner of the mouth
    assert x[16] < 100 < 1.1 * abs(x[0])


def test_expressions_move_what_they_name() -> None:
    neutral = _plain()[:, 1]
    assert _plain(mouth_open=1.0)[66, 1] - neutral[66] > 0.2
    assert _plain(mouth_open=1.0)[8, 1] > neutral[8]
    assert _plain(smile=1.0)[48, 1] < neutral[48]
    assert (_plain(brows_left=1.0)[17:22, 1] < neutral[17:22]).all()
    shut = _plain(blink_left=1.0)[:, 1]
    assert 0 < shut[41] - shut[37] < 0.3 * (neutral[41] - neutral[37])
    assert np.array_equal(shut[42:48], neutral[42:48])


@pytest.mark.parametrize("way", ["fill", "lit", "soft", "line"])
def test_painting_hits_its_place(way: str) -> None:
    """Centres of gravity of discs: right on average; OpenCV's polygons are a little off one by one."""
    rng, angle = np.random.default_rng(0), np.linspace(0, 2 * np.pi, 40, endpoint=False)
    rows, columns = np.mgrid[:60, :50]
    errors_px = []
    for _ in range(40):
        place_px = np.array([25, 30]) + rng.uniform(-1, 1, 2)
        disc = place_px + 6 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        painter = Painter(np.zeros((SUPERSAMPLING * 60, SUPERSAMPLING * 50, 3), np.uint8))
        if way == "soft":
            painter.soft([disc], (255, 255, 255), 1.0, 2.0)
        elif way == "line":
            painter.line(disc, (255, 255, 255), 1.5, closed=True)
        else:
            painter.fill(disc, (255, 255, 255), lit=True)
        grey = painter.lit_u8 if way == "lit" else cv2.resize(painter.canvas_u8, (50, 60), interpolation=cv2.INTER_AREA)[..., 0]
        weight = grey.astype(float) / grey.sum()
        errors_px.append(np.array([(weight * columns).sum(), (weight * rows).sum()]) - place_px)
    assert np.abs(np.mean(errors_px, axis=0)).max() < (0.08 if way == "soft" else 0.025)
    assert np.abs(errors_px).max() < 0.2


def test_the_camera_moves_nothing() -> None:
    image = np.zeros((81, 81, 3), np.uint8)
    cv2.circle(image, (40, 40), 12, (255, 255, 255), -1, cv2.LINE_AA)
    rows, columns = np.mgrid[:81, :81]
    for seed in range(40):
        grey = _photograph(image, np.full((81, 81), 255, np.uint8), np.random.default_rng(seed)).mean(axis=2)
        grey = np.where(np.hypot(rows - 40, columns - 40) < 22, np.clip(grey - np.median(grey), 0, None), 0)
        assert abs((grey * columns).sum() / grey.sum() - 40) < 0.15
        assert abs((grey * rows).sum() / grey.sum() - 40) < 0.15


def test_features_are_painted_at_their_points() -> None:
    """Closed mouths: the line between the lips, averaged over faces, is darkest at the labels of the inner lips."""
    profile = np.zeros(13)
    for index in range(60):
        person = Identity.draw(np.random.default_rng([1, index]))
        image, points_px = render(person, np.random.default_rng([2, index]))
        across = points_px[57] - points_px[51]
        gap = np.hypot(*(points_px[66] - points_px[62])) / max(np.hypot(*across), 1e-6)
        if gap > 0.25:
            continue
        steps = np.linspace(-0.5, 0.5, 13)[:, None]
        place = ((points_px[62] + points_px[66]) / 2 + steps * across).astype(np.float32)
        grey = cv2.remap(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), place[None], None, cv2.INTER_LINEAR)[0].astype(float)
        profile += (grey - grey.mean()) / (grey.std() + 1e-6)
    assert abs(int(profile.argmin()) - 6) <= 1


def test_faces_vary_too_much_for_a_mean_shape(many_points_px: np.ndarray) -> None:
    boxes = box_of_points(many_points_px)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)[:, None, None]
    shape = (many_points_px - middle[:, None]) / side
    guess = shape.mean(axis=0) * side + middle[:, None]
    interocular = np.linalg.norm(many_points_px[:, 36] - many_points_px[:, 45], axis=1)
    nme_pct = 100 * (np.linalg.norm(guess - many_points_px, axis=2).mean(axis=1) / interocular).mean()
    assert nme_pct > 6


# The set on disk


def test_the_catalog_reads_the_set(root: Path) -> None:
    data = DataConfig(source="synthetic", root=str(root))
    read = load_labels(data)
    assert len(read) == FACES
    assert set(read.table["fold"]) == set(range(splits.NUM_FOLDS))
    assert np.array_equal(read.points_px, read.points_raw_px)
    share = (read.table["part"] == "test").mean()
    assert 0.1 < share < 0.3
    persons = [set(read.table["identity"][read.table["part"] == part]) for part in CSV_FILES]
    assert persons[0] & persons[1]
    for row in (0, FACES - 1):
        image = read_image(read.path(row))
        check_label(read.points_px[row], *image.shape[:2], name=str(row))
    truth = {frame_of(index, SEED)[0]: frame_of(index, SEED)[3] for index in range(3)}
    for name, points_px in truth.items():
        row = read.table.index[read.table["file"] == name][0]
        assert np.abs(read.points_px[row] - points_px).max() <= 0.0051


def test_the_smallest_set_has_persons_in_all_folds(tmp_path: Path) -> None:
    write_set(tmp_path / "tiny", 10, 0)
    read = load_labels(DataConfig(source="synthetic", root=str(tmp_path / "tiny")))
    assert set(read.table["fold"]) == set(range(splits.NUM_FOLDS))
    assert set(read.table["part"]) == set(CSV_FILES)


def test_the_header_is_the_upstream_one(root: Path) -> None:
    header = (root / "training_frames_keypoints.csv").read_text().splitlines()[0]
    assert header == "," + ",".join(str(column) for column in range(136))


def test_the_same_set_again_changes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    monkeypatch.setattr("fkp.data.synthetic.render.frame_of", lambda *_: pytest.fail("painted again"))
    write_set(root, FACES, SEED)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize(("faces", "seed"), [(FACES, SEED + 1), (FACES + 1, SEED)])
def test_another_set_is_refused_and_left_alone(root: Path, faces: int, seed: int) -> None:
    before = json.loads((root / "synthetic.json").read_text())
    with pytest.raises(FkpError, match="choose another folder"):
        write_set(root, faces, seed)
    assert json.loads((root / "synthetic.json").read_text()) == before


def test_a_folder_with_other_things_or_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    (tmp_path / "file").write_text("keep me too")
    for name in ("mine", "file"):
        with pytest.raises(FkpError, match="remove it or choose another folder"):
            write_set(tmp_path / name, 10, 0)
    with pytest.raises(FkpError, match=r"cannot write|holds something"):
        write_set(tmp_path / "file" / "below", 10, 0)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mine", "notes.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_set(tmp_path / "empty", 10, 0)
    assert (tmp_path / "empty" / "synthetic.json").exists()


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(index: int, seed: int) -> tuple[str, bool, np.ndarray, np.ndarray]:
        if index == 4:
            raise KeyboardInterrupt
        return frame_of(index, seed)

    monkeypatch.setattr("fkp.data.synthetic.render.frame_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_set(tmp_path / "set", 10, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are a Unix thing")
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from fkp.data.synthetic.render import write_set; from fkp.errors import FkpError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))\n"
        "try: write_set(Path(sys.argv[1]), 10, 0)\n"
        "except FkpError as error: print(error); sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "set")], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 7, done.stderr
    assert "cannot write the synthetic set" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_two_writers_of_the_same_set_both_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "set"

    def overtaken(index: int, seed: int) -> tuple[str, bool, np.ndarray, np.ndarray]:
        if index == 9:
            monkeypatch.setattr("fkp.data.synthetic.render.frame_of", frame_of)
            write_set(target, 10, 0)
        return frame_of(index, seed)

    monkeypatch.setattr("fkp.data.synthetic.render.frame_of", overtaken)
    write_set(target, 10, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
