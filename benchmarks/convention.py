"""The convention of labels, taken out of an error: what is left when a shape may be brought to the other way to place points.

Where a point of the jaw or a brow lies is agreed on, not seen. A model that learnt one convention is off by the labels of another even
where it sees everything right. A map that is fitted to other faces takes that out, and gives nothing of the face itself away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FOLDS, PENALTY = 10, 3e-5


@dataclass(frozen=True)
class Fitted:
    """Points of each face by what was fitted to the other nine tenths of the faces, in pixels of the images, (N, K, 2) each.

    Attributes:
        constant_px: The answer, and one offset for each point that is the same for all faces.
        mapped_px: By a linear map of the whole shape.
    """

    constant_px: np.ndarray
    mapped_px: np.ndarray


def fit(points_px: np.ndarray, truth_px: np.ndarray, shape_px: np.ndarray | None = None, seed: int = 0) -> Fitted:
    """Bring answers to the labels' convention, cross-validated in ten folds.

    Offsets and map are in the frame of each face's answer: its box's middle is the origin, its longer side the unit. The map is ridge
    regression in closed form (Hoerl and Kennard, Technometrics 1970), of all coordinates on all, with a weight of 3e-5 a face.

    Args:
        points_px: (N, K, 2) answers; in the order and the scheme of the labels.
        truth_px: (N, K, 2) labels.
        shape_px: (N, M, 2) what the map is of; by default the answers.
        seed: Of the folds.
    """
    shape_px = points_px if shape_px is None else shape_px
    middle, size = frame(shape_px)
    x = ((shape_px - middle) / size).reshape(len(shape_px), -1)
    missing = ((truth_px - points_px) / size).reshape(len(truth_px), -1)
    wanted = ((truth_px - middle) / size).reshape(len(truth_px), -1)
    order = np.random.default_rng(seed).permutation(len(x))
    offset, mapped = np.empty_like(missing), np.empty_like(wanted)
    for fold in range(FOLDS):
        test = order[fold::FOLDS]
        train = np.setdiff1d(order, test)
        offset[test] = missing[train].mean(0)
        mapped[test] = ridge(x[train], wanted[train], PENALTY * len(train), x[test])
    return Fitted(points_px + offset.reshape(points_px.shape) * size, mapped.reshape(truth_px.shape) * size + middle)


def frame(points_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 1, 2) middle and (N, 1, 1) longer side of the box of (N, K, 2) points."""
    low, high = points_px.min(1), points_px.max(1)
    return ((low + high) / 2)[:, None], (high - low).max(-1)[:, None, None]


def ridge(x: np.ndarray, y: np.ndarray, penalty: float, asked: np.ndarray) -> np.ndarray:
    """What the map of x (N, D) to y (N, M) answers for `asked` (L, D); the offset is not shrunk."""
    middle, target = x.mean(0), y.mean(0)
    centred = x - middle
    weights = np.linalg.solve(centred.T @ centred + penalty * np.eye(x.shape[1]), centred.T @ (y - target))
    return (asked - middle) @ weights + target
