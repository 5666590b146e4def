"""What is searched: settings by their dotted paths, read from a YAML file and checked against the Config.

The default, `tune/space.yaml`, also says what an entry may be.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fkp.compat import SETTINGS
from fkp.config import Config, dotted, known_paths, once, read_yaml, unknown_setting
from fkp.errors import FkpError
from fkp.shipped import shipped

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

DEFAULT_SPACE = shipped("tune/space.yaml")

KINDS = ("log", "uniform", "int", "choice")

#: Settings that say on what, how long or where a trial runs. Trials that differ in them could not be compared.
_FIXED = ("export.", "data.", "scale.", "track.", "train.epochs", "train.max_minutes", "train.early_stop_epochs")

#: Settings of which some go together and some do not.
_SHAPES = ("model.arch", "model.head", "input.size_px", "input.channels")

#: Values of a range of whole numbers that are tried, beside its greatest.
_MOST_CHECKED = 2000

#: Points of a range in a grid.
_GRID_POINTS = 3


@dataclass(frozen=True)
class Entry:
    """One searched setting.

    Attributes:
        path: Dotted path in the Config.
        kind: One of `KINDS`.
        low: Least value of a range.
        high: Greatest value of a range, itself included.
        step: Between the values of a range of whole numbers.
        options: Values of a choice.
        default: Value of the first trial, or None.
        points: Values of a range in a grid.
    """

    path: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    step: int = 1
    options: tuple[Any, ...] = ()
    default: Any = None
    points: int = _GRID_POINTS

    def drawn(self) -> list[Any]:
        """Values that are valid only if all that can be drawn are: of a range the ends, and enough between them.

        What a setting refuses between two valid ends it refuses for not being a multiple of something, and so early in a range.
        """
        if self.kind == "choice":
            return list(self.options)
        if self.kind == "int":
            values = range(int(self.low), int(self.high) + 1, self.step)
            return [*values[:_MOST_CHECKED], values[-1]]
        return [self.low, self.high, *(self.low + part * (self.high - self.low) for part in (0.2871, 0.7193))]

    def domain(self) -> Any:
        """The entry as Ray Tune samples it."""
        from ray import tune

        if self.kind in ("choice", "int"):
            # Tune's own ranges of whole numbers leave out or halve their upper end.
            return tune.choice(self.grid())
        return tune.loguniform(self.low, self.high) if self.kind == "log" else tune.uniform(self.low, self.high)

    def distribution(self) -> BaseDistribution:
        """The entry as Optuna knows it."""
        from optuna import distributions

        if self.kind == "choice":
            return distributions.CategoricalDistribution(self.options)
        if self.kind == "int":
            return distributions.IntDistribution(int(self.low), int(self.high), step=self.step)
        return distributions.FloatDistribution(self.low, self.high, log=self.kind == "log")

    def grid(self) -> list[Any]:
        """The entry's values in a grid."""
        if self.kind == "choice":
            return list(self.options)
        if self.kind == "int":
            return list(range(int(self.low), int(self.high) + 1, self.step))
        spaced = np.geomspace if self.kind == "log" else np.linspace
        return [float(value) for value in spaced(self.low, self.high, self.points)]


@dataclass(frozen=True)
class Space:
    """Every searched setting, in the order of the file."""

    entries: tuple[Entry, ...]

    def domains(self) -> dict[str, Any]:
        """Dotted path -> Ray Tune's domain."""
        return {entry.path: entry.domain() for entry in self.entries}

    def distributions(self) -> dict[str, BaseDistribution]:
        """Dotted path -> Optuna's distribution."""
        return {entry.path: entry.distribution() for entry in self.entries}

    def grid(self) -> dict[str, list[Any]]:
        """Dotted path -> the values of a grid."""
        return {entry.path: entry.grid() for entry in self.entries}

    def grid_points(self) -> list[tuple[Any, ...]]:
        """Every point of the grid."""
        return list(itertools.product(*self.grid().values()))

    def first_sample(self, base: Config) -> dict[str, Any]:
        """The sample of the defaults; where an entry has none, the run's own setting if the entry allows it.

        Returns:
            A value for every entry, or nothing when one entry offers neither.
        """
        own = dict(dotted(base.model_dump(mode="json")))
        sample = {entry.path: own[entry.path] if entry.default is None else entry.default for entry in self.entries}
        return sample if all(_allows(entry, sample[entry.path]) for entry in self.entries) else {}

    def crop_settings(self) -> list[dict[str, Any]]:
        """Every combination of the settings that change the crops."""
        entries = [entry for entry in self.entries if entry.path.startswith("input.")]
        return [
            dict(zip((entry.path for entry in entries), values, strict=True)) for values in itertools.product(*(e.options for e in entries))
        ]

    def as_json(self) -> dict[str, Any]:
        """The space as plain JSON; two spaces are the same when these are."""
        plain: dict[str, Any] = {}
        for entry in self.entries:
            whole = int if entry.kind == "int" else float
            span = list(entry.options) if entry.kind == "choice" else [whole(entry.low), whole(entry.high)]
            plain[entry.path] = {entry.kind: span, "step": entry.step, "default": entry.default, "points": entry.points}
        return plain


