"""What every network of fkp is trained with: its optimiser, its schedule, a seed for each step."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fkp.config import Config


class Trained(pl.LightningModule):
    """Base of the Lightning modules.

    Args:
        config: The run as plain JSON, `Config.model_dump(mode="json")`; a checkpoint holds it.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.save_hyperparameters({"config": config}, logger=False)
        self.config = Config.model_validate(config)

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        # Dropout draws from torch's generator, whose state is in no checkpoint: each step of each worker has a seed of its own.
        seed = np.random.SeedSequence([self.config.train.seed, self.global_step, self.global_rank])
        torch.manual_seed(int(seed.generate_state(1, np.uint64)[0]))

    def configure_optimizers(self) -> Any:
        optim = self.config.optim
        # Biases, normalisation and the learnt temperatures are not weights to be shrunk.
        decayed = [p for p in self.parameters() if p.ndim > 1]
        plain = [p for p in self.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": optim.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[optim.optimizer]
        optimizer = kind(groups, lr=optim.lr)
        if optim.schedule == "constant":
            return optimizer
        if optim.schedule == "plateau":
            plateau = ReduceLROnPlateau(optimizer, factor=0.1, patience=5)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self._per_step(optimizer), "interval": "step"}}

    def _per_step(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        optim, steps = self.config.optim, int(self.trainer.estimated_stepping_batches)
        warm = max(1, round(optim.warmup * steps))
        if optim.schedule == "onecycle":
            # OneCycleLR divides by one step less than the warm-up: a warm-up of one step is none.
            start = warm / steps if warm > 1 else 0.0
            return torch.optim.lr_scheduler.OneCycleLR(optimizer, optim.lr, steps, pct_start=start, cycle_momentum=False)
        warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=warm)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - warm))
        return torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, decay], [warm])

    def on_train_epoch_end(self) -> None:
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(self.trainer.callback_metrics["val_loss"])

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if isinstance(scheduler, ReduceLROnPlateau):
            return  # Lightning calls this after the epoch's checkpoint, which must hold the step: see on_train_epoch_end.
        with warnings.catch_warnings():
            # SequentialLR calls its parts with an epoch number, which torch itself has deprecated.
            warnings.filterwarnings("ignore", message="The epoch parameter in `scheduler.step")
            super().lr_scheduler_step(scheduler, metric)
