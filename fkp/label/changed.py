"""Which faces an adaptation has changed most, by the guesses of the model before it and of the one after."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fkp.errors import FkpError
from fkp.label.face import Face
from fkp.label.finder import Guess
from fkp.label.guessing import Guessing, in_scheme
from fkp.label.photos import Cache, photo_id

#: Faces that are shown.
_SHOWN = 5
#: Model that was adapted here -> which guesses were there before it.
_FILE = "before.jsonl"

Before = Callable[[Face], Guess | None]


def keep(out: Path, model: str, before: Guessing) -> None:
    """Remember, beside the log, which guesses a model that is taken now replaces.

    Raises:
        FkpError: The disk has not taken it.
    """
    try:
        Cache(out / _FILE).put(model, {"guesses": before.finder.guesses_file.name, "places": [*before.places.items()]})
    except OSError as error:
        raise FkpError(f"cannot write {out / _FILE}: {error.strerror or error}: free some space and adapt again") from error


def kept(out: Path, model: str, count: int) -> Before | None:
    """The guesses of before a model, in a scheme of `count` points; None where nothing is remembered of it."""
    row = Cache(out / _FILE).rows.get(model)
    if row is None:
        return None
    places, guesses = dict[int, int](row["places"]), Cache(out / row["guesses"]).rows

    def guess(face: Face) -> Guess | None:
        own = guesses.get(face.id)
        return None if own is None else in_scheme(Guess.of(own), places, count)

    return guess


def most_changed(faces: Iterable[Face], before: Before, after: Guessing) -> list[dict[str, Any]]:
    """The faces whose points have moved most, the first one most.

    Args:
        faces: Which to compare; those that one of the models has not looked at are left out.
        before: The guesses of the model before.
        after: Those of the model after, in the same scheme.

    Returns:
        Of each: `id`, `photo`, `photo_id`, `pct` (mean distance of the points that both have, in percent of the face's size), and `before`
        and `after`: x and y of these points, in pixels of the photograph.
    """
    return heapq.nlargest(_SHOWN, (row for face in faces if (row := _row(face, before, after))), key=lambda row: row["pct"])


def _row(face: Face, before: Before, after: Guessing) -> dict[str, Any] | None:
    old, new = before(face), after.guess(face)
    if old is None or new is None:
        return None
    both = np.isfinite(old.points_px).all(-1) & np.isfinite(new.points_px).all(-1)
    if not both.any():
        return None
    pairs = old.points_px[both], new.points_px[both]
    pct = 100 * float(np.linalg.norm(pairs[1] - pairs[0], axis=-1).mean()) / after.size_px(face)
    told = {"id": face.id, "photo": face.photo, "photo_id": photo_id(face.photo), "pct": round(pct, 2)}
    return told | {name: np.round(points, 1).tolist() for name, points in zip(("before", "after"), pairs, strict=True)}
