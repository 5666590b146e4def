"""Operations of a write-ahead log, written into an MLflow store. Every one of them may be done twice and is then done once.

A run is found again by a tag, a metric by its key, step and time, an artifact by its name; the rest replaces itself. What the store
refuses for ever is left out, alone: the other values of the same operation are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fkp.track.store import MAX_TAG
from fkp.track.trouble import Trouble, deleted, diagnose

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Tag that finds a run of a log again: `<id of the log>/<key of the run>`.
KEY_TAG = "fkp.outbox_key"

# Limits of one request; MLflow's own for parameters and tags is 100, for metrics 1000.
_MAX_BATCH = 100
_MAX_METRICS = 1000


class Refused(Exception):
    """The operation cannot be delivered, now or later."""


class Delivery:
    """Delivers the operations of one log.

    Args:
        client: Talks to the store.
        uri: Of the store.
        experiment: Id of the experiment.
        log: Id of the log.
        runs: MLflow run of each key; grows.
    """

    def __init__(self, client: MlflowClient, uri: str, experiment: str, log: str, runs: dict[str, str]) -> None:
        self.client = client
        self.uri = uri
        self.experiment = experiment
        self.log = log
        self.runs = runs
        self._refused: list[str] = []

    def deliver(self, operation: Mapping[str, Any]) -> None:
        """Do one operation.

        Raises:
            Refused: The store refuses it, or a part of it, for ever; the rest is done.
            Exception: It can be done later: whatever MLflow, its database or its artifact store raises.
        """
        fields = dict(operation)
        kind, key = fields.pop("op"), fields.pop("key")
        self._refused.clear()
        if kind == "adopt":
            self.runs[key] = fields["run_id"]
            return
        if kind == "begin":
            self._try(self._begin, key, **fields)
        elif key not in self.runs:
            raise Refused(f"run {key} could not be begun")
        else:
            do: dict[str, Callable[..., None]]
            do = {"metrics": self._metrics, "tags": self._tags, "artifacts": self._artifacts, "end": self._end}
            self._try(do[kind], self.runs[key], **fields)
        if self._refused:
            raise Refused("; ".join(self._refused))

    def explain(self, error: Exception) -> Trouble:
        """What the error of a delivery means: where the whole experiment is deleted, its runs are, too, and come back with it."""
        trouble = diagnose(error, self.uri)
        if trouble.kind != "deleted run":
            return trouble
        try:
            stage = self.client.get_experiment(self.experiment).lifecycle_stage
        except Exception as unanswered:  # Then the store has just gone away altogether.
            return diagnose(unanswered, self.uri)
        return deleted(self.uri, "experiment", self.experiment) if stage == "deleted" else trouble

    def _try(self, call: Callable[..., object], *arguments: Any, **fields: Any) -> bool:
        """Whether a call was done; False where the store refuses it for ever."""
        try:
            call(*arguments, **fields)
        except Exception as error:
            trouble = diagnose(error, self.uri)
            if trouble.hope != "final":
                raise
            self._refused.append(trouble.reason)
            return False
        return True

    def _write(self, run_id: str, what: str, entries: Sequence[Any], most: int) -> None:
        """Write entries of a run, as many at once as the store takes; for one wrong entry it refuses all of its batch."""
        for start in range(0, len(entries), most):
            batch, before = entries[start : start + most], len(self._refused)
            if not self._try(self.client.log_batch, run_id, **{what: batch}) and len(batch) > 1:
                del self._refused[before:]
                for entry in batch:
                    self._try(self.client.log_batch, run_id, **{what: [entry]})

    def _begin(self, key: str, name: str, parent: str | None, params: Mapping[str, str], tags: Mapping[str, str], time_ms: int) -> None:
        from mlflow.entities import Param, ViewType
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        if parent is not None:
            tags = {**tags, MLFLOW_PARENT_RUN_ID: self.runs[parent]} if parent in self.runs else tags
        if key not in self.runs:
            mark = f"{self.log}/{key}"
            # A process may have died, or an answer been lost, between the making of the run and the noting of its id.
            # One that was deleted meanwhile is restored, and not made twice.
            found = self.client.search_runs([self.experiment], f"tags.`{KEY_TAG}` = '{mark}'", ViewType.ALL, max_results=1)
            run = found[0] if found else self.client.create_run(self.experiment, time_ms, {KEY_TAG: mark}, name)
            self.runs[key] = run.info.run_id
        run_id = self.runs[key]
        self.client.update_run(run_id, status="RUNNING")  # It may have ended before.
        self._tags(run_id, tags)
        self._write(run_id, "params", [Param(name, value[:MAX_TAG]) for name, value in params.items()], _MAX_BATCH)

    def _metrics(self, run_id: str, step: int, time_ms: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        self._write(run_id, "metrics", [Metric(name, value, time_ms, step) for name, value in values.items()], _MAX_METRICS)

    def _tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self._write(run_id, "tags", [RunTag(name, value[:MAX_TAG]) for name, value in tags.items()], _MAX_BATCH)

    def _artifacts(self, run_id: str, path: str, folder: str) -> None:
        place = Path(path)
        if not place.exists():
            raise Refused(f"{path} is not there any more")
        upload = self.client.log_artifacts if place.is_dir() else self.client.log_artifact
        upload(run_id, path, folder)

    def _end(self, run_id: str, status: str, time_ms: int) -> None:
        self.client.set_terminated(run_id, status, time_ms)
