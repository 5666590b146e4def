"""The map of the shape that a few labelled faces tell, by ridge regression in closed form."""

from __future__ import annotations

import numpy as np
import torch

from fkp.adapt.faces import shown
from fkp.model.network import Network
from fkp.model.shape_map import ShapeMap
from fkp.scheme import Scheme

#: What the squares of the map's numbers are weighted by; cross-validation chooses. On photographs labelled by another convention
#: 2 to 6 is best for 10 to 100 faces and 0.6 for 400 to 800; the largest leaves one constant offset a landmark.
PENALTIES = (0.6, 2.0, 6.0, 20.0, 60.0, 1e6)


@torch.inference_mode()
def looks(network: Network, crops_u8: np.ndarray, batch: int = 32) -> np.ndarray:
    """(2, N, K', 2) float32: what a network's head answers for crops as they are, and for mirrored ones in their own pixels."""
    network.eval()
    answers: list[list[np.ndarray]] = [[], []]
    for first in shown(range(0, len(crops_u8), batch), "the model's answers"):
        crops = torch.from_numpy(np.ascontiguousarray(crops_u8[first : first + batch]))
        for mirrored, found in enumerate(answers):
            found.append(network.inner(crops.flip(-1) if mirrored else crops)[0].numpy())
    return np.stack([np.concatenate(found) for found in answers])


def mirrored(points_px: np.ndarray, scheme: Scheme, size_px: int) -> np.ndarray:
    """(..., K, 2) points of mirrored crops as those of the crops, or the other way round."""
    out = points_px[..., list(scheme.mirror), :].copy()
    out[..., 0] = size_px - 1 - out[..., 0]
    return out


def fit_map(
    looks_px: np.ndarray,
    truth_px: np.ndarray,
    inner: Scheme,
    outer: Scheme,
    size_px: int,
    penalty: float,
    weights: np.ndarray | None = None,
) -> ShapeMap:
    """Fit a map to labelled faces, to both looks at each of them and to all mirrored copies: so it is mirror-symmetric.

    Args:
        looks_px: (2, N, K', 2) see `looks`.
        truth_px: (N, K, 2) labels in the same crops, NaN where a point is not labelled.
        inner: Scheme of the first.
        outer: Scheme of the second.
        size_px: Side of the crops.
        penalty: One of `PENALTIES`.
        weights: (N, K) how much each label counts; None: all the same.
    """
    flipped = mirrored(truth_px, outer, size_px)
    points = np.concatenate([looks_px[0], mirrored(looks_px[1], inner, size_px), looks_px[1], mirrored(looks_px[0], inner, size_px)])
    wanted = torch.from_numpy(np.concatenate([truth_px, truth_px, flipped, flipped]))
    fitted = ShapeMap(inner, outer)
    given = torch.from_numpy(points)
    fitted.mean.copy_(_mean_shape(points))
    shape, middle, size, turn = fitted.frame(given)
    # What is to be added to the anchors, in each face's own frame.
    missing = ((wanted - fitted.anchors(given, middle)) / size) @ turn.mT
    x = (shape - fitted.mean).flatten(1).double().numpy()
    y = missing.double().numpy()
    each = np.ones(truth_px.shape[:2]) if weights is None else weights.astype(np.float64)
    turned = each[:, list(outer.mirror)]
    counts = np.where(np.isfinite(y).all(-1), np.concatenate([each, each, turned, turned]), 0.0)
    for pattern in np.unique(counts, axis=1).T:  # Landmarks whose labels count the same on all faces are solved for at once.
        landmarks, known = np.flatnonzero((counts == pattern[:, None]).all(0)), pattern > 0
        if not known.any():
            continue
        columns = (2 * landmarks[:, None] + (0, 1)).ravel()
        matrix, offset = _ridge(x[known], y[known][:, landmarks].reshape(known.sum(), -1), penalty, pattern[known])
        fitted.matrix[columns], fitted.offset[columns] = torch.from_numpy(matrix.T).float(), torch.from_numpy(offset).float()
    return fitted


def put_map(network: Network, fitted: ShapeMap) -> None:
    """Give a fitted map to a network that has one."""
    assert network.shape_map is not None
    network.shape_map.load_state_dict(fitted.state_dict())


def _ridge(x: np.ndarray, y: np.ndarray, penalty: float, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (D, M) and offset (M,) of y = x W + o; the offset is not shrunk, and a row's square counts by `counts`."""
    middle, target = np.average(x, 0, counts), np.average(y, 0, counts)
    root = np.sqrt(counts)[:, None]
    x, y = (x - middle) * root, (y - target) * root
    if len(x) > x.shape[1]:
        weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    else:
        weights = x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(len(x)), y)
    return weights, target - middle @ weights


def _mean_shape(points: np.ndarray) -> torch.Tensor:
    """(K', 2) mean of shapes that are moved to their middle and brought to one size; they are upright but for a few degrees."""
    shape = points - points.mean(1, keepdims=True)
    shape = shape / np.sqrt((shape**2).sum((1, 2), keepdims=True) / shape.shape[1])
    mean = shape.mean(0)
    return torch.from_numpy((mean / np.sqrt((mean**2).sum() / len(mean))).astype(np.float32))
