"""Feature maps to points. Each head keeps its `encode` beside its `decode`.

Every head also gives a scale of the error per point. That branch reads the features but does not move them: its
gradient stops there, so that learning to know the error never costs accuracy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fkp.config import InputConfig, ModelConfig
from fkp.errors import FkpError
from fkp.model.losses import weighted_mean

if TYPE_CHECKING:
    from fkp.model.registry import Backbone

#: Channels of the small feature pyramid and of the map a direct head flattens.
_NECK = 64


def build(model: ModelConfig, inputs: InputConfig, backbone: Backbone, landmarks: int) -> DirectHead | HeatmapHead:
    """Build the configured head for so many landmarks on a backbone.

    Raises:
        FkpError: A heatmap head on a backbone that keeps no map of stride 4 or 8, or a crop that its coarsest map does not divide.
    """
    if model.head == "direct":
        return DirectHead(backbone, inputs.size_px, model.dropout, landmarks)
    if backbone.strides[0] not in (HeatmapHead.STRIDE, 2 * HeatmapHead.STRIDE):
        raise FkpError(f"model.arch={model.arch} has no map for model.head=heatmap: use model.head=direct")
    if inputs.size_px % backbone.strides[-1]:
        raise FkpError(f"input.size_px={inputs.size_px} does not divide by {backbone.strides[-1]}, the coarsest map of model.head=heatmap")
    return HeatmapHead(backbone, inputs.size_px, landmarks)


def _scale_px(log_scale: Tensor, size_px: int) -> Tensor:
    """Log of the scale in percent of the crop to pixels, kept between 0.05 % and 20 %, which no face exceeds."""
    return torch.exp(log_scale.float().clamp(-3.0, 3.0)) * (size_px / 100)


class DirectHead(nn.Module):
    """Coordinates by regression from the coarsest map.

    The encoding of a point is (p - 100) / 50 in a crop of 224 px, the student project's choice, and scales with the crop.
    """

    def __init__(self, backbone: Backbone, size_px: int, dropout: float, landmarks: int) -> None:
        super().__init__()
        self.size_px, self.landmarks = size_px, landmarks
        channels, cells = backbone.channels[-1], max(1, size_px // backbone.strides[-1]) ** 2
        self.reduce = nn.Identity() if cells == 1 else nn.Conv2d(channels, _NECK, 1)
        features = channels if cells == 1 else _NECK * cells
        self.dropout = nn.Dropout(dropout)
        self.points = nn.Linear(features, 2 * landmarks)
        self.log_scale = nn.Linear(features, landmarks)

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        features = self.dropout(self.reduce(maps[-1]).flatten(1))
        encoding = self.points(features).float().reshape(-1, self.landmarks, 2)
        return self.decode(encoding), _scale_px(self.log_scale(features.detach()), self.size_px), encoding

    def landmark_rows(self) -> dict[str, int]:
        """Parameters that hold something for each landmark -> their rows for each, the first landmark's first."""
        return {"points.weight": 2, "points.bias": 2, "log_scale.weight": 1, "log_scale.bias": 1}

    def heatmap_loss(self, encoding: Tensor, truth_px: Tensor, weights: Tensor | None = None) -> Tensor:
        """Nothing: the encoding of a regression is the points themselves."""
        return encoding.new_zeros(())

    def encode(self, points_px: Tensor) -> Tensor:
        """(N, K, 2) crop pixels to their encoding."""
        return (points_px * (224 / self.size_px) - 100) / 50

    def decode(self, encoding: Tensor) -> Tensor:
        """(N, K, 2) encoding to crop pixels."""
        return (encoding * 50 + 100) * (self.size_px / 224)


