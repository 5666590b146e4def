"""What a bundle exports: uint8 crops in, landmarks out."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from fkp.config import Config
from fkp.model import backbones as _built_in  # noqa: F401  Importing it registers them.
from fkp.model import heads
from fkp.model.registry import Backbone, build_backbone, names
from fkp.model.shape_map import ShapeMap

__all__ = ["Network", "names"]


class Network(nn.Module):
    """uint8 crops to points: normalisation, backbone, head. This is what a bundle exports.

    Args:
        config: The run; its `model`, `input` and `data.scheme` are read. With `model.base_scheme` the head finds the landmarks of that
            one, and a `ShapeMap` makes those of `data.scheme` of them.

    Raises:
        FkpError: The architecture is unknown or does not go with the head.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.backbone = build_backbone(config.model, config.input)
        self.head = heads.build(config.model, config.input, cast(Backbone, self.backbone), len(config.inner_scheme))
        self.shape_map = None if config.model.base_scheme is None else ShapeMap(config.inner_scheme, config.scheme)

    def forward(self, crops_u8: Tensor) -> tuple[Tensor, Tensor]:
        """Find the points of each crop.

        Args:
            crops_u8: (N, C, S, S) uint8.

        Returns:
            points_px (N, K, 2) float32 in crop pixels, and scale_px (N, K) float32: the scale s of the error's
            density exp(-r / s) / (2 pi s^2), whose expected radius is 2 s (see `losses.radial_laplace_nll`).
        """
        points_px, scale_px, _ = self.with_encoding(crops_u8)
        return points_px, scale_px

    def with_encoding(self, crops_u8: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Like `forward`, and the head's encoding of its points, which `heatmap_loss` takes."""
        points_px, scale_px, encoding = self.inner(crops_u8)
        if self.shape_map is not None:
            points_px, scale_px = self.shape_map(points_px, scale_px)
        return points_px, scale_px, encoding

    def inner(self, crops_u8: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Like `with_encoding`, before the shape map: landmarks of `Config.inner_scheme`."""
        crops = (crops_u8.to(torch.float32) - 127.5) / 64.0
        points_px, scale_px, encoding = self.head(self.backbone(crops))
        return points_px, scale_px, encoding

    def heatmap_loss(self, encoding: Tensor, points_px: Tensor, truth_px: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss of the head's encoding, see there.

        Args:
            encoding: See `with_encoding`.
            points_px: (N, K, 2) its points.
            truth_px: (N, K, 2).
            weights: (N, K) how much each label counts; None: all the same.
        """
        if self.shape_map is not None and isinstance(self.head, heads.HeatmapHead):
            inner_px = self.head.expectation(encoding)[0].detach()
            truth_px = self.shape_map.inner_truth(inner_px, points_px.detach(), truth_px)
            weights = weights if weights is None else self.shape_map.inner_weights(weights, inner_px.shape[1])
        return self.head.heatmap_loss(encoding, truth_px, weights)
