"""What was written under an old name is still read."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from fkp.bundle import open_bundle
from fkp.compat import SETTINGS, with_todays_settings
from fkp.config import Config, build_config, config_from_args


@pytest.mark.over_5s("Tune is imported, in a fork that is the first of its process")
def test_what_a_search_pickled_under_old_names_is_found(
    run_process: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    code = """
import importlib, pickle
from fkp import compat
from fkp.tune import options, study
compat.know_old_names()
for name, today in compat.MODULES.items():
    assert importlib.import_module(name) and importlib.import_module(today)
assert pickle.loads(b"ctune.settings\\nSettings\\n.") is options.Settings
assert pickle.loads(b"cfkp.tune.settings\\nSettings\\n.") is options.Settings
assert pickle.loads(b"ctune.study\\nTellStudy\\n.") is study.StudyCallback
assert pickle.loads(b"cfkp.tune.study\\nWhenTimeIsOver\\n.") is study.TimeBudgetStopper
"""
    done = run_process("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


#: Old settings, none of them the default.
OLD = {"data.label_shift_px": (1.0, 2.0), "model.loss": "wing", "model.code_weight": 0.5, "model.int8": True}
TODAY = {SETTINGS[path]: value for path, value in OLD.items()}


def nested(settings: dict[str, object]) -> dict[str, dict[str, object]]:
    tree: dict[str, dict[str, object]] = {}
    for path, value in settings.items():
        section, name = path.split(".")
        tree.setdefault(section, {})[name] = value
    return tree


def test_settings_under_old_names_are_todays(tmp_path: Path) -> None:
    assert OLD.keys() == SETTINGS.keys()
    today = build_config(TODAY)
    assert build_config(OLD) == build_config(nested(OLD)) == Config().updated(OLD) == today != Config()
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(nested(OLD)))))
    assert config_from_args(["--config", str(tmp_path / "old.yaml")], "fkp train", "") == today
    flags = ["--model.loss", "wing", "--model.code_weight=0.5", "--model.int8", "true", "--data.label_shift_px", "[1,2]"]
    assert config_from_args(flags, "fkp train", "") == today


def test_they_are_at_any_depth_of_what_a_run_or_a_search_wrote() -> None:
    state = {"config": nested(OLD), "trials": [{"sample": {"model.loss": "wing", "optim.lr": 0.1}}]}
    assert with_todays_settings(state) == {
        "config": {**nested(TODAY), "model": {}},
        "trials": [{"sample": {"loss.kind": "wing", "optim.lr": 0.1}}],
    }


#: Where the first edition wrote what lies in first_edition.tar.xz: a finished training that is registered and champion, two
#: trainings (with and without a Ray worker) and a search whose drivers were killed, and MLflow's store of all of them.
BEFORE = "/tmp/fkp-old-000000000000000"
FACES = ["--data.source", "synthetic", "--data.synthetic_faces", "60", "--input.size_px", "32", "--optim.global_batch_size", "8"]
NETWORK = [
    "--model.arch",
    "slim",
    "--model.head",
    "direct",
    "--model.width",
    "8",
    "--model.depth",
    "1",
    "--model.loss",
    "wing",
    "--model.code_weight",
    "0.5",
]


@pytest.fixture
def first_edition(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What the first edition left, in a folder of as long a name: the name also stands in pickles and in a database."""
    folder = Path(tempfile.gettempdir(), "old-").absolute()
    if len(str(folder)) >= len(BEFORE):
        pytest.skip(f"{tempfile.gettempdir()} is too long a name for what was written under {BEFORE}: set TMPDIR=/tmp")
    place = Path(f"{folder}{secrets.token_hex(16)}"[: len(BEFORE)])
    with tarfile.open(Path(__file__).with_name("first_edition.tar.xz")) as archive:
        archive.extractall(place, filter="data")
    for path in place.rglob("*"):
        if path.is_file() and path.suffix != ".ckpt":  # A checkpoint is a zip archive with sums; its folder's name is not used.
            content = path.read_bytes()
            for old, new in ((BEFORE.encode(), bytes(place)), (BEFORE.encode().hex().encode(), bytes(place).hex().encode())):
                content = content.replace(old, new)
            path.write_bytes(content)
    monkeypatch.chdir(place)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
    yield place
    shutil.rmtree(place)


