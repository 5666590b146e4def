"""A cluster that cannot be joined is one sentence, soon."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from fkp.ports import free_port

JOIN = """
import sys
{change}
from fkp import cluster
from fkp.errors import run_command

def main():
    with cluster.joined():
        print("joined")

run_command(main)
"""


def join(change: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Join a cluster in another process."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", JOIN.format(change=change)], env={**os.environ, **environment}, capture_output=True, text=True, timeout=100
    )
    assert time.monotonic() - began < 60
    return done


@pytest.fixture
def address(ray_cluster: None) -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)


def test_a_cluster_that_is_there(address: str) -> None:
    done = join(RAY_ADDRESS=address)
    assert (done.returncode, done.stdout) == (0, "joined\n"), done.stderr


def test_nothing_at_the_address() -> None:
    address = f"127.0.0.1:{free_port()}"
    done = join(RAY_ADDRESS=address)
    assert (done.returncode, done.stderr) == (1, f"error: cannot reach the Ray cluster {address}: start it or unset RAY_ADDRESS\n")


def test_another_version(address: str) -> None:
    done = join("import ray; ray.__version__ = '2.1.0'", RAY_ADDRESS=address)
    assert done.returncode == 1
    told = f"error: the Ray cluster {address} has Ray {_ray_version()} and Python 3.11"
    assert done.stderr.splitlines()[-1].startswith(told), done.stderr
    assert "this process Ray 2.1.0 and Python 3.11" in done.stderr


def _ray_version() -> str:
    import ray

    return ray.__version__
