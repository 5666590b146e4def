"""Alert rules and dashboard: what they ask is what /metrics has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from fkp.bundle.drift import ALARM, BOUNDS
from fkp.serve.http.routes import ROUTES
from fkp.serve.metrics import Metrics, render, total
from fkp.serve.refusal import Code

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "cluster/monitoring"
RULES = yaml.safe_load((HERE / "alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((HERE / "dashboard.json").read_text())

_FUNCTIONS = {"sum", "count", "by", "on", "rate", "increase", "histogram_quantile", "absent", "or", "unless", "label_values"}
#: What Prometheus adds to each sample, beside its own metric.
_ADDED = {"job", "instance"}


def queries() -> Iterator[Any]:
    for rule in RULES:
        yield pytest.param(rule["expr"], id=rule["alert"])
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield pytest.param(variable["query"], id=variable["name"])


@pytest.fixture(scope="module")
def known() -> dict[str, dict[str, set[str]]]:
    """Sample -> label -> its values, of an endpoint that has seen a request of each kind."""
    metrics = Metrics()
    for code in get_args(Code):
        metrics.errors.labels(code).inc()
    for route in ROUTES:
        for status in (200, 429, 500):
            metrics.requests.labels(route, status).inc()
        metrics.request_s.labels(route).observe(0.01)
    for stage in ("read", "decode", "detect", "crop", "queue", "network"):
        metrics.stage_s.labels(stage).observe(0.01)
    for result in ("accepted", "refused"):
        metrics.swaps.labels(result).inc()
    metrics.models.labels("abc", "1").set(1)
    for _ in range(300):
        metrics.error_ratio.observe(0.02)
        metrics.brightness.observe(100)
    reference = {name: [1] * (len(bounds) + 1) for name, bounds in BOUNDS.items()}
    found: dict[str, dict[str, set[str]]] = {"up": {}}
    for family in text_string_to_metric_families(render(metrics, total([metrics.snapshot()]), reference, 1)):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_metrics_and_labels_that_there_are(query: str, known: dict[str, dict[str, set[str]]]) -> None:
    for opening, closing in ("()", "{}", "[]"):
        assert query.count(opening) == query.count(closing)
    plain = re.sub(r'"[^"]*"', '""', query)
    metrics = re.findall(r"\b(?:fkp_\w+|up)\b", plain)
    assert metrics and set(metrics) <= set(known), set(metrics) - set(known)
    labels = {label for metric in metrics for label in known[metric]} | _ADDED
    grouped = {name.strip() for names in re.findall(r"\b(?:by|on) ?\(([^)]*)\)", plain) for name in names.split(",")}
    asked = {name for part in re.findall(r"\{([^}]*)\}", plain) for name in re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", part)}
    assert grouped | asked <= labels, (grouped | asked) - labels
    words = set(re.findall(r"[a-z_]{2,}", re.sub(r"\$\w+|\[[^]]*\]", "", plain)))
    assert words <= {*_FUNCTIONS, *metrics, *labels}, words
    for metric, label, how, wanted in re.findall(r'(\w+)\{[^}]*?\b(\w+)(=~|=)"([^"$]*)"', query):
        if label not in _ADDED:
            assert any(re.fullmatch(wanted, value) if how == "=~" else wanted == value for value in known[metric][label]), (label, wanted)


def test_each_code_of_an_alert_is_one_that_the_endpoint_answers() -> None:
    for rule in RULES:
        for codes in re.findall(r'code=~?"([^"]*)"', rule["expr"]):
            assert set(codes.split("|")) <= set(get_args(Code)), rule["alert"]


def test_each_rule_says_how_bad_it_is_and_has_its_section() -> None:
    page = (ROOT / "docs/monitoring.md").read_text()
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    assert re.findall(r"^### (Fkp\w+)$", page, re.MULTILINE) == names
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert re.fullmatch(r"\d+m", rule.get("for", "1m"))
        assert rule["annotations"]["page"] == f"monitoring.md#{rule['alert'].lower()}" and rule["annotations"]["summary"]


def test_the_drift_alert_has_the_alarm_of_the_code() -> None:
    (rule,) = (rule for rule in RULES if rule["alert"] == "FkpDrift")
    assert rule["expr"] == f"fkp_drift > {ALARM}"


def test_the_dashboard_s_panels_do_not_overlap() -> None:
    assert DASHBOARD["schemaVersion"] >= 36 and DASHBOARD["title"] and DASHBOARD["uid"]
    cells = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        own = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not own & cells and place["x"] + place["w"] <= 24
        cells |= own
        assert panel["targets"] and panel["datasource"]["uid"] == "${source}"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
