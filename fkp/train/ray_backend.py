"""Ray Train around the Lightning loop: workers, checkpoints, restarts."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from fkp.cluster import ray_session  # isort: skip  # Before ray: it sets what ray reads when it is imported.

import ray
import ray.train
from ray.exceptions import RayActorError
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment, prepare_trainer
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fkp.cluster.capacity import check_resources
from fkp.common import ray_private, storage
from fkp.config import Config
from fkp.data.parquet.stream import DecodeAll
from fkp.errors import FkpError
from fkp.train import checkpoint_list, loop
from fkp.train.ancestor import Ancestor
from fkp.train.metric_log import MetricLog, WriteMetrics, left_by_earlier_version
from fkp.train.run_dir import Run

#: Key of a report: epochs that are done. Unlike Tune's own count it goes on where a restarted training goes on.
EPOCHS = "epochs"

_CHECKPOINT_NAME = "checkpoint.ckpt"


class ReportCheckpoint(Checkpoint):
    """Reports an epoch's metrics from every worker, and its checkpoint from the first only.

    The weights are equal on all workers; saving them once keeps the others from waiting for a disk. Ray's own callback
    saves on all, and cannot be made in a trial of Tune. Lightning calls a `Checkpoint` after everything else that an epoch's
    end moves, so that what is saved holds all of it.

    Args:
        report: `ray.train.report`, or `ray.tune.report` in a trial that trains in its own process.
        checkpoint_class: `Checkpoint` of the same of the two: they are different classes.
    """

    def __init__(self, report: Callable[..., None] = ray.train.report, checkpoint_class: Any = ray.train.Checkpoint) -> None:
        self._report = report
        self._checkpoint_class = checkpoint_class

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        metrics |= {"epoch": trainer.current_epoch, EPOCHS: trainer.current_epoch + 1, "step": trainer.global_step}
        # A worker that is ended meanwhile leaves it behind, under a name by which its owner is known.
        with tempfile.TemporaryDirectory(prefix="fkp-checkpoint-") as folder:
            trainer.save_checkpoint(Path(folder) / _CHECKPOINT_NAME)  # Every worker must call it; only the first writes.
            checkpoint = self._checkpoint_class.from_directory(folder) if trainer.is_global_zero else None
            self._report(metrics, checkpoint=checkpoint)  # Returns when the checkpoint is in storage.


def fit_on_ray(run: Run, write: WriteMetrics, show: Callable[[Mapping[str, float]], None], ancestor: Ancestor | None = None) -> Path:
    """Train a run on Ray Train workers, from its newest checkpoint when it has one.

    Args:
        run: Its config's paths must be absolute: workers may start in another folder.
        write: Called in this process with each step's metrics, by a thread.
        show: Called with the progress, by the same thread.
        ancestor: See `loop.fit`.

    Returns:
        The checkpoint of the least validation error.

    Raises:
        FkpError: The cluster is too small, or training failed for a reason the user can mend.
    """
    config = run.config
    for workers in range(config.least_workers, config.scale.num_workers + 1):
        loop.worker_batch_size(config, workers)
    with ray_session.connect(loop.MALLOC_ENVIRONMENT):
        gpus = 1.0 if check_resources(config) else 0.0
        with _relay(write, show) as queue:
            result = fit(torch_trainer(config, run.place, gpus, {"relay": queue, "ancestor": ancestor}))
    best = result.get_best_checkpoint(config.val_nme_key, "min")
    assert best is not None, "a training that ended well has reported at least one epoch"
    folder = best.to_directory(run.folder / "best") if storage.is_uri(run.place) else best.path
    return Path(folder) / _CHECKPOINT_NAME


@contextlib.contextmanager
def _relay(write: WriteMetrics, show: Callable[[Mapping[str, float]], None]) -> Iterator[Queue]:
    """A queue on this host for the first worker, which may be on another and then cannot reach what the driver reaches.

    Its items are arguments: three for `write`, one for `show`. Ray Train's callbacks would not do: they run in a process of their
    own, once an epoch. What the queue loses with the driver is in the checkpoints.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})

    def forward() -> None:
        for item in iter(queue.get, None):
            (write if len(item) == 3 else show)(*item)

    pool = ThreadPoolExecutor(1, "relay")
    forwarded = pool.submit(forward)
    try:
        yield queue
    finally:
        with contextlib.suppress(RayActorError):  # Without its queue the training has failed, and says so.
            queue.put(None)
        pool.shutdown()
        queue.shutdown(force=True)
    forwarded.result()


