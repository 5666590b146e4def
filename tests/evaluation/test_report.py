"""The report: whole without a network, safe with hostile file names, right images in it."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fkp.bundle import Bundle
from fkp.config import DataConfig, build_config
from fkp.data.labels import Catalog
from fkp.errors import FkpError
from fkp.evaluation.evaluate import Evaluation
from fkp.evaluation.leakage import Leakage
from fkp.evaluation.report import ced_plot, draw_evaluated, prediction_grid, write_report
from fkp.vision.image import decode_image

HOSTILE = "<img src=x onerror=alert(1)>_00.jpg"
VOID = {"meta", "img", "link", "br", "input"}


class Page(HTMLParser):
    """Keeps tags and attributes; fails on a tag that is closed in the wrong place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def _evaluation(root: Path, count: int, first_file: str = "Person_00.jpg") -> Evaluation:
    """Faces on plain frames; the error of the predictions grows with the row."""
    rng = np.random.default_rng(0)
    files = [first_file, *(f"Person{i}_00.jpg" for i in range(1, count))]
    (root / "test").mkdir()
    for index, file in enumerate(files):
        frame = np.full((100, 120, 3), 40 + index, np.uint8)
        (root / "test" / file).write_bytes(cv2.imencode(".png", frame)[1].tobytes())
    points_px = rng.uniform(30, 80, (count, 68, 2)).astype(np.float32)
    points_px[:, 36], points_px[:, 45] = (30, 50), (80, 50)
    names = [file.rsplit("_", 1)[0] for file in files]
    table = pd.DataFrame({"part": "test", "file": files, "identity": names, "video": 0, "frame": 0, "fold": 0})
    catalog = Catalog(root, table, points_px + np.float32(1), np.ones(2, np.float32), "digest")
    error_px = np.linspace(0.5, 6, count, dtype=np.float32)[:, None, None] * np.float32([0.6, 0.8])
    data = DataConfig(source="folder", root=str(root), split="published")
    note = Leakage("held out: said here", 0, 0, 0)
    return Evaluation(catalog, data, np.arange(count), points_px + error_px, np.full((count, 68), 3, np.float32), note)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "card.md").write_text("# Card\n</pre><script>alert(1)</script> https://example.org/paper\n")
    return Bundle(folder, build_config(), {}, "ab" * 32)


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    root = tmp_path / "set"
    root.mkdir()
    return _evaluation(root, 6, HOSTILE)


def test_report_is_well_formed_and_loads_nothing(tmp_path: Path, evaluation: Evaluation, bundle: Bundle) -> None:
    path = write_report(tmp_path / "deep/report.html", [evaluation], bundle)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not page.open
    loaded = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href", "srcset", "action", "data")]
    assert loaded
    assert all(str(value).startswith("data:image/") for value in loaded)
    assert not re.search(r"url\(|@import", text)
    assert {"script", "link", "iframe", "object"}.isdisjoint(tag for tag, _ in page.tags)
    policy = next(attrs["content"] for tag, attrs in page.tags if tag == "meta" and "http-equiv" in attrs)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_hostile_names_and_cards_are_text(tmp_path: Path, evaluation: Evaluation, bundle: Bundle) -> None:
    text = write_report(tmp_path / "report.html", [evaluation], bundle).read_text(encoding="utf-8")
    page = Page(text)
    assert HOSTILE not in text
    assert HOSTILE in page.words
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert any("</pre><script>alert(1)</script>" in word for word in page.words)


def test_report_shows_the_figures_the_leakage_and_the_model(tmp_path: Path, evaluation: Evaluation, bundle: Bundle) -> None:
    words = Page(write_report(tmp_path / "report.html", [evaluation], bundle).read_text(encoding="utf-8")).words
    for truth in ("raw", "corrected"):
        figures = evaluation.metrics(truth)
        for key in ("nme_interocular_pct", "auc_08_pct", "failure_10_pct", "nme_mouth_interocular_pct", "coverage_68_pct"):
            assert f"{figures[key]:.2f}" in words
    assert {
        "held out: said here",
        evaluation.title,
        "raw labels",
        "corrected labels",
        bundle.digest,
        bundle.config.digest(),
    } <= set(words)


