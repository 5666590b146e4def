"""The grid of our detector's network, and what its cells tell. The network is `fkp.model.detection`; finding faces needs no torch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fkp.vision.detect.candidates import Candidates

#: Of the network's maps, in pixels of the image: sides of images are multiples of the last one.
STRIDES = (8, 16, 32)
#: Sides and points are told in so many strides.
UNIT = 4.0


def decode(told: np.ndarray, height: int, width: int, least_score: float) -> Candidates:
    """Turn what cells tell into candidates: `fkp.model.detection.decode`, of the cells that see a face.

    Args:
        told: (A, 15) of an image's cells.
        height: Of the image, in pixels.
        width: Likewise.
        least_score: What a cell must tell to count, 0 to 1.

    Returns:
        Candidates in pixels of the image (integers at pixel centres).
    """
    kept = np.flatnonzero(told[:, 0] >= np.log(least_score / (1 - least_score)))
    numbers = told[kept].astype(np.float64)
    finite = np.isfinite(numbers).all(axis=1)
    kept, numbers = kept[finite], numbers[finite]
    middles, strides = (values[kept] for values in cells(height, width))
    unit = UNIT * strides[:, None]
    middle = middles + numbers[:, 1:3] * strides[:, None]
    half = np.exp(np.clip(numbers[:, 3:5], -6, 6)) * unit / 2
    points = middles[:, None] + numbers[:, 5:].reshape(-1, 5, 2) * unit[:, None]
    shapes = np.concatenate([(middle - half)[:, None], (middle + half)[:, None], points], axis=1) - 0.5
    return Candidates(shapes, 1 / (1 + np.exp(-np.clip(numbers[:, 0], -80, 80))))


@lru_cache(64)
def cells(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Middles (A, 2) in pixels from the image's border, and strides (A,)."""
    middles = []
    for stride in STRIDES:
        x, y = ((np.arange(side // stride) + 0.5) * stride for side in (width, height))
        middles.append(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    strides = np.repeat(np.array(STRIDES, np.float64), [len(some) for some in middles])
    return np.concatenate(middles), strides
