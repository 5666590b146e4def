"""What a model says of one face, informed by what a person has set there, and which of its points are to be looked at."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fkp.bundle import Bundle
from fkp.label import doubts
from fkp.label.face import Face
from fkp.label.finder import Finder, Guess
from fkp.label.posterior import Errors
from fkp.scheme import Scheme

#: Default of `sure_pct`. The shipped model states 2 to 5 % of nearly all points; a person is off by about 1 %.
SURE_PCT = 3.0


class Guessing:
    """The guesses of one model in the scheme of the labels.

    Args:
        scheme: Of the labels.
        bundle: The model.
        finder: What has asked it.
        sure_pct: A point whose expected error is less, in percent of the face's size, is not asked for.
    """

    def __init__(self, scheme: Scheme, bundle: Bundle, finder: Finder, sure_pct: float) -> None:
        self.scheme, self.finder, self.sure_pct, self.errors = scheme, finder, sure_pct, Errors.of(bundle)
        self.places = scheme.places_in(finder.scheme)

    def guess(self, face: Face) -> Guess | None:
        """The model's own guess, in the scheme of the labels: NaN for points that it does not have."""
        own = self.finder.guess(face.id)
        return None if own is None else in_scheme(own, self.places, len(self.scheme))

    def informed(self, face: Face) -> tuple[Guess | None, int | None]:
        """The guess after what a person has set, and the point to look at next; both in the scheme of the labels."""
        own = self.finder.guess(face.id)
        if own is None:
            return None, None
        numbers = {name: place for place, name in enumerate(self.scheme.landmarks)}
        fixed = {
            self.places[numbers[name]]: np.array([point.x, point.y])
            for name, point in face.points.items()
            if point.how == "set" and point.state != "missing" and numbers[name] in self.places
        }
        size_px = float(self.finder.scheme.size_px(own.points_px))
        usable = np.isfinite(own.points_px).all() and np.isfinite(own.error_px).all() and size_px > 0 and own.error_px.min() > 0
        if not usable:
            return self.guess(face), None
        scale = own.error_px / 2  # See `Errors.condition`.
        after_px, after_scale = self.errors.condition(own.points_px, scale, fixed, size_px)
        theirs = {their: place for place, their in self.places.items()}
        wide = [
            their
            for their, place in theirs.items()
            if self.scheme.landmarks[place] not in face.points and 200 * after_scale[their] / size_px > self.sure_pct
        ]
        following = (
            self.errors.next_point(points_px=own.points_px, scale_px=scale, fixed=fixed, size_px=size_px, among=wide) if wide else None
        )
        after = in_scheme(Guess(after_px, 2 * after_scale), self.places, len(self.scheme))
        return after, None if following is None else theirs[following]

    def size_px(self, face: Face) -> float:
        """What errors are divided by; the box's diagonal where the points do not tell."""
        guess = self.guess(face)
        size = math.nan if guess is None else float(self.scheme.size_px(guess.points_px))
        x0, y0, x1, y1 = face.box or face.seen
        return size if size > 0 else math.hypot(x1 - x0, y1 - y0)

    def to_json(self, face: Face, hidden: bool, moved: Iterable[int] = ()) -> dict[str, Any]:
        """The points of a face as the page shows them.

        Args:
            face: As a person has left it.
            hidden: Whether no guess is shown.
            moved: Numbers of points that were just set.
        """
        guess, following = self.informed(face)
        points = [self._point(face, place, None if hidden else guess) for place in range(len(self.scheme))]
        size_px = self.size_px(face)
        review = [
            place
            for place, point in enumerate(points)
            if point["how"] is None and (point["r"] is None or 100 * point["r"] / size_px > self.sure_pct)
        ]
        review += [place for place, point in enumerate(points) if point["how"] == "imported" and _apart(point) > self.errors.circle_90]
        if hidden:
            following = review[0] if review else None
        elif following is None or following not in review:
            following = max(review, key=lambda place: (_apart(points[place]), points[place]["r"] or math.inf)) if review else None
        question = None if hidden else self._question(face, moved)
        return {"points": points, "size_px": size_px, "review": review, "next": following, "sure_pct": self.sure_pct, "question": question}

    def _question(self, face: Face, moved: Iterable[int]) -> dict[str, Any] | None:
        """What to ask about points that were just set, by where all others let them be expected."""
        just = {*moved}
        if not just:
            return None
        names = {self.scheme.landmarks[place] for place in just}
        others = {name: point for name, point in face.points.items() if name not in names}
        expected, _ = self.informed(replace(face, points=others))
        points = {
            place: (point.x, point.y)
            for place in just
            if (point := face.points.get(self.scheme.landmarks[place])) is not None and point.state != "missing"
        }
        return doubts.question(just, points, expected, self.scheme)

    def _point(self, face: Face, place: int, guess: Guess | None) -> dict[str, Any]:
        point = face.points.get(self.scheme.landmarks[place])
        if point is not None:
            own = {"x": point.x, "y": point.y, "r": None, "state": point.state, "how": point.how}
            if point.how != "imported" or point.state == "missing" or guess is None or not np.isfinite(guess.points_px[place]).all():
                return own
            (x, y), error = np.round(guess.points_px[place], 2).tolist(), round(float(guess.error_px[place]), 3)
            return {**own, "ghost": [x, y, error]}
        if guess is None or not np.isfinite(guess.points_px[place]).all():
            return {"x": None, "y": None, "r": None, "state": "visible", "how": None}
        x, y = (round(float(value), 2) for value in guess.points_px[place])
        return {"x": x, "y": y, "r": round(float(guess.error_px[place]), 3), "state": "visible", "how": None}


def in_scheme(own: Guess, places: Mapping[int, int], count: int) -> Guess:
    """A model's guess in the scheme of the labels, of `count` points: `places` holds theirs by ours, and NaN stands where it has none."""
    points, error = np.full((count, 2), np.nan), np.full(count, np.nan)
    for place, theirs in places.items():
        points[place], error[place] = own.points_px[theirs], own.error_px[theirs]
    return Guess(points, error)


def had(guess: Guess | None, place: int) -> tuple[float, float, float] | None:
    """x, y and expected error of one point; None where the model has none."""
    if guess is None or not np.isfinite(guess.points_px[place]).all():
        return None
    (x, y), error = guess.points_px[place], guess.error_px[place]
    return round(float(x), 3), round(float(y), 3), round(float(error), 3)


def _apart(point: dict[str, Any]) -> float:
    """How far an imported point lies from the model's, in expected errors; 0 for one that is not compared."""
    x, y, error = point.get("ghost") or (point["x"], point["y"], 1.0)
    return 0.0 if x is None else math.hypot(point["x"] - x, point["y"] - y) / error
