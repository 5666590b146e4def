"""Labels that are faces: what is no face is refused when a set is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fkp.config import Config
from fkp.data import label_set
from fkp.data.face_shape import mean_face
from fkp.scheme import IBUG68, Scheme
from fkp.vision.image import write_image

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


def write_label_set(root: Path, faces: int = 3, scheme: Scheme = IBUG68, missing: tuple[int, ...] = (), **head: Any) -> Path:
    """A label set of noise images of 120 x 100 pixels, in a scheme of which ibug68 has all landmarks.

    Args:
        root: Its folder.
        faces: How many.
        scheme: Of its points.
        missing: Landmarks that are not labelled.
        head: What else set.json says.
    """
    (root / label_set.IMAGES).mkdir(parents=True)
    names = [f"{label_set.IMAGES}/{number}.png" for number in range(faces)]
    for number, name in enumerate(names):
        write_image(root / name, np.random.default_rng(number).integers(0, 255, (100, 120, 3), dtype=np.uint8))
    points_px = np.array([scheme.convert(face(60, 40, 28, number).astype(np.float32), IBUG68) for number in range(faces)])
    points_px[:, list(missing)] = np.nan
    boxes_px, visible = np.full((faces, 4), np.nan, np.float32), np.isfinite(points_px).all(-1)
    label_set.write(root, label_set.LabelSet(root, scheme, names, names, [None for _ in names], boxes_px, points_px, visible), head)
    return root
