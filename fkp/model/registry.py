"""Architectures by name. Register one with a decorator; one parametrised test covers all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from fkp.config import InputConfig, ModelConfig
from fkp.errors import FkpError


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
    """Every architecture that is registered: the built-in ones are once `fkp.model.network` is imported."""
    return sorted(_BUILDERS)


def build_backbone(model: ModelConfig, crop: InputConfig) -> nn.Module:
    """Make the configured `Backbone`.

    Raises:
        FkpError: The architecture is unknown.
    """
    if model.arch not in names():
        raise FkpError(f"unknown architecture {model.arch!r}: model.arch is one of {', '.join(names())}")
    return _BUILDERS[model.arch](model, crop)
