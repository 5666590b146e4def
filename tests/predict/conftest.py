"""A synthetic face for the tests of prediction."""

from __future__ import annotations

import numpy as np
import pytest

from fkp.config import Config
from fkp.data import catalog as catalogs
from fkp.vision import image as images
from fkp.vision.crop import box_of_points


@pytest.fixture(scope="module")
def face(tiny_config: Config) -> tuple[np.ndarray, np.ndarray]:
    """A synthetic face's picture and box."""
    catalog = catalogs.load(tiny_config.data)
    return images.read(catalog.path(0)), box_of_points(catalog.points_px[0])