def test_the_registry_of_before_has_its_champion(first_edition: Path) -> None:
    from fkp.serve.bundle_source import find_bundle
    from fkp.track import Registry

    registry = Registry()
    (version,) = registry.versions()
    assert registry.champion_number() == version.number == 1
    assert version.val_nme_pct and version.test_nme_pct
    source = find_bundle("models:/fkp@champion")
    assert open_bundle(source.path).config.loss.kind == "wing"
    assert registry.register(source.path, version.run_id).number == 1, "it is the same bundle"
    assert registry.promote(1).val_nme_pct == version.val_nme_pct


def test_the_bundle_of_before_has_old_names_and_opens(first_edition: Path) -> None:
    (folder,) = (path.parent for path in first_edition.glob("mlartifacts/fkp/*/artifacts/bundle/config.json"))
    assert {"loss", "code_weight", "int8"} <= json.loads((folder / "config.json").read_text())["model"].keys()
    config = open_bundle(folder).config
    assert (config.loss.kind, config.loss.heatmap_weight, config.export.int8) == ("wing", 0.5, False)
    assert {"unshifted", "exposure", "label_shift_px"} <= json.loads((folder / "metrics.json").read_text())["test"]["identity"].keys()
    measured = open_bundle(folder).metrics["test"]["identity"]
    assert {"corrected", "leakage", "label_bias_px", "raw"} <= measured.keys() and not {"unshifted", "exposure"} & measured.keys()


@pytest.mark.parametrize(("name", "workers", "epochs"), [("broken", 0, 25), ("broken-ray", 1, 40)])
@pytest.mark.slow("two trainings to their end, one of them on a Ray cluster of its own")
def test_a_training_broken_off_before_resumes(
    first_edition: Path, run_process: Callable[..., subprocess.CompletedProcess[str]], name: str, workers: int, epochs: int
) -> None:
    from mlflow import MlflowClient

    from fkp.track.store import tracking_uri

    run_id = json.loads((first_edition / f"runs/{name}/run.json").read_text())["mlflow_run_id"]
    client = MlflowClient(tracking_uri())
    before = {metric.step for metric in client.get_metric_history(run_id, "val_nme_interocular_pct")}
    flags = [f"--scale.num_workers={workers}", f"--train.epochs={epochs}", f"--track.run_name={name}"]
    done = run_process("fkp.train", *FACES, *NETWORK, *flags, cwd=first_edition)
    assert done.returncode == 0, done.stderr[-3000:]
    history = client.get_metric_history(run_id, "val_nme_interocular_pct")
    assert len({metric.step for metric in history}) == epochs > len(before)
    assert len(history) <= epochs + 4, "it did not start over"
    assert client.get_run(run_id).info.status == "FINISHED"
    assert open_bundle(first_edition / f"runs/{name}/bundle").config.loss.heatmap_weight == 0.5


@pytest.mark.slow("the rest of a search, on a Ray cluster of its own")
def test_a_search_broken_off_before_resumes(first_edition: Path, run_process: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    trials = first_edition / "runs/broken-search/trials.json"
    before = {trial["trial_id"]: trial["state"] for trial in json.loads(trials.read_text())}
    assert list(before.values()).count("running") == 1
    flags = [
        "--space",
        "space.yaml",
        "--trials",
        "6",
        "--epochs",
        "40",
        "--algo",
        "random",
        "--concurrent",
        "1",
        "--name",
        "broken-search",
        "--resume",
    ]
    done = run_process("fkp.tune.search", *FACES, *NETWORK, "--scale.num_workers=0", *flags, cwd=first_edition)
    assert done.returncode == 0, done.stderr[-3000:]
    after = {trial["trial_id"]: trial for trial in json.loads(trials.read_text())}
    assert before.keys() < after.keys() and len(after) == 6
    assert [trial["reason"] for trial in after.values() if trial["state"] not in ("finished", "stopped")] == []
    assert all("loss.kind" in trial["sample"] for trial in after.values())
