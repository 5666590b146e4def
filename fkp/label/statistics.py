"""What the labels tell of the model, and of how they were made.

People follow what they are shown: a correction is smaller than the error, and an accepted point is no measurement. Therefore only faces
that were labelled with the guesses hidden measure the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fkp.label.face import Face
from fkp.label.photos import is_second
from fkp.scheme import Scheme

#: From so many faces of each kind on they are compared; corrections that are smaller than this part of the blind ones are suspicious.
_LEAST, _SMALL = 3, 0.5


def errors_of(face: Face) -> tuple[np.ndarray, np.ndarray]:
    """(P,) distances from the guesses that the model had, and (P,) expected errors, of the points where it had one; in pixels."""
    kept = [point for point in face.points.values() if point.state != "missing" and point.guess is not None and point.how != "imported"]
    away = [math.hypot(point.x - point.guess[0], point.y - point.guess[1]) for point in kept if point.guess]
    return np.array(away), np.array([point.guess[2] for point in kept if point.guess])


def size_px(face: Face, scheme: Scheme) -> float:
    """Size of a face by its labels; NaN where they do not tell."""
    points = [face.points.get(name) for name in scheme.landmarks]
    known = np.array([(point.x, point.y) if point and point.state != "missing" else (np.nan, np.nan) for point in points])
    size = float(scheme.size_px(known))
    return size if size > 0 else math.nan


def nme_pct(faces: Iterable[Face], scheme: Scheme) -> np.ndarray:
    """(F,) mean distance of labels and guesses of each face, in percent of its size; faces that do not tell are left out."""
    found = []
    for face in faces:
        away, _ = errors_of(face)
        if len(away) and math.isfinite(size := size_px(face, scheme)):
            found.append(100 * float(away.mean()) / size)
    return np.array(found)


def figures(faces: Sequence[Face], scheme: Scheme, is_blind: Callable[[Face], bool], circle_90: float) -> dict[str, Any]:
    """What the page shows.

    Args:
        faces: What a person has said.
        scheme: Of the points.
        is_blind: Whether a face was labelled with the guesses hidden.
        circle_90: See `posterior.Errors`.

    Returns:
        `blind`: faces, nme_pct, low and high (95 %, over faces), in_circle_pct of all their points. `shown`: faces, nme_pct,
        touched: points a face that were set by hand.
    """
    done = [face for face in faces if face.done and not face.removed and not is_second(face.id)]
    blind, shown = [face for face in done if is_blind(face)], [face for face in done if not is_blind(face)]
    pairs = [errors_of(face) for face in blind]
    away, stated = (np.concatenate([pair[at] for pair in pairs] or [np.zeros(0)]) for at in (0, 1))
    inside = 100 * float((away <= circle_90 * stated).mean()) if len(away) else None
    by_hand = [sum(point.how == "set" for point in face.points.values()) for face in shown]
    return {
        "blind": {**_mean(nme_pct(blind, scheme)), "in_circle_pct": inside},
        "shown": {**_mean(nme_pct(shown, scheme)), "touched": float(np.mean(by_hand)) if by_hand else None},
    }


def warnings(measured: dict[str, Any]) -> list[str]:
    """What is suspicious in what `told` says."""
    blind, shown = measured["blind"], measured["shown"]
    if min(blind["faces"], shown["faces"]) >= _LEAST and shown["nme_pct"] < _SMALL * blind["nme_pct"]:
        return [
            f"corrections are suspiciously small: where the guesses are shown you differ from them by {shown['nme_pct']:.1f} %, "
            f"where they are hidden by {blind['nme_pct']:.1f} %"
        ]
    return []


def _mean(values: np.ndarray) -> dict[str, Any]:
    if not len(values):
        return {"faces": 0, "nme_pct": None, "low": None, "high": None}
    mean = float(values.mean())
    half = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    known = math.isfinite(half)
    return {"faces": len(values), "nme_pct": mean, "low": max(mean - half, 0.0) if known else None, "high": mean + half if known else None}
