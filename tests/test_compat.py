"""What was written under an old name is still read."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from fkp import config as configs
from fkp.bundle import open_bundle
from fkp.compat import SETTINGS, with_todays_settings
from fkp.config import Config
from fkp.shipped import shipped


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
assert pickle.loads(b"ctune.study\\nTellStudy\\n.") is study.TellStudy
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
    today = configs.build(TODAY)
    assert configs.build(OLD) == configs.build(nested(OLD)) == Config().updated(OLD) == today != Config()
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(nested(OLD)))))
    assert configs.from_args(["--config", str(tmp_path / "old.yaml")], "fkp train", "") == today
    flags = ["--model.loss", "wing", "--model.code_weight=0.5", "--model.int8", "true", "--data.label_shift_px", "[1,2]"]
    assert configs.from_args(flags, "fkp train", "") == today


def test_they_are_at_any_depth_of_what_a_run_or_a_search_wrote() -> None:
    state = {"config": nested(OLD), "trials": [{"sample": {"model.loss": "wing", "optim.lr": 0.1}}]}
    assert with_todays_settings(state) == {
        "config": {**nested(TODAY), "model": {}},
        "trials": [{"sample": {"loss.kind": "wing", "optim.lr": 0.1}}],
    }


@pytest.mark.parametrize("name", ["champion", "tiny"])
def test_the_shipped_bundles_have_old_names_and_open(name: str) -> None:
    folder = shipped("saved_models") / name
    assert {"loss", "code_weight", "int8"} <= json.loads((folder / "config.json").read_text())["model"].keys()
    config = open_bundle(folder).config
    assert (config.loss.kind, config.loss.heatmap_weight, config.export.int8) == ("smooth_l1", 1.0, True)
