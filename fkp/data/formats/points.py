"""In which scheme faces are labelled, and which of their points is which of its landmarks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from fkp.data.formats.registry import Face, Format
from fkp.errors import FkpError
from fkp.scheme import Scheme, built_in, load_scheme

_NUMBER = re.compile(r"\D*(\d{1,4})")


class Placement:
    """Where the points of faces stand in a scheme.

    Args:
        faces: All of what is imported.
        format_: Theirs.
        asked: Name or file of the scheme; None: a built-in one that has their names, or as many points.

    Attributes:
        scheme: Theirs.
        how: In words, how the points are known.

    Raises:
        FkpError: There is no such scheme, or no built-in one fits.
    """

    def __init__(self, faces: Sequence[Face], format_: Format, asked: str | None) -> None:
        self._ordered = format_.ordered
        self._names = list(dict.fromkeys(name for names in {face.names for face in faces if face.names} for name in names))
        self._count = Counter(len(face.points) for face in faces).most_common(1)[0][0]
        numbers = [_NUMBER.fullmatch(name) for name in self._names]
        stems = {name[: match.start(1)] for name, match in zip(self._names, numbers, strict=True) if match}
        self._numbers: dict[str, int] = {}
        if self._names and all(numbers) and len(stems) == 1:
            self._numbers = {name: int(match[1]) for name, match in zip(self._names, numbers, strict=True) if match}
        schemes = [load_scheme(asked)] if asked else sorted(map(load_scheme, built_in()), key=len)
        found = next(((scheme, how) for scheme in schemes if (how := self._fits(scheme))), None)
        if found is None:
            raise FkpError(self._no_scheme(schemes[0] if asked else None))
        self.scheme, self.how = found
        self._places: dict[tuple[str, ...], np.ndarray] = {}

    def __call__(self, face: Face) -> tuple[np.ndarray, np.ndarray] | str:
        """(K, 2) points and (K,) visible of a face in the scheme's order, in the file's coordinates; or what is wrong with it."""
        count = len(self.scheme)
        if face.names is None or self.how == _BY_PLACE:
            if len(face.points) != count:
                return f"{len(face.points)} points and not the {count} of {self.scheme.name}: correct it, or name its --scheme"
            places = np.arange(count)
        elif len(face.points) != len(face.names):
            return f"{len(face.points)} points and not the {len(face.names)} that the file names: correct or remove it"
        else:
            if face.names not in self._places:
                self._places[face.names] = np.array([self._place(name) for name in face.names])
            places = self._places[face.names]
            if len(np.unique(places)) != len(places):
                return "a point stands twice: correct or remove it"
        points, visible = np.full((count, 2), np.nan), np.zeros(count, bool)
        points[places] = face.points
        visible[places] = True if face.visible is None else face.visible
        return points, visible & np.isfinite(points).all(-1)

    def _fits(self, scheme: Scheme) -> str | None:
        """How the points are known in a scheme; None where they are not."""
        if not self._names:
            return _BY_PLACE if self._count == len(scheme) else None
        landmarks = {_plain(name): place for place, name in enumerate(scheme.landmarks)}
        if all(_plain(name) in landmarks for name in self._names):
            self._known = {name: landmarks[_plain(name)] for name in self._names}
            return _BY_NAME
        if self._numbers:
            # Counted from 0 or from 1; the first or the last number tells.
            first = 0 if min(self._numbers.values()) == 0 or max(self._numbers.values()) < len(scheme) else 1
            if max(self._numbers.values()) - first == len(scheme) - 1:
                self._known = {name: number - first for name, number in self._numbers.items()}
                return f"by their numbers from {first}"
        return _BY_PLACE if self._ordered and self._count == len(scheme) == len(self._names) else None

    def _place(self, name: str) -> int:
        return self._known[name]

    def _no_scheme(self, asked: Scheme | None) -> str:
        names = f" ({', '.join(self._names[:3])}{', ...' if len(self._names) > 3 else ''})" if self._names else ""
        if asked is None:
            have = ", ".join(f"{scheme.name} {len(scheme)}" for scheme in map(load_scheme, built_in()))
            return (
                f"no built-in scheme has {self._count} points{names}: describe yours in a YAML file and name it with --scheme; "
                f"the built-in ones have {have}"
            )
        other = next((name for name in self._names if _plain(name) not in set(map(_plain, asked.landmarks))), None)
        if other is not None and not self._numbers and self._count <= len(asked):
            return f"point {other} is no landmark of scheme {asked.name}: call the points as the scheme does, or name another --scheme"
        return (
            f"the labels have {self._count} points a face{names}, and scheme {asked.name} has {len(asked)}: name their scheme with --scheme"
        )


_BY_NAME = "by their names"
_BY_PLACE = "by their order"


def _plain(name: str) -> str:
    return re.sub(r"[\s\-.]+", "_", name.strip().lower())
