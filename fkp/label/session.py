"""One labelling of one set: what the page asks and does, without HTTP."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fkp.bundle import Bundle, open_bundle
from fkp.data import label_set
from fkp.errors import FkpError, missing_extra
from fkp.label import changes, set_writer, statistics, worth
from fkp.label.adapting import Adapting
from fkp.label.changed import Before, keep, kept, most_changed
from fkp.label.face import Face
from fkp.label.finder import Box, Finder
from fkp.label.guessing import SURE_PCT, Guessing
from fkp.label.imported import Imported
from fkp.label.log import Conflict, Log, Taken
from fkp.label.photos import Photos, face_id, is_second, photo_id, second_id, share_of
from fkp.label.queue import Queue
from fkp.label.set_writer import Writer
from fkp.scheme import Scheme

#: Faces of which those that changed most are shown: of more an even part, for the page waits.
_COMPARED = 5000


class Session:
    """A labelling that is open.

    Args:
        photos: What is labelled.
        out: The set; its folder is there, and nobody else has it open.
        log: Its log.
        bundle: The model.
        model: The same as it was named.
        imported: Labels of another tool that are to be corrected.
        sure_pct: A point whose expected error is less, in percent of the face's size, is not asked for; nor is one that the model has
            as near as a person is to himself, once some faces were labelled twice.
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
        self._before: Before | None = None
        if log.models and log.models[-1].name == model:
            self.adapting.resume(Path(model))
            self._before = kept(out, model, len(log.scheme))
        self._lock = threading.RLock()
        self._lost: list[str] = []
        self._unusable: list[str] = []
        self._faults: dict[tuple[str, int], str | None] = {}
        self._writing = threading.Lock()  # A page that adapts, and the thread that writes when it is quiet.
        self._judged = ""
        self._told: tuple[int, int, dict[str, Any], str] | None = None
        names = [*photos.paths, *(face.photo for face in log.faces.values())]
        self.photo_names = {photo_id(name): name for name in names}
        self.strange: dict[str, float] = {}
        self._take(bundle)
        self._writer = Writer(self.write)
        if imported is not None:
            threading.Thread(target=self._judge, args=(imported,), name="judge", daemon=True).start()

    def close(self) -> None:
        """Write the set and end all that runs."""
        self.adapting.stop()
        self.finder.stop()
        self._writer.close()
        self.log.close()

    def _take(self, bundle: Bundle) -> None:
        """Guess with a model from now on."""
        self.finder = Finder(self.photos, self.out, bundle, self._boxes_of, detect=self.imported is None)
        self.guessing = Guessing(self.scheme, bundle, self.finder, worth.sure_pct(self.log.faces, self.scheme, self.sure_pct))
        self.queue = Queue(self)
        self.finder.told = self.queue.take_in
        self.finder.start()

    # --- faces

    def _boxes_of(self, photo: str) -> Mapping[str, Box]:
        """Faces of a photograph that the model is told of, by their boxes: not those that it finds itself, for what the log has seen
        may be tight around the landmarks of another model.
        """
        found = self.finder.found.get(photo)
        itself = found.boxes if found else {}
        with self._lock:
            faces = [face for face in self.log.faces.values() if face.photo == photo]
        own = {face.id: face.box or face.seen for face in faces if face.box or face.id not in itself}
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

    def _found_box(self, face: Face) -> Box:
        """Where the model of now has found a face; what the log has seen where it has not."""
        found = self.finder.found.get(face.photo)
        return (found.boxes if found else {}).get(face.id, face.seen)

    def is_blind(self, face: Face) -> bool:
        """Whether a face is labelled without guesses."""
        return is_second(face.id) or (self.imported is None and share_of(face.id) < self.log.blind)

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
                self.finder.look_at(face.photo, name, self.photos.read(face.photo, self.out))
        blind = self.is_blind(face)
        own = {
            "id": face.id,
            "photo": face.photo,
            "box": face.box or self._found_box(face),
            "group": face.group or "",
            "done": face.done,
            "removed": face.removed,
            "version": face.version,
            "last": self.log.last,
            "blind": blind,
            "can_undo": self.log.can_undo,
            "can_redo": self.log.can_redo,
        }
        return {**own, **self.guessing.to_json(face, blind and not face.done, moved)}

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
            found = self.finder.found.get(face.photo)
            change = changes.of_points(face, points, done, self.guessing, self.is_blind(face), found.size if found else None)
            return self._change(face, version, do, change, points)

    def tell(self, name: str, version: int, do: str, change: dict[str, Any]) -> dict[str, Any]:
        """Change box, group, or whether a face is finished or removed; see `set_points`."""
        with self._lock:
            answer = self._change(self.known(name), version, do, change)
        if "box" not in change:
            return answer
        face = self.known(name)
        with contextlib.suppress(FkpError):
            self.finder.look_at(face.photo, name, self.photos.read(face.photo, self.out), face.box)
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
        self._heed(face.id)
        return self.face(face.id, moved)

    def _heed(self, face: str) -> None:
        """A face has changed: the set is written, and one that was labelled twice may have told how sure a person is."""
        self._writer.changed()
        if is_second(face) or second_id(face) in self.log.faces:
            self.guessing.sure_pct = worth.sure_pct(self.log.faces, self.scheme, self.sure_pct)

    def undo(self, last: int, redo: bool = False) -> dict[str, Any] | None:
        """Take back the last command, or do it again; the face that it was about, None where there is none."""
        with self._lock:
            face = self.log.redo(last) if redo else self.log.undo(last)
            if face is None:
                return None
            self._heed(face)
            return self.face(face)

    # --- the set

    def labels(self) -> label_set.LabelSet:
        """The set as it is now."""
        with self._lock:
            faces = [face for face in self.log.faces.values() if worth.counts(face)]
        for face in faces:
            if (face.id, face.version) not in self._faults:
                self._faults[face.id, face.version] = set_writer.fault_of(face, self.scheme)
        faults = {face.id: fault for face in faces if (fault := self._faults[face.id, face.version])}
        self._unusable = [f"the face on {face.photo} is not in the set: {faults[face.id]}" for face in faces if face.id in faults]
        faces = [face for face in faces if face.id not in faults]
        prints = {name: found.print for name, found in [*self.finder.found.items()] if found.print is not None}
        return set_writer.labels_of(faces, self.scheme, prints, [face.id for face in faces if self.is_blind(face)])

    def write(self) -> None:
        """Write the set; what goes wrong is a warning on the page, for the log has everything."""
        with self._writing:
            try:
                self._lost = set_writer.write_set(self.out, self.labels(), self.photos)
            except FkpError as error:
                self._lost = [str(error)]

    def _judge(self, imported: Imported) -> None:
        """Order imported labels anew, by models that have not seen them; until then the session's own model judges."""
        try:
            self.strange = imported.strangeness(self.model)
        except (FkpError, ModuleNotFoundError) as error:
            why = missing_extra(error.name, "train") if isinstance(error, ModuleNotFoundError) else str(error)
            self._judged = f"the order is that of this model alone, which may have seen the labels: {why or error}"
        else:
            self.queue.rank()

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
        folder = set_writer.write_part(self.out, set_writer.chosen(labels, rows))
        number = 1
        while (place := self.out.with_name(f"{self.out.name}-model-{number}")).exists():
            number += 1
        self.adapting.start(folder, self.model, place, self._adapted, ways)

    def _adapted(self) -> None:
        place = self.adapting.out
        assert place is not None
        keep(self.out, str(place), self.guessing)
        self.finder.stop()
        report = self.adapting.report or {}
        before = report["before"] and report["before"]["nme_pct"]
        with self._lock:
            self.log.take_model(Taken(str(place), report["faces"], before, report["after"]["nme_pct"]))
            self.model, self._before = str(place), self.guessing.guess
            self._take(open_bundle(place))

    def changed(self) -> list[dict[str, Any]]:
        """The faces that the last adaptation has changed most, as far as the new model has looked at them; see `most_changed`."""
        if self._before is None:
            return []
        names = self.queue.some(_COMPARED)
        faces = [face for face in map(self.known, names) if not face.removed and not (self.is_blind(face) and not face.done)]
        return most_changed(faces, self._before, self.guessing)

    def summary(self) -> dict[str, Any]:
        """What the page says of the whole."""
        faces = [*self.log.faces.values()]
        now = self.log.last, self.finder.looked
        if self._told is None or self._told[:2] != now:  # The page asks each second, and nothing may wait for it.
            measured = statistics.figures(faces, self.scheme, self.is_blind, self.guessing.errors.circle_90)
            self._told = *now, measured, worth.sentence(self.log, self.queue.stated_pct(), self.scheme, self.is_blind)
        measured, worth_text = self._told[2:]
        trouble = [said for said in (self.finder.trouble, self._judged) if said]
        return {
            "out": str(self.out),
            "model": self.model,
            "photos": len(self.photos.paths),
            "looked": min(self.finder.looked, len(self.photos.paths)),
            "done": sum(face.done and not face.removed for face in faces),
            "last": self.log.last,
            "warnings": [*self.photos.faults.values(), *self._lost, *self._unusable, *trouble, *statistics.warnings(measured)],
            "statistics": measured,
            "adapting": self.adapting.to_json(),
            "serve": f"fkp serve --bundle {self.model}",
            "forecast": worth_text,
            **self.queue.summary(),
        }