def read_space(path: str | Path, base: Config) -> Space:
    """Read a space and check each value of it against the Config.

    Args:
        path: YAML file, see `space.yaml`.
        base: The run that every trial starts from.

    Raises:
        FkpError: The file is no space, a path is unknown, stands twice or cannot be searched, or a value that can be drawn is no setting.
    """
    found = [(SETTINGS.get(name, name), body) for name, body in _entries(read_yaml(path))]
    once((name for name, _ in found), f"space {path}")
    if not found:
        raise FkpError(f"space {path} is empty: name at least one setting, such as `optim.lr: {{log: [0.001, 0.03]}}`")
    entries = tuple(_entry(name, body, f"space {path}") for name, body in found)
    for entry in entries:
        drawn = entry.drawn()
        for value in (*drawn, *([] if entry.default is None else [entry.default])):
            if fault := _fault(base, {entry.path: value}):
                raise FkpError(f"space {path}: {fault}{_mend(entry, base)}")
    shapes = [entry for entry in entries if entry.path in _SHAPES]
    for values in itertools.product(*(entry.drawn() for entry in shapes)):
        _check_network(base.updated(dict(zip((entry.path for entry in shapes), values, strict=True))), f"space {path}")
    return Space(entries)


def _fault(base: Config, sample: Mapping[str, Any]) -> str:
    """Why a sample is no setting of a run, empty where it is one."""
    try:
        base.updated(sample)
    except FkpError as error:
        return str(error)
    return ""


def _mend(entry: Entry, base: Config) -> str:
    """The range of whole numbers to write instead, where there is one."""
    if entry.kind == "choice" or (entry.kind != "int" and any(_fault(base, {entry.path: end}) for end in (entry.low, entry.high))):
        return ""
    whole = range(math.ceil(entry.low), math.floor(entry.high) + 1)[:_MOST_CHECKED]
    valid = [value for value in whole if not _fault(base, {entry.path: value})]
    return f": write {{int: [{valid[0]}, {valid[-1]}], step: {valid[1] - valid[0]}}}" if len(valid) > 1 else ""


def _entries(content: Mapping[str, Any], prefix: str = "") -> Any:
    """Pairs of dotted path and entry; sections may be nested or dotted."""
    for key, value in content.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and not set(value) & set(KINDS):
            yield from _entries(value, f"{path}.")
        else:
            yield path, value


def _entry(path: str, body: Any, where: str) -> Entry:
    if path not in known_paths():
        raise FkpError(f"{where}: {unknown_setting(path)}")
    if path.startswith(_FIXED):
        raise FkpError(f"{where}: {path} cannot be searched: trials that differ in it cannot be compared")
    kinds = [kind for kind in KINDS if isinstance(body, Mapping) and kind in body]
    if len(kinds) != 1 or not isinstance(body[kinds[0]], list):
        raise FkpError(f"{where}: {path} must be one of {', '.join(f'{{{kind}: [...]}}' for kind in KINDS)}, got {json.dumps(body)}")
    kind, values = kinds[0], body[kinds[0]]
    known = [kind, "default", *{"choice": (), "int": ("step",)}.get(kind, ("points",))]
    stray = sorted(set(body) - set(known))
    if stray:
        raise FkpError(f"{where}: {path} has the unknown key {stray[0]!r}: use {', '.join(known)}")
    points, step = (_count(body.get(key, least), f"{where}: {key} of {path}") for key, least in (("points", _GRID_POINTS), ("step", 1)))
    if kind == "choice":
        if not values or any(isinstance(value, list | dict) for value in values):
            raise FkpError(f"{where}: {path} must be a choice of one or more plain values")
        entry = Entry(path, kind, options=tuple(values), default=body.get("default"))
    else:
        low, high = _range(values, kind, f"{where}: {path}")
        entry = Entry(path, kind, low, high, step, default=_number(body.get("default")), points=points)
        if path.startswith("input."):
            raise FkpError(f"{where}: {path} must be a choice: the crops are decoded once for all trials")
    if entry.default is not None and not _allows(entry, entry.default):
        raise FkpError(f"{where}: the default of {path}, {entry.default}, is not one of its values")
    return entry


def _range(values: list[Any], kind: str, where: str) -> tuple[float, float]:
    numbers = [_number(value) for value in values]
    if len(numbers) != 2 or not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
        raise FkpError(f"{where} must have two numbers, [low, high], got {json.dumps(values)}")
    low, high = numbers
    if kind == "int" and not all(float(number).is_integer() for number in numbers):
        raise FkpError(f"{where} must have whole numbers, got {json.dumps(values)}")
    if not low < high or (kind == "log" and low <= 0):
        raise FkpError(f"{where} must have low < high{', both above 0' if kind == 'log' else ''}, got {json.dumps(values)}")
    return low, high


def _number(value: Any) -> Any:
    """YAML reads 1e-3 as text: a number without a point is none to it."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _count(value: Any, where: str) -> int:
    if not isinstance(value, int) or value < 1:
        raise FkpError(f"{where} must be a whole number above 0, got {value!r}")
    return value


def _allows(entry: Entry, value: Any) -> bool:
    if entry.kind == "choice":
        return value in entry.options
    if not (isinstance(value, int | float) and entry.low <= value <= entry.high):
        return False
    return entry.kind != "int" or (value - entry.low) % entry.step == 0


def _check_network(config: Config, where: str) -> None:
    import torch

    from fkp.model.network import Network

    try:
        with torch.device("meta"):  # Shapes without weights: a millisecond.
            Network(config)
    except FkpError as error:
        raise FkpError(f"{where}: {error}") from error
