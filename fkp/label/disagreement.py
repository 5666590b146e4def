"""Labels ordered by how far a model that was not trained on them disagrees: wrong ones come first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fkp.label.posterior import Errors
from fkp.scheme import Scheme


@dataclass(frozen=True)
class HeldOut:
    """Labels, and what a model that was not trained on them answers: in pixels of the images or of crops, but the same for both.

    Attributes:
        labels_px: (N, K, 2), NaN where a point is not labelled.
        points_px: (N, K, 2) predicted.
        scale_px: (N, K) scale of their errors.
        groups: (N,) persons or clips.
        scheme: Of the points.
    """

    labels_px: np.ndarray
    points_px: np.ndarray
    scale_px: np.ndarray
    groups: np.ndarray
    scheme: Scheme


@dataclass(frozen=True)
class Disagreement:
    """How strange labels are, the strangest first.

    Attributes:
        order: (N,) places of the faces.
        score: (N,) by face, in its own place: 1 is the median face.
        where: By face the points of the landmark or region that is strangest.
    """

    order: np.ndarray
    score: np.ndarray
    where: list[tuple[int, ...]]


def disagreement(found: HeldOut, errors: Errors) -> Disagreement:
    """Order labels by how unlikely they are.

    A label is judged by each of its landmarks and by each of the scheme's regions: how far it is from where the model and all its other
    points have it, in units of what that distance is expected to be (a conditional normal distribution, as in `Errors.condition`). So
    faces are not strange because they are hard, and a jaw that slid along itself, as jaws do, is less strange than one point off it.

    Args:
        found: Labels and answers.
        errors: Their joint distribution: of the model, or better measured on these faces, `held_out.errors_of`.
    """
    scheme = found.scheme
    blocks = [*((place,) for place in range(len(scheme))), *(places for places in scheme.regions.values() if len(places) > 1)]
    faces = zip(found.labels_px, found.points_px, found.scale_px, strict=True)
    strange = np.stack([_strange(*face, errors, blocks) for face in faces])
    single = np.array([len(block) == 1 for block in blocks])
    for kind in (single, ~single):  # The largest of many is larger than that of few: each kind counts by its own median.
        if kind.any():
            strange[:, kind] /= max(float(np.median(strange[:, kind].max(1))), 1e-9)
    score = strange.max(1)
    return Disagreement(np.argsort(-score, kind="stable"), score, [blocks[place] for place in strange.argmax(1)])


def _strange(
    label_px: np.ndarray, points_px: np.ndarray, scale_px: np.ndarray, errors: Errors, blocks: list[tuple[int, ...]]
) -> np.ndarray:
    """(B,) Mahalanobis distance of the labelled points of each block from where the rest has them, by the root of their number."""
    known = np.isfinite(label_px).all(-1)
    precision, off = errors.precision(label_px, points_px, scale_px, known)
    told = []
    for block in blocks:
        at = np.array([[2 * place, 2 * place + 1] for place in block if known[place]], int).ravel()
        told.append(np.sqrt(off[at] @ np.linalg.solve(precision[np.ix_(at, at)], off[at]) / len(at)) if len(at) else 0.0)
    return np.array(told)
