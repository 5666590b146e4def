"""What a table says about predicted points: normalised errors, their distribution, and whether the predicted error holds.

Numpy only, so that evaluation runs on a machine without torch. A key names its unit and its normaliser, which the scheme says.
"Interocular" is the distance of the outer eye corners of the truth, as in the 300-W protocol (Sagonas et al., ICCVW 2013).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from fkp.scheme import IBUG68, Scheme

Truth = Literal["raw", "corrected"]

#: What a label may be, with the head of its column: every table says which of the two it was measured against.
TRUTHS: dict[Truth, str] = {"raw": "raw labels", "corrected": "corrected labels"}


def normaliser_px(truth_px: np.ndarray, scheme: Scheme = IBUG68) -> np.ndarray:
    """What errors are divided by, `Scheme.size_px`, of faces that all have it.

    Args:
        truth_px: (N, K, 2).
        scheme: Of these points.

    Returns:
        (N,) float64.

    Raises:
        ValueError: The shape is another, a coordinate is not finite, or a face's normaliser is nothing or not labelled.
    """
    _check(truth_px, "the truth", scheme, missing=True)
    size = scheme.size_px(truth_px)
    flat = np.flatnonzero(~(size > 0))
    if len(flat):
        raise ValueError(f"the normaliser of truth {flat[0]} ({scheme.normaliser_text}) is 0 or missing: its error has no scale")
    return size


def point_error_px(points_px: np.ndarray, truth_px: np.ndarray, scheme: Scheme = IBUG68) -> np.ndarray:
    """(N, K) float64 Euclidean error of each point, in the pixels of the arguments, (N, K, 2) both; NaN where the truth has no point.

    Raises:
        ValueError: The shapes differ or are others, or a coordinate is not finite.
    """
    _check(points_px, "the prediction", scheme)
    _check(truth_px, "the truth", scheme, missing=True)
    if points_px.shape != truth_px.shape:
        raise ValueError(f"{len(points_px)} predictions do not go with {len(truth_px)} truths")
    return np.linalg.norm(np.asarray(points_px, np.float64) - truth_px, axis=-1)


def nme_pct(points_px: np.ndarray, truth_px: np.ndarray, points: Sequence[int] | None = None, scheme: Scheme = IBUG68) -> np.ndarray:
    """Normalised mean error of each face: mean point error / the scheme's normaliser of the truth, in percent.

    Args:
        points_px: (N, K, 2) predicted.
        truth_px: (N, K, 2).
        points: Numbers of the points to average over; all by default. The normaliser stays the same.
        scheme: Of the points.

    Returns:
        (N,) float64; NaN for a face of which none of these points is labelled.

    Raises:
        ValueError: See `normaliser_px` and `point_error_px`; or `points` is empty.
    """
    error = point_error_px(points_px, truth_px, scheme)
    if points is not None:
        if not len(points):
            raise ValueError("the mean over no points has no value")
        error = error[:, list(points)]
    known = ~np.isnan(error)
    mean = np.where(known, error, 0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    return 100 * mean / normaliser_px(truth_px, scheme)


def turn(points_px: np.ndarray, scheme: Scheme = IBUG68) -> np.ndarray:
    """How far a head is turned to a side: the nose tip's way from the middle between the ends of the jaw, as a part of their distance.

    0 for a face seen from the front, 0.5 where the nose tip stands over an end of the jaw, which is about a half profile.

    Args:
        points_px: (N, K, 2).
        scheme: Its `yaw` says which three points these are.

    Returns:
        (N,) float64, not negative; NaN where one of the three is not labelled, or the scheme names none.
    """
    if scheme.yaw is None:
        return np.full(len(points_px), np.nan)
    first, last, nose = (np.asarray(points_px, np.float64)[:, point] for point in scheme.yaw)
    across = last - first
    place = ((nose - first) * across).sum(-1) / np.maximum((across**2).sum(-1), 1e-12)
    return np.abs(place - 0.5)


def auc_pct(nme: np.ndarray, limit_pct: float = 8.0) -> float:
    """Area under the cumulative error distribution from 0 to the limit, in percent of the whole rectangle.

    The distribution is a sum of steps, one a face, and a step at e leaves the area max(0, limit - e): so the area is
    known exactly, without a grid.

    Args:
        nme: (N,) errors in percent.
        limit_pct: Upper end of the integral.

    Raises:
        ValueError: There is no error, one is not finite, or the limit is not positive.
    """
    _check_errors(nme, limit_pct)
    return float(100 * np.maximum(0.0, 1 - np.asarray(nme, np.float64) / limit_pct).mean())


def failure_pct(nme: np.ndarray, limit_pct: float) -> float:
    """Percentage of faces whose error lies above the limit; arguments and errors as in `auc_pct`."""
    _check_errors(nme, limit_pct)
    return float(100 * (np.asarray(nme) > limit_pct).mean())


def summary(points_px: np.ndarray, truth_px: np.ndarray, scheme: Scheme = IBUG68) -> dict[str, float]:
    """Every metric of a table, by key.

    Args:
        points_px: (N, K, 2) predicted.
        truth_px: (N, K, 2). The caller says whether it is raw or corrected.
        scheme: Of the points; below, `<normaliser>` is its own.

    Returns:
        Means over the faces in percent, but for the median; one `nme_<region>_<normaliser>_pct` a region or group of the scheme of
        which any point is labelled; and `points_measured`, how many labelled points all of it rests on. A point that is not
        labelled counts nowhere.

    Raises:
        ValueError: See `nme_pct`; or there is no face.
    """
    nme = nme_pct(points_px, truth_px, scheme=scheme)
    _check_errors(nme, limit_pct=8.0)
    result = {
        scheme.nme_key: float(nme.mean()),
        f"median_{scheme.nme_key}": float(np.median(nme)),
        "auc_08_pct": auc_pct(nme, 8.0),
        "failure_08_pct": failure_pct(nme, 8.0),
        "failure_10_pct": failure_pct(nme, 10.0),
        "points_measured": float(np.isfinite(truth_px).all(-1).sum()),
    }
    for name, points in {**scheme.groups, **scheme.regions}.items():
        found = nme_pct(points_px, truth_px, points, scheme)
        if not np.isnan(found).all():
            result[region_key(scheme, name)] = float(np.nanmean(found))
    return result


def region_key(scheme: Scheme, name: str) -> str:
    """Key of the error of a region or group."""
    return f"nme_{name}_{scheme.normaliser}_pct"


def coverage(
    error_px: np.ndarray, expected_error_px: np.ndarray, levels: Sequence[float] | np.ndarray, radii: Mapping[str, Any] | None = None
) -> np.ndarray:
    """Fraction of points that lie inside the radius which should hold each level.

    The network states the density exp(-|e| / s) / (2 pi s^2) (`losses.radial_laplace_nll`). In polar coordinates |e| / s
    has the Gamma(2) distribution: P(|e| <= r) = 1 - (1 + r / s) exp(-r / s), with the mean 2 s, which is the expected
    error. The radius of a level is therefore s times the inverse of the regularised incomplete gamma function at 2, or what
    was measured on other faces (`error_radii`).

    Args:
        error_px: (...) distance of each point from the truth.
        expected_error_px: Same shape, 2 s.
        levels: (L,) each in [0, 1).
        radii: What `error_radii` found; by default the density's own radii.

    Returns:
        (L,) float64, each in [0, 1]. Calibrated means equal to `levels`; above them the network is too modest.

    Raises:
        ValueError: The shapes differ, there is no point, a value is negative or not finite, or a level is out of range.
    """
    error, expected = _errors_and_expected(error_px, expected_error_px)
    stated = np.asarray(levels, np.float64)
    if not ((stated >= 0) & (stated < 1)).all():
        raise ValueError("a level must lie in [0, 1)")
    if radii is None:
        from scipy.special import gammaincinv

        ratios = gammaincinv(2, stated) / 2
    else:
        ratios = np.interp(stated, [0.0, *radii["levels"]], [0.0, *radii["ratios"]])
    return np.array([(error <= expected * ratio).mean() for ratio in ratios])


def error_radii(error_px: np.ndarray, expected_error_px: np.ndarray) -> dict[str, list[float]]:
    """What multiple of the expected error holds which part of all errors: the radii to state, whatever density they follow.

    The labels lie on a grid, so errors have a lighter tail than the density of `coverage`, and one scale cannot set two radii
    right. Quantiles of held-out faces do (split conformal prediction, Papadopoulos et al., ECML 2002).

    Args:
        error_px: (...) distance of each point from the truth, on faces that were not trained on.
        expected_error_px: Same shape.

    Returns:
        `levels`, 1 to 99 %, and `ratios`: radius / expected error of each.

    Raises:
        ValueError: See `coverage`; or an expected error is zero.
    """
    error, expected = _errors_and_expected(error_px, expected_error_px)
    if not expected.min() > 0:
        raise ValueError("an expected error is zero")
    levels = np.arange(1, 100) / 100
    ratios = np.quantile(error / expected, levels)
    return {"levels": levels.round(2).tolist(), "ratios": ratios.round(5).tolist()}


def auroc_pct(score: np.ndarray, nme: np.ndarray, worst: float = 0.05) -> float:
    """Area under the ROC curve of a score that should be high for the worst faces: 100 tells them apart, 50 is chance.

    It is the chance that one of the worst faces has a higher score than one of the others (Hanley and McNeil, 1982).

    Args:
        score: (N,) any scale.
        nme: (N,) errors in percent.
        worst: Part of the faces, those of the largest errors, that the score should find.

    Raises:
        ValueError: There are too few faces for one to be among the worst and one not, or a value is not finite.
    """
    _check_errors(nme, limit_pct=8.0)
    count = round(worst * len(nme))
    if not 0 < count < len(nme):
        raise ValueError(f"of {len(nme)} faces none are the worst {worst:.0%}")
    if not np.isfinite(score).all():
        raise ValueError("a score is not finite")
    order = np.argsort(nme, kind="stable")
    others, found = np.asarray(score)[order[:-count]], np.asarray(score)[order[-count:]]
    above = (found[:, None] > others).mean() + 0.5 * (found[:, None] == others).mean()
    return float(100 * above)


def _errors_and_expected(error_px: np.ndarray, expected_error_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    error, expected = np.asarray(error_px, np.float64), np.asarray(expected_error_px, np.float64)
    if error.shape != expected.shape or not error.size:
        raise ValueError(f"errors of shape {error.shape} do not go with expected errors of shape {expected.shape}")
    known = ~np.isnan(error)  # The others are of points that are not labelled.
    error, expected = error[known], expected[known]
    if not error.size:
        raise ValueError("no point is labelled")
    for values, what in ((error, "an error"), (expected, "an expected error")):
        if not np.isfinite(values).all() or values.min() < 0:
            raise ValueError(f"{what} is negative or not finite")
    return error, expected


def _check(points_px: np.ndarray, what: str, scheme: Scheme, missing: bool = False) -> None:
    if points_px.ndim != 3 or points_px.shape[1:] != (len(scheme), 2):
        raise ValueError(f"{what} must have the shape (N, {len(scheme)}, 2), got {points_px.shape}")
    absent = np.isnan(points_px).all(axis=-1, keepdims=True) & missing
    broken = np.flatnonzero(~(np.isfinite(points_px) | absent).all(axis=(1, 2)))
    if len(broken):
        raise ValueError(f"{what} of face {broken[0]} holds a coordinate that is not finite")


def _check_errors(nme: np.ndarray, limit_pct: float) -> None:
    if not len(nme):
        raise ValueError("no face, so no error to summarise")
    # NaN compares as "not above the limit", and would count as a success.
    if not np.isfinite(nme).all():
        raise ValueError("an error is not finite")
    if not limit_pct > 0:
        raise ValueError(f"the limit must be positive, got {limit_pct}")
