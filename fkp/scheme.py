"""Landmark schemes: which points a face has, how they mirror, and what their errors are measured by. A scheme is data.

The built-in ones are the YAML files in `fkp/schemes`; `--data.scheme my.yaml` names another of the same form:

    name: my_points
    landmarks: [left_eye, right_eye, nose_tip]           # or their number: point_0, point_1 and so on
    pairs: [[left_wing, right_wing]]                     # that mirror, the viewer's left first; left_X and right_X do by their names
    regions: {eyes: [left_eye, right_eye], nose: [2]}    # for colours and tables: by name, number, or "first-last"
    groups: {inner: ["0-2"]}                             # further sets of landmarks with an error of their own
    edges: [[left_eye, nose_tip, right_eye]]             # lines to draw
    normaliser: {name: interocular, between: [left_eye, right_eye]}   # and `about`, in words; or `box`: the diagonal of the tight box
    yaw: [left_wing, right_wing, nose_tip]               # two ends and what moves between them when a head turns

Only `name` and `landmarks` are needed. Left and right are the viewer's. Where nothing is paired, no face is mirrored in training.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import yaml

from fkp.errors import FkpError

#: The built-in schemes.
FOLDER = Path(__file__).parent / "schemes"
DEFAULT = "ibug68"
#: Normaliser of a scheme that names no two landmarks.
BOX = "box"

_KEYS = {"name", "about", "landmarks", "pairs", "regions", "groups", "edges", "normaliser", "yaw"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_RANGE = re.compile(r"(\d+)-(\d+)")
_MOST = 1000


@dataclass(frozen=True)
class Scheme:
    """What a network's landmarks are.

    Attributes:
        name: In tables, metrics and bundles.
        landmarks: Name of each.
        pairs: Numbers of the landmarks that mirror, the viewer's left one first.
        regions: Name -> numbers; together they hold every landmark once.
        groups: Name -> numbers of further sets.
        edges: Pairs of numbers joined by a line when a face is drawn.
        normaliser: Name of the length that errors are divided by, part of each metric's key.
        between: The two landmarks whose distance that is; None: the diagonal of the tight box.
        normaliser_about: The same in words.
        yaw: The ends of a line across the face, and the landmark that moves along it when a head turns; None: not known.
        about: Origin.
    """

    name: str
    landmarks: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    regions: Mapping[str, tuple[int, ...]]
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    edges: tuple[tuple[int, int], ...] = ()
    normaliser: str = BOX
    between: tuple[int, int] | None = None
    normaliser_about: str = "diagonal of the box around the labelled points"
    yaw: tuple[int, int, int] | None = None
    about: str = ""

    def __len__(self) -> int:
        return len(self.landmarks)

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """`mirror[i]` is the landmark that takes the place of landmark i when the image is mirrored left to right."""
        place = list(range(len(self)))
        for left, right in self.pairs:
            place[left], place[right] = right, left
        return tuple(place)

    @cached_property
    def left(self) -> list[int]:
        """The landmarks of the viewer's left half that have a partner."""
        return [left for left, _ in self.pairs]

    @cached_property
    def right(self) -> list[int]:
        """Their partners, in the same order."""
        return [right for _, right in self.pairs]

    @property
    def nme_key(self) -> str:
        """Key of the normalised mean error: it names the normaliser and the unit."""
        return f"nme_{self.normaliser}_pct"

    @property
    def normaliser_text(self) -> str:
        """What errors are divided by, in words."""
        return f"{self.normaliser}: {self.normaliser_about}"

    def size_px(self, points_px: np.ndarray) -> np.ndarray:
        """What errors are divided by: (..., K, 2) points, NaN where one is missing, to (...) float64; NaN where it is not known."""
        points = np.asarray(points_px, np.float64)
        if self.between is not None:
            left, right = self.between
            return np.asarray(np.linalg.norm(points[..., left, :] - points[..., right, :], axis=-1))
        known = np.isfinite(points)
        sides = np.where(known, points, -np.inf).max(-2) - np.where(known, points, np.inf).min(-2)
        return np.asarray(np.linalg.norm(np.where(np.isfinite(sides), sides, np.nan), axis=-1))

    def find(self, names: Sequence[str]) -> list[int]:
        """Numbers of the landmarks of a region, a group or a name, `all` of them, without doubles, in their order.

        Raises:
            FkpError: There is none of that name.
        """
        found: set[int] = set()
        for name in names:
            if name == "all":
                found |= set(range(len(self)))
            elif name in self.landmarks:
                found.add(self.landmarks.index(name))
            elif places := self.regions.get(name) or self.groups.get(name):
                found |= set(places)
            else:
                raise FkpError(
                    f"scheme {self.name} has no landmark or region {name}: there are all, {', '.join([*self.regions, *self.groups])}"
                )
        return sorted(found)

    def places_in(self, other: Scheme) -> dict[int, int]:
        """Number of each landmark -> number of the one of the same name in another scheme, where there is one."""
        theirs = {name: place for place, name in enumerate(other.landmarks)}
        return {place: theirs[name] for place, name in enumerate(self.landmarks) if name in theirs}

    def convert(self, points_px: np.ndarray, source: Scheme) -> np.ndarray:
        """(..., K', 2) points of another scheme to (..., K, 2) of this one by their names; NaN where that one has none."""
        if source.landmarks == self.landmarks:
            return points_px
        out = np.full((*points_px.shape[:-2], len(self), 2), np.nan, points_px.dtype)
        places = self.places_in(source)
        out[..., list(places), :] = points_px[..., list(places.values()), :]
        return out

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON, which `load_scheme` reads back from text."""
        normaliser: Any = BOX
        if self.between is not None:
            normaliser = {"name": self.normaliser, "between": list(self.between), "about": self.normaliser_about}
        plain: dict[str, Any] = {"name": self.name, "landmarks": list(self.landmarks), "pairs": [list(pair) for pair in self.pairs]}
        plain |= {"regions": {name: list(places) for name, places in self.regions.items()}}
        plain |= {"groups": {name: list(places) for name, places in self.groups.items()}}
        plain |= {"edges": [list(edge) for edge in self.edges], "normaliser": normaliser}
        return plain | ({"yaw": list(self.yaw)} if self.yaw else {}) | ({"about": self.about} if self.about else {})


@cache
def built_in() -> list[str]:
    """Names of the schemes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_scheme(value: str) -> Scheme:
    """A scheme by the name of a built-in one, by its file, or from its own JSON text.

    Raises:
        FkpError: There is none of this name, or the file says something that is no scheme; one sentence tells what.
    """
    if value.lstrip().startswith("{"):
        return _parse(value, "the scheme", json.loads)
    if value in built_in():
        return _shipped(value)
    path = Path(value)
    if path.suffix not in (".yaml", ".yml", ".json"):
        raise FkpError(f"unknown scheme {value}: built in are {', '.join(built_in())}; another one is a YAML file")
    try:
        return _parse(path.read_text(encoding="utf-8"), str(path), yaml.safe_load)
    except (OSError, UnicodeDecodeError) as error:
        raise FkpError(f"cannot read scheme {path}: {getattr(error, 'strerror', None) or error}") from error