class HeatmapHead(nn.Module):
    """One map per point over cells of 4 px, from a small feature pyramid; the point is the map's expectation.

    Where the finest map of the backbone has stride 8, each of its cells gives the four cells of the map that it covers.

    Soft-argmax: Sun et al., "Integral Human Pose Regression", ECCV 2018. Pyramid: Lin et al., CVPR 2017. Four cells from
    one: Shi et al., "Real-Time Single Image and Video Super-Resolution", CVPR 2016.
    """

    STRIDE = 4

    #: Width of the distribution a map should have along each axis, in crop pixels.
    TARGET_SIGMA_PX = 3.0

    #: Start of the learnt temperature. Flat maps have almost no gradient: from 1 the first epochs learn nothing (on the
    #: YouTube-Faces set a validation NME of 61 % after three epochs, against 19 % from 10).
    TEMPERATURE = 10.0

    def __init__(self, backbone: Backbone, size_px: int, landmarks: int) -> None:
        super().__init__()
        self.size_px, self.landmarks = size_px, landmarks
        self.cells = size_px // self.STRIDE
        self.lateral = nn.ModuleList(nn.Conv2d(channels, _NECK, 1) for channels in backbone.channels)
        self.smooth = nn.Sequential(nn.Conv2d(_NECK, _NECK, 3, padding=1, bias=False), nn.BatchNorm2d(_NECK), nn.ReLU(inplace=True))
        self.split = backbone.strides[0] // self.STRIDE
        self.maps = nn.Conv2d(_NECK, landmarks * self.split**2, 1, bias=False)  # Softmax does not see a bias.
        self.temperature = nn.Parameter(torch.full((landmarks,), self.TEMPERATURE))
        self.log_scale = nn.Linear(backbone.channels[-1], landmarks)
        # A wide map is an uncertain point; how much so is learnt for each point.
        self.spread_gain = nn.Parameter(torch.full((landmarks,), 0.5))

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        x = self.lateral[-1](maps[-1])
        for lateral, finer in zip(reversed(self.lateral[:-1]), reversed(maps[:-1]), strict=True):
            x = lateral(finer) + F.interpolate(x, scale_factor=2.0, mode="nearest")
        # The temperature goes into the weights, and the maps become contiguous while they are small: both save time.
        temperature = self.temperature.repeat_interleave(self.split**2)[:, None, None, None]
        logits = F.conv2d(self.smooth(x), self.maps.weight * temperature).contiguous().float()
        marginals = self.marginals(logits.unflatten(1, (self.landmarks, self.split, self.split)))
        points_px, spread_px = self.expectation(marginals)
        coarse = maps[-1].detach().float().mean((2, 3))
        spread_pct = (spread_px.detach() * (100 / self.size_px)).clamp_min(0.05)
        scale_px = _scale_px(self.log_scale(coarse) + self.spread_gain * torch.log(spread_pct), self.size_px)
        return points_px, scale_px, marginals

    def encode(self, points_px: Tensor) -> Tensor:
        """(N, K, 2) crop pixels to (N, K, cells, cells) logits of a Gaussian of half a cell's width.

        A wider one loses so much beyond the border that a point one cell inside moves by a pixel.
        """
        place = self._places(points_px)
        along_x, along_y = (-0.5 * ((points_px[..., axis, None] - place) / (self.STRIDE / 2)) ** 2 for axis in (0, 1))
        return along_x[:, :, None, :] + along_y[:, :, :, None]

    def decode(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """(N, K, cells, cells) logits to expected places (N, K, 2) and their spread (N, K), both in crop pixels."""
        return self.expectation(self.marginals(logits[:, :, None, None]))

    def marginals(self, logits: Tensor) -> Tensor:
        """The map's distribution along x and along y.

        Args:
            logits: (N, K, s, s, cells / s, cells / s), where [i, j, y, x] is the map's cell in row y s + i, column x s + j.
                To put the cells into their order first would take ONNX Runtime a sixth of the whole network's time.

        Returns:
            (N, K, 2, cells).
        """
        weight = logits.flatten(2).softmax(-1).reshape(logits.shape)
        along = (weight.sum((2, 4)), weight.sum((3, 5)))
        return torch.stack([each.transpose(2, 3).flatten(2) for each in along], 2)

    def expectation(self, marginals: Tensor) -> tuple[Tensor, Tensor]:
        """(N, K, 2, cells) distributions to expected places (N, K, 2) and their spread (N, K), crop pixels."""
        place = self._places(marginals)
        mean, square = (marginals * place).sum(-1), (marginals * place**2).sum(-1)
        return mean, (square - mean**2).sum(-1).clamp_min(1e-6).sqrt()

    def landmark_rows(self) -> dict[str, int]:
        """See `DirectHead.landmark_rows`."""
        return {"maps.weight": self.split**2, "temperature": 1, "log_scale.weight": 1, "log_scale.bias": 1, "spread_gain": 1}

    def heatmap_loss(self, encoding: Tensor, truth_px: Tensor, weights: Tensor | None = None) -> Tensor:
        """Cross-entropy of the marginals against a Gaussian around the truth: where the map should lie, cell by cell.

        The expectation alone leaves a map's shape free. Coordinate classification: Li et al., "SimCC", ECCV 2022.
        `weights`: (N, K) how much each label counts; None: all the same.
        """
        known = torch.isfinite(truth_px).all(-1)
        distance = (truth_px[known][..., None] - self._places(encoding)) / self.TARGET_SIGMA_PX
        target = (-0.5 * distance**2).softmax(-1)
        return weighted_mean(-(target * torch.log(encoding[known] + 1e-6)).sum(-1), None if weights is None else weights[known])

    def _places(self, like: Tensor) -> Tensor:
        """Middles of the cells in crop pixels."""
        return torch.arange(self.cells, device=like.device, dtype=torch.float32) * self.STRIDE + (self.STRIDE - 1) / 2
