"""One endpoint on the session's Ray cluster, serving the shipped model over real HTTP."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from fkp.bundle import Bundle, open_bundle, update_bundle
from fkp.common.ports import free_port
from fkp.predict import DEFAULT_BUNDLE, Predictor
from fkp.vision.crop import box_of_points
from fkp.vision.image import Image, decode_image

REPO = Path(__file__).resolve().parents[2]
GOLDEN = REPO / "fkp/serve/golden"
MAX_IN_PROGRESS = 8


@dataclass
class Endpoint:
    """A running endpoint.

    Attributes:
        url: Where it answers.
        config: What is deployed.
    """

    url: str
    config: dict[str, Any]
    session: requests.Session = field(default_factory=requests.Session)

    def post(self, path: str, data: Any = None, **options: Any) -> requests.Response:
        return self.session.post(self.url + path, data=data, timeout=30, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=30, **options)

    def deploy(self, **user_config: Any) -> None:
        """Change settings as `serve deploy` does."""
        from fkp.serve import launch

        self.deployment["user_config"] |= user_config
        launch.deploy(copy.deepcopy(self.config))

    @property
    def application(self) -> dict[str, Any]:
        return self.config["applications"][0]

    @property
    def deployment(self) -> dict[str, Any]:
        return self.application["deployments"][0]


@pytest.fixture(scope="session")
def champion() -> Bundle:
    return open_bundle(DEFAULT_BUNDLE)


@pytest.fixture(scope="session")
def offline(champion: Bundle) -> Predictor:
    return Predictor(champion)


@pytest.fixture(scope="session")
def photo() -> bytes:
    """The golden face: a JPEG with one drawn face that detector and model find."""
    return (GOLDEN / "face.jpg").read_bytes()


@pytest.fixture(scope="session")
def box() -> np.ndarray:
    import json

    return box_of_points(np.asarray(json.loads((GOLDEN / "points.json").read_text()), np.float32))


@pytest.fixture(scope="session")
def image(photo: bytes) -> Image:
    return decode_image(photo)


@pytest.fixture(scope="session")
def copy_of(champion: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """The shipped model under another digest."""

    def make(name: str) -> Bundle:
        folder = tmp_path_factory.mktemp("bundles") / name
        shutil.copytree(champion.path, folder)
        return update_bundle(folder, {**champion.metrics, "copy": name}, champion.card)

    return make


@pytest.fixture(scope="module")  # Its replica must not hold a part of the cluster that other tests count on.
def endpoint(ray_cluster: None, champion: Bundle) -> Iterator[Endpoint]:
    from ray import serve

    from fkp.serve import launch

    port = free_port()
    # On a busy machine several clients would now and then be too much for one replica; what is refused has its own test.
    config = launch.settings(launch.CONFIG, "127.0.0.1", port, str(champion.path), (), replicas=1, max_in_progress=MAX_IN_PROGRESS)
    running = Endpoint(f"http://127.0.0.1:{port}", config)
    running.deployment["ray_actor_options"] = {"num_cpus": 0.5}
    running.deploy()
    yield running
    serve.shutdown()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, copy_of: Callable[[str], Bundle]) -> tuple[str, list[Bundle]]:
    """A store with two versions; the first is the champion. A test that changes it copies its database first."""
    from fkp.track.registry import Registry
    from fkp.track.run import recording

    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder}/mlflow.db"
    bundles = [copy_of("first"), copy_of("second")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        registry = Registry()
        for bundle in bundles:
            with recording(bundle.config, {}) as record:
                record.log_artifacts(bundle.path, "bundle")
                registry.register(bundle.path, record.run_id)
        registry.promote(1)
    return uri, bundles
