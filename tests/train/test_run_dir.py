"""The run folder: names, resuming, refusing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fkp.config import Config, build_config
from fkp.errors import FkpError
from fkp.train.run_dir import open_run


def named(tmp_path: Path, **changes: object) -> Config:
    return build_config(
        {"track": {"storage": str(tmp_path), "run_name": "a"}}, {key.replace("__", "."): value for key, value in changes.items()}
    )


def test_an_unfinished_run_goes_on(tmp_path: Path) -> None:
    with open_run(named(tmp_path)) as run:
        run.mlflow_run_id = "the same"
        run.save()
    with open_run(named(tmp_path)) as run:
        assert run.mlflow_run_id == "the same"


def test_a_finished_run_is_refused_and_says_where_its_model_is(tmp_path: Path) -> None:
    with open_run(named(tmp_path)) as run:
        run.finished = True
        run.save()
    with pytest.raises(FkpError, match=r"run a is finished: its model is .*bundle"), open_run(named(tmp_path)):
        pass


def test_other_settings_under_the_same_name_are_refused_by_name(tmp_path: Path) -> None:
    with open_run(named(tmp_path)):
        pass
    with pytest.raises(FkpError, match=r"optim\.lr=0\.5 \(was 0\.003\)"), open_run(named(tmp_path, optim__lr=0.5)):
        pass


def test_two_processes_cannot_train_one_run(tmp_path: Path) -> None:
    with open_run(named(tmp_path)), pytest.raises(FkpError, match="another process"), open_run(named(tmp_path)):
        pass


def test_a_run_without_a_name_gets_one(tmp_path: Path) -> None:
    config = build_config({"track.storage": str(tmp_path)})
    with open_run(config) as run:
        assert run.name.startswith("resnet-")
        assert json.loads((run.folder / "run.json").read_text())["config"]["track"]["run_name"] == run.name


def test_a_place_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FkpError, match=r"set track\.storage"), open_run(build_config({"track.storage": str(tmp_path / "file")})):
        pass


def test_relative_paths_become_absolute(small_run: Callable[..., Config]) -> None:
    config = small_run(data__cache_dir="here", track__storage="there")
    assert Path(config.data.cache_dir) == Path.cwd() / "here"
    assert Path(config.track.storage) == Path.cwd() / "there"
