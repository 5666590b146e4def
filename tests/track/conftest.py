"""Real stores for tests: a fresh SQLite database each, and one MLflow server that can be killed and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fkp.common.ports import free_port
from fkp.track.registry import Registry
from fkp.track.version import Version


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A store of the test's own, named by MLFLOW_TRACKING_URI; the working folder is `tmp_path`."""
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


@contextlib.contextmanager
def lost(database: Path) -> Iterator[None]:
    """The database fails at once while the block runs: its table of runs is away."""

    def rename(old: str, new: str) -> None:
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA legacy_alter_table=ON")
            connection.execute(f"ALTER TABLE {old} RENAME TO {new}")

    rename("runs", "runs_away")
    try:
        yield
    finally:
        rename("runs_away", "runs")


@pytest.fixture
def registry(store: MlflowClient) -> Registry:
    return Registry()


@pytest.fixture
def make_version(registry: Registry) -> Callable[..., Version]:
    """`make_version(nme, split="a")` registers a version that has figures and no network."""
    registry._make_registered_model()

    def make(nme: float | None, split: str = "a" * 64) -> Version:
        figures = {} if nme is None else {"val_nme_interocular_pct": repr(nme), "split_digest": split}
        tags = {"arch": "resnet", "bundle_artifacts": "runs:/nowhere/bundle", "bundle_digest": "none", **figures}
        return registry.version(int(registry.client.create_model_version("fkp", "file:///nowhere", tags=tags).version))

    return make


class Server:
    """An MLflow server on one port and one database, with proxied artifacts."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.folder = folder
        self.database = f"sqlite:///{database}"
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", self.database, "--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(command, env=environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)

    def wait(self) -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.1)
        raise AssertionError((self.folder / "server.log").read_text())

    def kill(self) -> None:
        """End the server and its worker at once, as a lost machine does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Server]:
    """A server that is starting; call `wait` before the first request."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(empty_store, folder / "mlflow.db")
    found = Server(folder, folder / "mlflow.db")
    found.start()
    yield found
    found.kill()
