"""The Ray cluster that training and searching run on, and what of it they may use."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TypeVar

from fkp import cluster  # isort: skip  # Before ray: it sets what ray reads when it is imported.

import ray
from ray.autoscaler.sdk import request_resources

from fkp.cluster import NAMESPACE
from fkp.config import Config
from fkp.errors import FkpError
from fkp.train.loop import MALLOC_ENVIRONMENT

_LOG = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

__all__ = ["NAMESPACE", "check_resources", "joined", "wait_for"]


def joined() -> AbstractContextManager[None]:
    """See `fkp.cluster.joined`; the workers get what training wants of the allocator."""
    return cluster.joined(MALLOC_ENVIRONMENT)


def check_resources(config: Config) -> bool:
    """Whether to train on GPUs; a demand that the cluster cannot meet is refused, for Ray would wait for ever.

    Raises:
        FkpError: Too few cores or GPUs, also after `scale.wait_minutes`.
    """
    scale = config.scale
    bundle = {"CPU": float(scale.cpus_per_worker + config.decoders_per_worker), **({"GPU": 1.0} if scale.use_gpu == "yes" else {})}
    return wait_for(lambda: _check(config, ray.cluster_resources()), [bundle] * scale.num_workers, scale.wait_minutes)


def wait_for(check: Callable[[], _Answer], bundles: list[dict[str, float]], minutes: float) -> _Answer:
    """The first answer of a check whether the cluster is large enough.

    On a cluster that others started, hosts may be about to join, and an autoscaler may bring some: it is told what is wanted.

    Args:
        check: Raises FkpError as long as the cluster is too small.
        bundles: What is wanted, cores and GPUs each on one host.
        minutes: How long to wait.

    Raises:
        FkpError: The last one of `check`.
    """
    if not os.environ.get("RAY_ADDRESS"):
        return check()
    until = time.monotonic() + 60 * minutes
    asked = False
    try:
        while True:
            try:
                return check()
            except FkpError as error:
                if time.monotonic() >= until:
                    raise
                if not asked:
                    _LOG.warning("%s; waiting up to %g minutes for hosts to join", error, minutes)
                    request_resources(bundles=bundles)
                    asked = True
            time.sleep(1)
    finally:
        if asked:
            request_resources(bundles=[])  # It would keep the hosts for ever.


def _check(config: Config, have: Mapping[str, float]) -> bool:
    scale, workers = config.scale, config.least_workers
    cores, gpus = int(have.get("CPU", 0)), int(have.get("GPU", 0))
    lower = "scale.num_workers" if scale.min_workers is None else "scale.min_workers"
    if scale.use_gpu == "yes" and gpus < workers:
        raise FkpError(f"scale.use_gpu=yes needs {workers} GPUs and the cluster has {gpus}: lower {lower} or use no")
    decoders = config.decoders_per_worker
    need = workers * (scale.cpus_per_worker + decoders)
    if cores < need:
        each = f"{workers} workers of {scale.cpus_per_worker}" + (f" + {decoders} decoding" if decoders else "") + " cores"
        raise FkpError(f"{each} need {need} cores and the cluster has {cores}: lower {lower}")
    return scale.use_gpu == "yes" or (scale.use_gpu == "auto" and gpus >= scale.num_workers)
