"""The Ray cluster that a command runs on: joined or started here."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping

import ray
from ray.exceptions import AuthenticationError

from fkp.errors import FkpError

NAMESPACE = "fkp"

_CONNECT_S = 10.0


@contextlib.contextmanager
def connect(environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names or this process already uses; otherwise start one on this machine.

    Args:
        environment: Variables that the workers' processes get.

    Raises:
        FkpError: See `connection_errors`.
    """
    if ray.is_initialized():
        yield
        return
    if not os.environ.get("RAY_ADDRESS"):  # The only host is not taken away: Train needs no process that waits for that.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    with connection_errors():
        # The dashboard process also answers Train's questions about the state of its workers: without it Train warns
        # every second, and a training inside a search never ends. It listens on loopback only.
        ray.init(
            namespace=NAMESPACE,
            dashboard_host="127.0.0.1",
            logging_level=logging.WARNING,
            log_to_driver=False,
            runtime_env={"env_vars": dict(environment or {})},
        )
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def connection_errors() -> Iterator[None]:
    """Turn what can go wrong while the block joins the cluster of RAY_ADDRESS into one sentence.

    Raises:
        FkpError: Nothing answers there, it wants another token, or it has another Ray or Python.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdecimal():  # Ray itself would try for two minutes.
            socket.create_connection((host.rpartition("/")[2], int(port)), _CONNECT_S).close()
        yield
    except OSError as error:
        raise FkpError(f"cannot reach the Ray cluster {address}: start it or unset RAY_ADDRESS") from error
    except AuthenticationError as error:
        raise FkpError(f"the Ray cluster {address} wants another token: copy its ~/.ray/auth_token, and set RAY_AUTH_MODE=token") from error
    except RuntimeError as error:
        if "Version mismatch" not in str(error):
            raise
        # Ray tells both sides' versions in indented lines.
        versions = re.findall(r"(?:Ray|Python): (\S+)", str(error))
        cluster, here = (" and Python ".join(pair) for pair in (versions[:2], versions[2:4]))
        raise FkpError(f"the Ray cluster {address} has Ray {cluster}, this process Ray {here}: install the same here or there") from error
