"""How many trials fit on the cluster at once, so that none waits for cores that another one holds."""

from __future__ import annotations

import os
from dataclasses import dataclass

from fkp.cluster import capacity  # isort: skip  # Before ray: it sets what ray reads when it is imported.

from fkp.config import Config
from fkp.errors import FkpError
from fkp.tune.options import Settings

#: What the process that drives a trial's Ray Train workers takes. It only waits, and must take no part of a core: with a
#: hundredth of one, two workers would wait for ever on a machine of two cores.
_DRIVER = {"CPU": 0.0, "memory": 400.0 * 2**20}


@dataclass(frozen=True)
class Placement:
    """What a trial takes of the cluster.

    Attributes:
        cores: Of all its workers, and of what decodes for them.
        gpus: Of one worker.
        concurrent: Trials at once.
        trial_resources: What Tune reserves for the process of a trial.
    """

    cores: int
    gpus: float
    concurrent: int
    trial_resources: dict[str, float]


def place(settings: Settings, config: Config) -> Placement:
    """Fit the trials of a search on the cluster that this process has joined.

    Waits for `scale.wait_minutes` until one trial fits. A worker lies on one machine; the workers of a trial may lie on
    several. `concurrent` exceeds what fits only on a running cluster and for trials of one worker: Tune lets them wait, and
    an autoscaler hears of them. Of other trials it would start more drivers than there are workers for, and they would hold
    each other up for ever.

    Raises:
        FkpError: Not even one trial can ever fit.
    """
    # What decodes takes its cores beside what Tune reserves.
    cores = config.scale.cpus_per_worker + config.decoders_per_worker
    gpus = settings.gpus if settings.gpus is not None else float(config.scale.use_gpu == "yes")
    bundle = {"CPU": float(cores), **({"GPU": gpus} if gpus else {})}
    wanted = [bundle] * (settings.workers * (settings.concurrent or 1))
    return capacity.wait_for(lambda: _place(settings, config), wanted, config.scale.wait_minutes)


def _place(settings: Settings, config: Config) -> Placement:
    cores = config.scale.cpus_per_worker + config.decoders_per_worker
    nodes = capacity.living_nodes()
    has_gpu = any(node.get("GPU", 0) for node in nodes)
    gpus = settings.gpus if settings.gpus is not None else float(has_gpu and config.scale.use_gpu != "no")
    if config.scale.use_gpu == "yes" and not gpus:
        raise FkpError("scale.use_gpu=yes and the cluster has no GPU: use auto or no")
    slots = sum(capacity.workers_on(node, cores, gpus) for node in nodes)
    fitting = slots // settings.workers
    if not fitting:
        need = f"{settings.workers} workers of {cores} cores" + (f" and {gpus:g} GPUs" if gpus else "")
        lower = "--workers, scale.cpus_per_worker" + (", scale.decoders_per_worker" if config.decoders_per_worker else "")
        raise FkpError(f"a trial needs {need} and the cluster holds {slots} such workers: lower {lower} or --gpus")
    nested = settings.workers > 1
    concurrent = settings.concurrent or fitting
    if nested or not os.environ.get("RAY_ADDRESS"):
        concurrent = min(fitting, concurrent)
    resources = dict(_DRIVER) if nested else {"CPU": float(config.scale.cpus_per_worker), **({"GPU": gpus} if gpus else {})}
    return Placement(cores * settings.workers, gpus, concurrent, resources)
