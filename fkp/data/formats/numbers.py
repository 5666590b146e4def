"""Numbers as files of labels write them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: A point at (0, 0), (-1, -1), or with both coordinates this or less is none: so people mark what they have not labelled.
MARKER = -99.0


def without_markers(points: np.ndarray) -> np.ndarray:
    """The same (..., 2) points, NaN where both coordinates are a marker of a point that is not labelled."""
    x, y = points[..., 0], points[..., 1]
    return np.where(((x == y) & ((x == 0) | (x == -1)) | (x <= MARKER) & (y <= MARKER))[..., None], np.nan, points)


def floats(words: Sequence[str]) -> list[float] | None:
    """Numbers out of words; None where one is none, or not finite."""
    try:
        found = [float(word) for word in words]
    except ValueError:
        return None
    return found if np.isfinite(found).all() else None


def size_of(width: object, height: object) -> tuple[int, int] | None:
    """An image's size out of two values of a file; None where they say none."""
    try:
        found = int(float(str(width))), int(float(str(height)))
    except (ValueError, OverflowError):
        return None
    return found if min(found) > 0 else None
