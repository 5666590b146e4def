"""A cluster that cannot be joined or started is one sentence, soon."""

from __future__ import annotations

import contextlib
import http.server
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from fkp.common.ports import free_port
from fkp.errors import FkpError

JOIN = """
import sys
{change}
from fkp.cluster import ray_session
from fkp.errors import run_command

def main():
    with ray_session.connect():
        print("joined")

run_command(main)
"""


@pytest.fixture
def join(run_process: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Join a cluster in another process: `join(change_of_the_code, RAY_ADDRESS=...)`."""

    def begin(change: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
        began = time.monotonic()
        done = run_process("-c", JOIN.format(change=change), **options)
        assert time.monotonic() - began < 60  # It is 15 on a machine that does nothing else.
        return done

    return begin


@pytest.mark.slow("another process joins the shared cluster")
def test_a_cluster_that_is_there(ray_address: str, join: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = join(RAY_ADDRESS=ray_address)
    assert (done.returncode, done.stdout) == (0, "joined\n"), done.stderr


def test_nothing_at_the_address(join: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    address = f"127.0.0.1:{free_port()}"
    done = join(RAY_ADDRESS=address)
    assert (done.returncode, done.stderr) == (1, f"error: cannot reach the Ray cluster {address}: start it or unset RAY_ADDRESS\n")


NAME_IT = "set it to the HOST:PORT that `ray start` told (6379 by default), or unset it to start Ray on this machine"


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://head:8265", "is a dashboard, to which jobs are sent, and no cluster that can be joined"),
        ("https://head/ray", "is a dashboard, to which jobs are sent, and no cluster that can be joined"),
        ("localhost", "is no address of a Ray cluster"),
        (":6379", "is no address of a Ray cluster"),
        ("redis://head:6379", "is no address of a Ray cluster"),
        ("head:6379/", "is no address of a Ray cluster"),
        ("head:70000", "has a port that Ray does not take, which are those from 1024 to 65535"),
    ],
)
def test_an_address_of_another_form(join: Callable[..., subprocess.CompletedProcess[str]], address: str, sentence: str) -> None:
    done = join(RAY_ADDRESS=address)
    assert (done.returncode, done.stderr) == (1, f"error: RAY_ADDRESS={address} {sentence}: {NAME_IT}\n")


def test_a_ray_client_and_a_host_that_there_is_not(join: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = join(RAY_ADDRESS="ray://head:10001")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "with RAY_ADDRESS=head:6379, or send it there by `ray job submit`" in done.stderr
    done = join(RAY_ADDRESS="nowhere.invalid:6379")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "no host is called nowhere.invalid" in done.stderr


@contextlib.contextmanager
def web_server() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        server.RequestHandlerClass.log_message = lambda *told: None  # type: ignore[method-assign]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def grpc_server() -> Iterator[int]:
    """As Ray's own other ports are: that of its client, of its agents."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("server", "kind"),
    [
        (web_server, "a program of another kind, such as a web server"),
        pytest.param(silent_server, "a program that said nothing for 5 s", marks=pytest.mark.over_5s("five seconds of silence")),
        (grpc_server, "another gRPC server"),
    ],
)
def test_a_port_of_something_else(
    join: Callable[..., subprocess.CompletedProcess[str]], server: Callable[[], contextlib.AbstractContextManager[int]], kind: str
) -> None:
    with server() as port:
        address = f"127.0.0.1:{port}"
        done = join(RAY_ADDRESS=address)
    assert (done.returncode, done.stderr) == (1, f"error: what answers at RAY_ADDRESS={address} is no Ray cluster but {kind}: {NAME_IT}\n")


@pytest.mark.slow("another process asks the shared cluster")
def test_another_token(ray_address: str, join: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    done = join(RAY_ADDRESS=ray_address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"the Ray cluster {ray_address} wants another token: copy its ~/.ray/auth_token" in done.stderr


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_for_sessions_that_cannot_be_used(
    join: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, variable: str
) -> None:
    remedy = "set RAY_TMPDIR to a short folder that you can write"
    done = join(**{variable: "/dev/null"}, without=["RAY_ADDRESS"])
    assert (done.returncode, done.stderr) == (1, f"error: Ray cannot write its folder /dev/null/ray: Not a directory: {remedy}\n")
    long = tmp_path / ("x" * 100)
    done = join(**{variable: str(long)}, without=["RAY_ADDRESS"])
    assert (done.returncode, done.stderr) == (1, f"error: Ray's folder {long}/ray has a name that is too long for its sockets: {remedy}\n")


def test_shared_memory_that_cannot_be_written_and_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from fkp.cluster import ray_faults

    with silent_server() as port, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_GCS_SERVER_PORT", str(port))
        with pytest.raises(FkpError, match=f"^RAY_GCS_SERVER_PORT={port} cannot be used: Address already in use: choose another one"):
            ray_faults.check_machine()
    monkeypatch.setattr(ray_faults, "_SHARED", Path("/proc/self"))  # Where nobody can write, nor root.
    with pytest.raises(FkpError, match=r"^Ray cannot write the shared memory /proc/self: .*: mount it writable, in a container with --shm"):
        ray_faults.check_machine()


def test_too_few_files_that_may_be_open(join: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = join("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))", without=["RAY_ADDRESS"])
    sentence = "error: this process may open 200 files and Ray needs 256: raise the limit, `ulimit -n 8192`\n"
    assert (done.returncode, done.stderr) == (1, sentence)


def test_a_start_that_fails_is_told_by_rays_own_words() -> None:
    from fkp.cluster import ray_faults

    with (
        pytest.raises(
            FkpError, match=r"^cannot start Ray on this machine: the raylet did not start: its logs are in .*/session_latest/logs$"
        ),
        ray_faults.as_sentences(None),
    ):
        raise Exception("the raylet\n  did not start")
    with pytest.raises(FkpError, match=r"^cannot join the Ray cluster head:6379: no such node$"), ray_faults.as_sentences("head:6379"):
        raise RuntimeError("no such node")


@pytest.mark.slow("a cluster of its own")
def test_a_home_that_cannot_be_written_is_no_hindrance(join: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = join(HOME="/dev/null", without=["RAY_ADDRESS"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "joined\n", "")


@pytest.mark.slow("another process joins the shared cluster")
def test_another_version(ray_address: str, join: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = join("import ray; ray.__version__ = '2.1.0'", RAY_ADDRESS=ray_address)
    assert done.returncode == 1
    told = f"error: the Ray cluster {ray_address} has Ray {_ray_version()} and Python 3.11"
    assert done.stderr.splitlines()[-1].startswith(told), done.stderr
    assert "this process Ray 2.1.0 and Python 3.11" in done.stderr


def _ray_version() -> str:
    import ray

    return ray.__version__
