"""The way of an epoch's metrics from the training loop into MLflow.

The loop's callback hands them to the driver, which writes them into a write-ahead log: a store that is away delays them and not the
training. They also ride in each checkpoint, so that a driver on another machine has what the lost one had not delivered.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from fkp.errors import FkpError
from fkp.track.write_ahead_log import WriteAheadLog

if TYPE_CHECKING:
    from fkp.track import Record
    from fkp.train.run_dir import Run

WriteMetrics = Callable[[int, int, Mapping[str, float]], None]
"""Takes one step's metrics: the step, when they were found in milliseconds since 1970, their values by name."""

#: Key of the run in its log.
_KEY = "run"
#: A training that ends waits so long for a store that does not answer: a server that is started again takes a minute or two.
_AT_END_S = 120.0
#: An error, or Ctrl-C, waits no longer than this for a store that does not answer; the log keeps what is left.
_AFTER_ERROR_S = 3.0


class MetricLog(pl.Callback):
    """Writes the learning rates as an epoch begins, and all that the epoch has logged as it ends.

    It resumes with the whole history of its checkpoint and writes it again, for who knows what the store has of it: the store takes
    the same value of the same step and time once only. Metrics that workers reduce together are read on every one of them.

    Args:
        write: Takes the metrics. Of a group's workers only the first hands them on.
    """

    def __init__(self, write: WriteMetrics) -> None:
        self._write = write
        self._history: list[tuple[int, int, dict[str, float]]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        groups = enumerate(trainer.optimizers[0].param_groups, 1)
        self._log(trainer.global_step, {f"lr-{type(trainer.optimizers[0]).__name__}/pg{number}": group["lr"] for number, group in groups})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(trainer.global_step - 1, {**trainer.callback_metrics, "epoch": trainer.current_epoch})

    def state_dict(self) -> dict[str, Any]:
        return {"history": self._history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._history = state_dict["history"]
        for entry in self._history:
            self._write(*entry)

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        entry = step, int(time.time() * 1000), {name: float(value) for name, value in values.items()}
        self._history.append(entry)
        self._write(*entry)


@contextlib.contextmanager
def writing_ahead(run: Run, record: Record) -> Iterator[WriteMetrics]:
    """Write metrics into the run's log while the block runs, and flush it into the store in the background.

    Raises:
        FkpError: The store cannot be used as the block begins, or does not answer as it ends: the same command delivers what is left.
    """
    log = WriteAheadLog.open(run.folder / "metrics.jsonl", run.config.track.experiment, record.uri)
    try:
        log.adopt(_KEY, record.run_id)
        for entry in left_by_earlier_version(run.folder):
            log.metrics(_KEY, entry[0], entry[2], entry[1])
        (run.folder / _EARLIER_LOG).unlink(missing_ok=True)
        yield lambda step, time_ms, values: log.metrics(_KEY, step, values, time_ms)
    except BaseException:
        log.close(_AFTER_ERROR_S)
        raise
    if left := log.close(_AT_END_S):
        raise FkpError(
            f"MLflow does not answer, {left} entries of run {run.name} are only in {log.path}: start it and run the same command again"
        )


_EARLIER_LOG, _EARLIER_CHECKPOINT = "figures.jsonl", "figures.json"


def left_by_earlier_version(folder: Path) -> list[tuple[int, int, dict[str, float]]]:
    """Metrics that version 0.1 had not delivered, in the folder of a run or of a checkpoint: step, time in milliseconds, values."""
    log, checkpoint = folder / _EARLIER_LOG, folder / _EARLIER_CHECKPOINT
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.is_file() else []
    entries = json.loads(checkpoint.read_text(encoding="utf-8")) if checkpoint.is_file() else []
    return [*entries, *(json.loads(line) for line in lines if line.endswith("\n"))]  # A cut line had not been promised to the worker.
