"""Architectures by name. Register one with a decorator; one parametrised test covers all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from fkp.config import Config, InputConfig, ModelConfig
from fkp.errors import FkpError
from fkp.model import heads


class Backbone(Protocol):
    """What a registered architecture builds.

    Attributes:
        channels: Channels of each feature map, finest first.
        strides: Crop pixels a cell of each feature map spans, or the whole crop for a vector.
    """

    channels: list[int]
    strides: list[int]

    def __call__(self, crops: Tensor) -> list[Tensor]:
        """Map (N, C, S, S) float32 crops of about zero mean and unit spread to feature maps, finest first."""
        ...


Builder = Callable[[ModelConfig, InputConfig], nn.Module]
_BUILDERS: dict[str, Builder] = {}


def register(name: str) -> Callable[[Builder], Builder]:
    """Give a builder of a `Backbone` its name in `model.arch`."""

    def keep(builder: Builder) -> Builder:
        if name in _BUILDERS:
            raise ValueError(f"architecture {name!r} is registered twice")
        _BUILDERS[name] = builder
        return builder

    return keep


def names() -> list[str]:
    """Every registered architecture."""
    from fkp.model import backbones  # noqa: F401  Importing it registers them.

    return sorted(_BUILDERS)


class Network(nn.Module):
    """uint8 crops to points: normalisation, backbone, head. This is what a bundle exports.

    Args:
        config: The run; its `model` and `input` sections are read.

    Raises:
        FkpError: The architecture is unknown or does not go with the head.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.model.arch not in names():
            raise FkpError(f"unknown architecture {config.model.arch!r}: model.arch is one of {', '.join(names())}")
        self.backbone = _BUILDERS[config.model.arch](config.model, config.input)
        self.head = heads.build(config.model, config.input, cast(Backbone, self.backbone))

    def forward(self, crops_u8: Tensor) -> tuple[Tensor, Tensor]:
        """Find the points of each crop.

        Args:
            crops_u8: (N, C, S, S) uint8.

        Returns:
            points_px (N, 68, 2) float32 in crop pixels, and scale_px (N, 68) float32: the scale s of the error's
            density exp(-r / s) / (2 pi s^2), whose expected radius is 2 s (see `losses.radial_laplace_nll`).
        """
        points_px, scale_px, _ = self.with_code(crops_u8)
        return points_px, scale_px

    def with_code(self, crops_u8: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Like `forward`, and the head's code of the points, which its `code_loss` takes."""
        crops = (crops_u8.to(torch.float32) - 127.5) / 64.0
        points_px, scale_px, code = self.head(self.backbone(crops))
        return points_px, scale_px, code
