"""The Ray cluster that a command runs on: joined or started here."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray

from fkp.cluster import ray_faults
from fkp.common import ray_private
from fkp.errors import stopping

NAMESPACE = "fkp"


@contextlib.contextmanager
def connect(environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names or this process already uses; otherwise start one on this machine.

    Args:
        environment: Variables that the workers' processes get.

    Raises:
        FkpError: See `begin`.
    """
    if ray.is_initialized():
        yield
        return
    if not os.environ.get("RAY_ADDRESS"):  # The only host is not taken away: Train needs no process that waits for that.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    try:
        begin(namespace=NAMESPACE, runtime_env={"env_vars": dict(environment or {})})
        yield
    finally:
        ray.shutdown()


def begin(address: str | None = None, **options: Any) -> None:
    """Join a cluster, or start one; `ray.shutdown` is for the caller, also where this is broken off.

    Args:
        address: "local" starts one whatever RAY_ADDRESS says.
        options: Of `ray.init`.

    Raises:
        FkpError: The address is none, or what answers there is no Ray cluster, wants another token, or has another Ray or Python; or
            none can be started here.
    """
    named = os.environ.get("RAY_ADDRESS", "") if address is None else address
    # Ray warns of its token with each cluster that it starts.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    join = ray_faults.check_address(named)
    if not join:
        ray_faults.check_machine()
        _keep_token()
    # The dashboard process also answers Train's questions about the state of its workers: without it Train warns every second, and a
    # training inside a search never ends. It listens on loopback only.
    ray_private.print_no_end()
    with ray_faults.as_sentences(named if join else None), stopping.kept(), ray_private.beside_the_terminal():
        ray.init(address, dashboard_host="127.0.0.1", logging_level=logging.WARNING, log_to_driver=False, **options)


def _keep_token() -> None:
    """Where Ray cannot write its token into the home folder, as in a container with a foreign user, hand it on in the environment."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    try:
        token = Path.home() / ".ray/auth_token"
        token.parent.mkdir(exist_ok=True)
        usable = os.access(token, os.R_OK) if token.exists() else os.access(token.parent, os.W_OK)
    except (OSError, RuntimeError):  # RuntimeError: this user has no home at all.
        usable = False
    if not usable:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
