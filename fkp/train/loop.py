"""The Lightning loop of one worker. It is the same with Ray and without: callers hand in what differs."""

from __future__ import annotations

import ctypes
import datetime
import logging
import math
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint, Timer, WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fkp.config import Config
from fkp.data.crop_cache import CropCache
from fkp.data.datamodule import FacesDataModule
from fkp.data.parquet.stream import DecodeAll
from fkp.data.scene_data import SceneDataModule
from fkp.errors import FkpError, stopping
from fkp.model.detection_module import DetectionNet
from fkp.model.lightning_module import Net
from fkp.train.ancestor import Ancestor
from fkp.train.checkpoint_files import LAST_CHECKPOINT, WholeCheckpoints, best, newest
from fkp.train.metric_log import MetricLog, WriteMetrics
from fkp.train.precision import precision

Report = Callable[[Mapping[str, float]], None]

_MAP_THRESHOLD, _TRIM_THRESHOLD = 1 << 30, (1 << 31) - 1
#: M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of glibc's malloc.h.
_MALLOPT = {-3: _MAP_THRESHOLD, -1: _TRIM_THRESHOLD}
#: The same for a process that has not begun, where it holds for all its threads.
MALLOC_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(_MAP_THRESHOLD),
    "MALLOC_TRIM_THRESHOLD_": str(_TRIM_THRESHOLD),
    "MALLOC_ARENA_MAX": "1",
}


class ProgressReport(pl.Callback):
    """Measures images per second and tells the driver where the run stands; stops a run whose loss is lost."""

    #: Seconds between two reports.
    EVERY_S = 1.0

    def __init__(self, report: Report, nme_key: str) -> None:
        self.report, self._nme_key = report, nme_key
        self._epoch_began = self._last_told = 0.0
        self._seen = 0
        self._nme = float("nan")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_began = time.monotonic()
        self._seen = 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._seen += len(batch[0])
        if trainer.is_global_zero and time.monotonic() - self._last_told >= self.EVERY_S:
            self._tell(trainer, self._images_per_s(trainer))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            pl_module.log("images_per_s", self._images_per_s(trainer))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        self._nme = float(metrics[self._nme_key])
        for name, value in (("training loss", float(metrics["train_loss"])), ("validation error", self._nme)):
            if not math.isfinite(value):
                raise FkpError(f"the {name} became {value} in epoch {trainer.current_epoch}: lower optim.lr or set optim.grad_clip")
        if trainer.is_global_zero:
            self._tell(trainer, float(metrics["images_per_s"]))

    def _images_per_s(self, trainer: pl.Trainer) -> float:
        return self._seen * trainer.world_size / max(time.monotonic() - self._epoch_began, 1e-9)

    def _tell(self, trainer: pl.Trainer, images_per_s: float) -> None:
        self._last_told = time.monotonic()
        # A stop by time or patience ends before this many steps.
        steps = int(trainer.estimated_stepping_batches)
        epoch = trainer.current_epoch
        self.report({"step": trainer.global_step, "steps": steps, "epoch": epoch, "nme": self._nme, "images_per_s": images_per_s})


