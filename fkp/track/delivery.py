"""Operations of a search, written into an MLflow store. Every one of them may be done twice and is then done once.

A run is found again by a tag, a figure by its key, step and time, an artifact by its name; the rest replaces itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fkp.track.run import MAX_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Tag that finds a run of a journal again: `<id of the journal>/<key of the run>`.
KEY_TAG = "fkp.outbox_key"

# Limits of one request; MLflow's own for parameters and tags is 100, for figures 1000.
_MAX_BATCH = 100
_MAX_METRICS = 1000
# What a store answers to a request that will be wrong next time too. Everything else is worth another attempt: MLflow
# has one and the same error for a server that is gone and for one that fails.
_FINAL_CODES = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE")
# What it answers to a wrong request, and also when its database is busy: final after so many attempts at one operation.
_DOUBTFUL_CODE = "BAD_REQUEST"
_MOST_DOUBTS = 5


class Refused(Exception):
    """The operation cannot be delivered, now or later."""


class Delivery:
    """Delivers the operations of one journal.

    Args:
        client: Talks to the store.
        experiment: Id of the experiment.
        journal: Id of the journal.
        runs: MLflow run of each key; grows.
    """

    def __init__(self, client: MlflowClient, experiment: str, journal: str, runs: dict[str, str]) -> None:
        self.client = client
        self.experiment = experiment
        self.journal = journal
        self.runs = runs
        self._doubts = 0

    def deliver(self, operation: Mapping[str, Any]) -> None:
        """Do one operation.

        Raises:
            Refused: The store refuses it for ever.
            Exception: The store does not answer or fails: whatever MLflow, its database or its artifact store raises.
        """
        from mlflow.exceptions import MlflowException

        fields = dict(operation)
        kind, key = fields.pop("op"), fields.pop("key")
        try:
            if kind == "begin":
                self._begin(key, **fields)
                return
            if key not in self.runs:
                raise Refused(f"run {key} could not be begun")
            do: dict[str, Callable[..., None]]
            do = {"metrics": self._metrics, "tags": self._tags, "artifacts": self._artifacts, "end": self._end}
            do[kind](self.runs[key], **fields)
            self._doubts = 0
        except MlflowException as error:
            self._doubts += error.error_code == _DOUBTFUL_CODE
            if error.error_code in _FINAL_CODES or self._doubts == _MOST_DOUBTS:
                self._doubts = 0
                raise Refused(" ".join(str(error).split())[:300]) from error
            raise

    def _begin(self, key: str, name: str, parent: str | None, params: Mapping[str, str], tags: Mapping[str, str], time_ms: int) -> None:
        from mlflow.entities import Param
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        if parent is not None:
            tags = {**tags, MLFLOW_PARENT_RUN_ID: self.runs[parent]} if parent in self.runs else tags
        if key not in self.runs:
            mark = f"{self.journal}/{key}"
            # A process may have died, or an answer been lost, between the making of the run and the noting of its id.
            found = self.client.search_runs([self.experiment], f"tags.`{KEY_TAG}` = '{mark}'", max_results=1)
            run = found[0] if found else self.client.create_run(self.experiment, time_ms, {KEY_TAG: mark}, name)
            self.runs[key] = run.info.run_id
        run_id = self.runs[key]
        self.client.update_run(run_id, status="RUNNING")  # It may have ended before.
        self._tags(run_id, tags)
        entries = [Param(name, value[:MAX_TAG]) for name, value in params.items()]
        for start in range(0, len(entries), _MAX_BATCH):
            self.client.log_batch(run_id, params=entries[start : start + _MAX_BATCH])

    def _metrics(self, run_id: str, step: int, time_ms: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        entries = [Metric(name, value, time_ms, step) for name, value in values.items()]
        for start in range(0, len(entries), _MAX_METRICS):
            self.client.log_batch(run_id, metrics=entries[start : start + _MAX_METRICS])

    def _tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        entries = [RunTag(name, value[:MAX_TAG]) for name, value in tags.items()]
        for start in range(0, len(entries), _MAX_BATCH):
            self.client.log_batch(run_id, tags=entries[start : start + _MAX_BATCH])

    def _artifacts(self, run_id: str, path: str, folder: str) -> None:
        place = Path(path)
        if not place.exists():
            raise Refused(f"{path} is not there any more")
        upload = self.client.log_artifacts if place.is_dir() else self.client.log_artifact
        upload(run_id, path, folder)

    def _end(self, run_id: str, status: str, time_ms: int) -> None:
        self.client.set_terminated(run_id, status, time_ms)
