"""Losses of points, in percent of the crop's side, so that they mean the same at every input size."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

#: Side of the crop that the student project's code (p - 100) / 50 belongs to, as percent of the crop in one unit.
_SEED_UNIT_PCT = 100 * 50 / 224

_WING_PCT = 4.0
_WING_CURVE_PCT = 0.8


def weighted_mean(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean of (M, ...) values, or their weighted mean by (M,) weights."""
    if weights is None:
        return values.mean()
    return (values.reshape(len(values), -1).mean(1) * weights).sum() / weights.sum()


def smooth_l1(error_pct: Tensor, weights: Tensor | None = None) -> Tensor:
    """Huber's loss: quadratic up to 1 % of the crop, linear beyond, so that gross label errors pull less."""
    return weighted_mean(F.smooth_l1_loss(error_pct, torch.zeros_like(error_pct), beta=1.0, reduction="none"), weights)


def wing(error_pct: Tensor, weights: Tensor | None = None) -> Tensor:
    """Wing loss, Feng et al., CVPR 2018, equation 5: logarithmic, and so steep, for small errors."""
    size = error_pct.abs()
    offset = _WING_PCT - _WING_PCT * math.log1p(_WING_PCT / _WING_CURVE_PCT)
    return weighted_mean(torch.where(size < _WING_PCT, _WING_PCT * torch.log1p(size / _WING_CURVE_PCT), size - offset), weights)


def mse(error_pct: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean square of the error of (p - 100) / 50 in a crop of 224 px: the student project's loss."""
    return weighted_mean((error_pct / _SEED_UNIT_PCT).square(), weights)


def radial_laplace_nll(error_pct: Tensor, scale_pct: Tensor, weights: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of 2-D errors under p(e) = exp(-|e| / s) / (2 pi s^2), without its constant.

    The most likely s of a sample is half its mean radius, so 2 s is the expected error of the point.

    Args:
        error_pct: (N, K, 2).
        scale_pct: (N, K), s.
        weights: See `weighted_mean`; then the errors are (M, 2) and the scales (M,).
    """
    radius = torch.sqrt(error_pct.square().sum(-1) + 1e-6)  # The constant keeps the gradient finite at zero.
    return weighted_mean(2 * torch.log(scale_pct) + radius / scale_pct, weights)


#: `loss.kind` to the loss of the points; "laplace" is not here, because its likelihood is the loss of the points.
POINT_LOSSES: dict[str, Callable[..., Tensor]] = {"smooth_l1": smooth_l1, "wing": wing, "mse": mse}


def landmark_loss(name: str, points_px: Tensor, scale_px: Tensor, truth_px: Tensor, size_px: int, weights: Tensor | None = None) -> Tensor:
    """Loss that trains points and scales.

    The likelihood always trains the scale. With `laplace` it trains the points too; with every other loss the points
    follow that loss alone.

    Args:
        name: `loss.kind`.
        points_px: (N, K, 2) predicted, crop pixels.
        scale_px: (N, K) predicted, crop pixels.
        truth_px: (N, K, 2), crop pixels; a point of NaN is not labelled and counts nothing.
        size_px: Side of the crop.
        weights: (N, K) how much each label counts; None: all the same.
    """
    to_pct = 100 / size_px
    known = torch.isfinite(truth_px).all(-1)
    error_pct, scale_px = ((points_px - truth_px) * to_pct)[known], scale_px[known]
    counts = None if weights is None else weights[known]
    if name == "laplace":
        return radial_laplace_nll(error_pct, scale_px * to_pct, counts)
    return POINT_LOSSES[name](error_pct, counts) + radial_laplace_nll(error_pct.detach(), scale_px * to_pct, counts)
