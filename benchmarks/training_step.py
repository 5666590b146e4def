"""One training step by hand, on one batch: what the loop of a training is measured against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from fkp.config import Config
from fkp.data.datamodule import FacesDataModule
from fkp.model.lightning_module import Net
from fkp.train.precision import precision


def fixed_step(config: Config, data: FacesDataModule, device: str = "cpu") -> Callable[[], None]:
    """Forward, backward, clipping, optimiser and averaging on one batch that never changes: no loader, no augmentation, no Trainer."""
    batch: list[Tensor] = [each.to(device) for each in next(iter(data.train_dataloader()))]
    batch = list(data.augment(*batch, torch.Generator().manual_seed(0)))
    constant = config.updated({"optim": {"schedule": "constant"}})
    net = Net(constant.model_dump(mode="json")).to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer, optim = net.configure_optimizers(), config.optim
    average = AveragedModel(net, avg_fn=get_ema_avg_fn(optim.ema_decay), use_buffers=True) if optim.ema_decay else None
    mixed = precision(config, device != "cpu") == "bf16-mixed"

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=mixed):
            loss = net.training_step(tuple(batch), 0)
        optimizer.zero_grad()
        loss.backward()
        if optim.grad_clip:
            torch.nn.utils.clip_grad_norm_(net.parameters(), optim.grad_clip)
        optimizer.step()
        if average is not None:
            average.update_parameters(net)

    return step
