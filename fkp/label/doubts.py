"""A point that was set far from where it was expected: a slip, left and right exchanged, or one place too far along a line?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fkp.label.finder import Guess
from fkp.scheme import Scheme

#: A move beyond so many expected errors is asked about; another explanation is named where it leaves less than this part of the distance.
BEYOND, _BETTER = 3.0, 0.5


def question(
    moved: Iterable[int], points: Mapping[int, tuple[float, float]], expected: Guess | None, scheme: Scheme
) -> dict[str, Any] | None:
    """What to ask about points that were just set; None where they lie where they may.

    Args:
        moved: Their numbers.
        points: Number -> where it was set.
        expected: Where the model has all points, informed by the others that were set.
        scheme: Of the points.

    Returns:
        `kind`: slip, swap or shift; `points`: numbers; `text`: what to ask.
    """
    if expected is None:
        return None
    numbers = [place for place in moved if place in points and np.isfinite(expected.points_px[place]).all()]
    away = {place: float(np.linalg.norm(np.subtract(points[place], expected.points_px[place]))) for place in numbers}
    far = [place for place in numbers if away[place] > BEYOND * expected.error_px[place]]
    if not far:
        return None

    def fit(others: Mapping[int, int]) -> float:
        """Mean distance where each is taken for another; infinite where there is none."""
        if any(place not in others or not np.isfinite(expected.points_px[others[place]]).all() for place in far):
            return float("inf")
        return float(np.mean([np.linalg.norm(np.subtract(points[place], expected.points_px[others[place]])) for place in far]))

    swapped = {place: other for place, other in enumerate(scheme.mirror) if other != place}
    shifted = [_shifted(scheme, step) for step in (1, -1)]
    own = float(np.mean([away[place] for place in far]))
    by = {"swap": fit(swapped), "shift": min(fit(others) for others in shifted)}
    kind = min(by, key=lambda name: by[name])
    kind = kind if by[kind] < _BETTER * own else "slip"
    names = ", ".join(scheme.landmarks[place].replace("_", " ") for place in far[:3]) + (" and more" if len(far) > 3 else "")
    most = max(away[place] / float(expected.error_px[place]) for place in far)
    where = f"{names}: {most:.0f} times further than expected"
    text = {
        "slip": f"{where}. Was that meant?",
        "swap": f"{where}, and it fits the other side's point. Are left and right exchanged?",
        "shift": f"{where}, and it fits the neighbour on the line. Is it one place too far?",
    }[kind]
    return {"kind": kind, "points": far, "text": text}


def _shifted(scheme: Scheme, step: int) -> dict[int, int]:
    """Each landmark's neighbour in its region."""
    return {
        place: places[at + step] for places in scheme.regions.values() for at, place in enumerate(places) if 0 <= at + step < len(places)
    }
