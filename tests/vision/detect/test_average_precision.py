"""Average precision, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fkp.vision.detect.average_precision import average_precision
from fkp.vision.detect.candidates import Candidates


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array([[row[:2], row[2:], *[(0, 0)] * 5] for row in rows], float).reshape(-1, 7, 2)


def found(*rows: tuple[float, tuple[float, float, float, float]]) -> Candidates:
    return Candidates(boxes(*(row for _, row in rows)), np.array([score for score, _ in rows], float))


A, B, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)


@pytest.mark.parametrize(
    ("detections", "counted", "wanted"),
    [
        pytest.param([(0.9, A), (0.8, B)], [True, True], 1.0, id="all"),
        pytest.param([(0.9, A)], [True, True], 0.5, id="half of them"),
        pytest.param([(0.9, FAR), (0.8, A), (0.7, B)], [True, True], 2 / 3, id="a false one first"),
        pytest.param([(0.9, A), (0.8, B), (0.7, FAR)], [True, True], 1.0, id="a false one last"),
        pytest.param([(0.9, A), (0.8, A)], [True, True], 0.5, id="a face found twice"),
        pytest.param([(0.9, B), (0.8, A)], [True, False], 1.0, id="one that does not count"),
        pytest.param([], [True, True], 0.0, id="nothing"),
        pytest.param([(0.9, A)], [False, False], 0.0, id="no face that counts"),
    ],
)
def test_average_precision(detections: list[tuple[float, tuple[float, float, float, float]]], counted: list[bool], wanted: float) -> None:
    assert average_precision([found(*detections)], [boxes(A, B)], [np.array(counted)]) == pytest.approx(wanted)


def test_scores_are_compared_over_images() -> None:
    one, other = found((0.6, FAR)), found((0.9, A))
    assert average_precision([one, other], [boxes(), boxes(A)], [np.zeros(0, bool), np.ones(1, bool)]) == 1.0
