"""Evaluation of a tiny set made here: one path, both truths, what was seen in training, bad input."""

from __future__ import annotations

import csv
import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fkp.bundle import Bundle, write_bundle
from fkp.config import DataConfig, build_config
from fkp.data import splits
from fkp.data.labels import Catalog, load_labels
from fkp.errors import FkpError
from fkp.evaluation import __main__ as command
from fkp.evaluation import metrics
from fkp.evaluation.__main__ import main
from fkp.evaluation.evaluate import evaluate, format_table, to_json
from fkp.evaluation.leakage import DESCENT, EXTRA, LABELS_DIGEST, held_out, leakage
from fkp.evaluation.report import write_report
from fkp.predict import Face, Predictor
from fkp.scheme import IBUG68
from fkp.vision.crop import box_of_points
from fkp.vision.image import Image, read_image
from tests.faces import face

SHIFT_PX = (1.15, 0.8)


def _person(fold: int, number: int = 0) -> str:
    """Find a name that falls into a fold."""
    return [name for name in (f"Person{i}" for i in range(100)) if splits.fold_of(name) == fold][number]


def _write_set(root: Path, parts: dict[str, list[str]]) -> Path:
    rng = np.random.default_rng(0)
    for part, files in parts.items():
        (root / part).mkdir(parents=True)
        with (root / f"{part}_frames_keypoints.csv").open("w", newline="") as handle:
            table = csv.writer(handle)
            table.writerow(["", *map(str, range(136))])
            for file in files:
                points = face(60, 51, 30, int(rng.integers(99)))
                points[[36, 45]] = (35, 50), (85, 52)
                table.writerow([file, *points.ravel()])
                frame = rng.integers(0, 256, (110, 120, 3), np.uint8)
                (root / part / file).write_bytes(cv2.imencode(".png", frame)[1].tobytes())
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Persons of folds 0 (test), 1 (validation), 2 and 3 in the training file; the published test file shares three of them."""
    training = [f"{_person(fold)}_{video}0.jpg" for fold in (0, 1, 2, 3) for video in (0, 1)]
    test = [f"{_person(0)}_02.jpg", f"{_person(1)}_02.jpg", f"{_person(2)}_02.jpg", f"{_person(4)}_02.jpg", f"{_person(2, 1)}_00.jpg"]
    return _write_set(tmp_path_factory.mktemp("set"), {"training": training, "test": test})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Bundle:
    from fkp.model.network import Network

    settings = {"data": {"source": "ytfaces", "root": str(root)}, "input": {"size_px": 64}, "model": {"width": 8, "depth": 1}}
    config = build_config(settings)
    return write_bundle(tmp_path_factory.mktemp("model") / "bundle", Network(config), config, {}, "card")


@pytest.fixture(scope="module")
def catalog(bundle: Bundle) -> Catalog:
    return load_labels(bundle.config.data)


class Perfect:
    """Answers the corrected labels, and keeps the boxes it was given."""

    def __init__(self, catalog: Catalog, split: str, data: DataConfig) -> None:
        rows = catalog.rows("test", data.updated({"split": split}))
        self.answers: Iterator[np.ndarray] = iter(catalog.points_px[rows])
        self.boxes: list[np.ndarray] = []

    def __call__(self, image: Image, boxes_xyxy: Sequence[np.ndarray], /) -> list[Face]:
        self.boxes += boxes_xyxy
        return [Face(boxes_xyxy[0], 1.0, next(self.answers), np.ones(68, np.float32))]


def _split(bundle: Bundle, split: str) -> DataConfig:
    return bundle.config.data.updated({"split": split})


@pytest.mark.parametrize(("split", "count"), [("identity", 3), ("published", 5)])
def test_raw_and_corrected_differ_by_exactly_the_shift(bundle: Bundle, catalog: Catalog, split: str, count: int) -> None:
    evaluation = evaluate(Perfect(catalog, split, bundle.config.data), catalog, _split(bundle, split))
    assert len(evaluation) == count
    assert evaluation.truth_px("raw") - evaluation.truth_px("corrected") == pytest.approx(
        np.broadcast_to(SHIFT_PX, (count, 68, 2)), abs=1e-4
    )
    assert evaluation.metrics("corrected")["nme_interocular_pct"] == 0
    expected = 100 * np.hypot(*SHIFT_PX) / metrics.normaliser_px(evaluation.truth_px())
    assert evaluation.nme_pct("raw") == pytest.approx(expected, rel=1e-4)
    assert evaluation.metrics("raw")["nme_interocular_pct"] == pytest.approx(expected.mean(), rel=1e-4)


def test_boxes_are_those_of_the_labels_without_the_shift(bundle: Bundle, catalog: Catalog) -> None:
    finder = Perfect(catalog, "identity", bundle.config.data)
    evaluation = evaluate(finder, catalog, bundle.config.data)
    np.testing.assert_array_equal(finder.boxes, box_of_points(catalog.points_px[evaluation.rows]))


def test_evaluation_gives_what_the_predictor_answers(bundle: Bundle, catalog: Catalog) -> None:
    predictor = Predictor(bundle)
    evaluation = evaluate(predictor, catalog, bundle.config.data, bundle)
    row = evaluation.rows[1]
    (face,) = predictor(read_image(catalog.path(row)), [box_of_points(catalog.points_px[row])])
    np.testing.assert_array_equal(evaluation.points_px[1], face.points_px)
    np.testing.assert_array_equal(evaluation.expected_error_px[1], face.expected_error_px)
    assert evaluation.files == [f"{_person(0)}_00.jpg", f"{_person(0)}_10.jpg", f"{_person(0)}_02.jpg"]
    assert set(evaluation.identities) == {_person(0)}


def test_coverage_stands_in_the_metrics(bundle: Bundle, catalog: Catalog) -> None:
    evaluation = evaluate(Perfect(catalog, "identity", bundle.config.data), catalog, bundle.config.data)
    assert evaluation.metrics("corrected")["coverage_68_pct"] == 100
    # The shift is 1.40 px; with an expected error of 1 px the radius of 68 % is 1.17 px and that of 95 % is 2.37 px.
    raw = evaluation.metrics("raw")
    assert (raw["coverage_68_pct"], raw["coverage_95_pct"]) == (0, 100)


def test_the_honest_split_is_called_held_out(bundle: Bundle, catalog: Catalog) -> None:
    seen = leakage(bundle, catalog, _split(bundle, "identity"))
    assert (seen.frames_trained, seen.persons_trained, seen.frames_chosen, seen.held_out) == (0, 0, 0, True)
    assert seen.note == "held out: the bundle was trained on none of these 3 frames and on none of their persons (1)"


def test_the_published_split_is_called_contaminated(bundle: Bundle, catalog: Catalog) -> None:
    seen = leakage(bundle, catalog, _split(bundle, "published"))
    assert not seen.held_out
    assert seen.note == (
        "contaminated: the bundle was trained on 3 of these 5 frames and on 3 of their 5 persons; "
        "1 more frames served to choose its checkpoint"
    )


def test_a_model_of_the_published_split_has_seen_the_persons_of_the_identity_split(bundle: Bundle, catalog: Catalog) -> None:
    config = bundle.config.updated({"data.split": "published"})
    other = replace(bundle, config=config)
    seen = leakage(other, catalog, _split(bundle, "identity"))
    assert (seen.frames_trained, seen.persons_trained, seen.frames_chosen) == (2, 1, 0)
    seen = leakage(other, catalog, _split(bundle, "published"))
    assert (seen.frames_trained, seen.persons_trained) == (0, 2)
    assert seen.note.startswith("contaminated: the bundle was trained on 0 of these 5 frames and on 2 of their 5 persons")


def test_another_set_is_said_to_be_another(bundle: Bundle, catalog: Catalog, tmp_path: Path) -> None:
    folder = bundle.config.data.updated({"source": "folder"})
    assert leakage(bundle, catalog, folder).note.startswith("another set: the bundle was trained on ytfaces")
    of_folder = replace(bundle, config=build_config({"data": {"source": "folder", "root": str(tmp_path)}}))
    assert leakage(of_folder, catalog, folder).note.startswith("another set")
    of_digest = replace(bundle, metrics={LABELS_DIGEST: "of other labels"})
    assert leakage(of_digest, catalog, bundle.config.data).note.startswith("another set")
    same = replace(bundle, metrics={LABELS_DIGEST: catalog.digest})
    assert leakage(same, catalog, bundle.config.data).held_out
    assert leakage(None, catalog, folder).note.startswith("unknown")


def test_extra_sets_count_as_training(bundle: Bundle, catalog: Catalog) -> None:
    data = _split(bundle, "identity")
    beside = {LABELS_DIGEST: catalog.digest, EXTRA: [{LABELS_DIGEST: "of other labels"}]}
    seen = leakage(replace(bundle, metrics=beside), catalog, data)
    assert seen.held_out and seen.note.endswith("; it was also trained on 1 extra set, of which shared persons are not known")
    itself = {LABELS_DIGEST: "of other labels", EXTRA: [{LABELS_DIGEST: catalog.digest}]}
    before = {LABELS_DIGEST: "of other labels", DESCENT: [{**itself, "data": {}}]}
    everybody = np.arange(len(catalog))
    for told, others in ((itself, 1), (before, 2)):
        of_extra = replace(bundle, metrics=told)
        seen = leakage(of_extra, catalog, data)
        assert (seen.frames_trained, seen.persons_trained, seen.held_out) == (3, 1, False)
        assert f"; of {others} other training" in seen.note and "extra set" not in seen.note
        assert not len(held_out(everybody, of_extra, catalog, data))


def test_faces_of_persons_that_trained_are_not_held_out(bundle: Bundle, catalog: Catalog) -> None:
    data = bundle.config.data
    everybody = np.arange(len(catalog))
    trained, rest = (catalog.rows(part, data) for part in ("train", "test"))
    assert len(trained) and not set(held_out(everybody, bundle, catalog, data)) & set(trained)
    np.testing.assert_array_equal(held_out(rest, bundle, catalog, data), rest)
    # Where the published file trained, its persons are no longer held out in other frames.
    of_files = replace(bundle, config=bundle.config.updated({"data.split": "published"}))
    persons = set(catalog.table["identity"].iloc[catalog.rows("train", of_files.config.data)])
    left = held_out(everybody, of_files, catalog, data)
    assert 0 < len(left) < len(catalog) and not set(catalog.table["identity"].iloc[left]) & persons
    elsewhere = replace(bundle, metrics={LABELS_DIGEST: "of other labels"})
    np.testing.assert_array_equal(held_out(everybody, elsewhere, catalog, data), everybody)


def test_the_validation_part_is_said_to_have_chosen(bundle: Bundle, catalog: Catalog) -> None:
    predictor = Predictor(bundle)
    evaluation = evaluate(predictor, catalog, bundle.config.data, bundle, subset="val")
    np.testing.assert_array_equal(evaluation.rows, catalog.rows("val", bundle.config.data))
    assert evaluation.title == "identity split, validation subset (persons of fold 1): 3 faces of 1 persons, ytfaces"
    assert (
        evaluation.leakage.note == "chosen by: 3 of these 3 frames served to choose the bundle's checkpoint; it was trained on none of them"
    )
    assert not evaluation.leakage.held_out
    share = replace(evaluation, data=evaluation.data.updated({"val_share": 0.25}))
    assert "validation subset (a share of 0.25 of the persons of fold 1)" in share.title
    published = evaluate(predictor, catalog, _split(bundle, "published"), bundle, subset="val")
    assert published.title.startswith("published split, validation subset (persons of fold 1 of the training CSV file): 2 faces")
    assert to_json([evaluation], bundle)["splits"]["identity"]["subset"] == "val"
    with pytest.raises(FkpError, match=r"val subset of the identity split .* is empty"):
        evaluate(predictor, replace(catalog, table=catalog.table.assign(fold=2)), bundle.config.data, bundle, subset="val")


def test_command_measures_the_validation_part(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bundle", str(bundle.path), "--part", "val", "--out", str(tmp_path)]) == 0
    assert "validation subset (persons of fold 1): 3 faces" in capsys.readouterr().out
    assert "validation subset" in (tmp_path / "report.html").read_text()


def test_the_table_names_split_normaliser_and_both_truths(bundle: Bundle, catalog: Catalog) -> None:
    evaluation = evaluate(Perfect(catalog, "published", bundle.config.data), catalog, _split(bundle, "published"), bundle)
    head, normaliser, note, columns, first, *others = format_table(evaluation).splitlines()
    assert head == "published split (the test CSV file): 5 faces of 5 persons, ytfaces"
    assert normaliser == "normaliser: interocular: distance of the outer eye corners; label bias: (1.15, 0.8) px"
    assert note.startswith("contaminated: ")
    assert columns.split("  ")[-2:] == ["raw labels", "corrected labels"]
    raw, corrected = (evaluation.metrics(truth)["nme_interocular_pct"] for truth in ("raw", "corrected"))
    assert first.split()[-2:] == [f"{raw:.2f}", f"{corrected:.2f}"]
    assert [line.rsplit(maxsplit=2)[0].strip() for line in others][:5] == [
        "NME %, 51 inner points",
        "median NME %",
        "AUC@8 % (of 100)",
        "failure % at 8 %",
        "failure % at 10 %",
    ]
    regions = [line for line in others if line.startswith("NME %, ")]
    assert regions[len(IBUG68.regions)].startswith("NME %, mouth")  # The 51 inner points stand above them.
    poses = [f"NME %, {pose} ({count} faces)" for pose, count, _, _ in evaluation.pose_rows()]
    assert [line[: len(pose)] for line, pose in zip(others[-len(poses) :], poses, strict=True)] == poses
    assert sum(count for _, count, _, _ in evaluation.pose_rows()) == len(evaluation)


def test_flags_move_the_set_and_its_shift(bundle: Bundle) -> None:
    trained = bundle.config.data.updated({"label_bias_px": (9.0, 9.0)})
    moved = command._data(trained, None, "elsewhere")
    assert (moved.source, moved.root, moved.label_bias_px) == ("ytfaces", "elsewhere", (9.0, 9.0))
    other = command._data(trained, "synthetic", None)
    assert (other.source, other.root, other.label_bias_px) == ("synthetic", None, None)
    assert command._data(trained, "ytfaces", None) == trained


def test_broken_labels_and_frames_are_named(bundle: Bundle, catalog: Catalog) -> None:
    def run(change: object) -> None:
        evaluate(Predictor(bundle), change, bundle.config.data)  # type: ignore[arg-type]

    row = catalog.rows("test", bundle.config.data)[0]
    name = catalog.table["file"].iat[row]
    flat, coincident, far = (catalog.points_raw_px.copy() for _ in range(3))
    flat[row, :, 1] = 40
    coincident[row, 36] = coincident[row, 45]
    far[row, 0] = 5000
    for points, message in (
        (flat, "no extent"),
        (coincident, "left eye outer and right eye outer of the label coincide"),
        (far, "px outside the 120 x 110 frame"),
    ):
        with pytest.raises(FkpError, match=rf"{name}.*{message}"):
            run(replace(catalog, points_raw_px=points))
    with pytest.raises(FkpError, match=r"cannot read image .*nowhere"):
        run(replace(catalog, root=Path("nowhere")))
    with pytest.raises(FkpError, match=r"test subset of the identity split .* is empty"):
        run(replace(catalog, table=catalog.table.assign(fold=2)))


def test_a_diverged_network_is_named(bundle: Bundle, catalog: Catalog) -> None:
    def diverged(image: Image, boxes_xyxy: Sequence[np.ndarray], /) -> list[Face]:
        return [Face(boxes_xyxy[0], 1.0, np.full((68, 2), np.nan, np.float32), np.ones(68, np.float32))]

    with pytest.raises(FkpError, match="not finite: its training has diverged"):
        evaluate(diverged, catalog, bundle.config.data)


def test_command_writes_both_files_without_the_heavy_packages(bundle: Bundle, catalog: Catalog, tmp_path: Path) -> None:
    code = (
        "import sys, fkp.evaluation.__main__ as e; status = e.main(sys.argv[1:]);"
        "heavy = ('ray', 'mlflow', 'lightning', 'pytorch_lightning', 'torch', 'matplotlib.pyplot');"
        "print('HEAVY', [name for name in heavy if name in sys.modules]); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, "--bundle", str(bundle.path), "--split", "all", "--out", "results"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "HEAVY []" in done.stdout
    assert "held out: " in done.stdout
    assert "contaminated: " in done.stdout
    assert "metrics: results/metrics.json\nreport:  results/report.html\n" in done.stdout
    assert "data:image/jpeg" in (tmp_path / "results/report.html").read_text()
    figures = json.loads((tmp_path / "results/metrics.json").read_text())
    data = bundle.config.data
    evaluations = [evaluate(Predictor(bundle), catalog, _split(bundle, split), bundle) for split in ("identity", "published")]
    assert figures == json.loads(json.dumps(to_json(evaluations, bundle)))
    assert figures["model"] == bundle.digest
    assert set(figures["splits"]) == {"identity", "published"}
    assert figures["splits"]["identity"]["source"] == data.source
    assert figures["splits"]["published"]["leakage"]["frames_trained"] == 3


def test_bad_input_is_one_sentence(
    bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, run_process: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    folder = tmp_path_factory.mktemp("empty")
    evaluate_in_folder = functools.partial(run_process, "fkp.evaluation", cwd=folder)
    no_bundle = evaluate_in_folder("--bundle", "nowhere")
    assert no_bundle.returncode == 1
    assert no_bundle.stderr == "error: nowhere is not a bundle (no SHA256SUMS in it): name the folder that training printed\n"
    no_set = evaluate_in_folder("--bundle", bundle.path, "--data.root", "nothing-here")
    assert no_set.returncode == 1
    assert no_set.stderr.startswith("error: nothing-here/training_frames_keypoints.csv is missing")
    assert no_set.stderr.count("\n") == 1
    no_split = evaluate_in_folder("--split", "random")
    assert no_split.returncode == 2
    assert "invalid choice: 'random'" in no_split.stderr
    assert not list(folder.iterdir())


def test_a_place_that_cannot_be_written_is_one_sentence(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FkpError, match=r"cannot write .*file/metrics.json"):
        main(["--bundle", str(bundle.path), "--out", str(tmp_path / "file")])
    assert (tmp_path / "file").read_text() == "mine"
    assert "NME %" in capsys.readouterr().out


def test_faces_with_points_that_are_not_labelled_are_measured_by_the_others(bundle: Bundle, root: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(root, tmp_path / "own"))
    table = own / "training_frames_keypoints.csv"
    lines = [line.split(",") for line in table.read_text().splitlines()]
    for number, cells in enumerate(lines[1:]):
        if number % 2:
            cells[1:35] = ["-1"] * 34
    table.write_text("\n".join(map(",".join, lines)) + "\n")
    data = bundle.config.data.updated({"root": str(own)})
    predictor = Predictor(bundle)
    whole, partial = (evaluate(predictor, load_labels(some), some, bundle) for some in (bundle.config.data, data))
    hidden = np.isnan(partial.truth_px()[:, 0, 0])
    assert 0 < hidden.sum() < len(partial)
    # The box is completed: around the points that are left its middle would lie ten pixels higher.
    assert np.abs(partial.points_px - whole.points_px).max() < 3
    found = partial.metrics()
    assert np.isfinite(list(found.values())).all() and found["nme_jaw_interocular_pct"] > 0
    text = write_report(tmp_path / "report.html", [partial], bundle).read_text()
    assert "nan" not in re.sub(r"<script.*?</script>|base64,[^\"]*", "", text, flags=re.DOTALL).lower().split()
    json.dumps(to_json([partial], bundle), allow_nan=False)
