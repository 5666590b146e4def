"""The store as it is opened: by one process, by several at once."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import mlflow  # Here, so that the processes of the test do not import it again.
import pytest

from fkp.errors import FkpError
from fkp.track import store


def _open_at_once(uri: str, together: Any, answers: Any) -> None:
    together.wait(60)
    try:
        answers.put(store.experiment_id(store.open_client(uri), uri, "faces"))
    except BaseException as error:
        answers.put(error)


def test_processes_that_make_a_database_at_once_wait_for_each_other(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    together, answers = fork.Barrier(3), fork.Queue()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    processes = [fork.Process(target=_open_at_once, args=(uri, together, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    assert found == [found[0]] * 3
    assert mlflow.MlflowClient(uri).get_experiment(found[0]).name == "faces"


def test_mlflow_shows_an_experiment_as_model_training_also_one_of_an_older_version(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = store.open_client(uri)
    client.create_experiment("old")
    for name in ("old", "new", "new"):
        found = client.get_experiment(store.experiment_id(client, uri, name))
        assert found.tags["mlflow.experimentKind"] == "custom_model_development"


def test_the_folder_of_a_database_is_made(tmp_path: Path) -> None:
    store.open_client(f"sqlite:///{tmp_path}/new/mlflow.db")
    assert (tmp_path / "new/mlflow.db").is_file()


def test_a_database_that_cannot_be_made_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FkpError, match=r"cannot use the MLflow store .*: set MLFLOW_TRACKING_URI"):
        store.open_client(f"sqlite:///{tmp_path}/file/mlflow.db")
