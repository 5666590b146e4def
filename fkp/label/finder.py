"""A model that looks at photographs in the background: which faces are there, and what it guesses of each."""

from __future__ import annotations

import base64
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fkp.bundle import Bundle
from fkp.errors import FkpError
from fkp.label.photos import Cache, Found, Photos, around, face_id, stamp_of
from fkp.predict import Face, Predictor
from fkp.vision.detect import iou
from fkp.vision.fingerprint import fingerprint
from fkp.vision.image import Image, decode_image, read_bytes

Box = tuple[float, float, float, float]
#: Boxes of one face overlap at least so much (intersection over union), also around the points of schemes with and without a jaw.
_SAME_FACE = 0.2
#: Priority (niceness) of the search while somebody labels.
_BEHIND = 10


@dataclass(frozen=True)
class Guess:
    """What a model says of one face.

    Attributes:
        points_px: (K, 2) in its own scheme, in pixels of the photograph.
        error_px: (K,) expected error.
    """

    points_px: np.ndarray
    error_px: np.ndarray

    @classmethod
    def of(cls, row: str) -> Guess:
        """As it stands in the file of a model's guesses."""
        told = np.frombuffer(base64.b64decode(row), "<f4").reshape(-1, 3).astype(np.float64)
        return cls(told[:, :2], told[:, 2])


