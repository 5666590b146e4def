"""One Ray cluster for the whole session of tests, and small runs to train on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fkp.config import Config, build
from fkp.train.driver import with_absolute_paths


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    import logging

    import ray

    import fkp.train.ray_backend  # noqa: F401  Sets Ray's environment before it starts.

    ray.init(num_cpus=4, dashboard_host="127.0.0.1", logging_level=logging.ERROR, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def small_run(synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """Make the Config of a run that takes seconds, in a folder and a record of its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    def make(**changes: Any) -> Config:
        settings: dict[str, Any] = {
            "data": {
                "source": "synthetic",
                "root": str(synthetic_root),
                "cache_dir": str(tmp_path / "cache"),
                "synthetic_faces": 160,
                "synthetic_seed": 7,
            },
            "input.size_px": 64,
            "model": {"width": 8, "depth": 1},
            "optim": {"global_batch_size": 16, "ema_decay": 0.9},
            "train": {"epochs": 3, "precision": "fp32"},
            "scale": {"num_workers": 0},
            "track": {"storage": str(tmp_path / "runs"), "run_name": "small"},
        }
        return with_absolute_paths(build(settings, {key.replace("__", "."): value for key, value in changes.items()}))

    return make
