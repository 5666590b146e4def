"""Whether the faces that are served still look like those a model was made for: two histograms and their distance.

A bundle holds the histograms of its validation faces (`fkp.evaluation.drift_reference` writes them), the endpoint counts its own
in the same buckets. Validation and not training faces, because a network is surer of faces it was trained on than of any it
will meet; brightness alone could have come from either.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

#: Key of the histograms in a bundle's metrics.json.
REFERENCE = "reference_histograms"

#: Beside a figure's counts: the median of its values and their 95th percentile, which the buckets tell less well.
MEDIAN, HIGH = "median", "p95"

BRIGHTNESS = "fkp_crop_brightness"
ERROR_RATIO = "fkp_expected_error_ratio"

#: Upper bounds of the buckets, the last of which has none. A value on a bound falls below it, as Prometheus has it.
BOUNDS: dict[str, tuple[float, ...]] = {
    # The middle 90 % of the shipped model's validation faces lie between 0.0176 and 0.0224: steps of about 5 % there.
    ERROR_RATIO: (0.005, 0.01, 0.013, 0.015, 0.016, 0.017, 0.018, 0.019, 0.02, 0.021, 0.022, 0.024, 0.027, 0.03, 0.04, 0.05, 0.1, 0.2),
    BRIGHTNESS: tuple(float(v) for v in range(16, 256, 16)),
}
#: Above it the images have changed (the usual reading of the index: below 0.1 no change, above 0.25 a large one).
ALARM = 0.25
#: With fewer faces chance alone moves the index: by about 0.05 at this many (95 % of draws from the same faces).
LEAST_FACES = 200

_LEAST_PART, _MOST_PART = 0.1, 0.8


def error_ratio(expected_error_px: np.ndarray, box_xyxy: np.ndarray) -> float:
    """Mean expected error of a face as a part of its box's longer side, which a turn of the head hardly changes.

    Args:
        expected_error_px: (K,), in pixels of any image.
        box_xyxy: (4,) tight around the points, in the same pixels.
    """
    x0, y0, x1, y1 = box_xyxy.tolist()  # As Python numbers: a third of the time, and each served face asks twice.
    return float(expected_error_px.sum()) / expected_error_px.size / max(x1 - x0, y1 - y0)


def brightness(crop_u8: np.ndarray) -> float:
    """Mean of a crop's pixels, 0 to 255, as the network sees them."""
    return float(crop_u8.mean())


def count(name: str, values: Iterable[float]) -> list[int]:
    """Counts of one figure's buckets."""
    counts = [0] * (len(BOUNDS[name]) + 1)
    for value in values:
        counts[bisect.bisect_left(BOUNDS[name], value)] += 1
    return counts


def reference_counts(metrics: Mapping[str, Any]) -> dict[str, list[int]]:
    """The histograms of a bundle's metrics.json; those of other buckets than today's are left out.

    Returns:
        {figure: counts of its buckets}, empty where the bundle has none.
    """
    figures = metrics.get(REFERENCE, {}).get("figures", {})
    return {
        name: figure["counts"]
        for name, figure in figures.items()
        if name in BOUNDS
        and tuple(figure["bounds"]) == BOUNDS[name]
        and len(figure["counts"]) == len(BOUNDS[name]) + 1
        and any(figure["counts"])
    }


def tells(expected: Sequence[float]) -> bool:
    """Whether the buckets resolve a reference: none holds more than four fifths of its faces.

    Those of the error ratio are made for the shipped model. A network that is far surer or less sure has all its faces in one or
    two of them, and the index would be about 0 whatever is served.
    """
    return max(expected) <= _MOST_PART * sum(expected)


def stability_index(expected: Sequence[float], observed: Sequence[float]) -> float:
    """Population stability index: sum of (o - e) * ln(o / e) over parts of two histograms.

    Neighbouring buckets are taken together until each holds a tenth of the expected values: the index is at home on deciles,
    and buckets that are nearly empty would make it a measure of chance. An empty part of the observed ones counts as half a
    face.

    Args:
        expected: Counts of the reference, not all zero.
        observed: Counts of the same buckets, not all zero.
    """
    merged: list[list[float]] = []
    filling = [0.0, 0.0]
    for pair in zip(expected, observed, strict=True):
        filling = [filling[0] + pair[0], filling[1] + pair[1]]
        if filling[0] >= _LEAST_PART * sum(expected):
            merged.append(filling)
            filling = [0.0, 0.0]
    merged[-1] = [merged[-1][0] + filling[0], merged[-1][1] + filling[1]]
    parts = []
    for counts in zip(*merged, strict=True):
        filled = [max(value, 0.5) for value in counts]
        parts.append([value / sum(filled) for value in filled])
    return sum((o - e) * math.log(o / e) for e, o in zip(*parts, strict=True))
