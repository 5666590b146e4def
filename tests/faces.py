"""Labels that are faces: what is no face is refused when a set is read."""

from __future__ import annotations

import numpy as np

from fkp.config import Config
from fkp.data.face_shape import mean_face

#: Key of the validation error under the default scheme.
VAL_NME = Config().val_nme_key


def face(x: float, y: float, half_px: float, seed: int | None = None) -> np.ndarray:
    """(68, 2) points of a mean face, in whole pixels.

    Args:
        x: Between the eyes.
        y: Likewise.
        half_px: Half its width; it is as high above the eyes as a third of that, and 1.63 times as high below.
        seed: Of a shake of some pixels, so that faces differ; None shakes none.
    """
    points_px = mean_face()[:, :2] * half_px + (x, y)
    if seed is not None:
        points_px = points_px + np.random.default_rng(seed).normal(0, 0.04 * half_px, (68, 2))
    return points_px.round()
