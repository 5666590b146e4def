"""Photographs with labels of the 300-W family, for the benchmarks that measure on a folder of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fkp.scheme import IBUG68

Labelled = list[tuple[Path, np.ndarray]]


def labelled(folder: Path) -> Labelled:
    """Photographs of a folder with their (68, 2) points, counted from 0."""
    found = []
    for path in sorted(folder.glob("*.pts")):
        text = path.read_text()
        numbers = [float(word) for word in (text.split("{")[1].split("}")[0] if "{" in text else text).split()]
        images = [path.with_suffix(suffix) for suffix in (".jpg", ".png") if path.with_suffix(suffix).is_file()]
        if images and len(numbers) == 2 * len(IBUG68):
            found.append((images[0], np.array(numbers, np.float32).reshape(-1, 2) - 1))
    return found
