"""What a person says of a face and its points, as it stands in the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

#: missing: a person says that the point cannot be labelled.
State = Literal["visible", "occluded", "missing"]
#: set: placed or judged one by one; accepted: left where the model had it; imported: from labels of another tool.
How = Literal["set", "accepted", "imported"]


@dataclass(frozen=True)
class Point:
    """What a person says of one point.

    Attributes:
        x: In pixels of the photograph, the first one's centre at 0.
        y: Likewise.
        state: Whether it is seen.
        how: Who put it there.
        guess: x, y and expected error of the model when it was first touched; None where the model had none.
    """

    x: float
    y: float
    state: State = "visible"
    how: How = "set"
    guess: tuple[float, float, float] | None = None

    def to_json(self) -> list[Any]:
        """As it stands in the log."""
        return [self.x, self.y, self.state, self.how, list(self.guess) if self.guess else None]


@dataclass(frozen=True)
class Face:
    """What a person has said of one face.

    Attributes:
        id: Its name, the same for good.
        photo: Name of its photograph.
        seen: x0, y0, x1, y1 where it was found.
        points: By name; those that nobody has touched are not in it.
        box: As a person has drawn it.
        group: As a person has named it.
        done: Whether it is finished.
        removed: Whether it is no face.
        drawn: Whether a person has found it.
        version: Number of the command that has changed it last.
    """

    id: str
    photo: str
    seen: tuple[float, float, float, float]
    points: Mapping[str, Point] = field(default_factory=dict)
    box: tuple[float, float, float, float] | None = None
    group: str | None = None
    done: bool = False
    removed: bool = False
    drawn: bool = False
    version: int = 0


def started(face: Face) -> dict[str, Any]:
    """What the log keeps of a face before its first change."""
    own: dict[str, Any] = {"photo": face.photo, "seen": list(face.seen)}
    if face.points:
        own["points"] = {name: point.to_json() for name, point in face.points.items()}
    return own | ({"group": face.group} if face.group else {}) | ({"drawn": True} if face.drawn else {})


def point_of(value: Any) -> Point:
    """A point of a change.

    Raises:
        ValueError: It is none.
    """
    x, y, state, how, guess = value
    if state not in get_args(State) or how not in get_args(How):
        raise ValueError(f"a point is {state!r}, {how!r}")
    return Point(float(x), float(y), state, how, None if guess is None else (float(guess[0]), float(guess[1]), float(guess[2])))


def changed(face: Face, change: dict[str, Any], number: int) -> Face:
    """A face after a change; `number` is that of the command."""
    plain = {key: value for key, value in change.items() if key in ("group", "done", "removed")}
    if "box" in change:
        plain["box"] = None if change["box"] is None else tuple(change["box"])
    if "points" in change:
        points = dict(face.points)
        for name, value in change["points"].items():
            points.pop(name, None)
            if value is not None:
                points[name] = point_of(value)
        plain["points"] = points
    return replace(face, **plain, version=number)


def inverse(face: Face, change: dict[str, Any]) -> dict[str, Any]:
    """The change that takes a change of this face back."""
    inverse: dict[str, Any] = {key: getattr(face, key) for key in change if key != "points"}
    if "points" in change:
        inverse["points"] = {name: face.points[name].to_json() if name in face.points else None for name in change["points"]}
    return inverse