@cache
def _shipped(name: str) -> Scheme:
    path = FOLDER / f"{name}.yaml"
    return _parse(path.read_text(encoding="utf-8"), str(path), yaml.safe_load)


def as_setting(value: str) -> str:
    """What a Config keeps of a scheme: the name of a built-in one, and of any other all that is in its file, as JSON text.

    A Config travels to machines that do not have the file.

    Raises:
        FkpError: See `load_scheme`.
    """
    if value in built_in():
        return value
    scheme = load_scheme(value)
    if scheme.name in built_in() and scheme != load_scheme(scheme.name):
        raise FkpError(f"the scheme calls itself {scheme.name}, which is another one: give it a name of its own")
    return scheme.name if scheme.name in built_in() else json.dumps(scheme.to_json(), sort_keys=True)


@lru_cache(maxsize=64)  # By what is in the file, which may change.
def _parse(text: str, where: str, read: Callable[[str], Any]) -> Scheme:
    try:
        fields = read(text)
    except (yaml.YAMLError, ValueError) as error:
        raise FkpError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(fields, dict) or not {"name", "landmarks"} <= fields.keys():
        raise FkpError(f"{where} is no scheme: it must say at least its `name` and its `landmarks`")
    if unknown := sorted(map(str, fields.keys() - _KEYS)):
        raise FkpError(f"{where}: unknown key {unknown[0]}: a scheme has {', '.join(sorted(_KEYS))}")
    return _Reader(fields, where).scheme()