class Trainer(TorchTrainer):
    """Leaves Ctrl-C to `fkp.stopping`: Ray's own handler ends the process in the middle of what has to be told and kept."""

    def _register_sigint_handler(self, controller: Any) -> None:
        pass


def torch_trainer(config: Config, place: str, gpus: float, job: Mapping[str, Any], callbacks: Sequence[Any] = ()) -> Trainer:
    """Make the Ray trainer of a run.

    Args:
        config: Its paths must be absolute.
        place: Where checkpoints go, and where to resume from when it has some: a folder that all hosts see, or an address.
        gpus: Of each worker; 0 trains on the CPU.
        job: For the workers: `relay`, a queue for progress and metrics of the first; `crops`, reference of a
            `CropCache` in the object store; `pipelines`, see `who_decodes`; `ancestor`, see `loop.fit`. Each may be missing.
        callbacks: Told of every report, in the process that calls `fit`.
    """
    parent, name = place.rsplit("/", 1)
    kept: list[Any] = []
    if not storage.is_uri(place):  # A bucket shows a list once all of it has arrived, and until then the one before.
        checkpoint_list.repair(Path(place))
        kept = [checkpoint_list.KeepCheckpointList(Path(place))]
    scale = config.scale
    least, most = config.least_workers, scale.num_workers
    return Trainer(
        _worker,
        train_loop_config={**job, "config": config.model_dump(mode="json"), "on_gpu": gpus > 0},
        scaling_config=ScalingConfig(
            num_workers=(least, most) if least < most else most,  # type: ignore[arg-type]
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": scale.cpus_per_worker, **({"GPU": gpus} if gpus else {})},
        ),
        run_config=RunConfig(
            name=name,
            storage_path=parent,
            failure_config=FailureConfig(max_failures=scale.max_failures),
            checkpoint_config=CheckpointConfig(config.train.keep_checkpoints, config.val_nme_key, "min"),
            callbacks=[*callbacks, *kept],
        ),
    )


def _worker(job: dict[str, Any]) -> None:
    """What each Ray Train worker runs."""
    config = Config.model_validate(job["config"])
    context = ray.train.get_context()
    relay = job.get("relay") if context.get_world_rank() == 0 else None

    def tell(*item: Any) -> None:
        if relay is not None:
            relay.put(item)

    with resumed_from(ray.train.get_checkpoint()) as checkpoint:
        for entry in left_by_earlier_version(checkpoint.parent) if checkpoint else []:
            tell(*entry)
        loop.fit(
            config,
            world_size=context.get_world_size(),
            report=tell,
            callbacks=[MetricLog(tell), ReportCheckpoint()],
            checkpoint=checkpoint,
            on_gpu=job["on_gpu"],
            cache=ray.get(job["crops"]) if "crops" in job else None,
            ancestor=job.get("ancestor"),
            decode_all=who_decodes(config, job.get("pipelines", context.get_world_size())),
            prepare=prepare_trainer,
            strategy=RayDDPStrategy(),
            plugins=[RayLightningEnvironment()],
        )


def who_decodes(config: Config, pipelines: int) -> DecodeAll:
    """What `loop.fit` decodes with in a process of Ray; `pipelines` is how many of them stream on this cluster at once."""
    if config.data.backend != "stream":
        return map
    from fkp.data.parquet.ray_decode import on_ray

    return on_ray(config.scale.decoders_per_worker, pipelines)


@contextlib.contextmanager
def resumed_from(checkpoint: Any) -> Iterator[Path | None]:
    """The Lightning checkpoint in what `ReportCheckpoint` reported, on this machine's disk; None for None."""
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder) / _CHECKPOINT_NAME


def fit(trainer: TorchTrainer) -> ray.train.Result:
    """Run a trainer.

    Raises:
        FkpError: What a worker raised, or that training failed.
    """
    try:
        return trainer.fit()
    except WorkerGroupError as error:
        for failure in error.worker_failures.values():
            cause: BaseException | None = failure
            while cause is not None:
                if isinstance(cause, FkpError):
                    raise cause from error
                cause = ray_private.cause_of(cause)
        raise FkpError(f"training failed on a worker: {_last_line(error)}; the same command resumes from the last checkpoint") from error
    except TrainingFailedError as error:
        raise FkpError(f"training failed: {_last_line(error)}; the same command resumes from the last checkpoint") from error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
