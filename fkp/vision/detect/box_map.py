"""The affine from what a detector tells of a face to the tight box of its labelled points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fkp.errors import FkpError
from fkp.vision.detect.candidates import iou

#: A detector's box that overlaps the label's less (intersection over union) is another face, or none.
_HIT_IOU = 0.3
#: So many faces for each number that is fitted.
_FACES_PER_NUMBER = 10
#: Ridge, as a part of the number of faces: points of a face move together, and least squares alone would weigh one against another.
_RIDGE = 1e-4
#: No box is smaller than this part of the detector's, whatever the facial points say: a crop needs some area.
_SMALLEST = 0.25


@dataclass(frozen=True)
class BoxMap:
    """The affine from a detector's box and facial points to the tight box of the labelled points; the built-in ones are for ibug68.

    A shape is seen from the middle of its box in units of the box's mean side; the same numbers then hold for every face
    size, place and image.

    Attributes:
        rows: Four rows (shift of the centre in x and y, width, height), each a constant and then a weight for x and y of
            each facial point. With constants alone the facial points are not used.
    """

    rows: tuple[tuple[float, ...], ...]

    def __call__(self, shapes: np.ndarray) -> np.ndarray:
        """Map (N, 2 + P, 2) shapes to (N, 4) boxes; the unit does not matter."""
        matrix = np.array(self.rows)
        middle, side, terms = _seen_from_box(shapes, matrix.shape[1])
        answer = terms @ matrix.T
        center = middle + answer[:, :2] * side
        half = np.maximum(answer[:, 2:], _SMALLEST) * side / 2
        return np.concatenate([center - half, center + half], axis=1)

    @classmethod
    def fit(cls, shapes: np.ndarray, truth_xyxy: np.ndarray, facial_points: int, whole: bool = True) -> BoxMap | None:
        """Fit by least squares over the faces that were found; faces that fit worst do not count.

        Args:
            shapes: (N, 2 + P, 2) what the detector tells; rows of NaN where it found nothing.
            truth_xyxy: (N, 4) tight boxes of the labelled points.
            facial_points: How many of the P facial points to use, the first ones.
            whole: Whether the labelled points span about what the detector's box does. Else a face is taken for the labelled one
                where the middle of the label's box lies in its own: the box of two eyes overlaps that of a face little.

        Returns:
            None if fewer faces were found than such a fit needs.
        """
        columns = 1 + 2 * facial_points
        middle = (truth_xyxy[:, :2] + truth_xyxy[:, 2:]) / 2
        within = ((shapes[:, 0] < middle) & (middle < shapes[:, 1])).all(axis=1)
        hit = np.nan_to_num(iou(shapes[:, :2].reshape(-1, 4), truth_xyxy)) > _HIT_IOU if whole else within
        if hit.sum() < _FACES_PER_NUMBER * columns:
            return None
        middle, side, terms = _seen_from_box(shapes[hit], columns)
        low, high = truth_xyxy[hit, :2], truth_xyxy[hit, 2:]
        wanted = np.concatenate([((low + high) / 2 - middle) / side, (high - low) / side], axis=1)
        kept = np.ones(len(terms), bool)
        penalty = np.sqrt(_RIDGE * len(terms)) * np.eye(columns)[1:]
        for _ in range(3):
            both = np.concatenate([terms[kept], penalty]), np.concatenate([wanted[kept], np.zeros((columns - 1, 4))])
            weights = np.linalg.lstsq(*both, rcond=None)[0]
            miss = np.abs(wanted - terms @ weights).max(axis=1)
            kept = miss <= np.percentile(miss, 95)
        return cls(tuple(tuple(round(float(v), 4) for v in row) for row in weights.T))

    @classmethod
    def from_json(cls, rows: Any, detector: str, facial_points: int) -> BoxMap:
        """Read `rows` of plain JSON.

        Raises:
            FkpError: It is not four rows of finite numbers for the facial points of this detector.
        """
        try:
            matrix = np.array(rows, np.float64)
        except (TypeError, ValueError):
            matrix = np.zeros(0)
        widths = [1 + 2 * points for points in range(facial_points + 1)]
        if matrix.ndim != 2 or len(matrix) != 4 or matrix.shape[1] not in widths or not np.isfinite(matrix).all():
            says = f"4 rows of numbers for {facial_points} points"
            raise FkpError(f"the calibration of {detector} is not {says}: calibrate it again")
        return cls(tuple(tuple(row) for row in matrix.tolist()))


#: The detector's own box, made square.
AS_DETECTED = BoxMap(((0.0,), (0.0,), (1.0,), (1.0,)))


class _AsTold(BoxMap):
    """The detector's own box as it is."""

    def __call__(self, shapes: np.ndarray) -> np.ndarray:
        return np.asarray(shapes, np.float64)[:, :2].reshape(-1, 4)


#: For a detector that was trained on the boxes of labelled points.
AS_TOLD = _AsTold(AS_DETECTED.rows)


def _seen_from_box(shapes: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middles (N, 2), mean sides (N, 1), and (N, columns): 1 and the facial points seen from there."""
    shapes = np.asarray(shapes, np.float64)
    low, high = shapes[:, 0], shapes[:, 1]
    middle, side = (low + high) / 2, (high - low).mean(axis=1, keepdims=True)
    points = (shapes[:, 2 : 2 + columns // 2] - middle[:, None]) / side[:, None]
    return middle, side, np.concatenate([np.ones((len(shapes), 1)), points.reshape(len(shapes), columns - 1)], axis=1)