class _Reader:
    """The fields of a scheme's file, checked; every fault is one sentence that names the file."""

    def __init__(self, fields: dict[str, Any], where: str) -> None:
        self.fields, self.where = fields, where
        self.landmarks = self._names()
        self.place = {name: place for place, name in enumerate(self.landmarks)}

    def scheme(self) -> Scheme:
        name = self.fields["name"]
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            self._refuse(f"the name {name!r} is none: letters, digits and _ are possible")
        normaliser = self._normaliser()
        yaw = self._numbers(self.fields["yaw"], "yaw") if self.fields.get("yaw") is not None else None
        if yaw is not None and len(set(yaw)) != 3:
            self._refuse("yaw needs three landmarks: two ends of a line across the face and what moves along it")
        return Scheme(
            name=name,
            landmarks=self.landmarks,
            pairs=self._pairs(),
            regions=self._regions(),
            groups=self._sets("groups"),
            edges=self._edges(),
            **normaliser,
            yaw=None if yaw is None else (yaw[0], yaw[1], yaw[2]),
            about=str(self.fields.get("about") or ""),
        )

    def _names(self) -> tuple[str, ...]:
        given = self.fields["landmarks"]
        if isinstance(given, int) and not isinstance(given, bool) and given > 0:
            given = [f"point_{place}" for place in range(min(given, _MOST + 1))]
        if not isinstance(given, list) or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in given):
            self._refuse("landmarks must be a list of names of letters, digits and _, or their number")
        if not 2 <= len(given) <= _MOST:
            self._refuse(f"it has {len(given)} landmarks: 2 to {_MOST} are possible")
        for name in given:
            if given.count(name) > 1:
                self._refuse(f"landmark {name} stands twice: each needs a name of its own")
        return tuple(given)

    def _numbers(self, items: Any, what: str) -> list[int]:
        found: list[int] = []
        for item in items if isinstance(items, list) else [items]:
            match = _RANGE.fullmatch(item) if isinstance(item, str) else None
            if match and not int(match[1]) <= int(match[2]) < len(self.landmarks):
                self._refuse(f"{what} names the landmarks {item}, and there are 0 to {len(self.landmarks) - 1}, the smaller number first")
            if match:
                found += range(int(match[1]), int(match[2]) + 1)
            elif isinstance(item, int) and not isinstance(item, bool):
                found.append(item)
            elif isinstance(item, str) and item in self.place:
                found.append(self.place[item])
            else:
                self._refuse(f"{what} names landmark {item!r}, which is none of it")
        if beyond := [number for number in found if not 0 <= number < len(self.landmarks)]:
            self._refuse(f"{what} names landmark {beyond[0]}, and there are 0 to {len(self.landmarks) - 1}")
        return found

    def _pairs(self) -> tuple[tuple[int, int], ...]:
        pairs = []
        for item in self._list("pairs"):
            pair = self._numbers(item, "pairs")
            if len(pair) != 2 or pair[0] == pair[1]:
                self._refuse(f"the pair {item} is not of two landmarks: name the viewer's left one and its partner")
            pairs.append((pair[0], pair[1]))
        told = {place for pair in pairs for place in pair}
        for name, place in self.place.items():
            other = self.place.get(f"right_{name.removeprefix('left_')}") if name.startswith("left_") else None
            if other is not None and not {place, other} & told:
                pairs.append((place, other))
        each = [place for pair in pairs for place in pair]
        for place in each:
            if each.count(place) > 1:
                self._refuse(f"landmark {self.landmarks[place]} is in two pairs: it can mirror one")
        for side, partner in (("left_", "right_"), ("right_", "left_")):
            for name, place in self.place.items():
                if name.startswith(side) and place not in each:
                    self._refuse(f"landmark {name} has no partner: add {partner}{name.removeprefix(side)}, or a pair, or call it otherwise")
        return tuple(sorted(pairs))

    def _sets(self, key: str) -> dict[str, tuple[int, ...]]:
        given = self.fields.get(key) or {}
        if not isinstance(given, dict) or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in given):
            self._refuse(f"{key} must be names with lists of landmarks")
        sets = {}
        for name, items in given.items():
            numbers = self._numbers(items, f"{key}: {name}")
            taken = name in self.place or name == "all" or (key == "groups" and name in (self.fields.get("regions") or {}))
            if not numbers or len(set(numbers)) != len(numbers) or taken:
                self._refuse(f"{key}: {name} is empty, names a landmark twice, or is the name of something else")
            sets[name] = tuple(numbers)
        return sets

    def _regions(self) -> dict[str, tuple[int, ...]]:
        regions = self._sets("regions")
        each = [place for places in regions.values() for place in places]
        for place in each:
            if each.count(place) > 1:
                self._refuse(f"landmark {self.landmarks[place]} is in two regions: it can be in one")
        if rest := tuple(place for place in range(len(self.landmarks)) if place not in set(each)):
            name = "other" if regions else "all_points"
            regions[name] = (*regions.get(name, ()), *rest)
        return regions

    def _edges(self) -> tuple[tuple[int, int], ...]:
        edges: list[tuple[int, int]] = []
        for item in self._list("edges"):
            chain = self._numbers(item, "edges")
            edges += pairwise(chain)
        return tuple(edges)

    def _normaliser(self) -> dict[str, Any]:
        given = self.fields.get("normaliser", BOX)
        if given == BOX:
            return {}
        if not (isinstance(given, dict) and {"name", "between"} <= given.keys() <= {"name", "between", "about"}):
            self._refuse("normaliser must be `box`, or {name: interocular, between: [one landmark, another]}")
        name, ends = given["name"], self._numbers(given["between"], "normaliser")
        if not (isinstance(name, str) and _NAME.fullmatch(name)) or name == BOX:
            self._refuse(f"the normaliser's name {name!r} is none: letters, digits and _ are possible, and {BOX} is taken")
        if len(ends) != 2 or ends[0] == ends[1]:
            self._refuse("normaliser needs two landmarks, whose distance it is")
        words = " and ".join(self.landmarks[end].replace("_", " ") for end in ends)
        return {"normaliser": name, "between": (ends[0], ends[1]), "normaliser_about": str(given.get("about") or f"distance of {words}")}

    def _list(self, key: str) -> list[Any]:
        given = self.fields.get(key) or []
        if not isinstance(given, list):
            self._refuse(f"{key} must be a list")
        return list(given)

    def _refuse(self, why: str) -> NoReturn:
        raise FkpError(f"scheme {self.where}: {why}")


#: The scheme of the shipped models, of the YouTube-Faces labels and of the drawn faces.
IBUG68 = load_scheme(DEFAULT)
