"""What the tests of prediction share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fkp.bundle import Bundle, open_bundle
from fkp.config import Config
from fkp.data.labels import load_labels
from fkp.predict import DEFAULT_BUNDLE
from fkp.vision.crop import box_of_points
from fkp.vision.image import read_image

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def face(tiny_config: Config) -> tuple[np.ndarray, np.ndarray]:
    """A synthetic face's image and box."""
    catalog = load_labels(tiny_config.data)
    return read_image(catalog.path(0)), box_of_points(catalog.points_px[0])


@pytest.fixture(scope="session")
def champion() -> Bundle:
    """The shipped model: only a trained one can follow a face."""
    return open_bundle(DEFAULT_BUNDLE)
