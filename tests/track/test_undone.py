"""States of a store that an operator can undo: refused as something begins, kept in the log meanwhile, and delivered after the remedy."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fkp import track
from fkp.config import build_config
from fkp.errors import FkpError
from fkp.track.__main__ import main
from fkp.track.write_ahead_log import WriteAheadLog, upload

from .conftest import Front, change, follow, read_only, without_privilege


@dataclass
class Search:
    """A search that is being recorded: its parent and one trial."""

    folder: Path
    store: MlflowClient
    front: Front
    log: WriteAheadLog
    patch: pytest.MonkeyPatch
    undo: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def database(self) -> Path:
        return self.folder / "mlflow.db"

    def run(self, key: str) -> str:
        found = self.log.run_id(key)
        assert found is not None
        return found

    def settle(self) -> None:
        until = time.monotonic() + 30
        while self.log.undelivered and time.monotonic() < until:
            time.sleep(0.01)
        assert self.log.undelivered == 0


def _delete(what: str) -> Callable[[Search], None]:
    def do(search: Search) -> None:
        if what == "experiment":
            search.store.delete_experiment(search.store.get_run(search.run("search")).info.experiment_id)
        else:
            search.store.delete_run(search.run(what))

    return do


def _read_only(search: Search) -> None:
    # What MLflow has open for writing stays so; a journal cannot be made in a folder that may only be read.
    search.undo.enter_context(read_only(search.database, search.folder))


def _older_metrics(search: Search) -> None:
    change(search.database, "ALTER TABLE metrics RENAME COLUMN step TO step_of_old")
    search.undo.callback(change, search.database, "ALTER TABLE metrics RENAME COLUMN step_of_old TO step")


def _artifacts_read_only(search: Search) -> None:
    (search.folder / "mlartifacts/search").mkdir(parents=True, exist_ok=True)
    search.undo.enter_context(read_only(search.folder / "mlartifacts/search"))


def _quota(search: Search) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(122, os.strerror(122), "/bucket/note.txt")

    search.patch.setattr(MlflowClient, "log_artifact", full)
    search.undo.callback(search.patch.undo)


def _answers(status: int, text: str = "no") -> Callable[[Search], None]:
    def do(search: Search) -> None:
        """The real client, at a server that answers so."""
        search.front.answer = (status, text)
        before = MlflowClient(search.front.uri).log_batch
        search.patch.setattr(MlflowClient, "log_batch", lambda self, *arguments, **values: before(*arguments, **values))
        search.undo.callback(search.patch.undo)

    return do


#: How the state comes about, and what the sentence says.
STATES: dict[str, tuple[Callable[[Search], None], str]] = {
    "deleted experiment": (_delete("experiment"), "mlflow experiments restore --experiment-id"),
    "deleted trial": (_delete("t0"), "mlflow runs restore --run-id"),
    "deleted parent": (_delete("search"), "mlflow runs restore --run-id"),
    "read-only": (_read_only, "writable"),
    "older metrics": (_older_metrics, "mlflow db upgrade sqlite:"),
    "artifacts read-only": (_artifacts_read_only, "writable"),
    "quota": (_quota, "have the quota raised"),
    "403": (_answers(403), "let you write"),
    "RESOURCE_EXHAUSTED": (_answers(400, '{"error_code": "RESOURCE_EXHAUSTED", "message": "no more runs"}'), "have the limit raised"),
    "429": (_answers(429), "too many requests"),
    "503": (_answers(503), "fails with status 503"),
}


@pytest.mark.parametrize("name", STATES)
def test_in_the_middle_nothing_is_given_up_and_upload_delivers_all_afterwards(
    store: MlflowClient, front: Front, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/note.txt").write_text("kept")
    path = tmp_path / "out/search.jsonl"
    break_it, says = STATES[name]
    with without_privilege(), pytest.MonkeyPatch.context() as patch:
        search = Search(tmp_path, store, front, WriteAheadLog.open(path, "search"), patch)
        log = search.log
        log.begin("search", "search")
        log.begin("t0", "trial", "search", {"optim.lr": 0.1})
        log.metrics("t0", 0, {"nme": 9.0})
        search.settle()
        with search.undo:
            break_it(search)
            for step in (1, 2):
                log.metrics("t0", step, {"nme": 9.0 - step})
            log.artifacts("search", tmp_path / "out/note.txt", "notes")
            log.tags("search", {"winner": "t0"})
            log.end("t0", "FINISHED")
            log.end("search", "FINISHED")
            until = time.monotonic() + 20  # The first try may take long on a busy machine.
            while says not in log.missing() and time.monotonic() < until:
                time.sleep(0.02)
            assert log.close(0.3) > 0
            assert log.dropped == 0
            said = log.missing()
            assert says in said and f"`fkp track upload {path}` delivers them" in said and "\n" not in said
            if name.startswith("deleted"):
                if name != "deleted experiment":
                    assert says in str(upload(path, timeout_s=0.3).trouble)
                else:
                    with pytest.raises(FkpError, match=says):
                        upload(path)
                follow(said)
    capsys.readouterr()
    assert main(["upload", str(path)]) == 0
    assert re.fullmatch(r"\d+ operations delivered\n", capsys.readouterr().out)
    trial, parent = store.get_run(search.run("t0")), store.get_run(search.run("search"))
    assert [(entry.step, entry.value) for entry in store.get_metric_history(trial.info.run_id, "nme")] == [(0, 9.0), (1, 8.0), (2, 7.0)]
    assert (trial.info.status, parent.info.status, parent.data.tags["winner"]) == ("FINISHED", "FINISHED", "t0")
    assert [item.path for item in store.list_artifacts(parent.info.run_id, "notes")] == ["notes/note.txt"]


def test_a_state_that_is_undone_in_time_needs_no_upload(
    store: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fkp.track.write_ahead_log._LONGEST_WAIT_S", 0.1)
    log = WriteAheadLog.open(tmp_path / "search.jsonl", "search")
    log.begin("search", "search")
    while log.run_id("search") is None or log.undelivered:
        time.sleep(0.01)
    store.delete_run(str(log.run_id("search")))
    log.metrics("search", 1, {"nme": 2.0})
    while log.trouble is None:
        time.sleep(0.01)
    follow(caplog.messages[-1])
    assert log.close(30) == 0
    assert log.missing() == ""
    assert "answers again" in caplog.text


def test_a_run_that_was_made_and_deleted_before_its_id_was_noted_is_not_made_twice(store: MlflowClient, tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    log = WriteAheadLog.open(path, "search")
    log.begin("search", "search")
    assert log.close(30) == 0
    path.with_name("search.jsonl.state").unlink()
    store.delete_run(str(log.run_id("search")))
    assert upload(path, timeout_s=0.3).left == 1
    store.restore_run(str(log.run_id("search")))
    assert upload(path).left == 0
    assert len(store.search_runs([store.get_experiment_by_name("search").experiment_id])) == 1


def test_an_operator_is_not_waited_for_as_long_as_a_server(store: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fkp.track.write_ahead_log._OPERATOR_S", 0.2)
    log = WriteAheadLog.open(tmp_path / "search.jsonl", "search")
    store.delete_experiment(store.get_experiment_by_name("search").experiment_id)
    log.begin("search", "search")
    began = time.monotonic()
    assert log.close(600) == 1
    assert time.monotonic() - began < 60


def _record() -> None:
    with track.recording(build_config(), {}):
        pytest.fail("it began")


def _search() -> None:
    WriteAheadLog.open("search.jsonl", "fkp").close()
    pytest.fail("it began")


BEGINNINGS = {"training": _record, "search": _search}


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_a_deleted_experiment_is_refused_as_something_begins_and_restored_as_said(store: MlflowClient, tmp_path: Path, begin: str) -> None:
    experiment = store.create_experiment("fkp")
    store.delete_experiment(experiment)
    with pytest.raises(FkpError) as caught:
        BEGINNINGS[begin]()
    assert str(caught.value) == (
        f"cannot use the MLflow store sqlite:///{tmp_path}/mlflow.db: MLflow's experiment {experiment} is deleted: restore it by "
        f"`MLFLOW_TRACKING_URI=sqlite:///{tmp_path}/mlflow.db mlflow experiments restore --experiment-id {experiment}`, or choose "
        "another experiment by --track.experiment NAME"
    )
    assert not (tmp_path / "search.jsonl").exists()
    follow(str(caught.value))
    with track.recording(build_config(), {}):
        pass


@pytest.mark.parametrize("begin", BEGINNINGS)
@pytest.mark.parametrize(("status", "says"), [(403, "let you write"), (404, "no MLflow server"), (200, "no MLflow server")])
def test_a_server_that_refuses_is_told_as_something_begins(
    front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: str, status: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", front.uri)
    front.answer = (status, "<html>")
    with pytest.raises(FkpError, match=says):
        BEGINNINGS[begin]()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("begin", BEGINNINGS)
@pytest.mark.parametrize("known", [True, False])
def test_a_store_that_cannot_be_written_is_refused_as_something_begins(
    store: MlflowClient, tmp_path: Path, begin: str, known: bool
) -> None:
    if known:
        store.create_experiment("fkp", tags={"mlflow.experimentKind": "custom_model_development"})
    with read_only(tmp_path / "mlflow.db", tmp_path), pytest.raises(FkpError, match=r"mlflow\.db and its folder writable"):
        BEGINNINGS[begin]()
    assert not (tmp_path / "search.jsonl").exists()


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_an_old_schema_is_refused_as_something_begins(
    empty_store: Path, tmp_path: Path, begin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    database = tmp_path / "old.db"
    shutil.copyfile(empty_store, database)
    revisions = list(ScriptDirectory.from_config(_get_alembic_config("")).walk_revisions())
    change(database, f"UPDATE alembic_version SET version_num = '{revisions[1].revision}'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    with pytest.raises(FkpError, match=rf"make a backup of the database and run `mlflow db upgrade sqlite:///{database}`"):
        BEGINNINGS[begin]()


@pytest.mark.parametrize("what", ["deleted", "gone"])
def test_a_run_that_cannot_be_resumed_is_refused(store: MlflowClient, tmp_path: Path, what: str) -> None:
    with track.recording(build_config(), {}) as record:
        pass
    log = WriteAheadLog.open("search.jsonl", "fkp")
    log.adopt("run", record.run_id)
    assert log.close(30) == 0
    if what == "deleted":
        store.delete_run(record.run_id)
    else:
        change(tmp_path / "mlflow.db", f"DELETE FROM runs WHERE run_uuid = '{record.run_id}'")
    says = f"runs restore --run-id {record.run_id}`, or choose another" if what == "deleted" else "put a backup of the store back"
    with pytest.raises(FkpError, match=says), track.recording(build_config(), {}, record.run_id):
        pytest.fail("it was resumed")
    with pytest.raises(FkpError, match=says):
        WriteAheadLog.open("search.jsonl", "fkp")
