"""In which order faces are offered: ranked in the background, so that no edit waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from fkp.label import order, set_writer, worth
from fkp.label.face import Face
from fkp.label.finder import Finder
from fkp.label.guessing import Guessing
from fkp.label.imported import Imported
from fkp.label.log import Log
from fkp.label.photos import is_second

T = TypeVar("T")
#: It is ranked anew when so many times as many faces are there.
_GROWN = 1.3
#: And at most this part of the time, so that edits are answered meanwhile.
_RESTS = 10


class _EndedError(Exception):
    """The finder was told to stop."""


def _steps(items: Sequence[T], went: Callable[[float], None]) -> Iterator[T]:
    """The items; after every few the part that is done is told."""
    for place, item in enumerate(items):
        if place % 256 == 0:
            went(place / len(items))
        yield item


class Labelling(Protocol):
    """What the queue needs of a session."""

    log: Log
    finder: Finder
    imported: Imported | None
    strange: dict[str, float]
    guessing: Guessing

    def known(self, face: str) -> Face:
        """A face as a person has left it."""
        ...

    def is_blind(self, face: Face) -> bool:
        """Whether it is labelled without guesses."""
        ...


class Queue:
    """The faces of a session in the order of their use.

    Args:
        session: Whose.

    Attributes:
        ordering_pct: How far a ranking is; None while there is none.
    """

    def __init__(self, session: Labelling) -> None:
        self._session = session
        self._order: list[str] = []
        self._place: dict[str, int] = {}
        self._photo: dict[str, str] = {}
        self._pct: dict[str, float] = {}
        self._stated: dict[str, float] = {}
        self._bare: dict[str, None] = {}
        self._faults: list[str] = []
        self._lock = threading.Lock()
        self.ordering_pct: int | None = None
        self._ranked = 0
        self._ranked_at, self._took_s = 0.0, 0.0
        self._used: set[str] = set()
        for face in [*session.log.faces.values()]:
            self.insert(face.id, face.photo)
        for photo, found in session.finder.found.items():
            for name in found.boxes:
                self.insert(name, photo)
        for photo, boxes in session.imported.boxes.items() if session.imported else ():
            for name in boxes:
                self.insert(name, photo)

    def photo_of(self, face: str) -> str:
        """Name of the photograph of a face.

        Raises:
            KeyError: There is no such face.
        """
        return self._photo[face]

    def insert(self, face: str, photo: str) -> None:
        """Add a face behind all others."""
        with self._lock:
            self._used.add(photo)
            self._bare.pop(photo, None)
            if face not in self._photo:
                self._photo[face] = photo
                self._place[face] = len(self._order)
                self._order.append(face)

    def take_in(self, photo: str) -> None:
        """Take in what was found on a photograph, and rank all where that is due; called in the finder's thread."""
        finder = self._session.finder
        found = finder.found[photo]
        for face in found.boxes:
            self.insert(face, photo)
        if found.fault:
            self._faults.append(found.fault)
        elif photo not in self._used:
            self._bare[photo] = None
        began = time.monotonic()
        grown = len(self._order) >= _GROWN * self._ranked + 1 and began - self._ranked_at > _RESTS * self._took_s
        if finder.ready or grown:
            self.rank()
            self._ranked_at = time.monotonic()
            self._took_s = self._ranked_at - began

    def rank(self) -> None:
        """Order all faces that are not finished; called in other threads than those that answer. It ends when the finder does."""
        try:
            self._rank(self._session.finder)
        except _EndedError:
            return
        finally:
            self.ordering_pct = None

    def _went(self, finder: Finder, low: int, high: int) -> Callable[[float], None]:
        """Takes the part that is done of what leads from `low` to `high` percent of a ranking."""

        def went(part: float) -> None:
            if finder.ending:
                raise _EndedError
            self.ordering_pct = round(low + part * (high - low))

        return went

    def _rank(self, finder: Finder) -> None:
        session = self._session
        with self._lock:
            names = [*self._order]
        faces: list[Face] = [session.known(name) for name in _steps(names, self._went(finder, 0, 20))]
        prints = {name: found.print for name, found in [*finder.found.items()] if found.print is not None}
        groups = set_writer.groups_of(faces, prints, self._went(finder, 20, 40))
        scheme = finder.scheme
        first, ranked, guesses, labelled, rest = [], [], [], [], []
        for face, group in _steps([*zip(faces, groups, strict=True)], self._went(finder, 40, 70)):
            own = finder.guess(face.id)
            usable = own is not None and np.isfinite(own.points_px).all() and np.isfinite(own.error_px).all() and own.error_px.min() > 0
            if own is not None and usable:
                guess = order.Guess(own.points_px, own.error_px / 2, np.array(face.box or face.seen), group, face.photo)
            if face.done or face.removed or is_second(face.id):
                first.append(face.id)
                if usable and worth.counts(face) and not session.is_blind(face):
                    labelled.append(guess)
            elif not usable:
                rest.append(face.id)
            else:
                ranked.append(face.id)
                guesses.append(guess)
        pct = order.expected_pct(guesses, scheme) if guesses else np.zeros(0)
        self._stated = dict(zip(ranked, pct.tolist(), strict=True))
        self._pct.update(self._stated)
        if session.imported is not None:
            apart = [
                session.imported.disagreement_pct(face, session.guessing.guess(face), session.guessing.scheme)
                for face in map(session.known, _steps(ranked, self._went(finder, 70, 95)))
            ]
            self._pct.update(zip(ranked, apart, strict=True))
            strange = session.strange or dict(zip(ranked, apart, strict=True))
            chosen = sorted(range(len(ranked)), key=lambda place: -strange.get(ranked[place], 0.0))
        else:
            chosen = order.rank(guesses, scheme, labelled, self._went(finder, 70, 95))
        done = [*first, *(ranked[place] for place in chosen), *rest]
        with self._lock:
            known = {*done}
            new = [name for name in self._order if name not in known]
            self._order = done + new
            self._place = {name: place for place, name in enumerate(self._order)}
            self._ranked = len(self._order)

    def stated_pct(self) -> np.ndarray:
        """(N,) expected error of each face that is ranked and not finished, in percent of its size."""
        faces = self._session.log.faces
        return np.array([pct for name, pct in [*self._stated.items()] if not ((face := faces.get(name)) and (face.done or face.removed))])

    def window(self, start: int, count: int) -> list[dict[str, Any]]:
        """Some faces in their order."""
        with self._lock:
            names = self._order[max(start, 0) : max(start, 0) + count]
        rows = []
        for name in names:
            face = self._session.known(name)
            pct = self._pct.get(name)
            own = {"id": name, "photo": face.photo, "done": face.done, "removed": face.removed, "blind": self._session.is_blind(face)}
            rows.append({**own, "pct": None if pct is None else round(pct, 2), "place": self._place[name]})
        return rows

    def some(self, most: int) -> list[str]:
        """Names of all faces, or of so many that are evenly spread over the order."""
        with self._lock:
            names = [*self._order]
        return names[:: max(1, -(-len(names) // most))]

    def place(self, face: str) -> int | None:
        """Place of a face; None where it is in no order yet."""
        return self._place.get(face)

    def next_open(self, after: str | None, step: int = 1, coming: str | None = None) -> str | None:
        """The next face that is neither finished nor removed, from the start again at the end; None where all are finished.

        Args:
            after: From here.
            step: 1 or -1.
            coming: Taken if it is open, wherever it stands now: the page has its photograph already.
        """
        with self._lock:
            names, here = [*self._order], -1 if after is None else self._place.get(after, -1)
        if coming in self._place and coming != after and self._is_open(coming):
            return coming
        for turn in range(1, len(names) + 1):
            name = names[(here + step * turn) % len(names)]
            if name != after and self._is_open(name):
                return name
        return None

    def _is_open(self, name: str) -> bool:
        face = self._session.log.faces.get(name)
        return not (face and (face.done or face.removed))

    def without(self) -> list[str]:
        """Photographs on which no face was found, or each was removed."""
        faces = [*self._session.log.faces.values()]
        kept = {face.photo for face in faces if not face.removed}
        found = self._session.finder.found
        emptied = [
            face.photo
            for face in faces
            if face.removed
            and face.photo not in kept
            and all(self._removed(name) for name in (found[face.photo].boxes if face.photo in found else ()))
        ]
        return [*dict.fromkeys([*self._bare, *emptied])]

    def _removed(self, name: str) -> bool:
        face = self._session.log.faces.get(name)
        return face is not None and face.removed

    def summary(self) -> dict[str, Any]:
        """How many there are."""
        removed = sum(face.removed for face in [*self._session.log.faces.values()])
        faults = [*self._faults]
        own = {"faces": len(self._order) - removed, "ordering_pct": self.ordering_pct}
        return {**own, "faults": faults[:20], "broken": len(faults), "without": len(self.without())}
