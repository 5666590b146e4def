"""The Ray cluster that a command runs on: joined or started here."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping

# Read when ray is imported: nothing leaves the machine, Train adds no prefix to what workers print, and its controller
# looks at the workers' reports more often than every two seconds, for which each epoch would wait.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray

from fkp.errors import FkpError

NAMESPACE = "fkp"


@contextlib.contextmanager
def joined(environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names or this process already uses; otherwise start one on this machine.

    Args:
        environment: Variables that the workers' processes get.

    Raises:
        FkpError: Nothing answers at RAY_ADDRESS.
    """
    if ray.is_initialized():
        yield
        return
    try:
        # The dashboard process also answers Train's questions about the state of its workers: without it Train warns
        # every second, and a training inside a search never ends. It listens on loopback only.
        ray.init(
            namespace=NAMESPACE,
            dashboard_host="127.0.0.1",
            logging_level=logging.WARNING,
            log_to_driver=False,
            runtime_env={"env_vars": dict(environment or {})},
        )
    except ConnectionError as error:
        raise FkpError(f"cannot reach the Ray cluster {os.environ.get('RAY_ADDRESS')}: start it or unset RAY_ADDRESS") from error
    try:
        yield
    finally:
        ray.shutdown()
