"""The Ray cluster that training and searching run on, and what of it they may use."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager

from fkp import cluster  # isort: skip  # Before ray: it sets what ray reads when it is imported.

import ray
from ray._private.state import state  # Ray has no public question for what an autoscaler may bring; its own libraries ask here.

from fkp.cluster import NAMESPACE
from fkp.config import Config
from fkp.errors import FkpError
from fkp.train.loop import MALLOC_ENVIRONMENT

#: Within this time the hosts of a cluster that was just started have joined it (seen: 30 s after `ray up`).
_JOIN_S = 45.0

__all__ = ["NAMESPACE", "check_resources", "joined"]


def joined() -> AbstractContextManager[None]:
    """See `fkp.cluster.joined`; the workers get what training wants of the allocator."""
    return cluster.joined(MALLOC_ENVIRONMENT)


def check_resources(config: Config, wait_s: float = _JOIN_S) -> bool:
    """Whether to train on GPUs; a demand that the cluster can never meet is refused, for Ray would wait for ever.

    What an autoscaler may still bring counts as there. On a cluster that others started, hosts may be about to join.

    Args:
        config: The run.
        wait_s: Look again for so long before the demand is refused.

    Raises:
        FkpError: Too few cores or GPUs.
    """
    until = time.monotonic() + (wait_s if os.environ.get("RAY_ADDRESS") else 0)
    while True:
        try:
            return _check(config, _reachable())
        except FkpError:
            if time.monotonic() >= until:
                raise
        time.sleep(1)


def _reachable() -> dict[str, int]:
    """Cores and GPUs of the cluster, or what its autoscaler may bring it to."""
    have, limits = ray.cluster_resources(), state.get_max_resources_from_cluster_config() or {}
    return {name: max(int(have.get(name, 0)), int(limits.get(name, 0))) for name in ("CPU", "GPU")}


def _check(config: Config, have: Mapping[str, int]) -> bool:
    scale, workers = config.scale, config.least_workers
    lower = "scale.num_workers" if scale.min_workers is None else "scale.min_workers"
    if scale.use_gpu == "yes" and have["GPU"] < workers:
        raise FkpError(f"scale.use_gpu=yes needs {workers} GPUs and the cluster has {have['GPU']}: lower {lower} or use no")
    decoders = config.decoders_per_worker
    need = workers * (scale.cpus_per_worker + decoders)
    if have["CPU"] < need:
        each = f"{workers} workers of {scale.cpus_per_worker}" + (f" + {decoders} decoding" if decoders else "") + " cores"
        raise FkpError(f"{each} need {need} cores and the cluster has {have['CPU']}: lower {lower}")
    return scale.use_gpu == "yes" or (scale.use_gpu == "auto" and have["GPU"] >= scale.num_workers)
