"""The write-ahead log: nothing is lost, nothing is written twice."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from fkp.errors import FkpError
from fkp.track.__main__ import main
from fkp.track.store import open_client
from fkp.track.write_ahead_log import File, WriteAheadLog, state_path, upload

from .conftest import lost

if TYPE_CHECKING:
    from .conftest import Server


@pytest.fixture(autouse=True, scope="module")
def _server_starts_meanwhile(server: Server) -> None:
    """It takes as long as all tests before the one that needs it."""


def _runs(store: MlflowClient) -> dict[str, Run]:
    """All runs by name; a run that was made twice fails here."""
    experiment = store.get_experiment_by_name("search")
    assert experiment is not None
    runs = store.search_runs([experiment.experiment_id])
    names = [str(run.info.run_name) for run in runs]
    assert sorted(names) == sorted(set(names))
    return dict(zip(names, runs, strict=True))


def _history(store: MlflowClient, run: Run, key: str) -> list[tuple[int, float]]:
    return sorted((entry.step, entry.value) for entry in store.get_metric_history(run.info.run_id, key))


def _write_search(log: WriteAheadLog, trials: int = 2, steps: int = 3) -> None:
    log.begin("search", "search", params={"trials": trials}, tags={"data_digest": "abc"})
    for trial in range(trials):
        log.begin(f"t{trial}", f"trial {trial}", "search", {"optim.lr": 0.1 * trial})
        for step in range(steps):
            log.metrics(f"t{trial}", step, {"nme": 10.0 * trial + step, "loss": float("nan")})
        log.end(f"t{trial}", "FINISHED")


def _check_search(store: MlflowClient, trials: int = 2, steps: int = 3) -> None:
    runs = _runs(store)
    assert set(runs) == {"search", *(f"trial {trial}" for trial in range(trials))}
    for trial in range(trials):
        run = runs[f"trial {trial}"]
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == runs["search"].info.run_id
        assert run.data.params == {"optim.lr": str(0.1 * trial)}
        assert _history(store, run, "nme") == [(step, 10.0 * trial + step) for step in range(steps)]
        assert len(_history(store, run, "loss")) == steps


def test_a_search_is_one_run_with_a_nested_run_a_trial(store: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/best.json").write_text("{}")
    before_ms = time.time() * 1000
    log = WriteAheadLog.open(tmp_path / "out/search.jsonl", "search")
    _write_search(log)
    log.artifacts("search", "notes", "summary")
    log.artifacts("search", tmp_path / "notes/best.json", "one")
    log.tags("search", {"winner": "t1"})
    log.end("search", "KILLED")
    assert log.close(30) == 0
    _check_search(store)
    parent = _runs(store)["search"]
    assert (parent.info.status, parent.data.tags["winner"], parent.data.tags["data_digest"]) == ("KILLED", "t1", "abc")
    assert parent.info.run_id == log.run_id("search")
    assert [item.path for item in store.list_artifacts(parent.info.run_id, "summary")] == ["summary/best.json"]
    assert [item.path for item in store.list_artifacts(parent.info.run_id, "one")] == ["one/best.json"]
    first = store.get_metric_history(_runs(store)["trial 0"].info.run_id, "nme")[0]
    assert before_ms - 1 <= first.timestamp <= time.time() * 1000


def test_a_store_that_cannot_be_used_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://name:secret@127.0.0.1:9")
    with pytest.raises(FkpError, match=r"^cannot reach MLflow at http://127\.0\.0\.1:9 .*start the server or unset"):
        WriteAheadLog.open(tmp_path / "search.jsonl", "search")
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(FkpError, match="cannot use the MLflow store sqlite:"):
        WriteAheadLog.open(tmp_path / "search.jsonl", "search")
    assert not (tmp_path / "search.jsonl").exists(), "a refused start leaves nothing that a later start would continue with"


def test_a_lost_store_stops_nothing_and_loses_nothing(store: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = WriteAheadLog.open(tmp_path / "search.jsonl", "search")
    log.begin("first", "first")
    with lost(tmp_path / "mlflow.db"):
        began = time.monotonic()
        _write_search(log, trials=8, steps=5)
        assert time.monotonic() - began < 1, "writing waits for nobody"
        time.sleep(0.5)
        assert log.undelivered >= 1 + 8 * 7
        assert f"going on, the record is kept in {tmp_path / 'search.jsonl'}" in caplog.text
    assert log.close(30) == 0
    assert "answers again" in caplog.text
    runs = _runs(store)
    assert len(runs) == 10
    assert [len(_history(store, runs[f"trial {trial}"], "nme")) for trial in range(8)] == [5] * 8


def test_what_is_left_is_uploaded_by_one_command(store: MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "search.jsonl"
    log = WriteAheadLog.open(path, "search")
    with lost(tmp_path / "mlflow.db"):
        _write_search(log)
        began = time.monotonic()
        assert log.close(0.5) == 11
        assert time.monotonic() - began < 5
        assert upload(path, timeout_s=0.5)[:3] == (0, 0, 11)
    assert main(["upload", str(path)]) == 0
    assert capsys.readouterr().out == "11 operations delivered\n"
    _check_search(store)
    assert main(["upload", str(path)]) == 0
    assert capsys.readouterr().out == "0 operations delivered\n"


def test_an_upload_that_is_not_complete_says_so(
    store: MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = WriteAheadLog.open(tmp_path / "search.jsonl", "search")
    with lost(tmp_path / "mlflow.db"):
        _write_search(log)
        log.close(0)
        monkeypatch.setattr(upload, "__defaults__", (None, 0.5))
        sentence = r"^11 operations of .*search\.jsonl are not delivered: .*no such table: runs.* and run the same command again$"
        with pytest.raises(FkpError, match=sentence):
            main(["upload", str(tmp_path / "search.jsonl")])
    assert capsys.readouterr().out == "0 operations delivered\n"


def test_another_process_goes_on_with_the_same_runs(store: MlflowClient, tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    first = WriteAheadLog.open(path, "search")
    _write_search(first)
    assert first.close(30) == 0
    second = WriteAheadLog.open(path, "search")
    second.begin("search", "search")
    second.begin("t1", "trial 1", "search", {"optim.lr": 0.1})
    second.metrics("t1", 3, {"nme": 13.0, "loss": 0.0})
    deadline = time.monotonic() + 20
    while second.undelivered and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _runs(store)["trial 1"].info.status == "RUNNING"
    second.end("t1", "FAILED")
    assert second.close(30) == 0
    runs = _runs(store)
    assert len(runs) == 3
    assert runs["trial 1"].info.status == "FAILED"
    assert second.run_id("t1") == first.run_id("t1") == runs["trial 1"].info.run_id
    assert _history(store, runs["trial 1"], "nme") == [(0, 10.0), (1, 11.0), (2, 12.0), (3, 13.0)]


def test_everything_may_be_delivered_twice(store: MlflowClient, tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    log = WriteAheadLog.open(path, "search")
    _write_search(log)
    assert log.close(30) == 0
    state_path(path).unlink()  # As if the process had died before it noted anything.
    assert upload(path) == (11, 0, 0, None)
    _check_search(store)


def test_metrics_of_one_moment_are_in_the_store_once_and_a_run_that_is_there_can_be_adopted(store: MlflowClient, tmp_path: Path) -> None:
    run = store.create_run(store.create_experiment("search"), run_name="there")
    log = WriteAheadLog.open(tmp_path / "metrics.jsonl", "search")
    log.adopt("run", run.info.run_id)
    for values in ({"loss": 0.5}, {"loss": 0.5, "rate": 0.1}):  # As after a restart, see fkp.train.metric_log.
        log.metrics("run", 7, values, 1_700_000_000_000)
    log.metrics("run", 8, {"loss": 0.5}, 1_700_000_001_000)
    assert log.close(30) == 0
    (found,) = _runs(store).values()
    assert (found.info.run_id, log.run_id("run")) == (run.info.run_id, run.info.run_id)
    assert _history(store, found, "loss") == [(7, 0.5), (8, 0.5)]
    assert [entry.timestamp for entry in store.get_metric_history(run.info.run_id, "rate")] == [1_700_000_000_000]
    again = WriteAheadLog.open(tmp_path / "metrics.jsonl")
    again.metrics("run", 9, {"loss": 0.5})
    assert again.close(30) == 0
    assert len(_history(store, found, "loss")) == 3


def test_a_killed_process_loses_nothing_that_it_wrote(
    store: MlflowClient, tmp_path: Path, run_process: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    code = """
