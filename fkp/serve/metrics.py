"""Counts and histograms of the endpoint, summed over its replicas, in Prometheus's text format.

Each replica writes its own numbers into Ray's key-value store once a second; whoever is asked for /metrics adds them up.
Numbers of replicas that are gone stay in the sums, so that counters never fall.
"""

from __future__ import annotations

import bisect
import functools
import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fkp.bundle.drift import BOUNDS, BRIGHTNESS, ERROR_RATIO, LEAST_FACES, stability_index

#: A replica that has not written for so long is gone: its gauges no longer count.
GONE_AFTER_S = 10.0
PROXY_REFUSED = "fkp_proxy_refused_total"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Figure:
    """What is counted: its kind, its help text, its labels, and the upper bounds of its histogram."""

    kind: Literal["counter", "gauge", "histogram"]
    about: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


FIGURES: dict[str, Figure] = {
    "fkp_requests_total": Figure("counter", "Requests answered, by route and HTTP status.", ("route", "status")),
    "fkp_errors_total": Figure("counter", "Requests or pictures refused, by code.", ("code",)),
    PROXY_REFUSED: Figure("counter", "Requests that HAProxy refused with 429 before a replica saw them, since its replicas last changed."),
    "fkp_request_seconds": Figure("histogram", "Time of a request in the replica.", ("route",), _SECONDS),
    "fkp_stage_seconds": Figure("histogram", "Time of each stage of a picture.", ("stage",), _SECONDS),
    "fkp_batch_crops": Figure("histogram", "Crops that the network took at once.", (), (1, 2, 4, 8, 16, 32, 64, 128)),
    "fkp_faces_total": Figure("counter", "Faces answered."),
    "fkp_pictures_in_progress": Figure("gauge", "Pictures that wait for their turn or have it."),
    "fkp_model_info": Figure("gauge", "Replicas that answer with a model.", ("digest", "version")),
    "fkp_model_swaps_total": Figure("counter", "Models offered to a replica.", ("result",)),
    ERROR_RATIO: Figure(
        "histogram", "Confidence: mean expected error of a face as a part of its box's longer side.", (), BOUNDS[ERROR_RATIO]
    ),
    BRIGHTNESS: Figure("histogram", "Mean brightness of a crop, 0 to 255.", (), BOUNDS[BRIGHTNESS]),
}

Numbers = dict[str, dict[str, Any]]


class Metrics:
    """The numbers of one replica. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: Numbers = {name: {} for name in FIGURES}

    def add(self, name: str, labels: tuple[str, ...] = (), amount: float = 1.0) -> None:
        """Count up, or move a gauge."""
        key = _key(labels)
        with self._lock:
            series = self._numbers[name]
            series[key] = series.get(key, 0.0) + amount

    def set(self, name: str, labels: tuple[str, ...], value: float) -> None:
        """Give a gauge this one series and value."""
        with self._lock:
            self._numbers[name] = {_key(labels): value}

    def observe(self, name: str, value: float, labels: tuple[str, ...] = ()) -> None:
        """Add one value to a histogram."""
        bounds = FIGURES[name].bounds
        key = _key(labels)
        with self._lock:
            series = self._numbers[name].get(key)
            if series is None:
                series = self._numbers[name][key] = [0] * (len(bounds) + 1) + [0.0]
            series[bisect.bisect_left(bounds, value)] += 1
            series[-1] += value

    def snapshot(self) -> str:
        """Everything as JSON, with the time."""
        with self._lock:
            return json.dumps({"at": time.time(), "numbers": self._numbers})


def total(snapshots: Iterable[str], now: float | None = None) -> Numbers:
    """Add up the snapshots of several replicas; gauges only of those that still write."""
    now = time.time() if now is None else now
    summed: Numbers = {name: {} for name in FIGURES}
    for text in snapshots:
        snapshot = json.loads(text)
        for name, series in snapshot["numbers"].items():
            if FIGURES[name].kind == "gauge" and now - snapshot["at"] > GONE_AFTER_S:
                continue
            for key, value in series.items():
                old = summed[name].get(key)
                if isinstance(value, list):
                    summed[name][key] = value if old is None else [a + b for a, b in zip(old, value, strict=True)]
                else:
                    summed[name][key] = value + (old or 0.0)
    return summed


def render(numbers: Numbers, reference: Mapping[str, Sequence[float]] | None = None) -> str:
    """Write the text format (https://prometheus.io/docs/instrumenting/exposition_formats/).

    Args:
        numbers: From `total`.
        reference: Histograms of the model's own faces, see `drift.reference_counts`. Where there is one it is shown beside
            the served one, and once enough faces were served the distance of both: above `drift.ALARM` they have changed.
    """
    lines: list[str] = []
    for name, figure in FIGURES.items():
        lines += [f"# HELP {name} {figure.about}", f"# TYPE {name} {figure.kind}"]
        for key, value in sorted(numbers[name].items()):
            labels = list(zip(figure.labels, json.loads(key), strict=True))
            lines += (
                _histogram(name, labels, figure.bounds, value) if figure.kind == "histogram" else [f"{name}{_braces(labels)} {value!r}"]
            )
    if reference:
        lines += ["# HELP fkp_reference_ratio Part of the model's validation faces in each bucket.", "# TYPE fkp_reference_ratio gauge"]
        for name, counts in reference.items():
            bounds = [*(f"{bound:g}" for bound in FIGURES[name].bounds), "+Inf"]
            for bound, count in zip(bounds, counts, strict=True):
                lines.append(f"fkp_reference_ratio{_braces([('figure', name), ('le', bound)])} {count / sum(counts):g}")
        lines += ["# HELP fkp_drift Population stability index of served against validation faces.", "# TYPE fkp_drift gauge"]
        for name, counts in reference.items():
            served = numbers[name].get("[]")
            if served is not None and sum(served[:-1]) >= LEAST_FACES:
                lines.append(f"fkp_drift{_braces([('figure', name)])} {stability_index(counts, served[:-1]):.4f}")
    return "\n".join(lines) + "\n"


def _histogram(name: str, labels: list[tuple[str, str]], bounds: Sequence[float], value: list[float]) -> list[str]:
    lines, below = [], 0.0
    for bound, count in zip([*(f"{bound:g}" for bound in bounds), "+Inf"], value[:-1], strict=True):
        below += count
        lines.append(f"{name}_bucket{_braces([*labels, ('le', bound)])} {below!r}")
    return [*lines, f"{name}_sum{_braces(labels)} {value[-1]!r}", f"{name}_count{_braces(labels)} {below!r}"]


def _braces(labels: Sequence[tuple[str, str]]) -> str:
    def escaped(text: str) -> str:
        return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels) + "}" if labels else ""


@functools.lru_cache(1024)  # A picture counts in about ten series, always the same ones: 4 % of a replica's time went here.
def _key(labels: tuple[str, ...]) -> str:
    return json.dumps(labels, separators=(",", ":"))
