"""Numbers of several replicas as one text, read by Prometheus's own parser."""

from __future__ import annotations

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fkp.bundle.drift import BOUNDS, BRIGHTNESS, LEAST_FACES
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
        metrics.observe(BRIGHTNESS, value)
    for _ in range(requests):
        metrics.add("fkp_requests_total", ("/v1/keypoints", "200"))
    metrics.set("fkp_model_info", ("abc", 'v"1\\'), 1)
    return metrics


def test_replicas_are_added_up() -> None:
    found = samples(render(total([replica([5, 100], 3).snapshot(), replica([100], 4).snapshot()])))
    assert found["fkp_requests_total", (("route", "/v1/keypoints"), ("status", "200"))] == 7
    assert found["fkp_model_info", (("digest", "abc"), ("version", 'v"1\\'))] == 2
    assert found[f"{BRIGHTNESS}_count", ()] == 3
    assert found[f"{BRIGHTNESS}_sum", ()] == 205
    assert [found[f"{BRIGHTNESS}_bucket", (("le", bound),)] for bound in ("16", "96", "112", "+Inf")] == [1, 1, 3, 3]


def test_large_counters_keep_every_digit() -> None:
    metrics = Metrics()
    metrics.add("fkp_faces_total", (), 12_345_678)
    assert samples(render(total([metrics.snapshot()])))["fkp_faces_total", ()] == 12_345_678


def test_of_a_replica_that_is_gone_the_counters_stay_and_the_gauges_go() -> None:
    gone = json.loads(replica([5], 3).snapshot())
    gone["at"] -= GONE_AFTER_S + 5
    found = samples(render(total([json.dumps(gone), replica([], 1).snapshot()])))
    assert found["fkp_requests_total", (("route", "/v1/keypoints"), ("status", "200"))] == 4
    assert found["fkp_model_info", (("digest", "abc"), ("version", 'v"1\\'))] == 1


def test_a_value_on_a_bound_falls_below_it() -> None:
    metrics = Metrics()
    metrics.observe("fkp_batch_crops", 4)
    found = samples(render(total([metrics.snapshot()])))
    assert [found["fkp_batch_crops_bucket", (("le", bound),)] for bound in ("2", "4")] == [0, 1]


def test_a_gauge_that_is_set_anew_forgets_its_old_labels() -> None:
    metrics = replica([], 0)
    metrics.set("fkp_model_info", ("def", "2"), 1)
    assert list(total([metrics.snapshot()])["fkp_model_info"]) == ['["def","2"]']


def test_drift_stands_beside_the_models_own_faces() -> None:
    reference = [0] * (len(BOUNDS[BRIGHTNESS]) + 1)
    reference[0], reference[6] = 100, 200
    text = render(total([replica([5, 100, 100] * LEAST_FACES, 1).snapshot()]), {BRIGHTNESS: reference})
    found = samples(text)
    assert found["fkp_reference_ratio", (("figure", BRIGHTNESS), ("le", "16"))] == pytest.approx(1 / 3, rel=1e-4)
    assert found["fkp_drift", (("figure", BRIGHTNESS),)] < 0.001
    dark = samples(render(total([replica([5] * LEAST_FACES, 1).snapshot()]), {BRIGHTNESS: reference}))
    assert dark["fkp_drift", (("figure", BRIGHTNESS),)] > 1


def test_a_few_faces_or_no_reference_is_no_drift() -> None:
    reference = {BRIGHTNESS: [1] * (len(BOUNDS[BRIGHTNESS]) + 1)}
    few = render(total([replica([5] * (LEAST_FACES - 1), 1).snapshot()]), reference)
    assert "fkp_reference_ratio{" in few
    assert "fkp_drift{" not in few
    assert "fkp_drift" not in render(total([replica([5] * LEAST_FACES, 1).snapshot()]), {})
