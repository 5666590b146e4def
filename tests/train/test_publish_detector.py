"""A face detector from its training to its use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from fkp.bundle import Bundle, open_bundle
from fkp.config import Config
from fkp.errors import FkpError
from fkp.model.detection import DetectionNetwork
from fkp.predict import Predictor
from fkp.train.pipeline import train
from fkp.train.publish import Outcome
from fkp.vision.detect import open_detector
from fkp.vision.detect.own import OwnDetector
from tests.faces import write_label_set


def small(make: Callable[..., Config], **changes: object) -> Config:
    detect = {"size_px": 96, "scenes": 160, "val_scenes": 32, "drawn": 2}
    asked = {"task": "detect", "input__channels": 3, "detect": detect, "model": {"arch": "slim", "width": 8, "depth": 1}}
    return make(**(asked | {"data__limit": 40, "train__epochs": 1, "export__int8": True, "scale__decoders_per_worker": 1} | changes))


@pytest.fixture(scope="module")
def trained(small_run_in: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    folder = tmp_path_factory.mktemp("detector")
    write_label_set(folder / "more", 5, license="MIT", source="drawn by a test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.chdir(folder)
        return train(small(small_run_in_folder(small_run_in, folder)).updated({"data.extra": ["more"]})), folder


def small_run_in_folder(make: Callable[..., Config], folder: Path) -> Callable[..., Config]:
    return lambda **changes: make(folder, **changes)


@pytest.mark.slow("a training with all that follows it")
def test_a_training_leaves_a_bundle_a_card_and_a_record(trained: tuple[Outcome, Path]) -> None:
    outcome, _ = trained
    bundle = open_bundle(outcome.bundle_path, "detect")
    assert bundle.config.data.extra == ("more",), "no path of this machine travels with a model"
    assert "- and on more: 5 faces, license MIT, source drawn by a test, labels digest" in bundle.card
    for subset in ("validation", "test"):
        measured = bundle.metrics[subset]
        assert measured["scenes"] == 32 and measured["faces"] == sum(of["faces"] for of in measured["by_length_px"].values()) > 0
        assert f"| {subset} | {measured['faces']} | {measured['ap_pct']:.1f} % |" in bundle.card
    store = MlflowClient(outcome.mlflow_uri)
    run = store.get_run(outcome.mlflow_run_id)
    assert run.info.status == "FINISHED" and run.data.tags["bundle_digest"] == bundle.digest
    assert run.data.metrics["headline/test_ap_pct"] == bundle.metrics["test"]["ap_pct"]
    assert {"val_ap_lack_pct", "val_loss", "train_loss"} <= set(run.data.metrics)
    assert {item.path for item in store.list_artifacts(run.info.run_id, "bundle")} >= {"bundle/model.onnx", "bundle/SHA256SUMS"}


@pytest.mark.slow("a training")
def test_the_bundle_sees_what_the_network_sees_in_images_of_any_size(trained: tuple[Outcome, Path]) -> None:
    bundle: Bundle = open_bundle(trained[0].bundle_path, "detect")
    network = DetectionNetwork(bundle.config)
    network.load_state_dict(load_file(bundle.path / "weights.safetensors"))
    network.eval()
    detector = OwnDetector(bundle.path)
    for height, width in ((96, 64), (32, 32), (160, 224)):
        image = np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)
        (told,) = detector._session.run(None, {"images_u8": image.transpose(2, 0, 1)[None]})
        with torch.inference_mode():
            wanted = network(torch.from_numpy(image.transpose(2, 0, 1)[None].copy()))
        # 8-bit integers are near; of the floats they came from.
        assert np.abs(told - wanted.numpy()).mean() < 0.05 * np.abs(wanted.numpy()).mean()
        assert len(np.unique(told)) > 0.9 * told.size, "in one range of 256 steps the lengths of faces would be a quarter apart"
        assert detector.look(image).shapes_px.shape[1:] == (7, 2)


@pytest.mark.slow("a training")
def test_a_detector_is_used_by_its_folder_and_by_no_other_command(trained: tuple[Outcome, Path], tiny_bundle: Bundle) -> None:
    folder = trained[0].bundle_path
    detector = open_detector(str(folder))
    assert detector.backend.name.startswith("fkp-"), "its calibration is not that of the one that ships"
    assert Predictor(tiny_bundle, detector=str(folder))(np.zeros((120, 90, 3), np.uint8)) == []
    with pytest.raises(FkpError, match="is a face detector, and a landmark model is wanted"):
        Predictor(folder)
    with pytest.raises(FkpError, match="is no face detector but a landmark model"):
        open_detector(str(tiny_bundle.path))
    with pytest.raises(FkpError, match="is a landmark model, and a face detector is wanted"):
        open_bundle(tiny_bundle.path, "detect")


@pytest.mark.slow("a training")
def test_a_changed_file_is_not_used(trained: tuple[Outcome, Path], tmp_path: Path) -> None:
    for path in trained[0].bundle_path.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    told = json.loads((tmp_path / "metrics.json").read_text())
    told["detector"]["min_score"] = 0.01
    (tmp_path / "metrics.json").write_text(json.dumps(told))
    with pytest.raises(FkpError, match=r"metrics\.json differs from its checksum"):
        open_detector(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"input__channels": 1}, "task=detect begins from nothing, with data.backend=memory and input.channels=3"),
        ({"train__init": "champion"}, "task=detect begins from nothing"),
        ({"model": {"arch": "nothing"}}, "unknown architecture"),
    ],
)
def test_what_makes_no_detector_is_one_sentence(small_run: Callable[..., Config], changes: dict[str, object], told: str) -> None:
    with pytest.raises(FkpError, match=told.replace(".", r"\.")):
        train(small(small_run, **changes))
