"""`fkp adapt` from a labelled set to a bundle, where it helps, and to a sentence where it does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fkp.adapt import pipeline, publish
from fkp.adapt.__main__ import main
from fkp.adapt.faces import folds_of, read_faces
from fkp.adapt.finetune import Recipe
from fkp.adapt.pipeline import adapt, config_of, crop_scale
from fkp.adapt.ridge import looks
from fkp.adapt.ways import WAYS, Adapter, try_ways
from fkp.bundle import load_network, open_bundle
from fkp.bundle.joint_errors import JointErrors
from fkp.config import DataConfig, build_config
from fkp.data.labels import Catalog, load_labels
from fkp.errors import FkpError
from fkp.evaluation.leakage import leakage
from fkp.predict import Predictor
from fkp.scheme import IBUG68, load_scheme
from fkp.shipped import shipped
from fkp.track.version import describe
from fkp.train.ancestor import read_ancestor
from fkp.vision.crop import box_of_points

TINY = str(shipped("saved_models/tiny"))
#: Somebody's points of the jaw, lower than ours by this part of the eyes' distance.
LOWER = 0.12

Label = Callable[[np.ndarray, np.ndarray], np.ndarray]


def lower_jaw(points_px: np.ndarray, image: np.ndarray) -> np.ndarray:
    labels = points_px.copy()
    labels[3:14, 1] += LOWER * np.linalg.norm(points_px[36] - points_px[45])
    return labels


def as_it_finds_them(points_px: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The model's own answers: there is nothing to be gained."""
    return Predictor(TINY)(image, [box_of_points(points_px)])[0].points_px


