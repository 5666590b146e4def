"""The record, in a real store."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fkp import track
from fkp.config import build_config
from fkp.errors import FkpError

from .conftest import lost


def test_a_run_holds_parameters_tags_metrics_and_artifacts(store: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("kept")
    with track.recording(build_config({"optim.lr": 0.25}), {"data_digest": "abc"}) as record:
        record.log_metrics({"test_nme": 4.5})
        record.log_artifacts(tmp_path / "note.txt", "notes")
    run = store.get_run(record.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["optim.lr"] == "0.25"
    assert run.data.params["scale.num_workers"] == "2"
    assert run.data.metrics["test_nme"] == 4.5
    assert run.data.tags["data_digest"] == "abc"
    assert run.data.tags["git_commit"]
    assert [item.path for item in store.list_artifacts(record.run_id, "notes")] == ["notes/note.txt"]
    assert (tmp_path / "mlartifacts" / "fkp").is_dir(), "artifacts lie beside the database"


def test_system_metrics_are_recorded_also_while_the_store_is_away(
    store: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fkp.track.run._SYSTEM_METRICS_EVERY_S", 0.1)
    monkeypatch.setattr("fkp.track.write_ahead_log._LONGEST_WAIT_S", 0.2)
    with track.recording(build_config(), {}, None) as record:
        record.write_ahead(tmp_path / "metrics.jsonl", "fkp")
        with lost(tmp_path / "mlflow.db"):
            time.sleep(1)
    history = store.get_metric_history(record.run_id, "system/cpu_utilization_percentage")
    assert len(history) > 3 and len({entry.step for entry in history}) == len(history)
    assert max(entry.timestamp for entry in history) - min(entry.timestamp for entry in history) > 500, "also of the time without it"


def test_a_store_that_is_lost_is_one_sentence(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That of what the block failed with, also when its end cannot be recorded either."""

    def lose(*_: object, **__: object) -> None:
        raise OSError("the line is cut")

    def record_and_lose() -> None:
        with track.recording(build_config(), {}) as record:
            for name in ("log_batch", "set_tag", "set_terminated"):
                monkeypatch.setattr(record.client, name, lose)
            record.log_metrics({"nme": 4.0})

    with pytest.raises(FkpError, match=r"^cannot use the MLflow store .*: the line is cut: set MLFLOW_TRACKING_URI$"):
        record_and_lose()
    assert "is not in the record" in caplog.text


def test_a_resumed_run_is_the_same_run(store: MlflowClient) -> None:
    with track.recording(build_config(), {}) as first:
        pass
    with track.recording(build_config(), {}, first.run_id) as second:
        assert store.get_run(first.run_id).info.status == "RUNNING"
        assert second.run_id == first.run_id
    assert store.get_run(first.run_id).info.status == "FINISHED"


def test_a_failure_is_recorded_with_its_reason(store: MlflowClient) -> None:
    with pytest.raises(FkpError), track.recording(build_config(), {}) as record:
        raise FkpError("the reason")
    run = store.get_run(record.run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"] == "FkpError: the reason"


def test_a_server_that_does_not_answer_is_one_sentence_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with (
        pytest.raises(FkpError, match=r"cannot reach MLflow at http://127\.0\.0\.1:9 .*start the server or unset"),
        track.recording(build_config(), {}),
    ):
        pass


def test_a_store_that_cannot_be_opened_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(FkpError, match="cannot use the MLflow store sqlite:"), track.recording(build_config(), {}):
        pass


def test_the_default_store_is_a_file_of_the_working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert track.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"


def test_the_commit_says_when_files_differ_from_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert track.git_commit() == "unknown"
    (tmp_path / "file").write_text("one")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["add", "file"], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *arguments], check=True)
    assert len(track.git_commit()) == 40
    (tmp_path / "file").write_text("two")
    assert track.git_commit().endswith("+changes")


def test_importing_it_imports_no_mlflow() -> None:
    code = "import fkp.track, sys; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
