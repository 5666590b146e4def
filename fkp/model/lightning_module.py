"""`fkp.Net`: the LightningModule. Trains under any Lightning Trainer, with Ray or without."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from fkp.model import losses
from fkp.model.network import Network
from fkp.model.trained import Trained
from fkp.scheme import Scheme


class Net(Trained):
    """The network with its losses and its optimiser.

    `Net.load_from_checkpoint(path)` rebuilds it from a checkpoint alone; `net.sample(images)` finds points.

    Args:
        config: The run as plain JSON, `Config.model_dump(mode="json")`.

    Raises:
        FkpError: The architecture is unknown or does not go with the head.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.network = Network(self.config)

    def forward(self, crops_u8: Tensor) -> tuple[Tensor, Tensor]:
        """See `Network.forward`."""
        points_px, scale_px = self.network(crops_u8)
        return points_px, scale_px

    @torch.inference_mode()
    def sample(self, images: Tensor) -> Tensor:
        """Find the landmarks in each crop.

        Args:
            images: (N, C, S, S), S = `input.size_px`: uint8, or floating point in [0, 1]. The type says which.

        Returns:
            (N, K, 2) float32 in pixels of the crops.

        Raises:
            ValueError: The shape does not fit the network.
        """
        expected = (self.config.input.channels, self.config.input.size_px, self.config.input.size_px)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(f"expected images of shape (N, {', '.join(map(str, expected))}), got {tuple(images.shape)}")
        with _evaluating(self):
            return self(_to_u8(images).to(self.device))[0]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        crops_u8, truth_px = batch
        points_px, scale_px, encoding = self.network.with_encoding(crops_u8)
        loss = losses.landmark_loss(self.config.loss.kind, points_px, scale_px, truth_px, self.config.input.size_px)
        if self.config.loss.heatmap_weight:
            loss = loss + self.config.loss.heatmap_weight * self.network.heatmap_loss(encoding, points_px, truth_px)
        # One synchronisation an epoch, not one a step.
        self.log("train_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(truth_px))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        crops_u8, truth_px = batch
        points_px, scale_px = self(crops_u8)
        loss = losses.landmark_loss(self.config.loss.kind, points_px, scale_px, truth_px, self.config.input.size_px)
        self.log("val_loss", loss, sync_dist=True, batch_size=len(truth_px))
        nme = nme_pct(points_px, truth_px, self.config.scheme).mean()
        self.log(self.config.val_nme_key, nme, sync_dist=True, batch_size=len(truth_px))


def nme_pct(points_px: Tensor, truth_px: Tensor, scheme: Scheme) -> Tensor:
    """(N,) mean error of the labelled points in percent of the scheme's normaliser."""
    if scheme.between is None:
        known = truth_px.isfinite()
        sides = truth_px.where(known, -torch.inf).amax(1) - truth_px.where(known, torch.inf).amin(1)
        size = sides.norm(dim=-1)
    else:
        left, right = scheme.between
        size = (truth_px[:, left] - truth_px[:, right]).norm(dim=-1)
    return 100 * (points_px - truth_px).norm(dim=-1).nanmean(-1) / size.clamp_min(1e-6)


def _to_u8(images: Tensor) -> Tensor:
    return (images * 255).round().clamp(0, 255).to(torch.uint8) if images.is_floating_point() else images


@contextlib.contextmanager
def _evaluating(module: torch.nn.Module) -> Any:
    """Evaluation mode for a while, then whatever it was."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
