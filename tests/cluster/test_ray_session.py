"""A cluster that cannot be joined is one sentence, soon."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pytest

from fkp.common.ports import free_port

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

    def begin(change: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        began = time.monotonic()
        done = run_process("-c", JOIN.format(change=change), **environment)
        assert time.monotonic() - began < 60
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
