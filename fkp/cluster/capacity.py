"""What a training or a search wants of the Ray cluster, and whether the cluster has it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import ray
from ray.autoscaler.sdk import request_resources

from fkp.config import Config
from fkp.errors import FkpError

_LOG = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


def check_resources(config: Config) -> bool:
    """Whether to train on GPUs; a demand that the cluster cannot meet is refused, for Ray would wait for ever.

    Raises:
        FkpError: Too few cores or GPUs, also after `scale.wait_minutes`.
    """
    scale = config.scale
    bundle = {"CPU": float(scale.cpus_per_worker + config.decoders_per_worker), **({"GPU": 1.0} if scale.use_gpu == "yes" else {})}
    return wait_for(lambda: _check(config, living_nodes()), [bundle] * scale.num_workers, scale.wait_minutes)


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


def living_nodes() -> list[dict[str, float]]:
    """What each host of the cluster has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def workers_on(node: Mapping[str, float], cores: int, gpus: float) -> int:
    """How many workers of so many cores and GPUs a host holds."""
    by_cores = int(node.get("CPU", 0) // cores)
    if not gpus:
        return by_cores
    # A fraction must come whole from one GPU: three workers of 0.4 GPU need two of them.
    have = int(node.get("GPU", 0))
    by_gpus = have * int(1 / gpus + 1e-9) if gpus <= 1 else int(have // gpus)
    return min(by_cores, by_gpus)


def _check(config: Config, nodes: Sequence[Mapping[str, float]]) -> bool:
    scale, workers, decoders = config.scale, config.least_workers, config.decoders_per_worker
    cores, gpus = (sum(int(node.get(kind, 0)) for node in nodes) for kind in ("CPU", "GPU"))
    lower = "scale.num_workers" if scale.min_workers is None else "scale.min_workers"
    if scale.use_gpu == "yes" and gpus < workers:
        raise FkpError(f"scale.use_gpu=yes needs {workers} GPUs and the cluster has {gpus}: lower {lower} or use no")
    on_gpu = scale.use_gpu == "yes" or (scale.use_gpu == "auto" and gpus >= scale.num_workers)
    each = scale.cpus_per_worker + decoders
    slots = sum(workers_on(node, each, float(on_gpu)) for node in nodes)
    if slots < workers:
        wanted = f"{workers} workers of {scale.cpus_per_worker}" + (f" + {decoders} decoding" if decoders else "") + " cores"
        if cores < workers * each:
            raise FkpError(f"{wanted} need {workers * each} cores and the cluster has {cores}: lower {lower}")
        gpu = " and a GPU" if on_gpu else ""
        raise FkpError(f"{wanted}{gpu} do not fit: a worker lies on one host, and these hold {slots} such workers: lower {lower}")
    return on_gpu
