"""How many trials fit at once: never more than can all have their workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import ray

from fkp.config import build_config
from fkp.errors import FkpError
from fkp.tune import resources
from fkp.tune.options import Settings


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`cluster({"CPU": 4}, {"CPU": 8, "GPU": 2})` is what `ray.nodes` tells."""

    def of(*nodes: Mapping[str, float], dead: Mapping[str, float] | None = None) -> None:
        told = [{"Alive": True, "Resources": dict(node)} for node in nodes]
        told += [{"Alive": False, "Resources": dict(dead)}] if dead else []
        monkeypatch.setattr(ray, "nodes", lambda: told)

    return of


@pytest.mark.parametrize(
    ("nodes", "settings", "cores", "concurrent"),
    [
        ([{"CPU": 2}], Settings(), 1, 2),
        ([{"CPU": 2}], Settings(workers=2), 1, 1),
        ([{"CPU": 4}], Settings(workers=2), 1, 2),
        ([{"CPU": 5}], Settings(workers=2), 1, 2),
        ([{"CPU": 5}], Settings(workers=2), 2, 1),
        # No worker is split over two machines, but a trial's workers are.
        ([{"CPU": 3}, {"CPU": 3}], Settings(workers=2), 2, 1),
        ([{"CPU": 3}, {"CPU": 3}], Settings(), 2, 2),
        ([{"CPU": 8}], Settings(concurrent=3), 1, 3),
        ([{"CPU": 2}], Settings(concurrent=9), 1, 2),
    ],
)
def test_concurrent_follows_from_the_cluster_and_the_workers(
    cluster: Any, nodes: list[Mapping[str, float]], settings: Settings, cores: int, concurrent: int
) -> None:
    cluster(*nodes)
    place = resources.place(settings, build_config({"scale.cpus_per_worker": cores}))
    assert (place.concurrent, place.gpus, place.cores) == (concurrent, 0, cores * settings.workers)


def test_a_machine_that_is_gone_counts_for_nothing(cluster: Any) -> None:
    cluster({"CPU": 2}, dead={"CPU": 64})
    assert resources.place(Settings(), build_config()).concurrent == 2


@pytest.mark.parametrize(
    ("gpus", "have", "concurrent"),
    [(None, 2, 2), (0.5, 2, 4), (0.25, 1, 4), (0.1, 1, 10), (0.4, 2, 4), (0.3, 1, 3), (2.0, 3, 1), (0.0, 2, 16)],
)
def test_a_fraction_of_a_gpu_lies_on_one_gpu(cluster: Any, gpus: float | None, have: int, concurrent: int) -> None:
    cluster({"CPU": 16, "GPU": have})
    place = resources.place(Settings(gpus=gpus), build_config())
    assert place.concurrent == concurrent
    assert place.trial_resources == {"CPU": 1.0, **({"GPU": 1.0 if gpus is None else gpus} if gpus != 0 else {})}


def test_the_process_that_drives_several_workers_takes_no_core(cluster: Any) -> None:
    cluster({"CPU": 2})
    assert resources.place(Settings(workers=2), build_config()).trial_resources["CPU"] == 0


@pytest.mark.parametrize(
    ("settings", "run", "sentence"),
    [
        (Settings(workers=5), {}, "a trial needs 5 workers of 1 cores and the cluster holds 4 such workers: lower --workers"),
        (Settings(), {"scale.cpus_per_worker": 8}, "a trial needs 1 workers of 8 cores and the cluster holds 0 such workers"),
        (Settings(gpus=1.0), {}, "a trial needs 1 workers of 1 cores and 1 GPUs and the cluster holds 0"),
        (Settings(), {"scale.use_gpu": "yes"}, r"scale\.use_gpu=yes and the cluster has no GPU: use auto or no"),
    ],
)
def test_what_can_never_fit_is_refused(cluster: Any, settings: Settings, run: dict[str, Any], sentence: str) -> None:
    cluster({"CPU": 4})
    with pytest.raises(FkpError, match=sentence):
        resources.place(settings, build_config(run))


def test_gpus_stay_unused_when_the_run_says_no(cluster: Any) -> None:
    cluster({"CPU": 4, "GPU": 1})
    place = resources.place(Settings(), build_config({"scale.use_gpu": "no"}))
    assert (place.gpus, place.concurrent) == (0, 4)
