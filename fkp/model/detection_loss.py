"""Which cells are to tell of which face, and the loss of what they tell."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fkp.model.detection import cells, decode
from fkp.vision.detect.cells import STRIDES

#: Lengths of faces, in strides, that a stride's cells tell of. Neighbours have some in common, so that no length is at an end.
_LENGTHS = {8: (0.0, 5.0), 16: (1.6, 5.6), 32: (1.9, float("inf"))}
#: A cell tells of a face whose middle is so near: as a part of its length, and at least in strides.
_NEAR, _NEAR_STRIDES = 0.2, 0.75
#: Cells further away than `_NEAR` and within this part of the length are neither asked nor blamed.
_AROUND = 0.3
#: Nor are those of a stride that a face is a little too short or too long for: by up to this factor.
_NEARLY = 1.25
#: Exponent and weight of the focal loss (Lin et al. 2017).
_GAMMA, _ALPHA = 2.0, 0.35
#: Weights of score, box and points.
_SCORE, _BOX, _POINTS = 2.0, 2.0, 1.0


def assign(shapes: Tensor, counted: Tensor, middles: Tensor, strides: Tensor) -> Tensor:
    """Give cells their face.

    Args:
        shapes: (M, 7, 2) of one image's faces, in pixels from its border.
        counted: (M,) bool; a face that does not count has no cell, and those near it are not blamed.
        middles: (A, 2) of the cells, see `cells`.
        strides: (A,).

    Returns:
        (A,) number of each cell's face, -1 where there is none and -2 where the cell does not matter.
    """
    if not len(shapes):
        return torch.full((len(middles),), -1, device=shapes.device)
    length = (shapes[:, 1] - shapes[:, 0]).amax(-1)
    away = (middles[:, None] - shapes[:, :2].mean(1)).abs().amax(-1)
    low = torch.tensor([_LENGTHS[stride][0] for stride in STRIDES], device=shapes.device)
    high = torch.tensor([_LENGTHS[stride][1] for stride in STRIDES], device=shapes.device)
    level = torch.log2(strides / STRIDES[0]).round().long()
    relative = length[None] / strides[:, None]
    fits = (relative >= low[level, None]) & (relative < high[level, None])
    near = away <= torch.maximum(_NEAR * length[None], _NEAR_STRIDES * strides[:, None])
    own = fits & near & counted[None]
    # Cells of another stride see no face of theirs: what they do not learn to deny they tell of, in a wrong size.
    nearly = (relative >= low[level, None] / _NEARLY) & (relative < high[level, None] * _NEARLY)
    # The smallest face wins: a larger one has other cells.
    chosen = torch.where(own, length[None], torch.inf)
    best, face = chosen.min(dim=1)
    around = away <= torch.maximum((_AROUND + 0.2 * ~counted) * length[None], _NEAR_STRIDES * strides[:, None])
    answer = torch.where((around & (nearly | ~counted)).any(1), -2, -1)
    return torch.where(best.isfinite(), face, answer)


def detection_loss(told: Tensor, shapes: Sequence[Tensor], counted: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Focal loss of the scores, generalised IoU of the boxes (Rezatofighi et al., CVPR 2019), smooth L1 of the points.

    Args:
        told: (N, A, 15), see `DetectionNetwork`.
        shapes: For each image (M, 7, 2), see `assign`.
        counted: For each image (M,).
        height: Of the images.
        width: Likewise.

    Returns:
        The mean over the images of the mean over their cells that have a face: the one face of an image counts as much as the forty of
        another, and what is taken for a face where there is none counts most where nothing else is.
    """
    middles, strides = cells(height, width, told.device)
    given = [assign(of_image, counts, middles, strides) for of_image, counts in zip(shapes, counted, strict=True)]
    numbers = torch.stack(given)
    positive = numbers >= 0
    counts = positive.sum(1).clamp_min(1)
    logits = told[..., 0]
    score = logits.sigmoid()
    target = positive.float()
    weight = torch.where(positive, _ALPHA * (1 - score) ** _GAMMA, (1 - _ALPHA) * score**_GAMMA)
    focal = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight * (numbers != -2)
    scores = (focal.sum(1) / counts).mean()
    if not positive.any():
        return _SCORE * scores
    found = decode(told, middles, strides)[positive]
    truth = torch.cat([of_image[own[own >= 0]] for of_image, own in zip(shapes, given, strict=True)])
    length = (truth[:, 1] - truth[:, 0]).amax(-1)
    box = 1 - generalised_iou(found[:, :2].flatten(1), truth[:, :2].flatten(1))
    points = F.smooth_l1_loss(found[:, 2:] / length[:, None, None], truth[:, 2:] / length[:, None, None], beta=0.05, reduction="none")
    share = (1 / counts)[:, None].expand(positive.shape)[positive]
    return _SCORE * scores + ((_BOX * box + _POINTS * points.sum((1, 2))) * share).sum() / share.sum()


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """(N,) of (N, 4) boxes x0, y0, x1, y1."""
    common = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp_min(0).prod(-1)
    union = (a[:, 2:] - a[:, :2]).prod(-1) + (b[:, 2:] - b[:, :2]).prod(-1) - common
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(-1)
    return common / union.clamp_min(1e-6) - (hull - union) / hull.clamp_min(1e-6)
