"""One trial: the training loop of `fkp.train` with a sample of the space, told to Ray Tune epoch by epoch."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fkp.common import storage
from fkp.common.ray_private import hand_to_train_processes
from fkp.config import Config
from fkp.errors import FkpError

if TYPE_CHECKING:
    from fkp.tune.options import Settings
    from fkp.tune.space import Space

_BATCH = "optim.global_batch_size"

#: Key of a report: why a trial cannot be trained. Its NME then is `WORST_NME`.
FAILED = "failed"

#: Key of a report: processor time of the trial's own process so far, which other work on the machine does not change.
CPU_SECONDS = "cpu_seconds"

#: What a failed trial reports, in percent: far beyond the mean shape's 22, but a number, for neither the scheduler's
#: percentiles nor TPE can do with infinity.
WORST_NME = 100.0


def crops_key(config: Config) -> str:
    """Names the crops of a run: trials with the same data and input settings share them."""
    plain = config.model_dump(mode="json", include={"data", "input"})
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def trial_config(base: Config, sample: Mapping[str, Any], epochs: int, workers: int) -> Config:
    """The run of a trial: the search's own settings, the sample, and the budget of a trial."""
    budget = {"train": {"epochs": epochs, "max_minutes": None, "early_stop_epochs": None}, "scale.num_workers": workers}
    return base.updated(sample, budget)


def check_batch(settings: Settings, base: Config, space: Space) -> None:
    """Refuse a number of workers with which no trial can be trained.

    Raises:
        FkpError: The run wants more workers, or a batch that can be drawn does not divide by them.
    """
    from fkp.train.loop import worker_batch_size

    config = trial_config(base, {}, settings.epochs, settings.workers)
    drawn = next((entry.drawn() for entry in space.entries if entry.path == _BATCH), [config.optim.global_batch_size])
    for size in drawn:
        worker_batch_size(config.updated({_BATCH: size}), settings.workers)


def train_trial(sample: dict[str, Any], job: dict[str, Any]) -> None:
    """What Tune runs for each trial.

    Args:
        sample: Dotted path -> value.
        job: `base`, the run as plain JSON; `epochs`; `workers`; `gpus` of a worker; `crops`, references of the
            `CropCache`s by `crops_key`; `pipelines`, workers of all trials at once; `folder`, where Ray Train keeps
            checkpoints of trials with several workers; `follow`, whether a resumed trial takes rate and decay from its
            sample and not from its checkpoint.
    """
    from ray import tune

    from fkp.train.ray_backend import EPOCHS

    # The next trial takes over this process. Where it finds this one not ended yet, Tune fails it without another attempt.
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = "60"
    try:
        config = trial_config(Config.model_validate(job["base"]), sample, job["epochs"], job["workers"])
        (_train_nested if job["workers"] > 1 else _train_here)(config, job)
    except (FkpError, MemoryError, RuntimeError) as error:
        reason = _reason(error)
        if reason is None:
            raise
        tune.report({Config.model_validate(job["base"]).val_nme_key: WORST_NME, EPOCHS: 0, FAILED: reason})


def _train_here(config: Config, job: dict[str, Any]) -> None:
    """Train in the trial's own process."""
    import ray
    from ray import tune

    from fkp.train import loop
    from fkp.train.ray_backend import ReportCheckpoint, resumed_from, who_decodes
    from fkp.tune.pbt_callback import PBTCallback

    began = time.process_time()

    def report(metrics: dict[str, float], checkpoint: Any) -> None:
        tune.report({**metrics, CPU_SECONDS: time.process_time() - began}, checkpoint=checkpoint)

    with resumed_from(tune.get_checkpoint()) as checkpoint:
        loop.fit(
            config,
            world_size=1,
            report=lambda progress: None,
            callbacks=[ReportCheckpoint(report, tune.Checkpoint), *([PBTCallback(config)] if job["follow"] else [])],
            checkpoint=checkpoint,
            on_gpu=job["gpus"] > 0,
            cache=ray.get(job["crops"][crops_key(config)]) if job["crops"] else None,
            ancestor=job["ancestor"],
            decode_all=who_decodes(config, job["pipelines"]),
        )


def _train_nested(config: Config, job: dict[str, Any]) -> None:
    """Train on Ray Train workers; this process only passes their reports on."""
    from ray import tune
    from ray.tune.integration.ray_train import TuneReportCallback

    from fkp.train import ray_backend

    _tell_address()
    place = storage.join(job["folder"], tune.get_context().get_trial_id())
    # A lost worker ends the trial here, and Tune starts it again: one place decides how often.
    config = config.updated({"scale.max_failures": 0})
    shared = {"pipelines": job["pipelines"], "ancestor": job["ancestor"]}
    if job["crops"]:
        shared["crops"] = job["crops"][crops_key(config)]
    ray_backend.fit(ray_backend.torch_trainer(config, place, job["gpus"], shared, [TuneReportCallback()]))


def _tell_address() -> None:
    """Hand the address of this cluster on to what Ray Train starts.

    When Tune stops a trial, a process of Ray Train gives the workers' cores back. It looks for its cluster by itself, and
    dies where this machine runs a second one: the cores stay taken, and the next trial waits for ever.
    """
    import ray

    hand_to_train_processes({"RAY_ADDRESS": ray.get_runtime_context().gcs_address})


def _reason(error: Exception) -> str | None:
    """Why the sample cannot be trained, in one line; None for what a second attempt may mend."""
    import torch

    text = " ".join(str(error).split())
    if isinstance(error, FkpError) and not text.startswith("training failed"):
        return text
    # On the CPU torch has no error class of its own for it.
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text:
        return f"out of memory: {text[:200]}"
    return None
