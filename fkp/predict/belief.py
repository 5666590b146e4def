"""How far a network believes in a face that it was shown, and from where on such a face counts.

The measure is `fkp.bundle.drift.error_ratio`, which networks state in scales of their own: a weak one expects larger errors of
every face, and one that has seen much tells hard faces from easy ones by more. The limits are therefore multiples of the median that the
bundle keeps of its validation faces, and the further from 1 the further its 95th percentile is from the median, see `limits_of`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fkp.bundle import Bundle
from fkp.bundle.drift import BOUNDS, ERROR_RATIO, HIGH, MEDIAN, REFERENCE, error_ratio, reference_counts

#: Quality falls to 1/e where the mean expected error reaches this part of the box's longer side.
QUALITY_SCALE = 0.05
#: Above so many medians a face is looked at again, turned; above so many it is not believed: of a network whose SPREAD is the one below.
#: The shipped model has 1.76 and 2.83, see `limits_of`. Of its right answers on validation frames the second limit leaves out none of 232
#: as they are and of 918 turned by up to 90 degrees, and 25 of 867 that are coarse, dark, blurred or half covered: 1.2 % of all; 1.9 would
#: leave out 160 of these. Of wrong answers it leaves out 88 % where the frame is upside down (the turned looks come before and mend half of
#: these) and 89 % where the face is painted over: `benchmarks/belief.py`.
DOUBT, DISBELIEF = 1.5, 2.2
#: Above so many medians a single point is one that the network is unsure of, and drawn hollow. The shipped model has 2.37: of its points of
#: validation faces 0.5 % are, and their mean error is 2.7 times that of the others; where the lower half of a face is covered, 53 % of the
#: points there and 10 % of the others: `benchmarks/belief.py`.
UNSURE = 1.9
#: Above so many medians a face that is followed is lost. For the model that it was measured with that was 0.030: of 150 YouTube-Faces
#: frames 99 % are below 0.024 with the right box; 99 % are above 0.030 with one that is half a face off, and above 0.037 with one a face
#: off.
LOST = 1.417
#: The same as an error ratio, for a bundle that has no median.
_LOST_RATIO = 0.030
#: How far above the median the 95th percentile of those networks' validation faces is, in medians.
SPREAD = 0.29


@dataclass(frozen=True)
class Limits:
    """In medians of a bundle's validation faces: DOUBT, DISBELIEF, UNSURE and LOST as they are for it."""

    doubt: float
    disbelief: float
    unsure: float
    lost: float


@dataclass(frozen=True)
class Belief:
    """The limits of one bundle, as qualities.

    Attributes:
        doubt: A face below it is looked at again, turned.
        min_quality: A detected face that stays below it is left out, unless somebody names another limit.
        lost: A face of a video that falls below it is looked for anew.
        unsure_ratio: Not a quality: the network is unsure of a point whose expected error is above this part of the box's longer side.
    """

    doubt: float
    min_quality: float
    lost: float = math.exp(-_LOST_RATIO / QUALITY_SCALE)
    unsure_ratio: float = math.inf


#: Of a face that no bundle has found, or one that knows none.
NO_DOUBT = Belief(0.0, 0.0)


def quality_of(expected_error_px: np.ndarray, box_xyxy: np.ndarray) -> float:
    """0 to 1, whatever the face's size: exp(-(mean expected error) / (5 % of the box's longer side)); 0 where that is no number."""
    ratio = error_ratio(expected_error_px, box_xyxy)
    return _quality(ratio) if ratio >= 0 else 0.0


def belief_of(bundle: Bundle) -> Belief:
    """The limits of a bundle. One that has no histogram of its validation faces doubts nothing: `fkp reference` adds it."""
    median = median_ratio(bundle)
    if median is None:
        return NO_DOUBT
    limits = limits_of(bundle)
    doubt, min_quality, lost = (_quality(limit * median) for limit in (limits.doubt, limits.disbelief, limits.lost))
    return Belief(doubt, min_quality, lost, limits.unsure * median)


def limits_of(bundle: Bundle) -> Limits:
    """The limits in medians: how far each is above 1 is a multiple of how far the 95th percentile is.

    The constants of this module are those of a network whose percentile is SPREAD above the median, as of all that were measured before
    portraits trained some; these have 0.45 and need 2.8 where the others need 2.2. One that keeps no percentile is taken for such a one. A
    percentile of few faces says little: it counts between that and twice that.
    """
    figure = bundle.metrics.get(REFERENCE, {}).get("figures", {}).get(ERROR_RATIO, {})
    spread = figure[HIGH] / figure[MEDIAN] - 1 if HIGH in figure else SPREAD
    scale = min(max(spread / SPREAD, 1.0), 2.0)
    return Limits(*(1 + (limit - 1) * scale for limit in (DOUBT, DISBELIEF, UNSURE, LOST)))


def median_ratio(bundle: Bundle) -> float | None:
    """The median error ratio of a bundle's validation faces; None where it keeps neither it nor a histogram.

    The histogram, which alone is in older bundles, is made for the shipped model: for others its median may be far off.
    """
    kept = bundle.metrics.get(REFERENCE, {}).get("figures", {}).get(ERROR_RATIO, {}).get(MEDIAN)
    if kept is not None:
        return float(kept)
    counts = reference_counts(bundle.metrics).get(ERROR_RATIO)
    if counts is None:
        return None
    # Evenly spread within each bucket. The last one has no end, and counts as its beginning.
    bounds = (0.0, *BOUNDS[ERROR_RATIO], BOUNDS[ERROR_RATIO][-1])
    below = np.concatenate([[0], np.cumsum(counts)])
    return float(np.interp(below[-1] / 2, below, bounds))


def told_left_out(count: int, min_quality: float) -> str:
    """Part of a sentence that tells how many detections were left out, and how they are kept; nothing where none was."""
    return f", {count} detections below quality {min_quality:.2f} left out (--min-quality 0 keeps them)" if count else ""


def _quality(ratio: float) -> float:
    return math.exp(-ratio / QUALITY_SCALE)
