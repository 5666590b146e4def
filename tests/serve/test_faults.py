"""A promotion and a killed replica while requests run, over real HTTP; benchmarks/serve_faults.py does more of both."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from fkp.bundle import Bundle
from fkp.serve import launch

from .conftest import Endpoint

_PATIENCE_S = 100
CLIENTS = 3

pytestmark = pytest.mark.slow("two replicas start, and more when they are replaced; test_endpoint.py swaps models in one")


class Load:
    """Requests of a few clients, 20 a second together, while something else happens."""

    def __init__(self, url: str, photo: bytes, box: str) -> None:
        self._url, self._photo, self._box = url, photo, box
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(CLIENTS)
        self.answers: list[tuple[int, str]] = []

    def _run(self) -> None:
        with requests.Session() as session:
            while not self._stop.wait(CLIENTS / 20):
                answer = session.post(f"{self._url}/v1/keypoints", self._photo, params={"box": self._box}, timeout=_PATIENCE_S)
                self.answers.append((answer.status_code, answer.json()["model"]["digest"] if answer.ok else answer.text))

    def __enter__(self) -> Load:
        self._clients = [self._pool.submit(self._run) for _ in range(CLIENTS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown()

    def check(self) -> None:
        """Every request was answered, and well."""
        for client in self._clients:
            client.result()
        assert {status for status, _ in self.answers} == {200}, [answer for answer in self.answers if answer[0] != 200][:3]

    def wait_for(self, digest: str, times: int = 2 * CLIENTS) -> None:
        """Until nothing else has answered for a while."""
        until = time.monotonic() + _PATIENCE_S
        while [found for _, found in self.answers[-times:]] != [digest] * times:
            assert time.monotonic() < until, "the model was not swapped"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def own_store(store: tuple[str, list[Bundle]], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry that may be changed."""
    return f"sqlite:///{shutil.copy(store[0].removeprefix('sqlite:///'), tmp_path_factory.mktemp('own'))}"


@pytest.fixture(scope="module")
def two_replicas(endpoint: Endpoint, own_store: str, tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    """The endpoint serves version 1 of a registry."""
    variables = {"MLFLOW_TRACKING_URI": own_store, "FKP_CACHE": str(tmp_path_factory.mktemp("cache"))}
    endpoint.deployment["autoscaling_config"] |= {"min_replicas": 2, "max_replicas": 2}
    endpoint.deployment["ray_actor_options"] = {"num_cpus": 0.5, "runtime_env": {"env_vars": variables}}
    endpoint.deploy(bundle="models:/fkp/1")
    return endpoint


@pytest.fixture(scope="module")
def box_text() -> str:
    points = json.loads((Path(launch.__file__).parent / "golden/points.json").read_text())
    xs, ys = zip(*points, strict=True)
    return f"{min(xs)},{min(ys)},{max(xs)},{max(ys)}"


def test_a_promotion_changes_the_model_and_no_request_fails(
    two_replicas: Endpoint,
    store: tuple[str, list[Bundle]],
    own_store: str,
    photo: bytes,
    box_text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fkp.track.__main__ import main as track

    first, second = store[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own_store)
    stopped = threading.Event()
    following = threading.Thread(target=launch.watch_alias, args=(stopped, copy.deepcopy(two_replicas.config), "1", 0.2))
    with Load(two_replicas.url, photo, box_text) as load:
        load.wait_for(first.digest)
        following.start()
        try:
            track(["promote", "2", "--force"])
            load.wait_for(second.digest)
        finally:
            stopped.set()
            following.join()
    load.check()
    assert {digest for _, digest in load.answers} == {first.digest, second.digest}


def test_a_killed_replica_is_replaced_and_no_more_than_its_own_requests_fail(
    two_replicas: Endpoint, photo: bytes, box_text: str, replica_processes: Callable[[], list[int]]
) -> None:
    wait_for(lambda: len(replica_processes()) == 2)
    victim, other = replica_processes()
    with Load(two_replicas.url, photo, box_text) as load:
        time.sleep(0.5)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(set(replica_processes()) - {victim, other}) == 1)
    failed = [answer for answer in load.answers if answer[0] != 200]
    assert len(failed) <= CLIENTS, failed


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture
def replica_processes(ray_cluster: None) -> Callable[[], list[int]]:
    """Process numbers of the replicas that answer."""
    import ray
    from ray import serve
    from ray.util.state import list_actors

    def find() -> list[int]:
        status = serve.status().applications[launch.APPLICATION].deployments["Landmarks"]
        alive = [("state", "=", "ALIVE"), ("class_name", "=", "ServeReplica:fkp:Landmarks")]
        actors = list_actors(ray.get_runtime_context().gcs_address, filters=alive)
        return [actor.pid for actor in actors] if status.replica_states.get("RUNNING", 0) == len(actors) else []

    return find