import os, signal
from fkp.track.write_ahead_log import WriteAheadLog
log = WriteAheadLog.open("search.jsonl", "search")
log.begin("search", "search")
log.begin("t0", "trial 0", "search", {"optim.lr": 0.0})
while log.run_id("t0") is None:
    pass
for step in range(150):
    log.metrics("t0", step, {"nme": float(step)})
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = run_process("-c", code, cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with (tmp_path / "search.jsonl").open("a") as file:
        file.write('{"op": "metrics", "key": "t0", "step": 150, "time_')  # A line that the kill tore off.
    log = WriteAheadLog.open(tmp_path / "search.jsonl", "search")
    assert log.undelivered > 0, "the test is to kill it before it has delivered everything"
    log.metrics("t0", 150, {"nme": 150.0})
    assert log.close(60) == 0
    assert _history(store, _runs(store)["trial 0"], "nme") == [(step, float(step)) for step in range(151)]


def test_what_the_store_refuses_for_ever_is_left_out_and_named(
    store: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    log = WriteAheadLog.open(tmp_path / "search.jsonl", "search")
    log.begin("search", "search")
    log.metrics("search", 0, {"loss": 3.0, "a name? no": 1.0, "rate": 0.5})
    log.artifacts("search", tmp_path / "gone.txt", "notes")
    log.metrics("search", 1, {"nme": 2.0})
    with caplog.at_level(logging.WARNING):
        assert log.close(30) == 0
    assert log.dropped == 2
    assert "left out: metrics of run search: Invalid value" in caplog.text
    assert f"left out: artifacts of run search: {tmp_path / 'gone.txt'} is not there any more" in caplog.text
    run = _runs(store)["search"]
    assert _history(store, run, "nme") == [(1, 2.0)]
    assert [_history(store, run, key) for key in ("loss", "rate")] == [[(0, 3.0)], [(0, 0.5)]], "one wrong name costs no other value"
    state_path(tmp_path / "search.jsonl").unlink()
    assert main(["upload", str(tmp_path / "search.jsonl")]) == 0
    assert capsys.readouterr().out == "2 operations delivered, 2 refused by MLflow and left out\n"


def test_what_may_be_a_busy_database_is_tried_again(store: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow has one code for a wrong request and for a database without a free connection: it is no reason to give up."""
    left = [7]
    log_batch = MlflowClient.log_batch

    def busy(self: MlflowClient, *arguments: Any, **values: Any) -> Any:
        if values.get("metrics") and left[0]:
            left[0] -= 1
            raise MlflowException("QueuePool limit reached", BAD_REQUEST)
        return log_batch(self, *arguments, **values)

    monkeypatch.setattr(MlflowClient, "log_batch", busy)
    monkeypatch.setattr("fkp.track.write_ahead_log._LONGEST_WAIT_S", 0.1)
    log = WriteAheadLog.open(tmp_path / "search.jsonl", "search")
    log.begin("search", "search")
    log.metrics("search", 1, {"nme": 2.0})
    assert log.close(30) == 0
    assert (log.dropped, left) == (0, [0])
    assert _history(store, _runs(store)["search"], "nme") == [(1, 2.0)]


def test_two_processes_cannot_hold_one_file(store: MlflowClient, tmp_path: Path) -> None:
    log = WriteAheadLog.open(tmp_path / "search.jsonl", "search")
    with pytest.raises(FkpError, match=r"search\.jsonl is held by another process"):
        upload(tmp_path / "search.jsonl")
    log.close(5)
    assert upload(tmp_path / "search.jsonl") == (0, 0, 0, None)


def test_a_search_does_not_go_on_in_another_store(
    store: MlflowClient, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, begun_in = tmp_path / "search.jsonl", f"sqlite:///{tmp_path}/mlflow.db"
    log = WriteAheadLog.open(path, "search")
    with lost(tmp_path / "mlflow.db"):
        _write_search(log)
        log.close(0)
    shutil.copyfile(empty_store, tmp_path / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(FkpError, match=rf"begun in the MLflow store {begun_in}, MLFLOW_TRACKING_URI is .*other\.db now: set it back"):
        WriteAheadLog.open(path, "search")
    # An upload needs no variable: the file knows where it belongs; and it can be told that the store has moved.
    shutil.move(tmp_path / "mlflow.db", tmp_path / "moved.db")
    assert upload(path, f"sqlite:///{tmp_path}/moved.db") == (11, 0, 0, None)
    _check_search(MlflowClient(f"sqlite:///{tmp_path}/moved.db"))
    assert upload(path) == (0, 0, 0, None)


def test_what_was_not_begun_is_a_mistake_of_the_caller(store: MlflowClient, tmp_path: Path) -> None:
    log = WriteAheadLog.open(tmp_path / "search.jsonl", "search")
    with pytest.raises(ValueError, match="run 'other' was not begun"):
        log.metrics("other", 0, {"nme": 1.0})
    with pytest.raises(ValueError, match="run 'other' was not begun"):
        log.begin("t0", "trial", "other")
    log.begin("search", "search")
    with pytest.raises(ValueError, match="not as 'DONE'"):
        log.end("search", "DONE")  # type: ignore[arg-type]
    assert log.close(30) == 0
    with pytest.raises(ValueError, match="is closed"):
        log.tags("search", {"a": "b"})


def test_a_file_that_is_not_ours_is_left_alone(store: MlflowClient, tmp_path: Path) -> None:
    for content in ("a letter", "a letter\nwithout an end", '{"kind": "other"}\n'):
        (tmp_path / "letter.txt").write_text(content)
        with pytest.raises(FkpError, match=r"letter\.txt is not the record of a training or a search"):
            upload(tmp_path / "letter.txt")
        with pytest.raises(FkpError, match=r"letter\.txt is not the record of a training or a search"):
            File(tmp_path / "letter.txt", "search", "uri")
        assert (tmp_path / "letter.txt").read_text() == content
    with pytest.raises(FkpError, match=r"none\.jsonl is missing or empty: name the file"):
        upload(tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()


def test_a_file_shorter_than_its_state_is_refused(store: MlflowClient, tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    log = WriteAheadLog.open(path, "search")
    _write_search(log)
    log.close(30)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    with pytest.raises(FkpError, match=r"is shorter than .*search\.jsonl\.state says: delete search\.jsonl\.state"):
        upload(path)


def test_a_full_disk_is_one_sentence_and_leaves_whole_lines(tmp_path: Path) -> None:
    file = File(tmp_path / "search.jsonl", "search", "uri")
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.end + 10, limits[1]))
        with pytest.raises(FkpError, match=r"cannot write .*search\.jsonl: .*: free some space"):
            file.append({"op": "end", "key": "t0"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    file.append({"op": "end", "key": "t1"})
    assert [operation["key"] for operation, _ in file.operations(0)] == ["t1"]
    file.close()


def test_the_environment_is_as_before(store: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    open_client(f"sqlite:///{tmp_path}/mlflow.db")  # It sets others for good.
    before = dict(os.environ)
    log = WriteAheadLog.open(tmp_path / "search.jsonl", "search")
    log.begin("search", "search")
    assert log.close(30) == 0
    assert dict(os.environ) == before


@pytest.mark.slow("an MLflow server starts twice; test_registry.py talks to one in the fast tier")
def test_a_server_killed_in_the_middle_gets_every_figure_of_every_step(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.wait()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    (tmp_path / "best.txt").write_text("kept")
    log = WriteAheadLog.open(tmp_path / "search.jsonl", "search")
    log.begin("search", "search")
    for trial in range(3):
        log.begin(f"t{trial}", f"trial {trial}", "search", {"optim.lr": trial})
    for step in range(60):
        for trial in range(3):
            log.metrics(f"t{trial}", step, {"nme": float(step), "loss": 0.5})
        if step == 20:
            server.kill()  # With operations on their way.
        if step == 30:
            log.begin("t3", "late", "search")
            log.artifacts("search", tmp_path / "best.txt", "notes")
    assert log.undelivered > 0
    server.start()
    server.wait()
    for key in ("t0", "t1", "t2", "t3", "search"):
        log.end(key, "FINISHED")
    assert log.close(60) == 0
    store = MlflowClient(server.uri)
    runs = _runs(store)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for trial in range(3):
        assert _history(store, runs[f"trial {trial}"], "nme") == [(step, float(step)) for step in range(60)]
        assert _history(store, runs[f"trial {trial}"], "loss") == [(step, 0.5) for step in range(60)]
    assert runs["late"].data.tags["mlflow.parentRunId"] == runs["search"].info.run_id
    assert [item.path for item in store.list_artifacts(runs["search"].info.run_id, "notes")] == ["notes/best.txt"]
