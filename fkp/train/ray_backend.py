"""Ray Train around the Lightning loop: workers, checkpoints, restarts."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Read when ray is imported: nothing leaves the machine, Train adds no prefix to what workers print, and its controller
# looks at the workers' reports more often than every two seconds, for which each epoch would wait.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import pytorch_lightning as pl
import ray
import ray.train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment, RayTrainReportCallback, prepare_trainer
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from fkp.config import Config
from fkp.errors import FkpError
from fkp.model.net import VAL_NME
from fkp.train import loop
from fkp.train.run import Run

_NAMESPACE = "fkp"


class ReportCheckpoint(RayTrainReportCallback):
    """Reports an epoch's metrics from every worker, and its checkpoint from the first only.

    The weights are equal on all workers; saving them once keeps the others from waiting for a disk.
    """

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        metrics |= {"epoch": trainer.current_epoch, "step": trainer.global_step}
        folder = Path(self.tmpdir_prefix) / str(trainer.current_epoch)
        folder.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(folder / self.CHECKPOINT_NAME)  # Every worker must call it; only the first writes.
        checkpoint = Checkpoint.from_directory(folder) if trainer.is_global_zero else None
        ray.train.report(metrics, checkpoint=checkpoint)  # Returns when the checkpoint is in storage.
        shutil.rmtree(folder, ignore_errors=True)


class _Board:
    """An actor that holds the newest progress, so that workers on any host reach the driver's bar."""

    def __init__(self) -> None:
        self._progress: dict[str, float] | None = None

    def put(self, progress: dict[str, float]) -> None:
        self._progress = progress

    def get(self) -> dict[str, float] | None:
        return self._progress


def fit_on_ray(run: Run, mlflow: Mapping[str, str], show: Callable[[Mapping[str, float]], None]) -> Path:
    """Train a run on Ray Train workers, from its newest checkpoint when it has one.

    Args:
        run: Its config's paths must be absolute: workers may start in another folder.
        mlflow: Arguments of `MLFlowLogger` for rank 0.
        show: Called in this process with the newest progress.

    Returns:
        The checkpoint of the least validation error.

    Raises:
        FkpError: The cluster is too small, or training failed for a reason the user can mend.
    """
    config = run.config
    loop.worker_batch_size(config, config.scale.num_workers)
    with _cluster(config):
        on_gpu = _check_resources(config)
        board_name = f"progress-{uuid.uuid4().hex}"
        board = ray.remote(num_cpus=0)(_Board).options(name=board_name, namespace=_NAMESPACE).remote()
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"config": config.model_dump(mode="json"), "mlflow": dict(mlflow), "board": board_name, "on_gpu": on_gpu},
            scaling_config=ScalingConfig(
                num_workers=config.scale.num_workers,
                use_gpu=on_gpu,
                resources_per_worker={"CPU": config.scale.cpus_per_worker, **({"GPU": 1} if on_gpu else {})},
            ),
            run_config=RunConfig(
                name=run.name,
                storage_path=str(run.folder.parent),
                failure_config=FailureConfig(max_failures=config.scale.max_failures),
                worker_runtime_env={"env_vars": loop.MALLOC_ENVIRONMENT},  # type: ignore[call-arg]  # Known to V2 only.
                checkpoint_config=CheckpointConfig(config.train.keep_checkpoints, VAL_NME, "min"),
            ),
        )
        with _showing(board, show):
            result = _fit(trainer)
    best = result.get_best_checkpoint(VAL_NME, "min")
    assert best is not None, "a training that ended well has reported at least one epoch"
    return Path(best.path) / RayTrainReportCallback.CHECKPOINT_NAME


def _worker(job: dict[str, Any]) -> None:
    """What each Ray Train worker runs."""
    config = Config.model_validate(job["config"])
    first = ray.train.get_context().get_world_rank() == 0
    board = ray.get_actor(job["board"], namespace=_NAMESPACE) if first else None

    def report(progress: Mapping[str, float]) -> None:
        assert board is not None
        board.put.remote(dict(progress))

    checkpoint = ray.train.get_checkpoint()
    with contextlib.ExitStack() as stack:
        folder = None if checkpoint is None else Path(stack.enter_context(checkpoint.as_directory()))
        loop.fit(
            config,
            world_size=ray.train.get_context().get_world_size(),
            report=report,
            # Only the first worker writes; Lightning's own loggers do so by themselves, but would still open the store.
            logger=loop.mlflow_logger(job["mlflow"] if first else {}),
            callbacks=[ReportCheckpoint()],
            checkpoint=None if folder is None else folder / RayTrainReportCallback.CHECKPOINT_NAME,
            on_gpu=job["on_gpu"],
            prepare=prepare_trainer,
            strategy=RayDDPStrategy(),
            plugins=[RayLightningEnvironment()],
        )


@contextlib.contextmanager
def _cluster(config: Config) -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names or this process already uses; otherwise start one on this machine."""
    if ray.is_initialized():
        yield
        return
    try:
        # The dashboard process also answers Train's questions about the state of its workers: without it Train warns
        # every second. It listens on loopback only.
        ray.init(namespace=_NAMESPACE, dashboard_host="127.0.0.1", logging_level=logging.WARNING, log_to_driver=False)
    except ConnectionError as error:
        raise FkpError(f"cannot reach the Ray cluster {os.environ.get('RAY_ADDRESS')}: start it or unset RAY_ADDRESS") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_resources(config: Config) -> bool:
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


def _fit(trainer: TorchTrainer) -> ray.train.Result:
    try:
        return trainer.fit()
    except WorkerGroupError as error:
        for failure in error.worker_failures.values():
            cause: BaseException | None = failure
            while cause is not None:
                if isinstance(cause, FkpError):
                    raise cause from error
                cause = getattr(cause, "cause", None) or getattr(cause, "_base_exc", None) or cause.__cause__
        raise FkpError(f"training failed on a worker: {_last_line(error)}; the same command goes on from the last checkpoint") from error
    except TrainingFailedError as error:
        raise FkpError(f"training failed: {_last_line(error)}; the same command goes on from the last checkpoint") from error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextlib.contextmanager
def _showing(board: Any, show: Callable[[Mapping[str, float]], None]) -> Iterator[None]:
    """Poll the board from a thread while the block runs."""
    done = threading.Event()

    def poll() -> None:
        while not done.wait(1.0):
            progress = ray.get(board.get.remote())
            if progress is not None:
                show(progress)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        ray.kill(board)
