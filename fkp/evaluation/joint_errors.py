"""The correlation of a network's errors, measured on held-out faces for `fkp.bundle.joint_errors`."""

from __future__ import annotations

from itertools import product

import numpy as np

from fkp.bundle import Bundle
from fkp.bundle.joint_errors import JointErrors, by_distance
from fkp.evaluation.evaluate import Evaluation
from fkp.scheme import Scheme
from fkp.vision.crop import upright

#: Parts that the faces themselves and the network of before may have in the correlation; held-out groups choose.
_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)
#: See `joint_errors.REACH`; they choose it, too.
_REACHES = (0.15, 0.25, 0.4, 0.6, 0.9)
_MOST = 0.9
_FOLDS = 5
#: Of faces of fewer groups, or of fewer faces, nothing is measured; nor in a scheme of more points, for it grows with their square.
LEAST_GROUPS, LEAST_FACES, MOST_POINTS = 5, 20, 200


def fit_joint_errors(
    points_px: np.ndarray,
    expected_error_px: np.ndarray,
    truth_px: np.ndarray,
    groups: np.ndarray,
    scheme: Scheme,
    base: JointErrors | None = None,
) -> JointErrors:
    """Measure how the errors of held-out faces hang together, and how far to believe it.

    The correlation is a sum of what these faces tell, of what was known of the network that this one was adapted from, and of what the
    distance of the points says. The parts are those under which the faces of held-out groups are likeliest.

    Args:
        points_px: (N, K, 2) predicted.
        expected_error_px: (N, K) stated.
        truth_px: (N, K, 2), NaN where a point is not labelled.
        groups: (N,) persons or clips.
        scheme: Of the points.
        base: What was measured of the network of before, in the same scheme.
    """
    known = np.isfinite(truth_px).all(-1)
    names, each = np.unique(groups.astype(str), return_inverse=True)
    if len(names) < LEAST_GROUPS or len(points_px) < LEAST_FACES or len(scheme) > MOST_POINTS:
        return base or JointErrors()
    errors, shapes = upright(np.where(known[..., None], truth_px - points_px, 0), points_px, scheme), upright(points_px, points_px, scheme)
    errors = errors / (np.maximum(expected_error_px, 1e-9)[..., None])
    mean = _mean_shape(shapes)
    targets = {reach: by_distance(mean, reach) for reach in _REACHES}
    fold = np.random.default_rng(0).permutation(len(names))[each] % _FOLDS
    before = None if base is None or base.measured is None or len(base.measured) != 2 * len(scheme) else base.measured
    parts = [(own, old) for own, old in product(_SHARES, _SHARES if before is not None else (0.0,)) if own + old <= _MOST]
    likely = dict.fromkeys(product(parts, _REACHES), 0.0)
    for held in range(_FOLDS):
        measured = _correlation(errors[fold != held], known[fold != held], scheme)
        for (own, old), reach in likely:
            mixed = own * measured + (1 - own - old) * targets[reach] + (old * before if before is not None else 0)
            likely[(own, old), reach] += _likelihood(errors[fold == held], known[fold == held], mixed)
    (own, old), reach = max(likely, key=lambda chosen: likely[chosen])
    if own + old == 0:
        return JointErrors(reach=reach, faces=len(points_px))
    every = own * _correlation(errors, known, scheme) + (old * before if before is not None else 0)
    return JointErrors(every / (own + old), round(own + old, 2), reach, faces=len(points_px))


def of_evaluation(validation: Evaluation, base: Bundle | None = None) -> JointErrors:
    """Of faces that were held out, and of the model that the evaluated one was adapted from."""
    before = JointErrors.of(base) if base is not None and base.config.scheme == validation.scheme else None
    groups = np.array(validation.identities)
    return fit_joint_errors(validation.points_px, validation.expected_error_px, validation.truth_px(), groups, validation.scheme, before)


def _correlation(errors: np.ndarray, known: np.ndarray, scheme: Scheme) -> np.ndarray:
    """(2K, 2K), the same for mirrored faces; points that were labelled together on no face are not correlated."""
    there = np.repeat(known, 2, axis=1).astype(np.float64)
    flat = errors.reshape(len(errors), -1)
    if scheme.pairs:
        mirror = list(scheme.mirror)
        flat = np.concatenate([flat, (errors[:, mirror] * (-1, 1)).reshape(len(errors), -1)])
        there = np.concatenate([there, np.repeat(known[:, mirror], 2, axis=1)])
    moment = flat.T @ flat / np.maximum(there.T @ there, 1)
    variance = np.diag(moment).reshape(-1, 2).mean(1)
    seen = variance > 0
    sd = np.repeat(np.sqrt(np.where(seen, variance, 1)), 2)
    found = moment / sd / sd[:, None] + np.diag(np.repeat(~seen, 2).astype(float))
    values, vectors = np.linalg.eigh(found)  # Of moments over different faces some may be negative.
    return np.asarray((vectors * np.maximum(values, 0)) @ vectors.T)


def _likelihood(errors: np.ndarray, known: np.ndarray, correlation: np.ndarray) -> float:
    """Sum of the logarithms of the normal density, each face at the size of error that suits it best: only the pattern counts."""
    total = 0.0
    for pattern in np.unique(known, axis=0):
        if not pattern.any():
            continue
        columns = np.repeat(pattern, 2)
        flat = errors.reshape(len(errors), -1)[(known == pattern).all(1)][:, columns]
        lower = np.linalg.cholesky(correlation[np.ix_(columns, columns)] + 1e-4 * np.eye(columns.sum()))
        squares = (np.linalg.solve(lower, flat.T) ** 2).sum(0)
        total -= float((columns.sum() / 2 * np.log(np.maximum(squares, 1e-12)) + np.log(np.diag(lower)).sum()).sum())
    return total


def _mean_shape(shapes: np.ndarray) -> np.ndarray:
    """(K, 2) mean of upright shapes, brought to one middle and size."""
    shapes = shapes - shapes.mean(1, keepdims=True)
    return np.asarray((shapes / np.maximum(np.sqrt((shapes**2).mean((1, 2), keepdims=True)), 1e-9)).mean(0))
