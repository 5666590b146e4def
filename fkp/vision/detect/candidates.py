"""What a network takes for faces, and one answer for each face of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Boxes that overlap more (intersection over union) are one face; the value of MediaPipe's own pipeline.
_SAME_FACE_IOU = 0.3

#: A box that lies with more than this part of it in a larger one is a piece of that face: an eye or a mouth that looks
#: like a face once a tile shows it alone.
_PIECE = 0.8

#: Candidates are of one place from so little between their middles on, as a part of the longer one's length; and of one size if they
#: overlap so much (intersection over union).
_SAME_PLACE, _SAME_SIZE = 0.35, 0.3


@dataclass(frozen=True)
class Candidates:
    """Possible faces.

    Attributes:
        shapes_px: (N, 2 + P, 2) float64: low and high corner of the box, then the P facial points of this network.
        scores: (N,) float64, 0 to 1.
    """

    shapes_px: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: np.ndarray) -> Candidates:
        return Candidates(self.shapes_px[chosen], self.scores[chosen])

    @property
    def boxes_xyxy(self) -> np.ndarray:
        """(N, 4)."""
        return self.shapes_px[:, :2].reshape(-1, 4)

    @property
    def lengths_px(self) -> np.ndarray:
        """(N,) longer sides of the boxes."""
        return (self.shapes_px[:, 1] - self.shapes_px[:, 0]).max(axis=1)

    @staticmethod
    def join(parts: Sequence[Candidates]) -> Candidates:
        """All of them in one."""
        return Candidates(np.concatenate([part.shapes_px for part in parts]), np.concatenate([part.scores for part in parts]))


def merge(found: Candidates) -> Candidates:
    """Make one of the candidates of each face: their mean, weighted by the scores, best first.

    The weighted non-maximum suppression of BlazeFace (section 4 of the paper): it shakes less than the best box alone.
    """
    shapes, best = [], []
    left = np.argsort(-found.scores, kind="stable")
    boxes = found.boxes_xyxy
    while len(left):
        first = boxes[left[0]]
        same = iou(first, boxes[left]) > _SAME_FACE_IOU
        same[0] = True
        group = left[same]
        shapes.append(np.average(found.shapes_px[group], axis=0, weights=found.scores[group]))
        best.append(found.scores[group[0]])
        left = left[~same]
    merged = Candidates(np.array(shapes).reshape(-1, *found.shapes_px.shape[1:]), np.array(best, np.float64))
    return merged[~_pieces(merged.boxes_xyxy)]


def one_scale(found: Candidates) -> Candidates:
    """Leave out what a surer candidate at the same place shows in another size: a face, and not its head or its nose.

    Args:
        found: Several candidates of a face, at one or two sizes.

    Returns:
        Those of the surest size at each place.
    """
    if len(found) < 2:
        return found
    middles, lengths = found.shapes_px[:, :2].mean(axis=1), found.lengths_px
    order = np.argsort(-found.scores, kind="stable")
    kept: list[int] = []
    for index in order:
        if kept:
            away = np.abs(middles[kept] - middles[index]).max(axis=1)
            same_place = away < _SAME_PLACE * np.maximum(lengths[kept], lengths[index])
            other_size = iou(found.boxes_xyxy[index], found.boxes_xyxy[kept]) < _SAME_SIZE
            if (same_place & other_size).any():
                continue
        kept.append(int(index))
    return found[np.array(kept)]


def _pieces(boxes_xyxy: np.ndarray) -> np.ndarray:
    """(N,) whether a box lies in a larger one."""
    area = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)
    inside = _common(boxes_xyxy[:, None], boxes_xyxy[None]) > _PIECE * area[:, None]
    return (inside & (area[:, None] < area[None])).any(axis=1)


def iou(box_xyxy: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
    """Intersection over union of (..., 4) boxes, pair by pair under broadcasting; 0 where both have no area."""
    common = _common(box_xyxy, boxes_xyxy)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (box_xyxy, boxes_xyxy)]
    union = np.maximum(areas[0] + areas[1] - common, np.finfo(np.float64).tiny)
    return np.asarray(common / union)


def _common(box_xyxy: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
    """Area of the intersections of (..., 4) boxes."""
    low = np.maximum(box_xyxy[..., :2], boxes_xyxy[..., :2])
    high = np.minimum(box_xyxy[..., 2:], boxes_xyxy[..., 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=-1))
