"""One MLflow run, written while a block runs."""

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
from fkp.errors import FkpError
from fkp.track.store import experiment_id, open_client, store_errors, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOG = logging.getLogger(__name__)

#: MLflow refuses longer tags.
MAX_TAG = 5000


@dataclass(frozen=True)
class Record:
    """One MLflow run. Whatever is logged raises FkpError where the store does not answer, or refuses.

    Attributes:
        client: Talks to the store.
        uri: Of the store.
        run_id: Of the run.
    """

    client: MlflowClient
    uri: str
    run_id: str

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log final metrics."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        with store_errors(self.uri):
            self.client.log_batch(self.run_id, [Metric(key, value, now_ms, 0) for key, value in metrics.items()])

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
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
        """Upload a file into, or the files of a folder as, the artifact folder `name`."""
        upload = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        with store_errors(self.uri):
            upload(self.run_id, str(path), name)

    def end(self, status: str) -> None:
        """Mark the run as ended."""
        with store_errors(self.uri):
            self.client.set_terminated(self.run_id, status)


@contextlib.contextmanager
def recording(config: Config, tags: Mapping[str, str], run_id: str | None = None) -> Iterator[Record]:
    """Keep an MLflow run, new or resumed, while the block runs: parameters, tags and system metrics.

    The run ends as FINISHED, or as FAILED with the error as a tag.

    Args:
        config: Its dotted paths become the parameters.
        tags: Of the run.
        run_id: The run to continue with.

    Raises:
        FkpError: The store cannot be reached or opened.
    """
    uri = tracking_uri()
    client = open_client(uri)
    import mlflow
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    class Monitor(SystemMetricsMonitor):
        """Measures on where a request fails, which ends MLflow's own for good."""

        def monitor(self) -> None:
            while not self._shutdown_event.is_set():
                super().monitor()

    experiment = experiment_id(client, uri, config.track.experiment)
    with store_errors(uri):
        run_id = _begin(client, experiment, config, run_id)
    record = Record(client, uri, run_id)
    record.log_tags({**tags, "git_commit": git_commit()})
    mlflow.set_tracking_uri(uri)  # The system metrics have no address of their own.
    logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)  # The write-ahead log says once that the store is away.
    monitor = Monitor(run_id, sampling_interval=10, samples_before_logging=1, resume_logging=True)
    monitor.start()
    try:
        yield record
    except BaseException as error:
        try:
            record.log_tags({"error": f"{type(error).__name__}: {error}"})
            record.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        except FkpError as lost:  # Perhaps the very store that the block has just failed with.
            _LOG.warning("%s; the end of run %s is not in the record", lost, run_id)
        raise
    else:
        record.end("FINISHED")
    finally:
        monitor.finish()


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
