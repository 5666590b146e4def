"""How good a detector is, in one number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fkp.vision.detect.candidates import Candidates, iou

#: A detection is of a face whose box it overlaps so much (intersection over union).
HIT_IOU = 0.5


def average_precision(found: Sequence[Candidates], shapes_px: Sequence[np.ndarray], counted: Sequence[np.ndarray]) -> float:
    """Area under precision over recall, the precision of a recall being the best one at no less (Everingham et al., IJCV 2015).

    Args:
        found: Detections of each image, one of each face (`merge`).
        shapes_px: (M, 7, 2) of each image's faces, boxes in their first two rows.
        counted: (M,) of each image: whether its faces count; a detection of one that does not is neither right nor wrong.

    Returns:
        0 to 1; 0 where there is no face that counts.
    """
    scores, right = [], []
    for of_image, shapes, counts in zip(found, shapes_px, counted, strict=True):
        left = np.ones(len(shapes), bool)
        for index in np.argsort(-of_image.scores, kind="stable"):
            overlap = iou(of_image.boxes_xyxy[index], shapes[:, :2].reshape(-1, 4)) if len(shapes) else np.zeros(0)
            best = int(np.argmax(overlap)) if len(overlap) else -1
            hit = best >= 0 and overlap[best] >= HIT_IOU
            if hit and not counts[best]:
                continue
            scores.append(of_image.scores[index])
            right.append(hit and left[best])
            if hit:
                left[best] = False
    faces = sum(int(counts.sum()) for counts in counted)
    if not faces or not scores:
        return 0.0
    hits = np.array(right)[np.argsort(-np.array(scores), kind="stable")]
    recall, precision = np.cumsum(hits) / faces, np.cumsum(hits) / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())
