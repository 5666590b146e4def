"""What setting points changes in the log: the points themselves, and all others where a face is accepted with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fkp.errors import FkpError
from fkp.label.face import Face, Point
from fkp.label.guessing import Guessing, had

#: That of `fkp.data.labels`, whose module needs more than this room does.
MAX_OUTSIDE = 0.5

Places = Mapping[int, tuple[float, float, str] | None]


def of_points(face: Face, points: Places, done: bool, guessing: Guessing, blind: bool, size: tuple[int, int] | None) -> dict[str, Any]:
    """A change for the log.

    Args:
        face: As a person has left it.
        points: By number x, y and state; None forgets what was said of one.
        done: Whether the face is finished with that, and all other points are right where the page shows them.
        guessing: The model's.
        blind: Whether the guesses are hidden.
        size: Width and height of the photograph, where they are known.

    Raises:
        FkpError: A point lies too far outside, or the face cannot be finished.
    """
    scheme, guess = guessing.scheme, guessing.guess(face)
    told: dict[str, list[Any] | None] = {}
    for place, value in points.items():
        if value is None:
            told[scheme.landmarks[place]] = None
            continue
        x, y, state = value
        if size is not None and state != "missing":
            _check_place(x, y, size, scheme.landmarks[place])
        told[scheme.landmarks[place]] = Point(x, y, state, "set", had(guess, place)).to_json()  # type: ignore[arg-type]
    if not done:
        return {"points": told}
    return {"done": True, "points": told | _accepted(face, told, guessing, blind)}


def _check_place(x: float, y: float, size: tuple[int, int], name: str) -> None:
    """Refuse a point that no training would take.

    Raises:
        FkpError: It lies too far outside its photograph.
    """
    width, height = size
    outside = max(-x, -y, x - width + 1, y - height + 1)
    if outside > MAX_OUTSIDE * max(size):
        told = f"{name.replace('_', ' ')} lies {outside:.0f} px outside the photograph"
        raise FkpError(f"{told}: mark it as not labelled, or put it nearer")


def _accepted(face: Face, told: Mapping[str, Any], guessing: Guessing, blind: bool) -> dict[str, list[Any]]:
    """The points that nobody has touched, where the page shows them.

    Raises:
        FkpError: One is shown nowhere.
    """
    scheme, (informed, _) = guessing.scheme, guessing.informed(face)
    left = [place for place, name in enumerate(scheme.landmarks) if told.get(name, face.points.get(name)) is None]
    if left and (blind or informed is None):
        raise FkpError(f"{len(left)} points are to be set, or marked as not labelled, before this face is finished")
    accepted = {}
    for place in left:
        assert informed is not None
        x, y = (round(float(value), 3) for value in informed.points_px[place])
        if not (math.isfinite(x) and math.isfinite(y)):
            raise FkpError(f"{scheme.landmarks[place]} is to be set, or marked as not labelled, before this face is finished")
        accepted[scheme.landmarks[place]] = Point(x, y, "visible", "accepted", had(guessing.guess(face), place)).to_json()
    return accepted
