"""One MLflow run, written while a block runs: directly, or, once `Record.write_ahead` is called, through a write-ahead log."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fkp.config import Config
from fkp.errors import FkpError, stopping
from fkp.track.store import ANOTHER_EXPERIMENT, ANOTHER_RUN, MAX_TAG, experiment_id, open_client, tracking_uri
from fkp.track.trouble import store_errors
from fkp.track.write_ahead_log import Status, WriteAheadLog

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

_LOG = logging.getLogger(__name__)

#: Key of the run in its log.
_KEY = "run"
#: A run that ends well waits so long for a store that does not answer: a server that is started again takes a minute or two.
_AT_END_S = 120.0
#: An error, or Ctrl-C, waits no longer than this; the log keeps what is left.
_AFTER_ERROR_S = 3.0
_SYSTEM_METRICS_EVERY_S = 10.0


@dataclass
class Record:
    """One MLflow run.

    Whatever is logged directly raises FkpError where the store does not answer, or refuses; what is written ahead does so only where
    the log's file cannot be written.

    Attributes:
        client: Talks to the store.
        uri: Of the store.
        run_id: Of the run.
        undelivered: What a log has not delivered by the end, and what to do, in one sentence; empty where nothing is missing.
    """

    client: MlflowClient
    uri: str
    run_id: str
    undelivered: str = ""
    _log: WriteAheadLog | None = None
    _monitor: SystemMetricsMonitor | None = None

    def write_ahead(self, path: Path, experiment: str) -> None:
        """Write all that follows into a log first, and measure the machine.

        Raises:
            FkpError: See `WriteAheadLog.open`.
        """
        self._log = WriteAheadLog.open(path, experiment, self.uri)
        self._log.adopt(_KEY, self.run_id)
        self._monitor = _monitor(self)
        self._monitor.start()

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0, time_ms: int | None = None) -> None:
        """Log metrics; `time_ms`, in milliseconds since 1970, is now by default."""
        if self._log is not None:
            self._log.metrics(_KEY, step, metrics, time_ms)
            return
        from mlflow.entities import Metric

        when_ms = int(time.time() * 1000) if time_ms is None else time_ms
        with store_errors(self.uri):
            self.client.log_batch(self.run_id, [Metric(key, value, when_ms, step) for key, value in metrics.items()])

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        if self._log is not None:
            self._log.tags(_KEY, tags)
            return
        with store_errors(self.uri):
            for key, value in tags.items():
                self.client.set_tag(self.run_id, key, value[:MAX_TAG])

    def log_dataset(self, name: str, digest: str, source: str, faces: int | None) -> None:
        """Say what the run is trained on.

        Args:
            name: Of the set.
            digest: Of its content; MLflow keeps the first 36 characters.
            source: Its folder or address.
            faces: How many faces train, if that is known before.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        profile = None if faces is None else json.dumps({"num_rows": faces})
        dataset = Dataset(name, digest[:36], "local", json.dumps({"uri": source}), profile=profile)
        with store_errors(self.uri):
            self.client.log_inputs(self.run_id, [DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, "training")])])

    def log_artifacts(self, path: Path, name: str) -> None:
        """Upload a file into, or the files of a folder as, the artifact folder `name`.

        What is written ahead is read when it is delivered and must still be there then.
        """
        if self._log is not None:
            self._log.artifacts(_KEY, path, name)
            return
        upload = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        with store_errors(self.uri):
            upload(self.run_id, str(path), name)

    def end(self, status: Status, timeout_s: float) -> None:
        """Mark the run as ended, and deliver what is written ahead: give up when so long nothing was."""
        if self._monitor is not None:
            self._monitor.finish()
        if self._log is None:
            with store_errors(self.uri):
                self.client.set_terminated(self.run_id, status)
            return
        try:
            self._log.end(_KEY, status)
        finally:
            self._log.close(timeout_s)
        self.undelivered = self._log.missing()


@contextlib.contextmanager
def recording(config: Config, tags: Mapping[str, str], run_id: str | None = None) -> Iterator[Record]:
    """Keep an MLflow run, new or resumed, while the block runs.

    The run ends as FINISHED, as KILLED by Ctrl-C or SIGTERM, or as FAILED with the error as a tag.

    Args:
        config: Its dotted paths become the parameters.
        tags: Of the run.
        run_id: The run to continue with.

    Raises:
        FkpError: The store cannot be reached, opened or written, or experiment or run is deleted.
    """
    uri = tracking_uri()
    client = open_client(uri)
    experiment = experiment_id(client, uri, config.track.experiment, ANOTHER_EXPERIMENT if run_id is None else "")
    with store_errors(uri, ANOTHER_RUN if run_id else ""):
        run_id = _begin(client, experiment, config, run_id)
    record = Record(client, uri, run_id)
    try:
        record.log_tags({**tags, "git_commit": git_commit()})
        yield record
    except BaseException as error:
        try:
            record.log_tags({"error": f"{type(error).__name__}: {error}"})
            record.end("KILLED" if stopping.stops(error) else "FAILED", _AFTER_ERROR_S)
        except FkpError as lost:  # Perhaps the very store that the block has just failed with.
            _LOG.warning("%s; the end of run %s is not in the record", lost, run_id)
        if record.undelivered:
            _LOG.warning("%s", record.undelivered)
        raise
    record.end("FINISHED", _AT_END_S)


def git_commit() -> str:
    """Commit of the working folder, with "+changes" when files differ from it, or "unknown" outside a checkout."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changed else "")


def _begin(client: MlflowClient, experiment: str, config: Config, run_id: str | None) -> str:
    if run_id is None:
        run_id = client.create_run(experiment, run_name=config.track.run_name).info.run_id
        for key, value in config.as_params().items():
            client.log_param(run_id, key, value)
    else:
        client.update_run(run_id, status="RUNNING")
    return run_id


def _monitor(record: Record) -> SystemMetricsMonitor:
    """What measures the machine while a run is recorded."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    class Monitor(SystemMetricsMonitor):
        """Writes into the record; MLflow's own asks the store before each value, and ends for good where that fails."""

        def monitor(self) -> None:
            while not self._shutdown_event.wait(_SYSTEM_METRICS_EVERY_S):
                self.collect_metrics()
                values = {f"{self._metrics_prefix}{name}": value for name, value in self.aggregate_metrics().items()}
                for part in self.monitors:
                    part.clear_metrics()
                try:
                    record.log_metrics(values, self._logging_step)
                except FkpError as error:
                    _LOG.warning("%s; the machine is not measured any further", error)
                    return
                self._logging_step += 1

    return Monitor(record.run_id, resume_logging=True, tracking_uri=record.uri)
