"""The winner: trained for the full budget, registered, and champion only if its validation error is not worse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fkp.bundle import open_bundle
from fkp.config import Config
from fkp.errors import FkpError
from fkp.track.registry import Registry
from fkp.tune.options import Settings
from fkp.tune.refit import refit
from fkp.tune.results import Trial
from fkp.tune.space import Space
from fkp.tune.study import Study


def study_of(config: Config, name: str) -> Study:
    return Study(Path(config.track.storage) / name, Settings(name=name), config, Space(()))


def trial_of(sample: dict[str, Any]) -> Trial:
    return Trial(0, "abc", "finished", "", sample, (20.0,), 1.0, 1)


@pytest.fixture
def base(small_run: Callable[..., Config]) -> Config:
    return small_run(train__epochs=1, optim__lr=0.01)


@pytest.mark.over_5s("a training with all that follows it")
def test_the_winner_is_the_best_sample_trained_in_full_and_the_first_one_is_champion(base: Config) -> None:
    import mlflow

    winner = refit(study_of(base, "one"), trial_of({"optim.lr": 0.02, "model.head": "direct"}))
    bundle = open_bundle(winner.bundle_path)
    assert bundle.config.optim.lr == 0.02
    assert bundle.config.model.head == "direct"
    assert bundle.config.train.epochs == base.train.epochs
    assert bundle.metrics["validation"]["split_digest"]
    assert winner.report_path.is_file()
    assert winner.verdict == "version 1 of fkp; version 1 is the champion"
    crops_u8 = np.zeros((3, 1, 64, 64), np.uint8)
    answer = mlflow.pyfunc.load_model("models:/fkp@champion").predict(crops_u8)
    assert np.asarray(answer["points_px"]).shape == (3, 68, 2)


@pytest.mark.slow("two trainings with all that follows one")
def test_a_worse_winner_is_registered_and_not_promoted_and_both_figures_are_said(base: Config) -> None:
    good = refit(study_of(base, "good"), trial_of({"optim.lr": 0.01}))
    # A rate of nothing: the network stays as it was made.
    bad = refit(study_of(base, "bad"), trial_of({"optim.lr": 1e-9}))
    figures = [f"{open_bundle(winner.bundle_path).metrics['validation']['nme_interocular_pct']:.3f}" for winner in (good, bad)]
    assert bad.verdict.startswith("version 2 of fkp, not promoted: ")
    assert all(figure in bad.verdict for figure in figures)


@pytest.mark.slow("a training with all that follows it")
def test_a_winner_that_was_not_registered_is_not_trained_again(base: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object) -> None:
        raise FkpError("the registry is lost")

    with monkeypatch.context() as lost:
        lost.setattr(Registry, "register", lose)
        with pytest.raises(FkpError, match="the registry is lost"):
            refit(study_of(base, "twice"), trial_of({"optim.lr": 0.01}))
    monkeypatch.setattr("fkp.train.pipeline.train", lambda config: pytest.fail("it was trained again"))
    winner = refit(study_of(base, "twice"), trial_of({"optim.lr": 0.01}))
    assert winner.verdict == "version 1 of fkp; version 1 is the champion"
    assert winner.report_path.is_file()
