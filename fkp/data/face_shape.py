"""How the landmarks of a face lie: what tells a label that is none, and completes one in which points are missing.

The mean head has the 68 points of ibug68; another scheme has it by the names that the two share, and a scheme that shares too few
is not held to it.

Head units: 1 is half the width of a mean face between the ears; x to the viewer's right, y down, z towards the viewer;
the eyes of a mean face lie at y = 0.
"""

from __future__ import annotations

import numpy as np

from fkp.scheme import IBUG68, Scheme
from fkp.vision.crop import box_of_points

# The viewer's left half of the mean face and its midline, in runs from a first point on; the other half is its mirror image.
_LEFT_HALF: dict[int, tuple[tuple[float, float, float], ...]] = {
    0: ((-1.00, 0.02, -0.80), (-0.99, 0.28, -0.78), (-0.96, 0.54, -0.73), (-0.90, 0.80, -0.63), (-0.79, 1.05, -0.50)),
    5: ((-0.63, 1.27, -0.32), (-0.44, 1.45, -0.13), (-0.22, 1.58, 0.03), (0, 1.63, 0.09)),
    17: ((-0.82, -0.20, -0.30), (-0.70, -0.31, -0.09), (-0.53, -0.345, 0.07), (-0.35, -0.32, 0.17), (-0.18, -0.25, 0.22)),
    27: ((0, -0.03, 0.22), (0, 0.15, 0.34), (0, 0.32, 0.46), (0, 0.49, 0.58)),
    31: ((-0.20, 0.60, 0.26), (-0.10, 0.645, 0.34), (0, 0.675, 0.38)),
    36: ((-0.61, 0.02, -0.07), (-0.50, -0.06, 0.09), (-0.37, -0.06, 0.12), (-0.26, 0.035, 0.10)),
    40: ((-0.37, 0.07, 0.11), (-0.50, 0.07, 0.075)),
    48: ((-0.36, 0.98, 0.14), (-0.23, 0.90, 0.25), (-0.09, 0.865, 0.32), (0, 0.885, 0.335)),
    57: ((0, 1.135, 0.31), (-0.10, 1.125, 0.30), (-0.23, 1.08, 0.24)),
    60: ((-0.30, 0.98, 0.17), (-0.10, 0.957, 0.29), (0, 0.963, 0.305)),
    66: ((0, 0.995, 0.29), (-0.10, 0.992, 0.28)),
}

#: Squared distance of the points from the mean head, seen from where it fits best, as a part of their spread. Of the YouTube-Faces
#: labels 99.9 % are below 0.03 and all below 0.22, of 1,675 labels that were set by hand (HELEN, LFPW) all below 0.05. One point that
#: lies two faces' widths away is 0.28; points in a random order, or all x before all y, are above 0.48.
_NO_FACE = 0.25
#: The same in the middle of a whole file; above it points have another number. One place off it is 0.18 and more.
_OTHER_ORDER = 0.1
#: Part of the head's front that is seen: 1 from the front, -1 from within. Of both sets' labels all are above 0.65.
_INSIDE_OUT = -0.3
#: Where the head fits best it may be stretched: its least size by its largest is 1 in a photograph, but for what makes a face another
#: one than the mean. Of both sets' labels it is above 0.62; 0.5 where a video's pixels are twice as wide as high. Points with a marker
#: that is not known, such as (9999, 9999), stretch the head until it fits.
_STRETCHED = 0.3
#: Depth of the points of the mean head that are there, in head units, from which its view is known. The eyes alone (0.053) may look
#: as if seen from within, or stretched: of the labels that were set by hand 31 of 1,675 do.
_DEEP = 0.06
#: At one place: lips and lids of a face of few pixels.
_MOST_TOGETHER = 5
_LEAST_FACES = 5
_LEAST_POINTS = 6
_LEAST_SIDE_PX = 4.0


def mean_face() -> np.ndarray:
    """(68, 3) points of the mean head."""
    p = np.zeros((len(IBUG68), 3))
    for first, places in _LEFT_HALF.items():
        for point, place in enumerate(places, first):
            p[IBUG68.mirror[point]] = np.array(place) * (-1, 1, 1)
            p[point] = place
    return p


def mean_points(scheme: Scheme) -> np.ndarray:
    """(K, 3) points of the mean head in a scheme, NaN where it has none of that name."""
    points = np.full((len(scheme), 3), np.nan)
    places = scheme.places_in(IBUG68)
    points[list(places)] = mean_face()[list(places.values())]
    return points


def box_of_label(points_px: np.ndarray, scheme: Scheme = IBUG68) -> np.ndarray:
    """The tight box [x0, y0, x1, y1] of (..., K, 2) labelled points, as (..., 4) float32.

    Points that are missing are taken where the mean head has them, if it has.
    """
    there = np.isfinite(points_px)
    if there.all():
        return box_of_points(points_px)
    flat = points_px.reshape(-1, len(scheme), 2)
    whole = np.where(np.isfinite(flat), flat, _fitted(flat, scheme)[0])
    return (
        np.concatenate([np.nanmin(whole, axis=-2), np.nanmax(whole, axis=-2)], axis=-1).astype(np.float32).reshape(*points_px.shape[:-2], 4)
    )


