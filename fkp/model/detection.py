"""A face detector: one class, no anchors, three strides; a box and five points for each cell of its maps."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fkp.config import Config
from fkp.errors import FkpError
from fkp.model import backbones as _built_in  # noqa: F401  Importing it registers them.
from fkp.model.backbones import conv_bn
from fkp.model.registry import Backbone, build_backbone
from fkp.vision.detect import cells as grid
from fkp.vision.detect.cells import STRIDES, UNIT

#: A cell's numbers: its score before the sigmoid, shift of the box's middle, logarithm of its sides, five points.
NUMBERS = 1 + 2 + 2 + 10
#: What a cell's score begins with: faces are rare (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 4.1).
_RARE = 0.01


class DetectionNetwork(nn.Module):
    """uint8 images to what each cell tells. This is what the bundle of a detector exports.

    The backbone's maps of strides 8 to 32 are joined from coarse to fine (Lin et al., "Feature Pyramid Networks", CVPR 2017), each with
    a head of its own.

    Args:
        config: The run; its `model` and `input.channels` are read.

    Raises:
        FkpError: The architecture is unknown or has no such maps.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.backbone = build_backbone(config.model, config.input)
        backbone = cast(Backbone, self.backbone)
        if any(stride not in backbone.strides for stride in STRIDES):
            raise FkpError(
                f"model.arch={config.model.arch} has no maps of strides {STRIDES}: a detector needs slim, resnet, mobile or convnext"
            )
        self._levels = [backbone.strides.index(stride) for stride in STRIDES]
        width = 2 * config.model.width
        self.lateral = nn.ModuleList(conv_bn(backbone.channels[level], width, kernel=1) for level in self._levels)
        self.heads = nn.ModuleList(nn.Sequential(conv_bn(width, width), nn.Conv2d(width, NUMBERS, 1)) for _ in STRIDES)
        for head in self.heads:
            last = cast(nn.Conv2d, cast(nn.Sequential, head)[1])
            assert last.bias is not None
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)
            nn.init.constant_(last.bias[:1], -math.log((1 - _RARE) / _RARE))

    def forward(self, images_u8: Tensor) -> Tensor:
        """Look at images.

        Args:
            images_u8: (N, 3, H, W) uint8 RGB; both sides are multiples of 32.

        Returns:
            (N, A, 15) float32, the cells of stride 8 row by row, then those of 16 and 32; see `NUMBERS` and `decode`.
        """
        maps = self.backbone((images_u8.to(torch.float32) - 127.5) / 64.0)
        coarser: Tensor | None = None
        told = []
        for level, lateral, head in reversed(list(zip(self._levels, self.lateral, self.heads, strict=True))):
            own = lateral(maps[level])
            coarser = own if coarser is None else own + F.interpolate(coarser, scale_factor=2.0, mode="nearest")
            told.append(head(coarser).flatten(2).transpose(1, 2))
        return torch.cat(told[::-1], dim=1).float()


def cells(height: int, width: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Middles (A, 2) of all cells of an image, in pixels from its border, and their strides (A,), in the order of `forward`."""
    middles, strides = grid.cells(height, width)
    return tuple(torch.from_numpy(values).to(device, torch.float32) for values in (middles, strides))  # type: ignore[return-value]


def decode(told: Tensor, middles: Tensor, strides: Tensor) -> Tensor:
    """Turn what cells tell into shapes.

    Args:
        told: (..., A, 15).
        middles: (A, 2), see `cells`.
        strides: (A,).

    Returns:
        (..., A, 7, 2) low and high corner of the box and five points, in pixels from the image's border.
    """
    at, unit = middles, UNIT * strides[:, None]
    middle = at + told[..., 1:3] * strides[:, None]
    half = told[..., 3:5].clamp(-6, 6).exp() * unit / 2
    points = at[:, None] + told[..., 5:].unflatten(-1, (5, 2)) * unit[:, None]
    return torch.cat([(middle - half)[..., None, :], (middle + half)[..., None, :], points], dim=-2)