class Finder:
    """Looks at all photographs once, and at single faces when asked.

    Args:
        photos: What to look at.
        out: Where to keep what was found.
        bundle: The model.
        boxes: Further faces of a photograph: those that people have drawn, and those of an imported set.
        detect: Whether to look for faces; else those of `boxes` are all.

    Attributes:
        found: What is known of each photograph that was looked at.
        told: Called after each photograph.
    """

    def __init__(self, photos: Photos, out: Path, bundle: Bundle, boxes: Callable[[str], Mapping[str, Box]], detect: bool = True) -> None:
        self.photos, self.bundle, self.scheme = photos, bundle, bundle.config.scheme
        self.told: Callable[[str], None] = lambda photo: None
        self._boxes, self._detect = boxes, detect
        self._found, self._guesses = Cache(out / "found.jsonl"), Cache(out / f"guesses-{bundle.digest[:16]}.jsonl")
        self.found: dict[str, Found] = {}
        for name, row in self._found.rows.items():
            if name in photos.paths:
                self.found[name] = Found.of(row)
        self._predictor = Predictor(bundle)
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self.trouble = ""
        self.looked = 0

    def start(self) -> None:
        """Begin to look, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="finder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, after the photograph that is looked at."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def ending(self) -> bool:
        """Whether it was told to stop."""
        return self._ended.is_set()

    @property
    def ready(self) -> bool:
        """Whether all photographs were looked at."""
        return self.looked >= len(self.photos.paths)

    @property
    def guesses_file(self) -> Path:
        """Where the guesses are kept."""
        return self._guesses.path

    def guess(self, face: str) -> Guess | None:
        """What the model says of a face; None where it has not been asked."""
        row = self._guesses.rows.get(face)
        if row is None:
            return None
        return Guess.of(row)  # Kept as text: a hundred thousand faces are 100 MB so, and in lists of numbers ten times as much.

    def look_at(self, photo: str, face: str, data: bytes, box: Box | None = None) -> Guess:
        """Ask the model about a face.

        Args:
            photo: Its photograph.
            face: Its name.
            data: Of the photograph.
            box: Where a person has just drawn it; by default where it is known to be.

        Raises:
            FkpError: The photograph cannot be decoded.
            KeyError: There is no such face on it.
        """
        image = decode_image(data, photo)
        known = self.found.get(photo)
        if box is None and known is not None and self._is_moved(known):
            self._find(photo, image, known.stamp, known.boxes)
            if found := self.guess(face):
                return found
        if box is None:
            box = self._given(photo)[face]
        with self._lock:
            (answer,) = self._predictor(image, [np.array(box, np.float32)])
        return self._keep(face, answer.points_px, answer.expected_error_px)

    def _run(self) -> None:
        behind = sys.platform != "linux"  # Elsewhere a thread has no priority of its own.
        for name, path in self.photos.paths.items():
            if self._ended.is_set():
                return
            if self._guesses.rows and not behind:  # Whoever labels waits for the first face, but not for the next photographs.
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _BEHIND)
                behind = True
            try:
                self._look(name, path)
            except FkpError as error:
                self.found[name] = Found((0, 0), fault=str(error))
            except OSError as error:
                self.trouble = f"what the model finds is not kept: {error.strerror or error}: free some space"
                print(f"warning: {self.trouble}", file=sys.stderr)
            self.looked += 1
            self.told(name)

    def _look(self, name: str, path: Path) -> None:
        stamp, known = stamp_of(path), self.found.get(name)
        fresh = known is None or known.stamp != stamp
        if (
            known is not None
            and not fresh
            and (known.fault or (not self._is_moved(known) and all(self.guess(face) is not None for face in self._given(name))))
        ):
            return
        try:
            image = decode_image(read_bytes(path), name)
        except FkpError as error:
            self.found[name] = Found(stamp, fault=str(error))
            self._found.put(name, self.found[name].to_json())
            return
        if known is None or fresh:
            self._find(name, image, stamp, {})
        elif self._is_moved(known):
            self._find(name, image, stamp, known.boxes)
        missing = {face: box for face, box in self._given(name).items() if self.guess(face) is None}
        if missing:
            with self._lock:
                faces = self._predictor(image, [np.array(box, np.float32) for box in missing.values()])
            for name_of, answer in zip(missing, faces, strict=True):
                self._keep(name_of, answer.points_px, answer.expected_error_px)

    def _is_moved(self, known: Found) -> bool:
        """Whether the boxes are tight around landmarks that are not this model's: it would see another part of each face."""
        return self._detect and not known.fault and known.around not in ("", around(self.scheme))

    def _given(self, photo: str) -> dict[str, Box]:
        """All faces of a photograph: what a person has drawn counts more than what was found."""
        known = self.found.get(photo)
        return {**(known.boxes if known else {}), **self._boxes(photo)}

    def _find(self, name: str, image: Image, stamp: tuple[int, int], known: Mapping[str, Box]) -> None:
        """Look for the faces of a photograph; those that are known already keep their names, and are not lost where they are missed."""
        faces: list[Face] = []
        if self._detect:
            with self._lock:
                faces = self._predictor(image)
        names = _names(name, [face.box_xyxy for face in faces], known)
        boxes = {**known} | {one: _box(face.box_xyxy) for one, face in zip(names, faces, strict=True)}
        own = Found(stamp, (image.shape[1], image.shape[0]), fingerprint(image), boxes, around=around(self.scheme))
        self.found[name] = own
        drawn = self._boxes(name)
        for one, face in zip(names, faces, strict=True):
            if one not in drawn:
                self._keep(one, face.points_px, face.expected_error_px)
        self._found.put(name, own.to_json())

    def _keep(self, face: str, points_px: np.ndarray, error_px: np.ndarray) -> Guess:
        told = np.column_stack([points_px, error_px]).astype("<f4")
        self._guesses.put(face, base64.b64encode(told.tobytes()).decode())
        guess = self.guess(face)
        assert guess is not None
        return guess


def _names(photo: str, found: Sequence[np.ndarray], known: Mapping[str, Box]) -> list[str]:
    """A name of each box that was found: that of the known one which it overlaps most, or a new one."""
    left, names = dict(known), []
    number = 1 + max((int(name.rpartition("-")[2]) for name in known), default=-1)
    for box in found:
        overlap = {name: float(iou(box, np.array(other, np.float32))) for name, other in left.items()}
        best = max(overlap, key=lambda name: overlap[name], default=None)
        if best is None or overlap[best] < _SAME_FACE:
            best, number = face_id(photo, number), number + 1
        left.pop(best, None)
        names.append(best)
    return names


def _box(box_xyxy: np.ndarray) -> Box:
    x0, y0, x1, y1 = (round(float(value), 2) for value in box_xyxy)
    return x0, y0, x1, y1
