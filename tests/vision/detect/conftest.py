"""Faces for the detectors, and a backend that needs no weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fkp.config import DataConfig
from fkp.data.labels import load_labels
from fkp.vision.crop import box_of_points
from fkp.vision.detect import AS_DETECTED, Candidates, FaceDetector, open_detector
from fkp.vision.image import Image, read_image


class RedSquares:
    """A backend of one red square in a window, if it is 12 pixels long or longer there and nothing cuts it."""

    name = "red"
    size_px = 100
    smallest = 0.12
    tile_score = 0.5
    facial_points = 1
    box_map = AS_DETECTED

    def __init__(self) -> None:
        self.looks = 0

    def look(self, pixels_u8: np.ndarray) -> Candidates:
        self.looks += 1
        y, x = np.nonzero((pixels_u8[..., 0] > 128) & (pixels_u8[..., 1] < 64))
        if not len(x) or min(np.ptp(x), np.ptp(y)) < 11:
            return Candidates(np.zeros((0, 3, 2)), np.zeros(0))
        low, high = np.array([x.min(), y.min()]) - 0.5, np.array([x.max(), y.max()]) + 0.5
        return Candidates(np.array([[low, high, (low + high) / 2]]), np.array([0.9]))


@pytest.fixture
def red() -> RedSquares:
    return RedSquares()


@pytest.fixture(scope="session")
def blazeface() -> FaceDetector:
    return open_detector()


@pytest.fixture(scope="session")
def real(real_root: Path) -> tuple[list[Image], np.ndarray]:
    """60 frames spread over the set and the boxes of their labels (60, 4)."""
    labels = load_labels(DataConfig(source="ytfaces", root=str(real_root)))
    rows = np.linspace(0, len(labels) - 1, 60).astype(int)
    return [read_image(labels.path(row)) for row in rows], box_of_points(labels.points_px[rows]).astype(np.float64)
