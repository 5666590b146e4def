"""Labels ordered by how far a model that was not trained on them disagrees: wrong ones come first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fkp.adapt.faces import check_set, folds_of, read_faces
from fkp.adapt.finetune import Recipe
from fkp.adapt.pipeline import check_schemes, config_of, crop_scale
from fkp.adapt.ways import Adapter, answers, scale_factor, try_ways
from fkp.bundle import load_network
from fkp.bundle.joint_errors import JointErrors
from fkp.config import DataConfig
from fkp.data.labels import load_labels
from fkp.evaluation.joint_errors import fit_joint_errors
from fkp.label.posterior import Errors
from fkp.scheme import Scheme
from fkp.train.ancestor import open_ancestor, read_ancestor

_FOLDS = 5


@dataclass(frozen=True)
class HeldOut:
    """What a model answers for labelled faces that it was not adapted to, in pixels of their crops.

    Attributes:
        rows: (N,) of the set.
        labels_px: (N, K, 2), NaN where a point is not labelled.
        points_px: (N, K, 2) predicted.
        scale_px: (N, K) scale of their errors.
        groups: (N,) of the faces.
        scheme: Of the points.
    """

    rows: np.ndarray
    labels_px: np.ndarray
    points_px: np.ndarray
    scale_px: np.ndarray
    groups: np.ndarray
    scheme: Scheme


def held_out(data: DataConfig, model: str) -> HeldOut:
    """Adapt a model to a labelled set by the map of the shape, five times, and predict each face by the one that did not see its group.

    Args:
        data: The set: `source`, `root` and `scheme`.
        model: Bundle's folder, models:/NAME/3 or champion. One that was itself trained on the faces has learnt some wrong labels, too.

    Raises:
        FkpError: See `adapt.pipeline.adapt`.
    """
    base, address = open_ancestor(model)
    catalog = load_labels(data)
    check_set(catalog)
    check_schemes(catalog, base)
    config = config_of(base, data, address, Path("held-out")).updated({"input.crop_scale": crop_scale(catalog, base)})
    adapter = Adapter(read_ancestor(base, address), load_network(base), config, Recipe(), seed=0)
    faces = read_faces(catalog, config, np.arange(len(catalog)))
    folds = folds_of(faces.groups, min(_FOLDS, len(set(faces.groups))))
    adapter.choose_penalty(faces, folds)
    (trial,) = try_ways(adapter, faces, folds, np.unique(folds).tolist(), ("map",))
    points, scale = np.empty_like(faces.plain_px), np.empty(faces.plain_px.shape[:2], np.float32)
    for fold, network in trial.networks.items():
        points[folds == fold], scale[folds == fold] = answers(network, faces[folds == fold])
    return HeldOut(faces.rows, faces.plain_px, points, scale * scale_factor(trial, faces, folds), faces.groups, config.scheme)


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


def disagreement(found: HeldOut, joint: JointErrors | None = None) -> Disagreement:
    """Order labels by how unlikely they are.

    A label is judged by each of its landmarks and by each of the scheme's regions: how far it is from where the model and all its other
    points have it, in units of what that distance is expected to be (a conditional normal distribution, as in `Errors.condition`). So
    faces are not strange because they are hard, and a jaw that slid along itself, as jaws do, is less strange than one point off it.

    Args:
        found: Labels and answers.
        joint: How errors hang together; by default it is measured on these faces.
    """
    scheme = found.scheme
    joint = joint or fit_joint_errors(found.points_px, 2 * found.scale_px, found.labels_px, found.groups, scheme)
    blocks = [*((place,) for place in range(len(scheme))), *(places for places in scheme.regions.values() if len(places) > 1)]
    errors, faces = Errors(scheme, joint), zip(found.labels_px, found.points_px, found.scale_px, strict=True)
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
