"""What benchmarks/general.py tells of models on photographs of other sources, on faces of nobody whose labels are made up."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from fkp.errors import FkpError
from fkp.predict import Predictor
from fkp.scheme import IBUG68, load_scheme
from fkp.vision.image import read_image, write_image
from tests.faces import face

FACES = Path(__file__).resolve().parents[2] / "docs/images/sfhq"


@pytest.fixture
def general() -> ModuleType:
    return importlib.import_module("general")


@pytest.fixture
def convention() -> ModuleType:
    return importlib.import_module("convention")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 photographs of 6 faces of nobody, labelled 5 % of the face to the right of what the shipped model answers: another convention."""
    folder = tmp_path_factory.mktemp("photographs")
    predictor = Predictor()
    for path in sorted(FACES.glob("*.jpg")):
        for size in (160, 130):
            image = cv2.resize(read_image(path), (size, size), interpolation=cv2.INTER_AREA)
            found = predictor(image)[0].points_px.astype(np.float64)
            mirrored = [size - 1, 0] + found[list(IBUG68.mirror)] * [-1, 1]
            for name, shown, points in ((f"{size}", image, found), (f"{size}_mirrored", image[:, ::-1], mirrored)):
                write_image(folder / f"{path.stem}_{name}.png", np.ascontiguousarray(shown))
                lines = "\n".join(f"{x + 1:.4f} {y + 1:.4f}" for x, y in points + [0.05 * np.ptp(points, axis=0).max(), 0])
                (folder / f"{path.stem}_{name}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{lines}\n}}\n")
    return folder


def run(general: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["general.py", *map(str, words)])
    general.main()


def test_a_constant_and_a_map_take_a_convention_out_and_no_noise(convention: ModuleType) -> None:
    rng = np.random.default_rng(0)
    points = 100 * rng.normal(0, 1, (400, 68, 2))
    size = convention.frame(points)[1]
    moved = convention.fit(points, points + size * rng.normal(0, 0.05, (1, 68, 2)))
    np.testing.assert_allclose(moved.constant_px, moved.mapped_px, atol=2)
    other = points + 0.3 * (points[:, ::-1] - points.mean(1, keepdims=True))
    fitted = convention.fit(points, other)
    assert np.abs(fitted.mapped_px - other).mean() < 1
    assert np.abs(fitted.constant_px - other).mean() > 10
    noise = rng.normal(0, 3, points.shape)
    fitted = convention.fit(points, points + noise)
    assert np.abs(fitted.mapped_px - points - noise).mean() > np.abs(noise).mean(), "what is in no other face is not taken out"


def test_the_tables_name_each_model_and_the_convention_goes(
    general: ModuleType, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs = general.read([folder])
    mesh = np.full((len(photographs.names), 478, 2), 50.0)
    mesh[:, list(IBUG68.places_in(load_scheme("mediapipe478")).values())] = photographs.truth_px
    mesh[3] = np.nan
    order = np.random.default_rng(0).permutation(len(mesh))
    np.savez(tmp_path / "mesh.npz", names=np.array(photographs.names)[order], points_px=mesh[order], scheme="mediapipe478")
    run(general, monkeypatch, folder, "--peers", tmp_path / "mesh.npz")
    told = capsys.readouterr().out
    tables = [re.findall(r"^\| (champion|tiny|mesh) \| (.*) \|$", table, re.M) for table in told.split("\n\n")[1:]]
    assert [[name for name, _ in table] for table in tables] == [["champion", "tiny", "mesh"]] * 4 + [["champion", "tiny"]] * 2
    champion, _, peer = ([float(cell) for cell in cells.split(" | ")] for _, cells in tables[0])
    assert champion[0] > 6 and champion[4] < 0.6 * champion[0], "the way to the right is taken out"
    assert peer[0] < 0.01 and peer[-1] == 1 and champion[-1] == 0
    (raw, constant, _) = (cells.split(", ") for cells in tables[4][0][1].split(" | "))
    assert float(raw[0]) < 20 and float(constant[0]) > 80
    found, missed = tables[5][0][1].split(" | ")[:2]
    assert (found, missed) == ("24 of 24", "0")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{empty}"], "no photograph with a .pts file"),
        (["{folder}", "--limit", "5"], "5 photographs are too few"),
        (["{folder}", "{folder}"], "two photographs have one name"),
        (["{folder}", "--peers", "{empty}/none.npz", "--limit", "20", "--bundle", "{folder}"], "is not a bundle"),
    ],
)
def test_what_cannot_be_measured_is_told(
    general: ModuleType, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    with pytest.raises(FkpError, match=told):
        run(general, monkeypatch, *(word.format(folder=folder, empty=tmp_path) for word in words))


def test_peers_of_other_photographs_are_refused(general: ModuleType, folder: Path, tmp_path: Path) -> None:
    photographs = general.read([folder])
    np.savez(tmp_path / "few.npz", names=np.array(photographs.names[2:]), points_px=photographs.truth_px[2:], scheme="ibug68")
    with pytest.raises(FkpError, match=r"no answer for .*/.* and 1 others"):
        general.peer(tmp_path / "few.npz", photographs)
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    with pytest.raises(FkpError, match="cannot be read"):
        general.peer(tmp_path / "broken.npz", photographs)


def test_radii_off_the_set_have_a_row_of_their_own(general: ModuleType, folder: Path) -> None:
    photographs = general.read([folder])
    truth = photographs.truth_px
    expected = np.full(truth.shape[:2], 2.0)
    narrow, wide = ({"levels": [0.68, 0.95], "ratios": ratios} for ratios in ([0.2, 0.4], [0.2, 1.6]))
    answers = general.Answers("model", truth + [1.0, 0.0], truth, expected, {"": narrow, ", off the set": wide})
    lines = general.stated([general.measured(answers, photographs)])
    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| model", "0.0, 0.0"], ["| model, off the set", "0.0, 100.0"]]


def test_the_outlines_are_in_the_frame_of_the_labels() -> None:
    outlines = importlib.import_module("outlines")
    shape = face(0, 0, 60).astype(np.float64)
    turn = np.array([[0.8, 0.6], [-0.6, 0.8]])
    truth = np.stack([shape, 3 * shape @ turn + [400, 90]])
    answers, labels = outlines.mean_shapes(truth + 0.1 * np.stack([np.full((68, 2), [1, 0]), np.full((68, 2), [3, 0]) @ turn]), truth)
    unit = 100 / IBUG68.size_px(shape[None])[0]
    np.testing.assert_allclose(labels, shape * unit - (shape[36] + shape[45]) / 2 * unit, atol=0.6)
    np.testing.assert_allclose(answers - labels, np.tile([0.1 * unit, 0], (68, 1)), atol=0.01)