def test_worst_and_best_faces_stand_in_order(tmp_path: Path, evaluation: Evaluation, bundle: Bundle) -> None:
    page = Page(write_report(tmp_path / "report.html", [evaluation], bundle).read_text(encoding="utf-8"))
    shown = [attrs["alt"] for tag, attrs in page.tags if tag == "img" and str(attrs["src"]).startswith("data:image/jpeg")]
    files = evaluation.files
    assert shown == [files[5], files[4], files[3], files[0], files[1], files[2]]
    assert {"3 worst faces", "3 best faces"} <= set(page.words)
    nme = evaluation.nme_pct()
    assert f"{nme[5]:.2f} %" in page.words
    assert f"{nme[0]:.2f} %" in page.words


def test_galleries_hold_at_most_twenty_four_faces(tmp_path: Path, bundle: Bundle) -> None:
    root = tmp_path / "set"
    root.mkdir()
    page = Page(write_report(tmp_path / "report.html", [_evaluation(root, 51)], bundle).read_text(encoding="utf-8"))
    assert sum(str(attrs.get("src")).startswith("data:image/jpeg") for _, attrs in page.tags) == 48
    images = [str(attrs["src"]).split(",")[1] for tag, attrs in page.tags if tag == "img"]
    for image in images[:3]:
        assert decode_image(base64.b64decode(image)).ndim == 3


def test_one_face_is_enough(tmp_path: Path, bundle: Bundle) -> None:
    root = tmp_path / "set"
    root.mkdir()
    assert write_report(tmp_path / "report.html", [_evaluation(root, 1)], bundle).is_file()


def test_truth_is_white_and_the_prediction_coloured(evaluation: Evaluation) -> None:
    drawn = draw_evaluated(evaluation, 5, 240)
    assert drawn.shape == (240, 240, 3)
    assert drawn.dtype == np.uint8
    saturation = drawn.max(axis=2).astype(int) - drawn.min(axis=2)
    assert (drawn.min(axis=2) > 250).any()
    assert (saturation > 150).any()
    np.testing.assert_array_equal(drawn[-1, -1], [45, 45, 45])  # The frame shows between the points.


@pytest.mark.parametrize(("count", "shape"), [(24, (180, 1080, 3)), (4, (180, 720, 3)), (1, (180, 180, 3))])
def test_prediction_grid(evaluation: Evaluation, count: int, shape: tuple[int, ...]) -> None:
    grid = prediction_grid(evaluation, count)
    assert grid.shape == shape
    assert grid.dtype == np.uint8
    np.testing.assert_array_equal(grid[:, :180], draw_evaluated(evaluation, 0, 180))


def test_prediction_grid_breaks_rows_and_leaves_cells_black(tmp_path: Path) -> None:
    evaluation = _evaluation(tmp_path, 8)
    grid = prediction_grid(evaluation)
    assert grid.shape == (360, 1080, 3)
    np.testing.assert_array_equal(grid[180:, 180:360], draw_evaluated(evaluation, 7, 180))
    assert not grid[180:, 360:].any()
    with pytest.raises(ValueError, match="at least one face"):
        prediction_grid(evaluation, 0)


def test_ced_plot_is_an_image(evaluation: Evaluation) -> None:
    data = ced_plot(evaluation)
    assert data.startswith(b"\x89PNG")
    image = decode_image(data)
    assert image.shape[1] > 600
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10
    assert ced_plot(evaluation) == data


def test_a_failed_write_leaves_the_old_report(
    tmp_path: Path, evaluation: Evaluation, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out/report.html"
    path.parent.mkdir()
    path.write_text("old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(FkpError, match=r"cannot write .*report.html: No space left on device"):
        write_report(path, [evaluation], bundle)
    assert [file.read_text() for file in path.parent.iterdir()] == ["old"]


def test_a_lost_frame_is_named(tmp_path: Path, evaluation: Evaluation, bundle: Bundle) -> None:
    evaluation.catalog.path(3).unlink()
    with pytest.raises(FkpError, match=r"cannot read image .*Person3_00.jpg"):
        write_report(tmp_path / "report.html", [evaluation], bundle)
