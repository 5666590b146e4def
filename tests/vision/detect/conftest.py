"""Faces for the detectors, and a backend that needs no weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fkp.config import DataConfig
from fkp.data.labels import load_labels
from fkp.vision.crop import box_of_points
from fkp.vision.detect import AS_DETECTED, Candidates, FaceDetector, open_detector
from fkp.vision.image import Image, read_image


class RedSquares:
    """A backend of red squares: it is sure of those that are 12 pixels long or longer, and has its doubts from 6 on."""

    name = "red"
    size_px = 96
    coarse_px = 160
    sure_px = 12.0
    least_px = 6.0
    min_score, tile_score = 0.5, 0.5
    facial_points = 1
    box_map = AS_DETECTED

    def __init__(self) -> None:
        self.looks: list[tuple[int, ...]] = []

    def look(self, pixels_u8: np.ndarray) -> Candidates:
        self.looks.append(pixels_u8.shape[:2])
        red = (pixels_u8[..., 0] > 128) & (pixels_u8[..., 1] < 100)
        _, _, rows, _ = cv2.connectedComponentsWithStats(red.astype(np.uint8))
        low, size = rows[1:, :2] - 0.5, rows[1:, 2:4].astype(float)
        seen = size.min(axis=1) >= 6
        low, size = low[seen], size[seen]
        return Candidates(np.stack([low, low + size, low + size / 2], axis=1), np.where(size.min(axis=1) >= 11, 0.9, 0.2))


@pytest.fixture
def red() -> RedSquares:
    return RedSquares()


@pytest.fixture(scope="session")
def blazeface() -> FaceDetector:
    return open_detector("blazeface")


@pytest.fixture(scope="session")
def real(real_root: Path) -> tuple[list[Image], np.ndarray]:
    """60 frames spread over the set and the boxes of their labels (60, 4)."""
    labels = load_labels(DataConfig(source="ytfaces", root=str(real_root)))
    rows = np.linspace(0, len(labels) - 1, 60).astype(int)
    return [read_image(labels.path(row)) for row in rows], box_of_points(labels.points_px[rows]).astype(np.float64)
