"""How points shake from frame to frame, and the filter against it.

The 1 Euro filter: G. Casiez, N. Roussel, D. Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
Interactive Systems", CHI 2012, https://doi.org/10.1145/2207676.2208639.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fkp.scheme import IBUG68, Scheme


@dataclass(frozen=True)
class OneEuroSettings:
    """What the filter trades: shaking of a still face against lag of a moving one.

    The defaults are chosen with `benchmarks/video.py`, which prints both for any others.

    Attributes:
        min_cutoff_hz: Cut-off frequency at rest; lower is stiller.
        beta: How much the cut-off rises with the speed, Hz for each (face box a second); higher lags less.
        speed_cutoff_hz: Cut-off frequency for the speed itself; the paper's value.
    """

    min_cutoff_hz: float = 0.5
    beta: float = 40.0
    speed_cutoff_hz: float = 1.0


class OneEuro:
    """Smooths the points of one face, a frame at a time.

    Each point has a cut-off of its own, by its own speed in face boxes a second: the same motion is smoothed alike however
    large the face is in the image. x and y of a point share it, so that the direction of a motion does not matter.

    Args:
        settings: See there.
    """

    def __init__(self, settings: OneEuroSettings) -> None:
        self._settings = settings
        self._points_px: np.ndarray | None = None
        self._raw_px: np.ndarray | None = None
        self._speed_boxes_s: np.ndarray | None = None

    def __call__(self, points_px: np.ndarray, box_side_px: float, seconds: float) -> np.ndarray:
        """Take the next frame's points.

        With X the raw points, T the time step and a(f) = 1 / (1 + 1 / (2 pi f T)) (equations 3 and 5 of the paper):
        the speed is smoothed by V = a(speed_cutoff) dX/T + (1 - a) V, the cut-off is min_cutoff + beta |V| (equation 6),
        and the answer is a(cut-off) X + (1 - a) of the answer before (equation 1).

        Args:
            points_px: (N, 2).
            box_side_px: Longer side of the face's box.
            seconds: Since the frame before, above 0.

        Returns:
            (N, 2) float32 smoothed points; the first frame's come back as they are.
        """
        settings, raw = self._settings, points_px.astype(np.float64)
        if self._points_px is None or self._raw_px is None or self._speed_boxes_s is None:
            self._points_px, self._speed_boxes_s = raw, np.zeros_like(raw)
        else:
            step = (raw - self._raw_px) / (box_side_px * seconds)
            self._speed_boxes_s += _share(settings.speed_cutoff_hz, seconds) * (step - self._speed_boxes_s)
            cutoff_hz = settings.min_cutoff_hz + settings.beta * np.linalg.norm(self._speed_boxes_s, axis=-1, keepdims=True)
            self._points_px = self._points_px + _share(cutoff_hz, seconds) * (raw - self._points_px)
        self._raw_px = raw
        return self._points_px.astype(np.float32)


def _share(cutoff_hz: float | np.ndarray, seconds: float) -> np.ndarray:
    """What the newest value counts: a(f) above."""
    return np.asarray(1 / (1 + 1 / (2 * math.pi * cutoff_hz * seconds)))


def shake_pct(points_px: np.ndarray, times_s: Sequence[float] = (0, 1, 2), scheme: Scheme = IBUG68) -> float:
    """How much a face shakes over three frames: the mean length of its points' second difference.

    That is twice the way of the middle frame's points from where they would be between the others at its time. A steady motion
    has none; noise of s on each coordinate, independent from frame to frame, has about 3.1 s. The jitter of a video is the
    median of this over all triples of frames that follow each other.

    Args:
        points_px: (3, K, 2), the same face in three frames that follow each other.
        times_s: When they are shown; by default evenly.
        scheme: Of the points.

    Returns:
        Percent of the scheme's normaliser in the middle frame.
    """
    part = (times_s[1] - times_s[0]) / (times_s[2] - times_s[0])
    second = 2 * ((1 - part) * points_px[0] - points_px[1] + part * points_px[2])
    return 100 * float(np.linalg.norm(second, axis=-1).mean()) / float(scheme.size_px(points_px[1]))
