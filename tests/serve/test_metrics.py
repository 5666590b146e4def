"""Numbers of several replicas as one text, read by Prometheus's own parser."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fkp.bundle.drift import BOUNDS, BRIGHTNESS, ERROR_RATIO, LEAST_FACES
from fkp.serve.metrics import GONE_AFTER_S, Metrics, render, total


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def replica(brightness: list[float], requests: int) -> Metrics:
    metrics = Metrics()
    for value in brightness:
        metrics.brightness.observe(value)
    metrics.requests.labels("/v1/keypoints", 200).inc(requests)
    metrics.models.labels("abc", 'v"1\\').set(1)
    return metrics


def told(*replicas: Metrics, **options: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What the first of some replicas answers."""
    return samples(render(replicas[0], total([one.snapshot() for one in replicas]), **options))


def test_replicas_are_added_up() -> None:
    found = told(replica([5, 100], 3), replica([100], 4))
    assert found["fkp_requests_total", (("route", "/v1/keypoints"), ("status", "200"))] == 7
    assert found["fkp_model_info", (("digest", "abc"), ("version", 'v"1\\'))] == 2
    assert found[f"{BRIGHTNESS}_count", ()] == 3
    assert found[f"{BRIGHTNESS}_sum", ()] == 205
    assert [found[f"{BRIGHTNESS}_bucket", (("le", bound),)] for bound in ("16.0", "96.0", "112.0", "+Inf")] == [1, 1, 3, 3]


def test_large_counters_keep_every_digit() -> None:
    metrics = Metrics()
    metrics.faces.inc(12_345_678)
    assert told(metrics)["fkp_faces_total", ()] == 12_345_678


def test_of_a_replica_that_is_gone_the_counters_stay_and_the_gauges_go() -> None:
    at, numbers = json.loads(replica([5], 3).snapshot())
    here = replica([], 1)
    found = samples(render(here, total([json.dumps([at - GONE_AFTER_S - 5, numbers]), here.snapshot()])))
    assert found["fkp_requests_total", (("route", "/v1/keypoints"), ("status", "200"))] == 4
    assert found["fkp_model_info", (("digest", "abc"), ("version", 'v"1\\'))] == 1


def test_a_value_on_a_bound_falls_below_it() -> None:
    metrics = Metrics()
    metrics.batch_crops.observe(4)
    found = told(metrics)
    assert [found["fkp_batch_crops_bucket", (("le", bound),)] for bound in ("2.0", "4.0")] == [0, 1]


def test_the_names_and_kinds_are_those_that_dashboards_know() -> None:
    metrics = replica([5], 1)
    metrics.stage_s.labels("crop").observe(0.002)
    text = render(metrics, total([metrics.snapshot()]), {BRIGHTNESS: [1] * (len(BOUNDS[BRIGHTNESS]) + 1)}, proxy_refused=2)
    kinds = dict(line.removeprefix("# TYPE ").split() for line in text.splitlines() if line.startswith("# TYPE "))
    assert kinds == {
        **dict.fromkeys(("fkp_requests_total", "fkp_errors_total", "fkp_proxy_refused_total", "fkp_faces_total"), "counter"),
        "fkp_faces_left_out_total": "counter",
        "fkp_model_swaps_total": "counter",
        **dict.fromkeys(("fkp_request_seconds", "fkp_stage_seconds", "fkp_batch_crops", ERROR_RATIO, BRIGHTNESS), "histogram"),
        **dict.fromkeys(("fkp_pictures_in_progress", "fkp_model_info", "fkp_reference_ratio", "fkp_drift"), "gauge"),
    }
    found = samples(text)
    assert found["fkp_proxy_refused_total", ()] == 2
    assert found["fkp_stage_seconds_bucket", (("le", "0.0025"), ("stage", "crop"))] == 1
    assert not any(name.endswith("_created") for name, _ in found)
    assert ("fkp_proxy_refused_total", ()) not in told(metrics), "without HAProxy there is no such number"


def test_drift_stands_beside_the_models_own_faces() -> None:
    reference = [0] * (len(BOUNDS[BRIGHTNESS]) + 1)
    reference[0], reference[6] = 100, 200
    found = told(replica([5, 100, 100] * LEAST_FACES, 1), reference={BRIGHTNESS: reference})
    assert found["fkp_reference_ratio", (("figure", BRIGHTNESS), ("le", "16.0"))] == pytest.approx(1 / 3, rel=1e-4)
    assert found["fkp_drift", (("figure", BRIGHTNESS),)] < 0.001
    dark = told(replica([5] * LEAST_FACES, 1), reference={BRIGHTNESS: reference})
    assert dark["fkp_drift", (("figure", BRIGHTNESS),)] > 1


def test_a_few_faces_or_no_reference_is_no_drift() -> None:
    reference = {BRIGHTNESS: [1] * (len(BOUNDS[BRIGHTNESS]) + 1)}
    few = told(replica([5] * (LEAST_FACES - 1), 1), reference=reference)
    assert "fkp_reference_ratio" in {name for name, _ in few}
    assert "fkp_drift" not in {name for name, _ in few}
    assert "fkp_drift" not in {name for name, _ in told(replica([5] * LEAST_FACES, 1))}
