"""One labelling of one set: what the page asks and does, without HTTP."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fkp.bundle import Bundle, open_bundle
from fkp.data import label_set
from fkp.errors import FkpError
from fkp.label import doubts, set_writer, statistics, worth
from fkp.label.adapting import Adapting
from fkp.label.finder import Box, Finder, Guess
from fkp.label.forecast import forecast
from fkp.label.imported import Imported
from fkp.label.log import Conflict, Face, How, Log, Point, Taken
from fkp.label.photos import Photos, face_id, is_second, photo_id, second_id, share_of
from fkp.label.posterior import Errors
from fkp.label.queue import Queue
from fkp.scheme import Scheme

#: Default of `sure_pct`. The shipped model states 2 to 5 % of nearly all points; a person is off by about 1 %.
SURE_PCT = 3.0
#: The set is written this long after the last change, and the longer the more it holds.
_QUIET_S = 1.0
_SHARE = 10


class Session:
    """A labelling that is open.

    Args:
        photos: What is labelled.
        out: The set; its folder is there, and nobody else has it open.
        log: Its log.
        bundle: The model.
        model: The same as it was named.
        imported: Labels of another tool that are to be corrected.
        sure_pct: A point whose expected error is less, in percent of the face's size, is not asked for.
    """

    def __init__(
        self,
        photos: Photos,
        out: Path,
        log: Log,
        bundle: Bundle,
        model: str,
        imported: Imported | None = None,
        sure_pct: float = SURE_PCT,
    ) -> None:
        self.photos, self.out, self.log, self.model, self.imported, self.sure_pct = photos, out, log, model, imported, sure_pct
        self.scheme: Scheme = log.scheme
        self.adapting = Adapting()
        self.warnings: list[str] = [*photos.faults.values()]
        self._lock = threading.RLock()
        self._told: tuple[int, int, dict[str, Any], str] | None = None
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._write_when_quiet, name="set", daemon=True)
        names = [*photos.paths, *(face.photo for face in log.faces.values())]
        self.photo_names = {photo_id(name): name for name in names}
        self._take(bundle)
        self._writer.start()

    def close(self) -> None:
        """Write the set and end all that runs."""
        self.adapting.stop()
        self.finder.stop()
        self._ended.set()
        self._changed.set()
        self._writer.join()
        self.log.close()

    def _take(self, bundle: Bundle) -> None:
        """Guess with a model from now on."""
        self.bundle, self.errors = bundle, Errors.of(bundle)
        self.places = self.scheme.places_in(bundle.config.scheme)
        self.finder = Finder(self.photos, self.out, bundle, self._boxes_of, detect=self.imported is None)
        self.queue = Queue(self)
        self.finder.told = self.queue.take_in
        self._changed.set()
        self.finder.start()

    # --- faces

    def _boxes_of(self, photo: str) -> Mapping[str, Box]:
        """Faces of a photograph that the model is told of, by their boxes."""
        with self._lock:
            own = {face.id: face.box or face.seen for face in self.log.faces.values() if face.photo == photo}
        return {**(self.imported.boxes.get(photo, {}) if self.imported else {}), **own}

    def known(self, face: str) -> Face:
        """A face as a person has left it.

        Raises:
            KeyError: There is none of this name.
        """
        with self._lock:
            if face in self.log.faces:
                return self.log.faces[face]
        if self.imported and face in self.imported.faces:
            return self.imported.faces[face]
        photo = self.queue.photo_of(face)
        return Face(face, photo, self.finder.found[photo].boxes[face])

    def is_blind(self, face: Face) -> bool:
        """Whether a face is labelled without guesses."""
        return is_second(face.id) or (self.imported is None and share_of(face.id) < self.log.blind)

    def guess(self, face: Face) -> Guess | None:
        """The model's own guess, in the scheme of the labels: NaN for points that it does not have."""
        own = self.finder.guess(face.id)
        if own is None:
            return None
        points, error = np.full((len(self.scheme), 2), np.nan), np.full(len(self.scheme), np.nan)
        for place, theirs in self.places.items():
            points[place], error[place] = own.points_px[theirs], own.error_px[theirs]
        return Guess(points, error)

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
        size_px = float(self.bundle.config.scheme.size_px(own.points_px))
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
        points, error = np.full((len(self.scheme), 2), np.nan), np.full(len(self.scheme), np.nan)
        for place, their in self.places.items():
            points[place], error[place] = after_px[their], 2 * after_scale[their]
        return Guess(points, error), None if following is None else theirs[following]

    def face(self, name: str, moved: Iterable[int] = ()) -> dict[str, Any]:
        """A face as the page shows it.

        Args:
            name: Of the face.
            moved: Numbers of points that were just set.

        Raises:
            KeyError: There is none of this name.
            FkpError: The model has to look at it, and its photograph is gone or broken.
        """
        face = self.known(name)
        if self.finder.guess(name) is None:
            with contextlib.suppress(FkpError):  # It can be labelled all the same, and the photograph's own request says what is wrong.
                self.finder.look_at(face.photo, name, face.box or face.seen, self.photos.read(face.photo, self.out))
        blind = self.is_blind(face)
        guess, following = self.informed(face)
        hidden = blind and not face.done
        points = [self._point(face, place, None if hidden else guess) for place in range(len(self.scheme))]
        size_px = self._size_px(face)
        open_points = [place for place, point in enumerate(points) if point["how"] is None]
        review = [place for place in open_points if points[place]["r"] is None or 100 * points[place]["r"] / size_px > self.sure_pct]
        review += [place for place, point in enumerate(points) if point["how"] == "imported" and _apart(point) > statistics.CIRCLE_90]
        if hidden:
            following = review[0] if review else None
        elif following is None or following not in review:
            following = max(review, key=lambda place: (_apart(points[place]), points[place]["r"] or math.inf)) if review else None
        return {
            "id": face.id,
            "photo": face.photo,
            "box": face.box or face.seen,
            "size_px": size_px,
            "group": face.group or "",
            "done": face.done,
            "removed": face.removed,
            "version": face.version,
            "last": self.log.last,
            "blind": blind,
            "points": points,
            "open": len(open_points),
            "review": review,
            "next": following,
            "sure_pct": self.sure_pct,
            "question": None if hidden else self._question(face, moved),
            "can_undo": self.log.can_undo,
            "can_redo": self.log.can_redo,
        }

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

    def _size_px(self, face: Face) -> float:
        """What errors are divided by; the box's diagonal where the points do not tell."""
        guess = self.guess(face)
        size = math.nan if guess is None else float(self.scheme.size_px(guess.points_px))
        x0, y0, x1, y1 = face.box or face.seen
        return size if size > 0 else math.hypot(x1 - x0, y1 - y0)

    # --- commands

    def set_points(
        self, name: str, version: int, do: str, points: Mapping[int, tuple[float, float, str] | None], done: bool
    ) -> dict[str, Any]:
        """Set points by their numbers; None forgets what was said of one.

        Args:
            name: Of the face.
            version: That the page knows.
            do: In a word, for the log.
            points: x, y and state.
            done: Whether the face is finished with that, and all other points are right where they are.

        Raises:
            KeyError: There is no such face or point.
            Conflict: Another window has changed it.
            FkpError: It cannot be saved, or the face cannot be finished.
        """
        with self._lock:
            face = self.known(name)
            guess = self.guess(face)
            told: dict[str, list[Any] | None] = {}
            for place, value in points.items():
                at = self._had(guess, place)
                said = None if value is None else Point(value[0], value[1], value[2], "set", at).to_json()  # type: ignore[arg-type]
                told[self.scheme.landmarks[place]] = said
            change: dict[str, Any] = {"points": told} if told else {}
            if done:
                change["done"] = True
                change["points"] = told | self._accepted(face, told, guess)
            return self._change(face, version, do, change, points)

    def _accepted(self, face: Face, told: Mapping[str, Any], guess: Guess | None) -> dict[str, list[Any]]:
        """The points that nobody has touched, where the page shows them.

        Raises:
            FkpError: One is shown nowhere.
        """
        informed, _ = self.informed(face)
        left = [place for place, landmark in enumerate(self.scheme.landmarks) if landmark not in face.points and landmark not in told]
        if not left:
            return {}
        if self.is_blind(face) or informed is None:
            raise FkpError(f"{len(left)} points are to be set, or marked as not labelled, before this face is finished")
        accepted = {}
        for place in left:
            x, y = informed.points_px[place]
            if not (math.isfinite(x) and math.isfinite(y)):
                raise FkpError(f"{self.scheme.landmarks[place]} is to be set, or marked as not labelled, before this face is finished")
            how: How = "accepted"
            point = Point(round(float(x), 3), round(float(y), 3), "visible", how, self._had(guess, place))
            accepted[self.scheme.landmarks[place]] = point.to_json()
        return accepted

    @staticmethod
    def _had(guess: Guess | None, place: int) -> tuple[float, float, float] | None:
        if guess is None or not np.isfinite(guess.points_px[place]).all():
            return None
        (x, y), error = guess.points_px[place], guess.error_px[place]
        return round(float(x), 3), round(float(y), 3), round(float(error), 3)

    def tell(self, name: str, version: int, do: str, change: dict[str, Any]) -> dict[str, Any]:
        """Change box, group, or whether a face is finished or removed; see `set_points`."""
        with self._lock:
            answer = self._change(self.known(name), version, do, change)
        if "box" not in change:
            return answer
        face = self.known(name)
        with contextlib.suppress(FkpError):
            self.finder.look_at(face.photo, name, face.box or face.seen, self.photos.read(face.photo, self.out))
        return self.face(name)

    def add(self, photo: str, box: Box) -> dict[str, Any]:
        """A face that the model has not found.

        Raises:
            KeyError: There is no such photograph.
            FkpError: It cannot be saved.
        """
        if photo not in self.photos.paths:
            raise KeyError(photo)
        face = Face(face_id(photo, 0)[:-1] + uuid.uuid4().hex[:8], photo, box, drawn=True)
        with self._lock:
            self.queue.insert(face.id, photo)
            return self._change(face, 0, "add", {"box": list(box)})

    def again(self, name: str) -> dict[str, Any]:
        """A finished face once more, with everything hidden: how far two labels are apart tells how sure a person is.

        It is part of no set.

        Raises:
            KeyError: There is no such face.
            FkpError: It is not finished, or it cannot be saved.
        """
        face = self.known(name)
        if not face.done or is_second(name):
            raise FkpError("only a face that is finished is labelled again: accept it first")
        second = Face(second_id(name), face.photo, face.box or face.seen, drawn=True)
        if second.id in self.log.faces:
            return self.face(second.id)
        with self._lock:
            self.queue.insert(second.id, face.photo)
            return self._change(second, 0, "again", {"box": list(second.seen)})

    def _change(self, face: Face, version: int, do: str, change: dict[str, Any], moved: Iterable[int] = ()) -> dict[str, Any]:
        if version != face.version:
            raise Conflict
        self.log.change(face, do, change)
        self._changed.set()
        return self.face(face.id, moved)

    def undo(self, last: int, redo: bool = False) -> dict[str, Any] | None:
        """Take back the last command, or do it again; the face that it was about, None where there is none."""
        with self._lock:
            face = self.log.redo(last) if redo else self.log.undo(last)
            if face is None:
                return None
            self._changed.set()
            return self.face(face)

    # --- the set

    def _write_when_quiet(self) -> None:
        took_s = 0.0
        while not self._ended.is_set():
            self._changed.wait()
            self._changed.clear()
            self._ended.wait(max(_QUIET_S, _SHARE * took_s))
            began = time.monotonic()
            self.write()
            took_s = time.monotonic() - began

    def labels(self) -> label_set.LabelSet:
        """The set as it is now."""
        with self._lock:
            faces = [*self.log.faces.values()]
        prints = {name: found.print for name, found in [*self.finder.found.items()] if found.print is not None}
        return set_writer.labels_of(faces, self.scheme, prints, [face.id for face in faces if self.is_blind(face)])

    def write(self) -> None:
        """Write the set; what goes wrong is a warning on the page, for the log has everything."""
        try:
            told = set_writer.write_set(self.out, self.labels(), self.photos)
        except FkpError as error:
            told = [str(error)]
        self.warnings = [*self.photos.faults.values(), *told]

    def adapt(self, ways: tuple[str, ...] = ()) -> None:
        """Begin to adapt the model to all faces but those that were labelled blind.

        Raises:
            FkpError: There is nothing to adapt to, or one runs already.
        """
        self.write()
        labels = self.labels()
        rows = [row for row, subset in enumerate(labels.subsets) if subset != "test" and (self.out / labels.images[row]).is_file()]
        if not rows:
            raise FkpError("no face is finished: finish at least 10 faces first")
        folder = self.out / ".adapt"
        folder.mkdir(exist_ok=True)
        link = folder / label_set.IMAGES
        if not link.is_symlink():
            link.symlink_to(Path("..") / label_set.IMAGES)
        try:
            set_writer.write_labels(folder, set_writer.chosen(labels, rows))
        except OSError as error:
            raise FkpError(f"cannot write {folder}: {error.strerror or error}: free some space") from error
        number = 1
        while (place := self.out.with_name(f"{self.out.name}-model-{number}")).exists():
            number += 1
        self.adapting.start(folder, self.model, place, self._adapted, ways)

    def _adapted(self) -> None:
        place = self.adapting.out
        assert place is not None
        old = self.finder
        old.stop()
        report = self.adapting.report or {}
        before = report["before"] and report["before"]["nme_pct"]
        with self._lock:
            self.log.take_model(Taken(str(place), report["faces"] + report["faces_kept_aside"], before, report["after"]["nme_pct"]))
            self.model = str(place)
            self._take(open_bundle(place))

    def _forecast(self) -> str:
        """What the labels are worth and what more would bring, in words."""
        stated = self.queue.stated_pct()
        past = worth.history(self.log.models)
        since = self.log.models[-1].n if self.log.models else 0
        faces = [face for face in [*self.log.faces.values()] if face.version > since and worth.counts(face)]
        blind = [face for face in faces if self.is_blind(face)]
        pairs = worth.pairs(blind if len(blind) >= worth.LEAST_BLIND else faces, self.scheme)
        if not len(stated) and not pairs:
            return ""
        return forecast(stated, pairs, past, worth.twice_pct(self.log.faces, self.scheme)).text

    def summary(self) -> dict[str, Any]:
        """What the page says of the whole."""
        faces = [*self.log.faces.values()]
        if self._told is None or self._told[:2] != (
            self.log.last,
            self.finder.looked,
        ):  # The page asks each second, and nothing may wait for it.
            measured = statistics.told(faces, self.scheme, self.is_blind)
            self._told = self.log.last, self.finder.looked, measured, self._forecast()
        measured, said = self._told[2:]
        trouble = [self.finder.trouble] if self.finder.trouble else []
        return {
            "out": str(self.out),
            "model": self.model,
            "photos": len(self.photos.paths),
            "looked": min(self.finder.looked, len(self.photos.paths)),
            "done": sum(face.done and not face.removed for face in faces),
            "last": self.log.last,
            "warnings": [*self.warnings, *trouble, *statistics.warnings(measured)],
            "statistics": measured,
            "adapting": self.adapting.to_json(),
            "serve": f"fkp serve --bundle {self.model}",
            "forecast": said,
            **self.queue.summary(),
        }


def _apart(point: dict[str, Any]) -> float:
    """How far an imported point lies from the model's, in expected errors; 0 for one that is not compared."""
    x, y, error = point.get("ghost") or (point["x"], point["y"], 1.0)
    return 0.0 if x is None else math.hypot(point["x"] - x, point["y"] - y) / error
