"""Population-based training: a trial resumes from another one's weights with a rate and a decay of its own."""

from __future__ import annotations

import pytorch_lightning as pl

from fkp.config import Config


class PBTCallback(pl.Callback):
    """Sets the optimiser to the sample after a checkpoint has been loaded, which brings those of its former owner.

    It needs `optim.schedule=constant`: population-based training finds the schedule itself
    (Jaderberg et al., "Population Based Training of Neural Networks", 2017).
    """

    def __init__(self, config: Config) -> None:
        self.optim = config.optim

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning has loaded the optimiser's state by now."""
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.optim.lr
                # As `Net.configure_optimizers` makes them; the former owner's decay may have been 0.
                decays = any(parameter.ndim > 1 for parameter in group["params"])
                group["weight_decay"] = self.optim.weight_decay if decays else 0.0
