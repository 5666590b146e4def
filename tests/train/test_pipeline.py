"""A training from start to finish, in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fkp import track
from fkp.bundle import open_bundle
from fkp.bundle.drift import reference_counts
from fkp.config import Config
from fkp.data.labels import load_labels, split_digest
from fkp.errors import FkpError
from fkp.evaluation import detector_calibration
from fkp.evaluation.evaluate import evaluate
from fkp.predict import Predictor
from fkp.train.pipeline import train
from tests.faces import write_label_set


@pytest.mark.over_5s("a training with all that follows it")
def test_a_training_leaves_a_bundle_a_report_and_a_record(
    small_run: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_label_set(tmp_path / "more", 5, license="MIT", source="drawn by a test")
    config = small_run(train__epochs=2).updated({"data.extra": ["more"]})
    outcome = train(config)
    bundle = open_bundle(outcome.bundle_path)
    (extra,) = bundle.metrics["extra_sets"]
    assert (extra["root"], extra["faces"], extra["license"]) == ("more", 5, "MIT")
    assert "- and, for training alone, on more: 5 faces, license MIT, source drawn by a test, labels digest" in bundle.card
    assert "also trained on 1 extra set" in bundle.card
    assert bundle.config.data.extra == ("more",), "no path of this machine travels with a model"
    assert bundle.metrics["test"]["identity"]["corrected"]["nme_interocular_pct"] > 0
    assert bundle.metrics["test"]["published"]["leakage"]["frames_trained"] > 0, "the published split shares persons"
    validation = bundle.metrics["validation"]
    assert {sum(counts) for counts in reference_counts(bundle.metrics).values()} == {validation["faces"]}, "what drift is measured by"
    catalog = load_labels(bundle.config.data)
    assert bundle.face_boxes == detector_calibration.calibrate(catalog, bundle.config.data)
    assert validation["faces"] == len(catalog.rows("val", bundle.config.data))
    assert validation["split_digest"] == split_digest(catalog, bundle.config.data)
    again = evaluate(Predictor(bundle), catalog, bundle.config.data, bundle, subset="val")
    assert validation["nme_interocular_pct"] == pytest.approx(again.metrics()["nme_interocular_pct"])
    assert f"{validation['nme_interocular_pct']:.3f} %" in bundle.card
    assert "seen" in bundle.card or "trained on" in bundle.card
    assert outcome.report_path.read_text().count("data:image/") > 10
    store = MlflowClient(outcome.mlflow_uri)
    run = store.get_run(outcome.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert {"val_nme_interocular_pct", "train_loss", "images_per_s", "test_published/nme_interocular_pct"} <= set(run.data.metrics)
    headlines = {key.removeprefix("headline/"): value for key, value in run.data.metrics.items() if key.startswith("headline/")}
    assert len(headlines) == 5 and headlines["val_nme_interocular_pct"] == validation["nme_interocular_pct"]
    assert headlines["test_nme_interocular_pct"] == run.data.metrics["test_identity/nme_interocular_pct"]
    # The network's own figure, taken from the crops, and the bundle's, by one look at each face, are of the same faces.
    best = min(entry.value for entry in store.get_metric_history(run.info.run_id, "val_nme_interocular_pct"))
    once = evaluate(Predictor(bundle).predict_once, catalog, bundle.config.data, bundle, subset="val")
    assert once.metrics()["nme_interocular_pct"] == pytest.approx(best, rel=0.02)
    assert any(key.startswith("lr-") for key in run.data.metrics)
    assert run.data.tags["data_digest"] == bundle.metrics["data_digest"]
    trained_on, beside = sorted(run.inputs.dataset_inputs, key=lambda given: given.dataset.name == "more")
    assert (beside.dataset.name, beside.dataset.digest) == ("more", extra["labels_sha256"][:36])
    assert (trained_on.dataset.name, trained_on.dataset.digest) == ("synthetic", bundle.metrics["data_digest"][:36])
    assert json.loads(trained_on.dataset.profile) == {"num_rows": len(catalog.rows("train", bundle.config.data))}
    assert {item.path for item in store.list_artifacts(run.info.run_id, "bundle")} >= {"bundle/model.onnx", "bundle/SHA256SUMS"}
    assert {item.path for item in store.list_artifacts(run.info.run_id, "evaluation")} >= {
        "evaluation/ced.png",
        "evaluation/predictions.png",
    }
    with pytest.raises(FkpError, match="is finished"):
        train(config)


@pytest.mark.slow("a training with all that follows it")
def test_a_set_without_a_test_file_has_no_figures_of_the_published_split(
    small_run: Callable[..., Config], synthetic_root: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(synthetic_root, tmp_path / "own"))
    labels = root / "test_frames_keypoints.csv"
    labels.write_text(labels.read_text().splitlines()[0] + "\n")
    bundle = open_bundle(train(small_run(train__epochs=1, data__source="folder", data__root=str(root))).bundle_path)
    assert set(bundle.metrics["test"]) == {"identity"}


@pytest.mark.slow("a training with all that follows it")
def test_the_bundle_keeps_the_settings_as_given(small_run: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = train(small_run(train__epochs=1).updated({"track.storage": "there"}))
    assert open_bundle(outcome.bundle_path).config.track.storage == "there", "no path of this machine travels with a model"


def test_what_is_wrong_is_found_before_anything_begins(small_run: Callable[..., Config], tmp_path: Path) -> None:
    for change, sentence in (
        ({"model__arch": "resnett"}, "unknown architecture 'resnett': model.arch is one of convnext, mobile, resnet, seed_cnn"),
        ({"model__arch": "seed_cnn"}, "input.size_px=224"),
        ({"data__source": "folder", "data__root": str(tmp_path / "none")}, "is missing"),
        ({"data__extra": [str(tmp_path / "none")]}, r"none of data\.extra holds no set"),
    ):
        with pytest.raises(FkpError, match=sentence):
            train(small_run(**change))
    assert not (tmp_path / "runs").exists()
    assert not Path(track.tracking_uri().removeprefix("sqlite:///")).exists()
