"""A training in this process that is broken off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fkp.config import Config
from fkp.train import loop
from fkp.train.metric_log import WriteMetrics


@pytest.fixture
def break_off(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`break_off(config, folder, write)` trains until the third epoch and is broken off in it."""

    class Killed(Exception):
        pass

    def report(progress: Mapping[str, float]) -> None:
        if progress["epoch"] == 2:
            raise Killed

    def train(config: Config, folder: Path, write: WriteMetrics | None = None) -> None:
        monkeypatch.setattr(loop.ProgressReport, "EVERY_S", 0.0)
        with pytest.raises(Killed):
            loop.fit_in_process(config, folder, report, write)

    return train
