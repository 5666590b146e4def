"""The MLflow store: its address, whether it answers, and its errors as sentences.

The default store is `sqlite:///mlflow.db` in the working folder; MLFLOW_TRACKING_URI names another store or a server.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from fkp.common.files import locked
from fkp.errors import FkpError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_CONNECT_TIMEOUT_S = 5.0
_SQLITE = "sqlite:///"

#: Without it MLflow's page shows an experiment as one of language models. The value stands in its web client only.
_KIND = "mlflow.experimentKind"
_MODEL_TRAINING = (_KIND, "custom_model_development")


def tracking_uri() -> str:
    """The store's address; a local database is absolute, because workers start in other folders."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}mlflow.db"
    return _SQLITE + str(Path(uri.removeprefix(_SQLITE)).absolute()) if uri.startswith(_SQLITE) else uri


def without_password(uri: str) -> str:
    """The address as it may be shown and kept."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def reason_of(error: Exception, uri: str) -> str:
    """What an error of a store says, in one line without the password that its address may hold."""
    secret = urlsplit(uri).netloc.rpartition("@")[0]
    text = " ".join(str(error).split())
    return (text.replace(f"{secret}@", "") if secret else text)[:200]


def open_client(uri: str) -> MlflowClient:
    """Connect to a store and make sure that it can be used.

    Raises:
        FkpError: The store cannot be reached or opened.
    """
    _check_reachable(uri)
    from mlflow import MlflowClient

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # Ours are a few small files.
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
    with locked(database.with_name(f"{database.name}.lock"), wait=True):
        yield


@contextlib.contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn an error of the store inside the block into one sentence.

    Raises:
        FkpError: The store refused or failed.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise FkpError(f"cannot use the MLflow store {without_password(uri)}: {reason_of(error, uri)}: set MLFLOW_TRACKING_URI") from error


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """Find an experiment, or make it.

    Raises:
        FkpError: The store refused or failed.
    """
    with store_errors(uri), _alone(uri):
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            if _KIND not in experiment.tags:
                client.set_experiment_tag(experiment.experiment_id, *_MODEL_TRAINING)
            return experiment.experiment_id
        # Beside a local database MLflow would put artifacts into the working folder of whoever writes first.
        beside = Path(uri.removeprefix(_SQLITE)).parent / "mlartifacts" / name if uri.startswith(_SQLITE) else None
        location = None if beside is None else beside.as_uri()
        return client.create_experiment(name, artifact_location=location, tags=dict([_MODEL_TRAINING]))


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
