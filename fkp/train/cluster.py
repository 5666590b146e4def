"""The Ray cluster that training and searching run on: joined or started here, and what of it they may use."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

# Read when ray is imported: nothing leaves the machine, Train adds no prefix to what workers print, and its controller
# looks at the workers' reports more often than every two seconds, for which each epoch would wait.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray

from fkp.config import Config
from fkp.errors import FkpError
from fkp.train.loop import MALLOC_ENVIRONMENT

NAMESPACE = "fkp"


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names or this process already uses; otherwise start one on this machine.

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
            runtime_env={"env_vars": MALLOC_ENVIRONMENT},
        )
    except ConnectionError as error:
        raise FkpError(f"cannot reach the Ray cluster {os.environ.get('RAY_ADDRESS')}: start it or unset RAY_ADDRESS") from error
    try:
        yield
    finally:
        ray.shutdown()


def check_resources(config: Config) -> bool:
    """Whether to train on GPUs; a demand that the cluster can never meet is refused, for Ray would wait for ever.

    Raises:
        FkpError: Too few cores or GPUs.
    """
    scale, have = config.scale, ray.cluster_resources()
    gpus = int(have.get("GPU", 0))
    if scale.use_gpu == "yes" and gpus < scale.num_workers:
        raise FkpError(f"scale.use_gpu=yes needs {scale.num_workers} GPUs and the cluster has {gpus}: lower scale.num_workers or use no")
    cores, need = int(have.get("CPU", 0)), scale.num_workers * scale.cpus_per_worker
    if cores < need:
        workers = f"{scale.num_workers} workers of {scale.cpus_per_worker} cores"
        raise FkpError(f"{workers} need {need} cores and the cluster has {cores}: lower scale.num_workers")
    return scale.use_gpu != "no" and gpus >= scale.num_workers
