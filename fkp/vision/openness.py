"""How far eyes and mouth are open, from the landmarks of a face."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from fkp.scheme import Scheme

_Pair = tuple[str, str]
_LIPS = (
    ("left_upper_inner", "left_lower_inner"),
    ("upper_lip_inner", "lower_lip_inner"),
    ("right_upper_inner", "right_lower_inner"),
)


def _eye(side: str) -> tuple[tuple[_Pair, ...], tuple[tuple[_Pair, ...], ...]]:
    outer, inner, upper, lower = (f"{side}_eye_{name}" for name in ("outer", "inner", "upper", "lower"))
    return ((outer, inner),), (((f"{upper}_0", f"{lower}_0"), (f"{upper}_1", f"{lower}_1")), ((upper, lower),))


#: What is measured -> pairs of corners, and sets of pairs whose distance is the opening: of each the first that a scheme has counts.
_MEASURES = {
    "left_eye": _eye("left"),
    "right_eye": _eye("right"),
    "mouth": ((("left_inner_corner", "right_inner_corner"), ("left_mouth_corner", "right_mouth_corner")), (_LIPS, _LIPS[1:2])),
}
#: All that can be measured.
OPENINGS = tuple(_MEASURES)


def measured(scheme: Scheme) -> tuple[str, ...]:
    """Which of `OPENINGS` a scheme has the landmarks for."""
    return tuple(name for name, _, _ in _pairs(scheme.landmarks)[2])


def openness(points_px: np.ndarray, scheme: Scheme) -> dict[str, float]:
    """How far each eye and the mouth are open: the mean distance of facing points of their lids or lips, by that of their corners.

    Of an eye it is the eye aspect ratio of T. Soukupova and J. Cech, Real-Time Eye Blink Detection using Facial Landmarks, CVWW 2016:
    (|p2 - p6| + |p3 - p5|) / (2 |p1 - p4|), about 0.3 for an open eye and below 0.2 for a closed one; of the mouth it is the same of
    the inner lips, 0 where they meet. A head that turns away shortens the corners' distance, so both rise with the yaw. A scheme
    with one point a lid (cofw29) has one pair, and one without the inner corners of the mouth has the outer ones, which are farther
    apart: values compare within a scheme.

    Args:
        points_px: (K, 2) in pixels.
        scheme: Of the points.

    Returns:
        By name of `OPENINGS`, left and right being the viewer's: those for which the scheme has the landmarks, and whose corners are
        two finite points.
    """
    first, second, names = _pairs(scheme.landmarks)
    lengths = [math.hypot(*way) for way in (points_px[first] - points_px[second]).tolist()]
    ratios = {name: sum(lengths[1 + start : end]) / (end - start - 1) / (lengths[start] or math.nan) for name, start, end in names}
    return {name: ratio for name, ratio in ratios.items() if math.isfinite(ratio)}


@lru_cache(maxsize=16)
def _pairs(landmarks: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, list[tuple[str, int, int]]]:
    """Numbers of the two points of each distance, and which of these are whose: the first is that of the corners."""
    place = {name: number for number, name in enumerate(landmarks)}
    pairs: list[tuple[str, str]] = []
    names = []
    for name, (corners, choices) in _MEASURES.items():
        ends = next((ends for ends in corners if place.keys() >= {*ends}), None)
        facing = next((facing for facing in choices if all(place.keys() >= {*pair} for pair in facing)), None)
        if ends and facing:
            names.append((name, len(pairs), len(pairs) + 1 + len(facing)))
            pairs += [ends, *facing]
    first, second = np.array([[place[a], place[b]] for a, b in pairs], int).reshape(-1, 2).T
    return first, second, names
