"""The MLflow store: its address, and whether it answers and can be written.

The default store is `sqlite:///mlflow.db` in the working folder; MLFLOW_TRACKING_URI names another store or a server.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fkp.common.files import locked
from fkp.errors import FkpError
from fkp.track.trouble import deleted, store_errors, unusable, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

_CONNECT_TIMEOUT_S = 5.0
_SQLITE = "sqlite:///"

#: Without it MLflow's page shows an experiment as one of language models. The value stands in its web client only.
_KIND = "mlflow.experimentKind"
_MODEL_TRAINING = (_KIND, "custom_model_development")
_LAST_USED = "fkp.last_used_ns"

#: What whoever begins something can do instead of restoring what is deleted.
ANOTHER_EXPERIMENT = "choose another experiment by --track.experiment NAME"
ANOTHER_RUN = "choose another name of the run"

#: MLflow refuses longer tags.
MAX_TAG = 5000
#: MLflow's own seven attempts would hold a command for four minutes before it says what is wrong.
ATTEMPTS_VARIABLE = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
FEW_ATTEMPTS = "2"


def tracking_uri() -> str:
    """The store's address; a local database is absolute, because workers start in other folders."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}mlflow.db"
    return _SQLITE + str(Path(uri.removeprefix(_SQLITE)).absolute()) if uri.startswith(_SQLITE) else uri


def open_client(uri: str) -> MlflowClient:
    """Connect to a store and make sure that it can be used.

    Raises:
        FkpError: The store cannot be reached or opened.
    """
    _check_reachable(uri)
    from mlflow import MlflowClient

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # Ours are a few small files.
    os.environ.setdefault(ATTEMPTS_VARIABLE, FEW_ATTEMPTS)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It writes a traceback for each failure that it raises, too, and that is told in one sentence elsewhere.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    with store_errors(uri), _alone(uri):
        return MlflowClient(uri)  # Opens a database at once.


@contextlib.contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Let one process at a time open a local database: two that make its tables at once both fail, and leave it half made."""
    if not uri.startswith(_SQLITE):
        yield
        return
    database = Path(uri.removeprefix(_SQLITE))
    database.parent.mkdir(parents=True, exist_ok=True)  # As MLflow would.
    try:
        lock = locked(database.with_name(f"{database.name}.lock"), wait=True)
    except OSError:
        if not database.is_file():
            raise
        lock = contextlib.nullcontext()  # A store that one may only read needs no lock.
    with lock:
        yield


def experiment_id(client: MlflowClient, uri: str, name: str, otherwise: str = "") -> str:
    """Find an experiment, or make it.

    Args:
        client: Talks to the store.
        uri: Of the store.
        name: Of the experiment.
        otherwise: What the user can do instead of restoring one that is deleted.

    Raises:
        FkpError: The store refused or failed, or the experiment is deleted.
    """
    with store_errors(uri), _alone(uri):
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            if experiment.lifecycle_stage == "deleted":
                raise unusable(uri, deleted(uri, "experiment", experiment.experiment_id), otherwise)
            if _KIND not in experiment.tags:
                client.set_experiment_tag(experiment.experiment_id, *_MODEL_TRAINING)
            return str(experiment.experiment_id)
        # Beside a local database MLflow would put artifacts into the working folder of whoever writes first.
        beside = Path(uri.removeprefix(_SQLITE)).parent / "mlartifacts" / name if uri.startswith(_SQLITE) else None
        location = None if beside is None else beside.as_uri()
        return client.create_experiment(name, artifact_location=location, tags=dict([_MODEL_TRAINING]))


def check_writable(client: MlflowClient, uri: str, experiment: str, run_id: str | None = None) -> None:
    """Write something small, so that a store that takes nothing is found before the work and not after it.

    Args:
        client: Talks to the store.
        uri: Of the store.
        experiment: Gets a tag that says when it was used last; MLflow would not write a value that is there already.
        run_id: A run that will be written and must not be deleted.

    Raises:
        FkpError: Something cannot be written.
    """
    with store_errors(uri, ANOTHER_RUN):
        client.set_experiment_tag(experiment, _LAST_USED, str(time.time_ns()))
        if run_id is not None and client.get_run(run_id).info.lifecycle_stage == "deleted":
            raise unusable(uri, deleted(uri, "run", run_id), ANOTHER_RUN)


def _check_reachable(uri: str) -> None:
    """Ask a server's port first: MLflow itself would try for minutes.

    Raises:
        FkpError: Nothing answers.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), _CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        sentence = f"cannot reach MLflow at {without_password(uri)} ({error}): start the server or unset MLFLOW_TRACKING_URI"
        raise FkpError(sentence) from error
