"""Which faces an adaptation has changed most, by the guesses of the model before it and of the one after."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

import numpy as np

from fkp.label.face import Face
from fkp.label.guessing import Guessing
from fkp.label.photos import photo_id

#: Faces that are shown.
_SHOWN = 5


def most_changed(faces: Iterable[Face], before: Guessing, after: Guessing) -> list[dict[str, Any]]:
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


def _row(face: Face, before: Guessing, after: Guessing) -> dict[str, Any] | None:
    old, new = before.guess(face), after.guess(face)
    if old is None or new is None:
        return None
    both = np.isfinite(old.points_px).all(-1) & np.isfinite(new.points_px).all(-1)
    if not both.any():
        return None
    pairs = old.points_px[both], new.points_px[both]
    pct = 100 * float(np.linalg.norm(pairs[1] - pairs[0], axis=-1).mean()) / after.size_px(face)
    told = {"id": face.id, "photo": face.photo, "photo_id": photo_id(face.photo), "pct": round(pct, 2)}
    return told | {name: np.round(points, 1).tolist() for name, points in zip(("before", "after"), pairs, strict=True)}
