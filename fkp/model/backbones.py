"""Feature extractors, each registered under its name in `model.arch`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fkp.config import InputConfig, ModelConfig
from fkp.errors import FkpError
from fkp.model.registry import register


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    """Convolution without bias, batch normalisation and, by default, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if act:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut: He et al., "Deep Residual Learning", CVPR 2016, figure 5 left."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        last = conv_bn(outputs, outputs, act=False)
        self.body = nn.Sequential(conv_bn(inputs, outputs, stride=stride), last)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, kernel=1, stride=stride, act=False)
        # Starting as the identity lets a deep stack train from the first step (Goyal et al. 2017, section 5.1).
        nn.init.zeros_(cast(nn.BatchNorm2d, last[1]).weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class InvertedBlock(nn.Module):
    """Widen, filter each channel, narrow: Sandler et al., "MobileNetV2", CVPR 2018."""

    EXPANSION = 3

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle = inputs * self.EXPANSION
        self.body = nn.Sequential(
            conv_bn(inputs, middle, kernel=1),
            conv_bn(middle, middle, stride=stride, groups=middle),
            conv_bn(middle, outputs, kernel=1, act=False),
        )
        self.has_shortcut = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.has_shortcut else self.body(x)


class ConvNextBlock(nn.Module):
    """Filter each channel with a large kernel, widen, narrow: Liu et al., "A ConvNet for the 2020s", CVPR 2022, figure 4.

    Two things differ from the paper's. Batch normalisation replaces layer normalisation: a training step takes as long, but
    ONNX Runtime folds it into the convolution, and a face takes 6 % less time. And a ReLU follows the sum: the raw weights
    learn nearly as well without it, but their average lags (64 px, 144 steps, one seed; NME of average and raw: 51 and 6.9 %
    without it, 21 and 6.3 % with it, `resnet` 19 and 6.6 %).
    """

    EXPANSION = 4
    #: A kernel of 5 would save 6 % of a training step (batch 32, 128 px, one thread) and 2 % in ONNX Runtime.
    KERNEL = 7
    #: Start of the body's scale in stacks this shallow: Touvron et al., "Going deeper with Image Transformers", ICCV 2021.
    SCALE = 0.1

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        same = inputs == outputs and stride == 1
        self.shrink = nn.Identity() if same else conv_bn(inputs, outputs, kernel=stride, stride=stride, act=False)
        middle = outputs * self.EXPANSION
        self.body = nn.Sequential(
            conv_bn(outputs, outputs, kernel=self.KERNEL, groups=outputs, act=False),
            nn.Conv2d(outputs, middle, 1),
            nn.GELU(),
            nn.Conv2d(middle, outputs, 1),
        )
        # One axis only: weight decay is for what has more.
        self.scale = nn.Parameter(torch.full((outputs,), self.SCALE))

    def forward(self, x: Tensor) -> Tensor:
        x = self.shrink(x)
        return F.relu(x + self.body(x) * self.scale[:, None, None], inplace=True)


class Staged(nn.Module):
    """A stem and stages of `depth` blocks, each of which halves the map.

    Args:
        block: Made of (channels in, channels out, stride).
        depth: Blocks of a stage.
        stem: The layers before the first stage, with `stem_channels` and `stem_stride`.
        stem_channels: Channels that come out of it.
        stem_stride: Crop pixels a cell of its map spans.
        channels: Of each stage.
    """

    def __init__(
        self, block: type[nn.Module], depth: int, stem: nn.Module, stem_channels: int, stem_stride: int, channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.channels = list(channels)
        self.strides = [stem_stride * 2 ** (stage + 1) for stage in range(len(channels))]
        self.stem = stem
        self.stages = nn.ModuleList(
            nn.Sequential(*(block(inputs if i == 0 else outputs, outputs, 2 if i == 0 else 1) for i in range(depth)))
            for inputs, outputs in itertools.pairwise([stem_channels, *channels])
        )

    def forward(self, crops: Tensor) -> list[Tensor]:
        x = self.stem(crops)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def _from_stride_4(block: type[nn.Module], model: ModelConfig, inputs: InputConfig) -> Staged:
    """A stem of stride 2 and four stages of stride 4, 8, 16 and 32."""
    w = model.width
    return Staged(block, model.depth, conv_bn(inputs.channels, w, stride=2), w, 2, [w, 2 * w, 4 * w, 4 * w])


@register("slim")
def slim(model: ModelConfig, inputs: InputConfig) -> nn.Module:
    """Residual blocks from stride 8 on; twice `model.width` channels at stride 8, six times at 32.

    At stride 4 a block costs as much time as at stride 8 with twice the channels, and most of it goes into places where no
    feature of a face is: two plain convolutions of stride 2 lead past it. With the maps made from stride 8 a training step
    takes two thirds of the time of `resnet`.
    """
    w = model.width
    stem = nn.Sequential(conv_bn(inputs.channels, w // 2, stride=2), conv_bn(w // 2, w, stride=2))
    return Staged(ResidualBlock, model.depth, stem, w, 4, [2 * w, 4 * w, 6 * w])


@register("resnet")
def resnet(model: ModelConfig, inputs: InputConfig) -> nn.Module:
    """Residual blocks; `model.width` channels at stride 4, four times as many at 16 and 32."""
    return _from_stride_4(ResidualBlock, model, inputs)


@register("mobile")
def mobile(model: ModelConfig, inputs: InputConfig) -> nn.Module:
    """Depthwise separable blocks: few multiplications, for small processors."""
    return _from_stride_4(InvertedBlock, model, inputs)


@register("convnext")
def convnext(model: ModelConfig, inputs: InputConfig) -> nn.Module:
    """Large depthwise kernels between 1 x 1 convolutions: a wide view for three fifths of the parameters of `resnet`."""
    return _from_stride_4(ConvNextBlock, model, inputs)


@register("seed_cnn")
class SeedCnn(nn.Module):
    """The student project's network: five plain convolutions, three linear layers, 224 px grey.

    Kept as it was, as the baseline of every table; the last of its linear layers (1024 to 136) is the direct head's,
    which also encodes as it did: (p - 100) / 50. `model.width` and `model.depth` do not change it.
    """

    def __init__(self, model: ModelConfig, inputs: InputConfig) -> None:
        super().__init__()
        if (inputs.size_px, inputs.channels) != (224, 1):
            raise FkpError("model.arch=seed_cnn needs input.size_px=224 and input.channels=1: its linear layers fit no other crop")
        layers: list[Any] = []
        channels = 1
        for outputs, kernel in ((32, 5), (64, 4), (128, 3), (256, 3), (512, 3)):
            layers += [nn.Conv2d(channels, outputs, kernel), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            channels = outputs
        layers += [nn.Dropout(0.1), nn.Flatten(), nn.Linear(8192, 2048), nn.ReLU(inplace=True)]
        layers += [nn.Dropout(0.25), nn.Linear(2048, 1024), nn.ReLU(inplace=True), nn.Dropout(0.25)]
        self.layers = nn.Sequential(*layers)
        self.channels = [1024]
        self.strides = [224]

    def forward(self, crops: Tensor) -> list[Tensor]:
        return [self.layers(crops)[:, :, None, None]]
