"""What of a cluster training may use, and how long it waits for more."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from fkp.cluster import capacity
from fkp.config import build_config
from fkp.errors import FkpError


class Growing:
    """A check that is content at its n-th call."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self) -> str:
        self.left -= 1
        if self.left:
            raise FkpError("too small")
        return "large enough"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What an autoscaler is told, on a cluster that somebody else started."""
    told: list[Any] = []
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(capacity, "request_resources", lambda bundles: told.append(bundles))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return told


def test_a_cluster_that_grows_is_waited_for(asked: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert capacity.wait_for(Growing(3), [{"GPU": 1.0}] * 2, 1) == "large enough"
    assert asked == [[{"GPU": 1.0}] * 2, []], "asked for once, and not kept for ever"
    assert caplog.text.count("too small; waiting up to 1 minutes for hosts to join") == 1


def test_one_that_is_large_enough_is_not_asked_to_grow(asked: list[Any]) -> None:
    capacity.wait_for(Growing(1), [{"GPU": 1.0}], 1)
    assert asked == []


def test_one_that_stays_small_is_refused_when_the_time_is_over(asked: list[Any]) -> None:
    began = time.monotonic()
    with pytest.raises(FkpError, match="too small"):
        capacity.wait_for(Growing(10**9), [{"CPU": 1.0}], 0.02)
    assert 1 < time.monotonic() - began < 30
    assert asked[-1] == []


def test_a_cluster_of_this_machine_does_not_grow(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(FkpError, match="too small"):
        capacity.wait_for(Growing(2), [{"CPU": 1.0}], 10)
    assert asked == []


@pytest.mark.parametrize(
    ("scale", "have", "gpus"),
    [
        ({"num_workers": 2}, {"CPU": 2}, False),
        ({"num_workers": 2}, {"CPU": 2, "GPU": 2}, True),
        ({"num_workers": 2}, {"CPU": 2, "GPU": 1}, False),
        ({"num_workers": 2, "use_gpu": "no"}, {"CPU": 2, "GPU": 2}, False),
        ({"num_workers": 4, "min_workers": 1, "use_gpu": "yes"}, {"CPU": 1, "GPU": 1}, True),
    ],
)
def test_gpus_are_used_when_there_is_one_for_each_worker(scale: dict[str, Any], have: dict[str, float], gpus: bool) -> None:
    assert capacity._check(build_config({"scale": scale}), [have]) is gpus


@pytest.mark.parametrize(
    ("scale", "have", "told"),
    [
        ({"num_workers": 2, "use_gpu": "yes"}, {"CPU": 9, "GPU": 1}, "needs 2 GPUs and the cluster has 1: lower scale.num_workers"),
        (
            {"num_workers": 4, "min_workers": 3},
            {"CPU": 2},
            r"need 3 cores and the cluster has 2: lower scale.min_workers",
        ),
        (
            {"num_workers": 1, "cpus_per_worker": 2, "use_gpu": "yes"},
            {"CPU": 1, "GPU": 1},
            "1 workers of 2 cores need 2 cores and the cluster has 1",
        ),
        ({"num_workers": 2}, {}, "2 workers of 1 cores need 2 cores and the cluster has 0"),
    ],
)
def test_what_can_never_be_met_is_named(scale: dict[str, Any], have: dict[str, float], told: str) -> None:
    with pytest.raises(FkpError, match=told):
        capacity._check(build_config({"scale": scale}), [have])


def test_a_worker_lies_on_one_host() -> None:
    """Six cores on two hosts are not three workers of two: Ray would wait for ever."""
    config = build_config({"scale": {"num_workers": 3, "cpus_per_worker": 2}})
    assert not capacity._check(config, [{"CPU": 4}, {"CPU": 3}])
    with pytest.raises(FkpError, match="3 workers of 2 cores do not fit: a worker lies on one host, and these hold 2 such workers"):
        capacity._check(config, [{"CPU": 3}, {"CPU": 3}])
