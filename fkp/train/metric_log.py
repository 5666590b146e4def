"""The way of an epoch's metrics from the training loop into MLflow.

The loop's callback hands them to the driver, which writes them into a write-ahead log: a store that is away delays them and not the
training. They also ride in each checkpoint, so that a driver on another machine has what the lost one had not delivered.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

if TYPE_CHECKING:
    from fkp.track import Record
    from fkp.train.run_dir import Run

WriteMetrics = Callable[[int, int, Mapping[str, float]], None]
"""Takes one step's metrics: the step, when they were found in milliseconds since 1970, their values by name."""


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


def write_ahead(run: Run, record: Record) -> WriteMetrics:
    """Write all that follows into the run's log, which is flushed into the store in the background, and return what takes metrics.

    Raises:
        FkpError: The store cannot be used.
    """
    record.write_ahead(run.folder / "metrics.jsonl", run.config.track.experiment)

    def write(step: int, time_ms: int, values: Mapping[str, float]) -> None:
        record.log_metrics(values, step, time_ms)

    for entry in left_by_earlier_version(run.folder):
        write(*entry)
    (run.folder / _EARLIER_LOG).unlink(missing_ok=True)
    return write


_EARLIER_LOG, _EARLIER_CHECKPOINT = "figures.jsonl", "figures.json"


def left_by_earlier_version(folder: Path) -> list[tuple[int, int, dict[str, float]]]:
    """Metrics that version 0.1 had not delivered, in the folder of a run or of a checkpoint: step, time in milliseconds, values."""
    log, checkpoint = folder / _EARLIER_LOG, folder / _EARLIER_CHECKPOINT
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.is_file() else []
    entries = json.loads(checkpoint.read_text(encoding="utf-8")) if checkpoint.is_file() else []
    return [*entries, *(json.loads(line) for line in lines if line.endswith("\n"))]  # A cut line had not been promised to the worker.
