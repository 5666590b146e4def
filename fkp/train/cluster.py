"""The Ray cluster that training and searching run on, and what of it they may use."""

from __future__ import annotations

from contextlib import AbstractContextManager

from fkp import cluster  # isort: skip  # Before ray: it sets what ray reads when it is imported.

import ray

from fkp.cluster import NAMESPACE
from fkp.config import Config
from fkp.errors import FkpError
from fkp.train.loop import MALLOC_ENVIRONMENT

__all__ = ["NAMESPACE", "check_resources", "joined"]


def joined() -> AbstractContextManager[None]:
    """See `fkp.cluster.joined`; the workers get what training wants of the allocator."""
    return cluster.joined(MALLOC_ENVIRONMENT)


def check_resources(config: Config) -> bool:
    """Whether to train on GPUs; a demand that the cluster can never meet is refused, for Ray would wait for ever.

    Raises:
        FkpError: Too few cores or GPUs.
    """
    scale, have = config.scale, ray.cluster_resources()
    gpus = int(have.get("GPU", 0))
    if scale.use_gpu == "yes" and gpus < scale.num_workers:
        raise FkpError(f"scale.use_gpu=yes needs {scale.num_workers} GPUs and the cluster has {gpus}: lower scale.num_workers or use no")
    decoders = config.decoders_per_worker
    cores, need = int(have.get("CPU", 0)), scale.num_workers * (scale.cpus_per_worker + decoders)
    if cores < need:
        workers = f"{scale.num_workers} workers of {scale.cpus_per_worker}" + (f" + {decoders} decoding" if decoders else "") + " cores"
        raise FkpError(f"{workers} need {need} cores and the cluster has {cores}: lower scale.num_workers")
    return scale.use_gpu != "no" and gpus >= scale.num_workers
