"""What proposes and what stops trials, as the flags ask for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from ray.tune import schedulers

from fkp.config import Config
from fkp.errors import FkpError
from fkp.tune.algorithm import choose
from fkp.tune.options import Settings
from fkp.tune.results import Trial
from fkp.tune.space import Entry, Space
from fkp.tune.study import Study

SPACE = Space((Entry("optim.lr", "log", 0.001, 0.1, default=0.01), Entry("model.width", "choice", options=(8, 16), default=16)))


@pytest.fixture
def study_of(small_run: Callable[..., Config]) -> Callable[..., Study]:
    return lambda space=SPACE, **settings: Study(Path("nowhere"), Settings(**settings), small_run(), space)


def test_asha_counts_the_epochs_of_the_flags(study_of: Callable[..., Study]) -> None:
    scheduler = choose(study_of(epochs=9, grace=2, reduction=4), 2).scheduler
    assert isinstance(scheduler, schedulers.ASHAScheduler)
    assert (scheduler._time_attr, scheduler._max_t) == ("epochs", 9)
    assert [epochs for epochs, _ in scheduler._brackets[0]._rungs] == [8, 2]
    assert type(choose(study_of(scheduler="none"), 2).scheduler) is schedulers.FIFOScheduler


def test_optuna_begins_with_the_defaults_and_repeats_itself_with_its_seed(study_of: Callable[..., Study]) -> None:
    def samples(seed: int) -> list[dict[str, Any]]:
        algorithm = choose(study_of(seed=seed), 2)
        assert algorithm.concurrent == 2
        algorithm.search_alg.set_search_properties("val_nme_interocular_pct", "min", {})
        return [algorithm.search_alg.suggest(str(number)) for number in range(4)]

    first = samples(0)
    assert first[0] == {"optim.lr": 0.01, "model.width": 16}
    assert all(0.001 <= sample["optim.lr"] <= 0.1 and sample["model.width"] in (8, 16) for sample in first)
    assert samples(0) == first
    assert samples(1) != first


FOUND = [Trial(number, f"old{number}", "stopped", "", {"optim.lr": 0.001, "model.width": 8}, (20.0,), 1.0, 1) for number in range(3)]


@pytest.fixture
def more_of(study_of: Callable[..., Study]) -> Callable[..., Study]:
    """A search that has found `FOUND`, and a trial that failed and one that was lost before it told anything, and goes on."""

    def make(**settings: Any) -> Study:
        study = study_of(trials=8, **settings)
        others = [Trial(3, "failed", "failed", "out of memory", {"optim.lr": 0.1, "model.width": 16}, (), 1.0, 1)]
        study.trials = {trial.trial_id: trial for trial in (*FOUND, *others)}
        study.earlier = len(study.trials)
        return study

    return make


def test_what_was_found_is_known_to_optuna_when_more_trials_are_asked_for(more_of: Callable[..., Study]) -> None:
    search = choose(more_of(), 2).search_alg
    told = [(trial.params, trial.value) for trial in search._ot_study.trials]
    assert told == [*[({"optim.lr": 0.001, "model.width": 8}, 20.0)] * 3, ({"optim.lr": 0.1, "model.width": 16}, 100.0)]
    assert search.suggest("new")["optim.lr"] != 0.01, "the defaults were tried"


@pytest.mark.parametrize("algo", ["optuna", "random"])
def test_more_trials_are_not_the_first_ones_again(study_of: Callable[..., Study], more_of: Callable[..., Study], algo: str) -> None:
    def drawn(study: Study) -> list[float]:
        algorithm = choose(study, 2)
        if algo == "optuna":
            return [algorithm.search_alg.suggest(str(number))["optim.lr"] for number in range(3)]
        return list(algorithm.search_alg._random_state.random(3))

    again = drawn(more_of(algo=algo))
    assert again == drawn(more_of(algo=algo)), "what is drawn has its seed"
    assert not set(again) & set(drawn(study_of(algo=algo, blind=True)))


def test_more_trials_are_held_against_those_that_were_found(more_of: Callable[..., Study]) -> None:
    scheduler = choose(more_of(epochs=9), 2).scheduler
    scheduler.set_search_properties("val_nme_interocular_pct", "min")
    for name, nme, action in (("worse", 21.0, "STOP"), ("better", 19.0, "CONTINUE")):
        scheduler.on_trial_add(None, Mock(trial_id=name))
        assert scheduler.on_trial_result(None, Mock(trial_id=name), {"epochs": 1, "val_nme_interocular_pct": nme}) == action


def test_a_grid_is_every_point(study_of: Callable[..., Study]) -> None:
    algorithm = choose(study_of(algo="grid"), 2)
    assert algorithm.search_alg is None
    assert {path: domain["grid_search"] for path, domain in algorithm.param_space.items()} == {
        "optim.lr": pytest.approx([0.001, 0.01, 0.1]),
        "model.width": [8, 16],
    }


@pytest.mark.parametrize("settings", [{"algo": "random"}, {"scheduler": "pbt"}])
def test_random_search_keeps_the_concurrency_itself(study_of: Callable[..., Study], settings: dict[str, Any]) -> None:
    algorithm = choose(study_of(**settings), 3)
    assert algorithm.concurrent is None
    assert algorithm.search_alg.max_concurrent == 3
    assert set(algorithm.param_space) == {"optim.lr", "model.width"}


def test_population_based_training_changes_only_what_does_not_shape_the_network(study_of: Callable[..., Study]) -> None:
    scheduler = choose(study_of(scheduler="pbt", grace=2), 2).scheduler
    assert set(scheduler._hyperparam_mutations) == {"optim.lr"}
    assert scheduler._perturbation_interval == 2
    with pytest.raises(FkpError, match=r"--scheduler pbt needs a space with one of optim\.lr"):
        choose(study_of(Space(SPACE.entries[1:]), scheduler="pbt"), 2)


def test_hyperband_counts_the_epochs_of_the_flags_and_not_the_trials_that_wait(study_of: Callable[..., Study]) -> None:
    scheduler = choose(study_of(scheduler="hyperband", epochs=9, reduction=3), 2).scheduler
    assert isinstance(scheduler, schedulers.HyperBandScheduler)
    scheduler.set_search_properties("nme", "min")
    controller = Mock()
    trials = [Mock(status="RUNNING", is_saving=False) for _ in range(4)]
    controller.get_trials.return_value = trials
    for trial in trials:  # Three for a bracket whose members all train to the end, and the first of the next one.
        scheduler.on_trial_add(controller, trial)
    scheduler.choose_trial_to_run(controller)
    assert controller.search_alg.searcher.max_concurrent == 2
    assert scheduler.on_trial_result(controller, trials[0], {"epochs": 8, "nme": 1.0}) == "CONTINUE"
    assert scheduler.on_trial_result(controller, trials[0], {"epochs": 9, "nme": 1.0}) == "PAUSE"
    trials[0].status = "PAUSED"
    scheduler.choose_trial_to_run(controller)
    assert controller.search_alg.searcher.max_concurrent == 3


def test_a_bracket_of_hyperband_takes_no_more_than_its_members(study_of: Callable[..., Study]) -> None:
    scheduler = choose(study_of(scheduler="hyperband", epochs=3, reduction=3), 1).scheduler
    scheduler.set_search_properties("nme", "min")
    controller, trials = Mock(), [Mock(status="RUNNING", is_saving=False) for _ in range(5)]
    for trial in trials[:2]:  # The first bracket's, one after the other.
        scheduler.on_trial_add(controller, trial)
        scheduler.on_trial_complete(controller, trial, {})
    actions = []
    for nme, trial in enumerate(trials[2:]):  # The second's: each waits after an epoch until the third is there.
        scheduler.on_trial_add(controller, trial)
        actions.append(scheduler.on_trial_result(controller, trial, {"epochs": 1, "nme": float(nme)}))
        trial.status = "PAUSED"
    assert actions == ["PAUSE", "PAUSE", "STOP"]
    controller.stop_trial.assert_called_once_with(trials[3])
    controller.get_trials.return_value = trials[2:3]
    assert scheduler.choose_trial_to_run(controller) is trials[2]


def test_a_bracket_waits_for_its_members_also_where_one_trial_runs_at_a_time(study_of: Callable[..., Study]) -> None:
    scheduler = choose(study_of(scheduler="hyperband", epochs=3, reduction=3), 1).scheduler
    scheduler.set_search_properties("nme", "min")
    controller, trials = Mock(), [Mock(status="RUNNING", is_saving=False) for _ in range(4)]
    for trial in trials[:2]:  # The first bracket's.
        scheduler.on_trial_add(controller, trial)
        scheduler.on_trial_complete(controller, trial, {})
    for nme, trial in enumerate(trials[2:]):  # Two of the three of the second.
        scheduler.on_trial_add(controller, trial)
        assert scheduler.on_trial_result(controller, trial, {"epochs": 1, "nme": float(nme)}) == "PAUSE"
        trial.status = "PAUSED"
        controller.get_trials.return_value = trials[2:3] if nme == 0 else trials[2:]
        # The searcher was asked with room for none; now it has room for the next.
        assert scheduler.choose_trial_to_run(controller) is None
        controller.stop_trial.assert_not_called()
    # Asked again, it has brought none: the bracket halts with what it has.
    assert scheduler.choose_trial_to_run(controller) is trials[2]
    controller.stop_trial.assert_called_once_with(trials[3])


def test_hyperband_misses_a_trial_that_fails_after_a_halt(study_of: Callable[..., Study]) -> None:
    scheduler = choose(study_of(scheduler="hyperband", epochs=4, reduction=2), 2).scheduler
    scheduler.set_search_properties("nme", "min")
    controller = Mock()
    trials = [Mock(status="RUNNING", is_saving=False) for _ in range(6)]
    for trial in trials:
        scheduler.on_trial_add(controller, trial)
    bracket = trials[3:]  # Of three that halt after 2 of 4 epochs, where two go on.
    for nme, trial in enumerate(bracket):
        action = scheduler.on_trial_result(controller, trial, {"epochs": 2, "nme": float(nme)})
        trial.status = {"PAUSE": "PAUSED", "STOP": "TERMINATED"}[action]
    assert [trial.status for trial in bracket] == ["PAUSED", "PAUSED", "TERMINATED"]
    trials[3].status = trials[4].status = "RUNNING"
    assert scheduler.on_trial_result(controller, trials[3], {"epochs": 4, "nme": 0.0}) == "PAUSE"
    trials[3].status = "PAUSED"
    scheduler.on_trial_error(controller, trials[4])
    controller.stop_trial.assert_called_with(trials[3])
