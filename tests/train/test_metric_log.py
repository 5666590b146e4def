"""Metrics on their way from the training loop into MLflow: all of them, each once, whatever is lost meanwhile."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fkp import track
from fkp.config import Config
from fkp.errors import FkpError
from fkp.track.write_ahead_log import upload
from fkp.train import loop
from fkp.train.metric_log import WriteMetrics, left_by_earlier_version, write_ahead
from fkp.train.run_dir import open_run
from tests.faces import VAL_NME
from tests.track.conftest import follow, lost

Entry = tuple[int, int, Mapping[str, float]]
Report = Callable[[Mapping[str, float]], None]


def quiet(progress: Mapping[str, float]) -> None:
    """Nobody watches."""


@contextlib.contextmanager
def opened(config: Config) -> Iterator[tuple[track.Record, Path, WriteMetrics]]:
    """A run: its record, its folder, and what takes its metrics."""
    with open_run(config) as run, track.recording(run.config, {}, run.mlflow_run_id) as record:
        run.mlflow_run_id = record.run_id
        run.save()
        yield record, run.folder, write_ahead(run, record)


def fit(config: Config, report: Report = quiet) -> str:
    return fit_and_say(config, report).run_id


def fit_and_say(config: Config, report: Report = quiet) -> track.Record:
    """Train, and record what comes after the last epoch as `fkp.train.publish` does."""
    with opened(config) as (record, folder, write):
        loop.fit_in_process(config, folder / "checkpoints", report, write)
        record.log_metrics({"headline/val_nme_interocular_pct": 4.0})
        record.log_tags({"bundle_digest": "abc"})
        record.log_artifacts(folder / "checkpoints", "bundle")
    return record


def check_whole(record: track.Record, epochs: int) -> None:
    """The store has every epoch once, and all that comes after the last."""
    store = MlflowClient(record.uri)
    run = store.get_run(record.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["headline/val_nme_interocular_pct"] == 4.0
    assert run.data.tags["bundle_digest"] == "abc"
    assert store.list_artifacts(record.run_id, "bundle")
    assert [len(history(record.run_id, key)) for key in (VAL_NME, "train_loss", "lr-AdamW/pg1")] == [epochs] * 3


def history(run_id: str, key: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in MlflowClient(track.tracking_uri()).get_metric_history(run_id, key)]


@pytest.fixture
def database(small_run: Callable[..., Config], tmp_path: Path) -> Path:
    return tmp_path / "mlflow.db"


@pytest.mark.parametrize("schedule", ["onecycle", "constant"])
def test_an_epoch_is_written_under_the_names_and_steps_of_lightning_s_logger(
    small_run: Callable[..., Config], tmp_path: Path, schedule: str
) -> None:
    written: list[Entry] = []
    began_ms = time.time() * 1000
    config = small_run(optim__schedule=schedule)
    loop.fit_in_process(config, tmp_path / "checkpoints", quiet, lambda *entry: written.append(entry))
    per_epoch = (written[-1][0] + 1) // 3
    starts, ends = written[::2], written[1::2]
    assert [(step, set(values)) for step, _, values in starts] == [
        (epoch * per_epoch, {"lr-AdamW/pg1", "lr-AdamW/pg2"}) for epoch in range(3)
    ]
    assert [(step, set(values)) for step, _, values in ends] == [
        ((epoch + 1) * per_epoch - 1, {"train_loss", "val_loss", VAL_NME, "images_per_s", "epoch"}) for epoch in range(3)
    ]
    assert [values["epoch"] for _, _, values in ends] == [0, 1, 2]
    if schedule == "constant":
        assert {values["lr-AdamW/pg2"] for _, _, values in starts} == {config.optim.lr}
    times = [began_ms - 1, *(time_ms for _, time_ms, _ in written), time.time() * 1000]
    assert times == sorted(times)


def test_a_resumed_training_writes_its_checkpoint_s_history_again(
    small_run: Callable[..., Config], tmp_path: Path, break_off: Callable[..., None]
) -> None:
    """As on another machine, where nobody knows what the store has of it."""
    first, second = list[Entry](), list[Entry]()
    config = small_run(train__epochs=4)

    break_off(config, tmp_path / "checkpoints", lambda *entry: first.append(entry))
    loop.fit_in_process(config, tmp_path / "checkpoints", quiet, lambda *entry: second.append(entry))
    assert len(first) == 5, "two epochs, and the beginning of the third"
    assert second[:4] == first[:4], "the same steps, times and values, the last epoch's training loss among them"
    assert [values["epoch"] for _, _, values in second[1::2]] == [0, 1, 2, 3]


def test_a_store_that_is_away_in_the_middle_gets_every_epoch_later(
    small_run: Callable[..., Config], database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = contextlib.ExitStack()
    epochs = list[float]()

    def lose_for_a_while(progress: Mapping[str, float]) -> None:
        if progress["epoch"] not in epochs:
            epochs.append(progress["epoch"])
            if progress["epoch"] == 1:
                away.enter_context(lost(database))
            if progress["epoch"] == 4:
                away.close()

    run_id = fit(small_run(train__epochs=6), lose_for_a_while)
    assert epochs == [0, 1, 2, 3, 4, 5], "training went on"
    assert caplog.text.count("going on, the record is kept in") == 1
    for key in (VAL_NME, "train_loss", "lr-AdamW/pg1"):
        assert len(history(run_id, key)) == 6


@pytest.mark.over_5s("a store that is away for four seconds")
def test_a_store_that_comes_back_after_the_last_epoch_gets_everything(
    small_run: Callable[..., Config], database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = small_run(train__epochs=3)
    away, timers = contextlib.ExitStack(), list[threading.Timer]()

    def lose(progress: Mapping[str, float]) -> None:
        if progress["epoch"] == 1 and not timers:
            away.enter_context(lost(database))
            timers.append(threading.Timer(4.0, away.close))
            timers[0].start()

    with away:
        fit(config, lose)
    run_id = json.loads((Path(config.track.storage) / "small/run.json").read_text())["mlflow_run_id"]
    assert len(history(run_id, VAL_NME)) == 3
    assert "entries wait for MLflow at sqlite:" in caplog.text and caplog.text.count("answers again") == 1


def test_a_store_that_is_away_at_the_end_is_one_sentence_and_loses_nothing(
    small_run: Callable[..., Config], database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fkp.track.run._AT_END_S", 0.5)
    away = contextlib.ExitStack()

    def lose(progress: Mapping[str, float]) -> None:
        if progress["epoch"] == 1 and not away._exit_callbacks:  # type: ignore[attr-defined]
            away.enter_context(lost(database))

    config = small_run(train__epochs=3)
    path = Path(config.track.storage) / "small/metrics.jsonl"
    with away:
        record = fit_and_say(config, lose)
        assert re.fullmatch(
            rf"\d+ entries of the record are only in {path}, because .*no such table: runs.*: .*, then `fkp track upload {path}` "
            "delivers them",
            record.undelivered,
        )
    assert len(history(record.run_id, VAL_NME)) < 3, "the test is to lose some"
    assert upload(path).left == 0
    check_whole(record, 3)


@pytest.mark.over_5s("a training and MLflow's own command line")
@pytest.mark.parametrize(
    "what", ["run", pytest.param("experiment", marks=pytest.mark.slow("a training; tests/track/test_undone.py holds it without one"))]
)
def test_what_is_deleted_in_the_middle_and_restored_gets_every_epoch_and_all_that_comes_after(
    small_run: Callable[..., Config], database: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("fkp.track.write_ahead_log._OPERATOR_S", 0.5)
    config = small_run(train__epochs=3)
    store = MlflowClient(track.tracking_uri())
    note = Path(config.track.storage) / "small/run.json"

    def delete(progress: Mapping[str, float]) -> None:
        run = store.get_run(json.loads(note.read_text())["mlflow_run_id"])
        if progress["epoch"] == 1 and run.info.lifecycle_stage == "active":
            if what == "run":
                store.delete_run(run.info.run_id)
            else:
                store.delete_experiment(run.info.experiment_id)

    record = fit_and_say(config, delete)
    assert f"mlflow {what}s restore --" in record.undelivered
    follow(record.undelivered)
    assert len(history(record.run_id, VAL_NME)) < 3
    assert upload(Path(config.track.storage) / "small/metrics.jsonl").left == 0
    check_whole(record, 3)


def test_the_training_s_own_error_is_the_one_that_is_told(small_run: Callable[..., Config], database: Path) -> None:
    began = time.monotonic()

    def train() -> None:
        with opened(small_run()) as (_, _, write), lost(database):
            write(0, 1_700_000_000_000, {"loss": 1.0})
            raise FkpError("lower the rate")

    with pytest.raises(FkpError, match="lower the rate"):
        train()
    assert time.monotonic() - began < 20, "it does not wait for the store as long as a training that ended well"


def test_what_an_earlier_version_left_is_delivered(small_run: Callable[..., Config]) -> None:
    config = small_run()
    with opened(config) as (record, folder, _):
        run_id = record.run_id
    left = folder / "figures.jsonl"
    left.write_text('[7, 1700000000000, {"loss": 1.0}]\n[8, 17')  # Its driver was killed while it wrote.
    with opened(config) as (again, _, write):
        write(9, 1_700_000_001_000, {"loss": 2.0})
    assert again.run_id == run_id
    assert history(run_id, "loss") == [(7, 1.0), (9, 2.0)]
    assert not left.exists()
    assert left_by_earlier_version(folder) == []
