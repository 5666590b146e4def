"""Real stores for tests: a fresh SQLite database each, and one MLflow server that can be killed and started again."""

from __future__ import annotations

import contextlib
import ctypes
import http.server
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
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

    change(database, "ALTER TABLE runs RENAME TO runs_away")
    try:
        yield
    finally:
        change(database, "ALTER TABLE runs_away RENAME TO runs")


def change(database: Path, *statements: str) -> None:
    """Change a database behind MLflow's back."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for statement in ("PRAGMA legacy_alter_table=ON", "PRAGMA foreign_keys=OFF", *statements):
            connection.execute(statement)


def follow(sentence: str) -> None:
    """Type the command of MLflow that a sentence names."""
    import mlflow
    from click.testing import CliRunner
    from mlflow.cli import cli

    found = re.search(r"`MLFLOW_TRACKING_URI=(\S+) mlflow (.*?)`", sentence)
    assert found is not None, sentence
    ours = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(None)  # What this process has set before it is not there at a terminal. It unsets the variable, too.
    if ours is not None:
        os.environ["MLFLOW_TRACKING_URI"] = ours
    done = CliRunner().invoke(cli, found[2].split(), env={"MLFLOW_TRACKING_URI": found[1]})
    assert done.exit_code == 0, done.output


@contextlib.contextmanager
def without_privilege() -> Iterator[None]:
    """Permissions of files count for this thread and those that it starts, also where the tests run as root."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    # linux/capability.h: version 3 of the call, two sets of three words; bit 1 is CAP_DAC_OVERRIDE.
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    before = sets[0]
    sets[0] &= ~2
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(header, sets) == 0


@contextlib.contextmanager
def read_only(*paths: Path) -> Iterator[None]:
    """Files and folders that cannot be written while the block runs."""
    modes = [path.stat().st_mode for path in paths]
    for path, mode in zip(paths, modes, strict=True):
        path.chmod(mode & ~0o222)
    try:
        with without_privilege():
            yield
    finally:
        for path, mode in zip(paths, modes, strict=True):
            path.chmod(mode)


class Front(http.server.ThreadingHTTPServer):
    """What stands before an MLflow server and gives one answer to everything."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.answer = (200, "{}")
        self.uri = f"http://127.0.0.1:{self.server_port}"


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Front

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        status, text = self.server.answer
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def front() -> Iterator[Front]:
    found = Front()
    thread = threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


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
