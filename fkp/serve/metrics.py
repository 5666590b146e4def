"""Counts and histograms of the endpoint, summed over its replicas, in Prometheus's text format.

Each replica writes its own numbers into Ray's key-value store once a second; whoever is asked for /metrics adds them up.
Numbers of replicas that are gone stay in the sums, so that counters never fall.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from fkp.bundle.drift import BOUNDS, BRIGHTNESS, ERROR_RATIO, LEAST_FACES, stability_index, tells

#: A replica that has not written for so long is gone: its gauges no longer count.
GONE_AFTER_S = 10.0

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

#: By metric, then by sample and labels.
Sums = dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]]


class Metrics:
    """The numbers of one replica. May be used from several threads."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter("fkp_requests_total", "Requests answered, by route and HTTP status.", ("route", "status"), registry=own)
        self.errors = Counter("fkp_errors_total", "Requests or images refused, by code.", ("code",), registry=own)
        self.request_s = Histogram("fkp_request_seconds", "Time of a request in the replica.", ("route",), buckets=_SECONDS, registry=own)
        self.stage_s = Histogram("fkp_stage_seconds", "Time of each stage of an image.", ("stage",), buckets=_SECONDS, registry=own)
        sizes = (1, 2, 4, 8, 16, 32, 64, 128)
        self.batch_crops = Histogram("fkp_batch_crops", "Crops that the network took at once.", buckets=sizes, registry=own)
        self.faces = Counter("fkp_faces_total", "Faces answered.", registry=own)
        self.left_out = Counter("fkp_faces_left_out_total", "Detections left out because the model does not believe them.", registry=own)
        self.in_progress = Gauge("fkp_pictures_in_progress", "Images that wait for their turn or have it.", registry=own)
        self.models = Gauge("fkp_model_info", "Replicas that answer with a model.", ("digest", "version"), registry=own)
        self.swaps = Counter("fkp_model_swaps_total", "Models offered to a replica.", ("result",), registry=own)
        about = "Confidence: mean expected error of a face as a part of its box's longer side."
        self.error_ratio = Histogram(ERROR_RATIO, about, buckets=BOUNDS[ERROR_RATIO], registry=own)
        self.brightness = Histogram(BRIGHTNESS, "Mean brightness of a crop, 0 to 255.", buckets=BOUNDS[BRIGHTNESS], registry=own)

    def snapshot(self) -> str:
        """Everything as JSON, with the time."""
        found = {
            metric.name: (metric.type, [each[:3] for each in metric.samples if not each.name.endswith("_created")])
            for metric in self.registry.collect()
        }
        return json.dumps([time.time(), found])


def total(snapshots: Iterable[str], now: float | None = None) -> Sums:
    """Add up the snapshots of several replicas; gauges only of those that still write."""
    now = time.time() if now is None else now
    sums: Sums = {}
    for text in snapshots:
        at, found = json.loads(text)
        for metric, (kind, samples) in found.items():
            if kind == "gauge" and now - at > GONE_AFTER_S:
                continue
            series = sums.setdefault(metric, {})
            for name, labels, value in samples:
                key = name, tuple(labels.items())
                series[key] = series.get(key, 0.0) + value
    return sums


def render(metrics: Metrics, sums: Sums, reference: Mapping[str, Sequence[float]] | None = None, proxy_refused: float | None = None) -> str:
    """Write the text format (https://prometheus.io/docs/instrumenting/exposition_formats/).

    Args:
        metrics: Any replica's: what there is.
        sums: From `total`.
        reference: Histograms of the model's own faces, see `drift.reference_counts`. Where there is one it is shown beside
            the served one, and once enough faces were served the distance of both, if the buckets tell it: above
            `drift.ALARM` they have changed.
        proxy_refused: What HAProxy refused; None where it does not tell.
    """
    found = list(metrics.registry.collect())
    for metric in found:
        metric.samples = [Sample(name, dict(labels), value) for (name, labels), value in sums.get(metric.name, {}).items()]
    about = "Requests that HAProxy refused with 429 before a replica saw them, since its replicas last changed."
    found.append(CounterMetricFamily("fkp_proxy_refused", about, proxy_refused))
    if reference:
        about = "Part of the model's validation faces in each bucket."
        ratio = GaugeMetricFamily("fkp_reference_ratio", about, labels=("figure", "le"))
        drift = GaugeMetricFamily("fkp_drift", "Population stability index of served against validation faces.", labels=("figure",))
        for name, counts in reference.items():
            for bound, count in zip((*BOUNDS[name], math.inf), counts, strict=True):
                ratio.add_metric((name, floatToGoString(bound)), count / sum(counts))
            below = [value for (sample, _), value in sums.get(name, {}).items() if sample.endswith("_bucket")]
            if below and below[-1] >= LEAST_FACES and tells(counts):
                served = [after - before for before, after in itertools.pairwise((0.0, *below))]
                drift.add_metric((name,), stability_index(counts, served))
        found += [ratio, drift]
    return generate_latest(_Found(found)).decode()


class _Found(Collector):
    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> list[Metric]:
        return self._found