def first_fault(points_px: np.ndarray, scheme: Scheme = IBUG68) -> tuple[int, str] | None:
    """The first label that is no face, and why, with what to do; None where all may be.

    Args:
        points_px: (N, K, 2) as they stand in the file, NaN where a point is missing.
        scheme: Of the points.
    """
    if not len(points_px):
        return None
    there = np.isfinite(points_px).all(-1)
    ends = list(scheme.between or ())
    least = min(_LEAST_POINTS, len(scheme) // 2 + 1)
    if len(few := np.flatnonzero((there.sum(-1) < least) | ~there[:, ends].all(-1))):
        needed = f"{' and '.join(scheme.landmarks[end].replace('_', ' ') for end in ends)} and {least - 2} more" if ends else f"{least}"
        return int(few[0]), f"too few points are labelled, {needed} are needed: label them or remove the line"
    sides = np.nanmax(points_px, axis=1) - np.nanmin(points_px, axis=1)
    if len(small := np.flatnonzero(sides.max(-1) < _LEAST_SIDE_PX)):
        row, mend = int(small[0]), "correct or remove it"
        if np.nanmax(np.abs(points_px[row])) <= 2:
            mend = "its coordinates are parts of the frame, multiply them by width and height"
        return row, f"the face is only {sides[row, 0]:.2g} x {sides[row, 1]:.2g} px large: {mend}"
    if np.isfinite(mean_points(scheme)).all(-1).sum() < _LEAST_POINTS:
        return None
    apart, front, even = _apart(points_px, scheme)
    if len(no_face := np.flatnonzero((apart > _NO_FACE) | (even < _STRETCHED))):
        row = int(no_face[0])
        places, counts = np.unique(points_px[row][there[row]], axis=0, return_counts=True)
        if counts.max() > _MOST_TOGETHER:
            x, y = places[counts.argmax()]
            return row, f"{counts.max()} points stand at ({x:g}, {y:g}): leave the cells of a point empty that is not labelled"
        # As the file has them: all x and then all y, or the other way round.
        blocks = points_px[row].reshape(2, len(scheme)).T
        if min(_apart(some[None], scheme)[0][0] for some in (blocks, blocks[:, ::-1])) < _OTHER_ORDER:
            return row, "all x stand before all y, or all y before all x: write x0,y0,x1,y1 and so on"
    if len(apart) >= _LEAST_FACES and np.nanmedian(apart) > _OTHER_ORDER:
        return 0, f"the points of this and most other faces have other numbers than those of {scheme.name}: bring them into that order"
    if len(no_face):
        return int(no_face[0]), "the points form no face: correct or remove it"
    if len(turned := np.flatnonzero(front < _INSIDE_OUT)):
        return int(turned[0]), "the face is mirrored: left and right or x and y are exchanged, or y counts upwards"
    return None


def _apart(points_px: np.ndarray, scheme: Scheme) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) how far each label is from the mean head, how much of its front is seen, and how evenly, see the constants above.

    NaN for a face with too few points that the mean head has.
    """
    fit, front, even = _fitted(points_px, scheme)
    compared = np.where(np.isfinite(fit), points_px, np.nan)
    off = np.nansum((compared - fit) ** 2, axis=(1, 2))
    known = np.isfinite(compared)
    middle = np.where(known, compared, 0).sum(1, keepdims=True) / np.maximum(known.sum(1, keepdims=True), 1)
    spread = np.nansum((compared - middle) ** 2, axis=(1, 2))
    return np.where(known.any((1, 2)), off / np.maximum(spread, 1e-9), np.nan), front, even


def _fitted(points_px: np.ndarray, scheme: Scheme) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, K, 2) points of the mean head where each face shows it, by least squares over its points that are there.

    Also (N,) how much of its front is seen and (N,) how evenly, see `_INSIDE_OUT` and `_STRETCHED`; NaN where too few points tell.
    NaN where the mean head has no such point, or of a face with too few points that it has.
    """
    head = np.column_stack([mean_points(scheme), np.ones(len(scheme))])
    fit = np.full(points_px.shape, np.nan)
    front, even = np.full((2, len(points_px)), np.nan)
    there = np.isfinite(points_px).all(-1) & np.isfinite(head).all(-1)
    for pattern in np.unique(there, axis=0):
        if pattern.sum() < _LEAST_POINTS:
            continue
        rows = np.flatnonzero((there == pattern).all(-1))
        views = np.linalg.pinv(head[pattern]) @ points_px[rows][:, pattern].astype(np.float64)  # (n, 4, 2): any weak perspective
        fit[rows] = head @ views
        seen = head[pattern][:, :3]
        if np.linalg.svd(seen - seen.mean(0), compute_uv=False)[-1] < _DEEP * len(seen) ** 0.5:
            continue
        across, down = views[:, :3, 0], views[:, :3, 1]
        size = np.linalg.norm(across, axis=-1) * np.linalg.norm(down, axis=-1)
        front[rows] = np.cross(across, down)[:, 2] / np.maximum(size, 1e-9)
        largest, least = np.linalg.svd(views[:, :3], compute_uv=False).T
        even[rows] = least / np.maximum(largest, 1e-9)
    return fit, front, even
