"""What a log tells `forecast.forecast` of the labels: measured errors, earlier adaptations, faces that were labelled twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from fkp.label import statistics
from fkp.label.face import Face
from fkp.label.forecast import forecast
from fkp.label.log import Log, Taken
from fkp.label.photos import is_second, second_id
from fkp.scheme import Scheme

#: From so many faces that were labelled blind on these alone tell how large the errors are.
LEAST_BLIND = 5
#: And from so many that were labelled twice on these tell how sure a person is.
LEAST_TWICE = 3


def counts(face: Face) -> bool:
    """Whether a face is labelled, and is not another one once more."""
    return face.done and not face.removed and not is_second(face.id)


def sentence(log: Log, stated_pct: np.ndarray, scheme: Scheme, is_blind: Callable[[Face], bool]) -> str:
    """What the labels are worth and what more would bring, in words; nothing where there is no face.

    Args:
        log: What was labelled.
        stated_pct: (N,) expected error of each face that is not.
        scheme: Of the points.
        is_blind: Whether a face was labelled with the guesses hidden.
    """
    since = log.models[-1].n if log.models else 0
    faces = [face for face in [*log.faces.values()] if face.version > since and counts(face)]
    blind = [face for face in faces if is_blind(face)]
    measured = pairs(blind if len(blind) >= LEAST_BLIND else faces, scheme)
    if not len(stated_pct) and not measured:
        return ""
    return forecast(stated_pct, measured, history(log.models), twice_pct(log.faces, scheme)).text


def history(models: Sequence[Taken]) -> list[tuple[int, float]]:
    """Faces and error of each adaptation, as far as their number grows; the model of before stands there with 0 faces."""
    found: list[tuple[int, float]] = []
    if models and models[0].before_pct:
        found.append((0, models[0].before_pct))
    for model in models:
        if model.after_pct > 0 and (not found or model.faces > found[-1][0]):
            found.append((model.faces, model.after_pct))
    return found


def pairs(faces: Iterable[Face], scheme: Scheme) -> list[tuple[float, float]]:
    """The stated and the true error of each face, in percent of its size."""
    found = []
    for face in faces:
        away, stated = statistics.errors_of(face)
        size = statistics.size_px(face, scheme)
        if len(away) and math.isfinite(size):
            found.append((100 * float(stated.mean()) / size, 100 * float(away.mean()) / size))
    return found


def twice_pct(faces: Mapping[str, Face], scheme: Scheme) -> list[float]:
    """Mean distance of both labels of each face that was labelled twice, in percent of its size."""
    found = []
    for face in [*faces.values()]:
        other = faces.get(second_id(face.id))
        if other is None or not (other.done and counts(face)) or other.removed:
            continue
        both = [(face.points[name], other.points[name]) for name in face.points if name in other.points]
        away = [math.hypot(a.x - b.x, a.y - b.y) for a, b in both if "missing" not in (a.state, b.state)]
        size = statistics.size_px(face, scheme)
        if away and math.isfinite(size):
            found.append(100 * float(np.mean(away)) / size)
    return found


def sure_pct(faces: Mapping[str, Face], scheme: Scheme, least_pct: float) -> float:
    """Up to which expected error a point is not asked for: `least_pct`, or as near as a person is to himself where that is more."""
    twice = twice_pct(faces, scheme)
    return max(least_pct, float(np.mean(twice))) if len(twice) >= LEAST_TWICE else least_pct
