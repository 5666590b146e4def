"""One answer a face."""

from __future__ import annotations

import numpy as np

from fkp.vision.detect import Candidates, iou, merge


def candidates(boxes_xyxy: list[list[float]], scores: list[float]) -> Candidates:
    """Boxes with one facial point each, in their low corner."""
    corners = np.array(boxes_xyxy, np.float64).reshape(-1, 2, 2)
    return Candidates(np.concatenate([corners, corners[:, :1]], axis=1), np.array(scores))


def test_merge_means_each_face_and_sorts() -> None:
    merged = merge(candidates([[100, 0, 110, 10], [0, 0, 10, 10], [2, 0, 12, 10]], [0.7, 0.6, 0.9]))
    np.testing.assert_allclose(merged.boxes_xyxy, [[1.2, 0, 11.2, 10], [100, 0, 110, 10]])
    np.testing.assert_allclose(merged.shapes_px[:, 2], [[1.2, 0], [100, 0]])
    np.testing.assert_allclose(merged.scores, [0.9, 0.7])


def test_merge_of_nothing() -> None:
    merged = merge(candidates([], []))
    assert merged.shapes_px.shape == (0, 3, 2)
    assert len(merged) == 0


def test_a_piece_of_a_face_is_no_face_but_a_neighbour_is() -> None:
    merged = merge(candidates([[0, 0, 100, 100], [30, 60, 60, 80], [90, 40, 120, 70]], [0.7, 0.95, 0.8]))
    np.testing.assert_allclose(merged.boxes_xyxy, [[90, 40, 120, 70], [0, 0, 100, 100]])


def test_iou() -> None:
    box = np.array([0.0, 0, 2, 2])
    others = np.array([[0.0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [1, 1, 1, 1]])
    np.testing.assert_allclose(iou(box, others), [1, 1 / 3, 0, 0])
    assert iou(others[3], others[3]) == 0
