"""A short training that begins from a trained network: all its weights, a high peak rate for few steps, averaged at the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fkp.adapt.faces import Faces, shown
from fkp.config import Config
from fkp.errors import FkpError
from fkp.model import losses
from fkp.model.network import Network
from fkp.vision.augment import Augment


@dataclass(frozen=True)
class Recipe:
    """Settings of a fine-tuning. They were chosen on photographs (HELEN to LFPW); no weight comes from those.

    Attributes:
        lr: Peak of the one-cycle schedule. With 50 faces and 150 steps 3e-3 was better than 1e-3.
        batch: Faces a step.
        least_steps: For few faces; 400 instead were 0.4 % better with 50 of them.
        epochs: For many. With 500 faces 80 were 0.8 % better than 40.
        weight_decay: Of weights, not of biases and normalisation.
    """

    lr: float = 3e-3
    batch: int = 32
    least_steps: int = 150
    epochs: int = 80
    weight_decay: float = 0.02

    def steps(self, faces: int) -> int:
        """How many steps for so many faces."""
        return max(self.least_steps, self.epochs * faces // self.batch)

    def ema_decay(self, faces: int) -> float:
        """Of the averaged weights, which are kept: over the last fifty steps, or over a twelfth of many."""
        return max(0.98, 1 - 12 / self.steps(faces))


def finetune(network: Network, config: Config, faces: Faces, recipe: Recipe, seed: int, about: str) -> Network:
    """Train a network further on faces.

    Args:
        network: Where to begin; its map of the shape, if it has one, stays and is trained through. Changed in place.
        config: Its run: loss and augmentation.
        faces: What is trained on.
        recipe: How.
        seed: Of order and augmentation.
        about: Names the progress bar.

    Returns:
        A network of averaged weights, in evaluation mode.

    Raises:
        FkpError: The loss is no longer finite.
    """
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]  # Missing in torch's stubs.
    augment = Augment(config.augment, config.input.size_px, config.scheme)
    groups = [{"params": [p for p in network.parameters() if (p.ndim > 1) is decayed]} for decayed in (True, False)]
    optimizer = torch.optim.AdamW([groups[0] | {"weight_decay": recipe.weight_decay}, groups[1] | {"weight_decay": 0.0}], lr=recipe.lr)
    steps = recipe.steps(len(faces))
    schedule = OneCycleLR(optimizer, recipe.lr, steps, pct_start=0.2, cycle_momentum=False)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay(len(faces))), use_buffers=True)
    size_px, weight = config.input.size_px, config.loss.heatmap_weight
    labels = torch.from_numpy(np.concatenate([faces.wide_px, faces.weights[..., None]], -1))
    for chosen in shown(_batches(len(faces), recipe.batch, steps, draw), about, steps):
        crops, changed = augment(torch.from_numpy(faces.wide_u8[chosen]), labels[chosen], draw)
        truth, counts = changed[..., :2], changed[..., 2]
        points, scale, encoding = network.with_encoding(crops)
        loss = losses.landmark_loss(config.loss.kind, points, scale, truth, size_px, counts)
        if weight:
            loss = loss + weight * network.heatmap_loss(encoding, points, truth, counts)
        if not torch.isfinite(loss):
            raise FkpError(f"the loss of {about} became {float(loss)}: use --ways map, or look at the labels")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
    averaged = average.module
    assert isinstance(averaged, Network)
    return averaged.eval()


def _batches(faces: int, size: int, steps: int, draw: torch.Generator) -> Iterable[list[int]]:
    """Whole passes in ever new orders, cut into batches."""
    order: list[int] = []
    for _ in range(steps):
        while len(order) < size:
            order += torch.randperm(faces, generator=draw).tolist()
        yield order[:size]
        order = order[size:]