class Patience(EarlyStopping):
    """Early stopping that also ends a resumed run whose patience is used up; Lightning's would train one more epoch first."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


def fit(
    config: Config,
    *,
    world_size: int,
    report: Report,
    callbacks: list[pl.Callback],
    checkpoint: Path | None,
    on_gpu: bool,
    cache: CropCache | None = None,
    ancestor: Ancestor | None = None,
    decode_all: DecodeAll = map,
    prepare: Callable[[pl.Trainer], pl.Trainer] = lambda trainer: trainer,
    plugins: Sequence[Any] = (),
    **trainer_options: Any,
) -> None:
    """Train in this process, as the only one or as one worker of a group.

    Args:
        config: The run.
        world_size: Workers in the group; the global batch is divided by it here and nowhere else.
        report: Called about once a second on rank 0 with step, steps, epoch, nme and images_per_s.
        callbacks: What keeps the metrics and the checkpoints.
        checkpoint: Where to resume from.
        on_gpu: Whether each worker has a GPU.
        cache: Crops that are decoded already; by default those of `data.cache_dir`.
        ancestor: What to begin from where there is no checkpoint, see `config.train.init`.
        decode_all: Who decodes what is streamed, see `fkp.data.parquet.stream`.
        prepare: Last change of the Trainer, Ray's.
        plugins: Of the Trainer, Ray's.
        trainer_options: Its strategy, Ray's.

    Raises:
        FkpError: The global batch does not divide by the workers, or the loss is no longer finite.
    """
    _quiet_lightning()
    _keep_freed_memory()
    if not on_gpu:
        torch.set_num_threads(config.scale.cpus_per_worker)
    pl.seed_everything(config.train.seed, workers=True, verbose=False)
    train = config.train
    trainer = pl.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=1 if world_size == 1 or on_gpu else "auto",
        max_epochs=train.epochs,
        precision=precision(config, on_gpu),  # type: ignore[arg-type]
        gradient_clip_val=config.optim.grad_clip or None,
        # What is not finite is logged before the report that ends the run. Lightning moves checkpoints to the end.
        callbacks=[*_callbacks(config), *callbacks, ProgressReport(report, config.val_nme_key)],
        logger=False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        use_distributed_sampler=False,  # The data module brings its own.
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        plugins=[*plugins, WholeCheckpoints()],
        **trainer_options,
    )
    net, data = _of_task(config, worker_batch_size(config, world_size), cache, decode_all)
    if ancestor is not None and checkpoint is None and isinstance(net, Net):
        ancestor.begin(net.network, config)
    net = net.to(memory_format=torch.channels_last)
    try:
        # Lightning ends the process itself when Ctrl-C comes, and puts handlers of its own in place.
        with stopping.kept():
            prepare(trainer).fit(net, datamodule=data, ckpt_path=None if checkpoint is None else str(checkpoint), weights_only=True)
    finally:
        data.close()


def fit_in_process(
    config: Config,
    folder: Path,
    report: Report,
    write: WriteMetrics | None = None,
    cache: CropCache | None = None,
    ancestor: Ancestor | None = None,
) -> Path:
    """Train in this process, without Ray; resumes from the folder's newest checkpoint that can be read.

    Args:
        config: The run.
        folder: For checkpoints.
        report: See `fit`.
        write: Takes the metrics, where they are wanted.
        cache: See `fit`.
        ancestor: See `fit`.

    Returns:
        The checkpoint of the least validation error.

    Raises:
        FkpError: A GPU is demanded and there is none; and see `fit`.
    """
    keep = ModelCheckpoint(folder, "best-{epoch:03d}", config.val_nme_key, save_top_k=config.train.keep_checkpoints, mode="min")
    # `save_last` would write it only after epochs that are among the best. It comes second, to hold what the first one kept.
    every = ModelCheckpoint(folder, Path(LAST_CHECKPOINT).stem, enable_version_counter=False)
    on_gpu = config.scale.use_gpu != "no" and torch.cuda.is_available()
    if config.scale.use_gpu == "yes" and not on_gpu:
        raise FkpError("scale.use_gpu=yes and torch finds no GPU here: use auto or no")
    callbacks = [keep, every, *([MetricLog(write)] if write else [])]
    fit(config, world_size=1, report=report, callbacks=callbacks, checkpoint=newest(folder), on_gpu=on_gpu, cache=cache, ancestor=ancestor)
    return best(keep)


def _of_task(
    config: Config, batch_size: int, cache: CropCache | None, decode_all: DecodeAll
) -> tuple[Net | DetectionNet, FacesDataModule | SceneDataModule]:
    """What is trained, and on what."""
    plain = config.model_dump(mode="json")
    if config.task == "detect":
        return DetectionNet(plain), SceneDataModule(config, batch_size)
    return Net(plain), FacesDataModule(config, batch_size, cache, decode_all)


def worker_batch_size(config: Config, world_size: int) -> int:
    """Faces a step of one worker.

    Raises:
        FkpError: The global batch does not divide by the workers.
    """
    size, rest = divmod(config.optim.global_batch_size, world_size)
    if rest or not size:
        raise FkpError(f"optim.global_batch_size={config.optim.global_batch_size} does not divide by {world_size} workers")
    return size


def _callbacks(config: Config) -> list[pl.Callback]:
    train, callbacks = config.train, list[pl.Callback]()
    if config.optim.ema_decay:
        callbacks.append(WeightAveraging(multi_avg_fn=_moving_average(config.optim.ema_decay)))
    if train.early_stop_epochs is not None:
        callbacks.append(Patience(config.val_nme_key, patience=train.early_stop_epochs, mode="min"))
    if train.max_minutes is not None:
        callbacks.append(Timer(datetime.timedelta(minutes=train.max_minutes), interval="epoch"))
    return callbacks


def _moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """An exponential moving average whose decay grows with the steps n as (1 + n) / (10 + n), up to `decay`.

    With a constant one the first epochs are measured on weights that are hardly trained, and a search would stop whatever
    moves them slowly (four epochs of the same network: 24 % against 6 %). The ramp is TensorFlow's ExponentialMovingAverage's.
    Lightning's own EMAWeightAveraging has a constant decay, and goes tensor by tensor in twice the time.
    """

    def update(averaged: Any, current: Any, steps: Any) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(steps)) / (10 + int(steps))))(averaged, current, steps)

    return update


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of freed activations for the next step; elsewhere nothing is changed.

    It would return each block of megabytes to the kernel, and a step would take some 30,000 page faults: a fifth of
    its time. Only the main thread's blocks obey; see `MALLOC_ENVIRONMENT` for workers whose loop runs in another.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in _MALLOPT.items():
            libc.mallopt(parameter, value)


def _quiet_lightning() -> None:
    """Hold back advice that does not fit here: the data is in memory already, so no loader processes are wanted."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")  # Lightning asks torch in a way that is no longer wanted.