@pytest.fixture
def make_set(synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Callable[[int, Label], Path]:
    """`make_set(24, lower_jaw)`: drawn faces, each of another person or the second one of a person, labelled as the function says."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    catalog = load_labels(DataConfig(source="folder", root=str(synthetic_root)))

    def make(faces: int, label: Label) -> Path:
        root = tmp_path / "my_set"
        chosen = some_faces(catalog, faces)
        for part in ("training", "test"):
            (root / part).mkdir(parents=True)
            lines = [",".join(["file", *map(str, range(136))])]
            for row in chosen if part == "training" else []:
                shutil.copy(catalog.path(row), root / part)
                points = label(catalog.points_px[row], catalog.image(row))
                lines.append(",".join([catalog.table["file"].iat[row], *(f"{value:.3f}" for value in points.ravel())]))
            (root / f"{part}_frames_keypoints.csv").write_text("\n".join(lines) + "\n")
        return root

    return make


def some_faces(catalog: Catalog, count: int) -> list[int]:
    """Rows of the first two faces of as many persons as are needed."""
    place = catalog.table.groupby("identity").cumcount().to_numpy()
    return np.flatnonzero(place < 2)[:count].tolist()


@pytest.mark.over_5s("three ways are tried, an ONNX file is exported and turned into integers")
def test_a_convention_is_found_by_the_map(make_set: Callable[[int, Label], Path], tmp_path: Path) -> None:
    root = make_set(20, lower_jaw)
    data = DataConfig(source="folder", root=str(root))
    # So short a training can win nothing, and must not.
    adapted = adapt(data, TINY, tmp_path / "my_model", WAYS, Recipe(lr=1e-5, batch=8, least_steps=2, epochs=0))
    summary = json.loads((tmp_path / "my_model-report.json").read_text())
    assert set(summary["minutes_of"]) == {"reading", "training", "measuring", "publishing"}
    assert sum(summary["minutes_of"].values()) <= summary["minutes"] + 0.05
    assert summary["way"] in ("map", "both")
    assert summary["ways"]["map"] < summary["ways"]["tune"] - 1
    assert summary["helps"]
    assert summary["gain"]["low"] > 0.5
    assert summary["before"]["low"] < summary["before"]["nme_pct"] < summary["before"]["high"]
    assert adapted.bundle is not None
    assert (tmp_path / "my_model-report.html").is_file()

    # The model as it is served: its jaw is lower, and its nose where it was.
    bundle = open_bundle(tmp_path / "my_model")
    catalog = load_labels(data)
    before, after = Predictor(TINY), Predictor(bundle)
    moved = []
    for row in range(len(catalog)):
        image, box = catalog.image(row), box_of_points(catalog.points_px[row])
        old, new = before(image, [box])[0].points_px, after(image, [box])[0].points_px
        moved.append((new - old)[:, 1] / np.linalg.norm(old[36] - old[45]))
    mean = np.mean(moved, axis=0)
    assert mean[6:11] == pytest.approx(LOWER, abs=0.08), "what the model errs on drawn faces is mended, too"
    assert np.abs(mean[27:36]).max() < 0.06

    # What stands in the bundle: from whom it descends, that it has seen all of the set, and an error that is stated well.
    assert bundle.config.scheme is IBUG68
    assert JointErrors.of(bundle).faces == adapted.summary["faces"], "what `fkp label` moves neighbours by"
    assert bundle.metrics["descends_from"][0]["bundle"] == open_bundle(TINY).digest
    assert not leakage(bundle, catalog, bundle.config.data).held_out
    assert leakage(bundle, catalog, bundle.config.data).frames_trained == len(catalog.rows("test", bundle.config.data)) > 0
    assert bundle.metrics["test"]["identity"]["corrected"]["coverage_68_pct"] == pytest.approx(68, abs=8)


@pytest.mark.over_5s("many faces are predicted")
def test_it_says_when_it_does_not_help(make_set: Callable[[int, Label], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(make_set(12, as_it_finds_them)), "--out", "my_model", "--model", TINY, "--ways", "map"])
    printed = capsys.readouterr().out
    assert "It does not help" in printed
    assert "no model was written: go on with the model of before" in printed
    assert not (tmp_path / "my_model").exists()
    assert not json.loads((tmp_path / "my_model-report.json").read_text())["helps"]


def test_what_cannot_be_adapted_to_is_one_sentence(make_set: Callable[[int, Label], Path], tmp_path: Path) -> None:
    root = make_set(9, lower_jaw)
    data = DataConfig(source="folder", root=str(root))

    def refused(data: DataConfig = data, out: Path = tmp_path / "my_model") -> str:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(FkpError) as caught:
            adapt(data, TINY, out)
        assert sorted(tmp_path.rglob("*")) == before
        return str(caught.value)

    assert refused() == f"{root} labels 9 faces: at least 10 are needed"
    assert refused(out=tmp_path) == f"{tmp_path} exists and is not a bundle: choose another place for --out"
    assert refused(out=Path(TINY)) == f"{Path(TINY)} is the model to begin from: choose another place for --out"
    shutil.rmtree(root)
    assert "is missing" in refused()
    root = make_set(12, lower_jaw)
    path = root / "training_frames_keypoints.csv"
    text = path.read_text()
    for number, line in enumerate(text.splitlines()[1:]):
        name = line.split(",")[0]
        (root / "training" / name).rename(root / "training" / f"me_0{number}.jpg")
        text = text.replace(name, f"me_0{number}.jpg")
    path.write_text(text)
    assert refused().startswith(f"all 12 faces of {root} are of one group, me: at least two are needed")
    scheme = '{"name": "mine", "landmarks": ["a", "b", "c"]}'
    shutil.rmtree(root)
    root = make_set(12, lower_jaw)
    path.write_text("\n".join(",".join(line.split(",")[:7]) for line in path.read_text().splitlines()) + "\n")
    (root / "test_frames_keypoints.csv").write_text("file,0,1,2,3,4,5\n")
    settings = build_config({"data": {"source": "folder", "root": str(root), "scheme": scheme}}).data
    assert load_scheme(settings.scheme).name == "mine"
    assert refused(settings).startswith("scheme mine has no landmark's name in common with ibug68 of the model: 50 faces are needed")


def test_other_landmarks_in_another_order_are_found_in_crops_that_show_as_much(make_set: Callable[[int, Label], Path]) -> None:
    """Inner points of the face, some of them missing: their tight box lacks the chin."""
    picked = [45, 36, 30, 33, 54, 48, 62, 21, 22, 17, 26, 27, 39, 42, 51, 57]
    names = [IBUG68.landmarks[place] for place in picked]
    scheme = json.dumps({"name": "inner", "landmarks": names, "pairs": [[1, 0], [5, 4], [7, 8], [9, 10], [12, 13]]})
    root = make_set(24, lower_jaw)
    path = root / "training_frames_keypoints.csv"
    rng, lines = np.random.default_rng(0), ["file," + ",".join(map(str, range(32)))]
    for line in path.read_text().splitlines()[1:]:
        cells = line.split(",")
        points = [",".join(cells[1 + 2 * place : 3 + 2 * place]) if rng.random() > 0.1 else "," for place in picked]
        lines.append(",".join([cells[0], *points]))
    path.write_text("\n".join(lines) + "\n")
    (root / "test_frames_keypoints.csv").write_text(lines[0] + "\n")
    data = build_config({"data": {"source": "folder", "root": str(root), "scheme": scheme}}).data
    catalog, base = load_labels(data), open_bundle(TINY)
    scale = crop_scale(catalog, base)
    assert 1.5 < scale < 2.0
    config = config_of(base, data, TINY, root / "my_model").updated({"input.crop_scale": scale})
    faces = read_faces(catalog, config, np.arange(24))
    adapter = Adapter(read_ancestor(base, TINY), load_network(base), config, Recipe(), 0)
    folds = folds_of(faces.groups, 3)
    adapter.choose_penalty(faces, folds)
    (trial,) = try_ways(adapter, faces, folds, [0, 1, 2], ["map"])
    found = catalog.scheme.convert(looks(adapter.base, faces.plain_u8)[0], IBUG68)
    as_it_was = np.linalg.norm(found - faces.plain_px, axis=-1)
    before = 100 * np.nanmean(as_it_was, axis=1) / catalog.scheme.size_px(faces.plain_px)
    assert np.isnan(as_it_was).any()
    assert trial.mean_nme_pct < before.mean() < 10


@pytest.mark.over_5s("an ONNX file is exported and turned into integers")
def test_of_many_faces_one_fold_measures_and_all_train(
    make_set: Callable[[int, Label], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pipeline, "ONE_FOLD_FROM", 40)
    monkeypatch.setattr(publish, "LEAST_FOR_DETECTOR", 20)
    root = make_set(50, lower_jaw)
    main([str(root), "--out", "my_model", "--model", TINY, "--ways", "map"])
    printed = capsys.readouterr().out
    assert "fkp serve --bundle my_model\n" in printed
    summary = json.loads((tmp_path / "my_model-report.json").read_text())
    assert f"measured   cross-validated: each of these {summary['faces_measured']} faces by a model" in printed
    bundle = open_bundle("my_model")
    data = bundle.config.data
    catalog = load_labels(data)
    assert summary["faces"] == len(catalog) == 50
    assert 5 <= summary["faces_measured"] <= 20
    assert not leakage(bundle, catalog, data).held_out, "all of them train in the end"
    assert summary["after"]["nme_pct"] < summary["before"]["nme_pct"] - 1
    validation = bundle.metrics["validation"]
    assert 0 < validation["faces"] < summary["faces"]
    assert describe(bundle)["val_nme_interocular_pct"] == repr(validation["nme_interocular_pct"])
