"""Which settings mattered: the study made of the trials, and its importances."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from fkp.tune.importance import compare
from fkp.tune.results import State, Trial


def trial(number: int, *nme: float, state: State = "finished", **sample: Any) -> Trial:
    return Trial(number, f"t{number}", state, "", {key.replace("__", "."): value for key, value in sample.items()}, nme, 60.0, 1.0)


def searched(count: int = 40) -> list[Trial]:
    """Trials whose error hangs on the learning rate; the depth does nothing."""
    random = np.random.default_rng(0)
    trials = []
    for number in range(count):
        sample = {"optim__lr": float(10 ** random.uniform(-4, -2)), "model__depth": int(random.integers(1, 4))}
        trials.append(trial(number, 30.0, float(5 + (np.log10(sample["optim__lr"]) + 3) ** 2 + random.normal(0, 0.02)), **sample))
    return trials


def test_the_setting_that_mattered_is_found_and_twice_the_same() -> None:
    first, second = compare(searched(), 2), compare(searched(), 2)
    assert list(first.importances) == ["lr", "depth"] and first.importances["lr"] > 0.8
    assert sum(first.importances.values()) == pytest.approx(1)
    assert first.importances == second.importances
    assert (first.why_no_study, first.why_no_importances, first.notes) == ("", "", ())


def test_trials_are_compared_after_the_epoch_that_all_reach() -> None:
    trials = [
        trial(0, 9.0, 8.0, 2.0, a__x=1),
        trial(1, 9.5, 7.0, state="stopped", a__x=2),
        trial(2, 6.0, state="running", a__x=3),
        trial(3, 5.0, 4.0, state="failed", a__x=4),
        trial(4, state="pending", a__x=5),
    ]
    found = compare(trials, 2)
    assert found.study is not None
    assert [each.value for each in found.study.trials] == [8.0, 7.0]
    assert (found.left_out, [each.number for each in found.trials]) == (3, [0, 1])
    assert "NME after epoch 2" in found.basis and "2 trials, 3 left out" in found.basis


def test_ranges_are_inferred_from_the_values() -> None:
    trials = [
        trial(0, 5.0, a__rate=1e-4, a__width=16, a__drop=0.0, a__flag=True, a__stages=[1, 2], a__head="x", a__same=3),
        trial(1, 6.0, a__rate=1e-2, a__width=48, a__drop=0.5, a__flag=False, a__stages=None, a__head="y", a__same=3),
    ]
    study = compare(trials, 1).study
    assert study is not None
    assert study.trials[0].distributions == {
        "rate": FloatDistribution(1e-4, 1e-2, log=True),
        "width": IntDistribution(16, 48),
        "drop": FloatDistribution(0.0, 0.5),
        "flag": CategoricalDistribution(["false", "true"]),
        "stages": CategoricalDistribution(["[1, 2]", "null"]),
        "head": CategoricalDistribution(["x", "y"]),
    }
    assert study.trials[1].params["stages"] == "null"


def test_given_distributions_are_used_unless_a_value_lies_outside() -> None:
    trials = [trial(0, 5.0, a__rate=0.1, a__width=16, a__stages=[1]), trial(1, 6.0, a__rate=0.2, a__width=99, a__stages=None)]
    given = {
        "a.rate": FloatDistribution(0.0, 1.0),
        "a.width": CategoricalDistribution([16, 32]),
        "a.stages": CategoricalDistribution(["[1]", None, "[2]"]),
    }
    found = compare(trials, 1, given)
    assert found.study is not None
    used = found.study.trials[0].distributions
    assert used["rate"] == FloatDistribution(0.0, 1.0)
    assert used["width"] == IntDistribution(16, 99)
    assert used["stages"] == CategoricalDistribution(["[1]", "null", "[2]"])
    assert [note for note in found.notes if "outside" in note] == [
        "width has values outside of what it was to be sampled from; its range is that of the values."
    ]


def test_a_setting_that_only_some_trials_have_is_drawn_but_not_judged() -> None:
    heatmap = [trial(number, 5.0 + number, a__head="heatmap", a__size=number) for number in range(6)]
    direct = [trial(number, 20.0 + number, a__head="direct") for number in range(6, 12)]
    found = compare([*heatmap, *direct], 1)
    assert set(found.importances) == {"head"} and found.study is not None and "size" in found.study.trials[0].params
    assert "fANOVA judges only settings that all trials have: without size." in found.notes
    only = compare([trial(each.number, *each.nme_by_epoch, **{f"a__{each.number % 2}": each.number}) for each in heatmap], 1)
    assert only.study is not None and only.importances == {}
    assert only.why_no_importances == "No setting that varies is in all 6 trials, and fANOVA judges only such."


def test_a_choice_that_decides_is_found() -> None:
    random = np.random.default_rng(1)
    samples = [
        {"a__head": str(random.choice(["x", "y"])), "a__rate": random.uniform(), "a__size": int(random.integers(9))} for _ in range(24)
    ]
    trials = [trial(n, 5.0 + (sample["a__head"] == "x") + random.normal(0, 0.2), **sample) for n, sample in enumerate(samples)]
    assert next(iter(compare(trials, 1).importances)) == "head"


@pytest.mark.parametrize(
    ("trials", "sentence"),
    [
        ([], "Only 0 trials reached epoch 1 without failing"),
        ([trial(0, 5.0, a__x=1)], "Only 1 trial reached epoch 1 without failing"),
        ([trial(0, 5.0, a__x=1, state="failed"), trial(1, 6.0, a__x=2, state="failed")], "Only 0 trials"),
        ([trial(0, 5.0, a__x=1), trial(1, 6.0, a__x=1)], "All 2 trials that reached epoch 1 have the same settings."),
        ([trial(0, 5.0, a__x=1), trial(1, 5.0, a__x=2)], "All 2 trials that reached epoch 1 have the same NME there"),
    ],
)
def test_where_nothing_can_be_compared_one_sentence_says_why(trials: list[Trial], sentence: str) -> None:
    found = compare(trials, 1)
    assert found.study is None and found.importances == {}
    assert found.why_no_study.startswith(sentence) and found.why_no_importances == found.why_no_study
    assert found.why_no_study.count(". ") == 0 and found.why_no_study.endswith(".")


def test_few_trials_give_a_comparison_without_importances_and_more_a_hint() -> None:
    few, some = compare(searched(4), 2), compare(searched(8), 2)
    assert few.study is not None and few.importances == {}
    assert few.why_no_importances == "Only 4 trials reached epoch 2, and importances need 5."
    assert some.importances and some.notes == ("Importances from fewer than 20 trials are a hint, no finding.",)


def test_making_the_study_is_silent_and_leaves_the_log_level_alone(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    compare(searched(6), 2)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr().err == ""


def test_an_epoch_before_the_first_is_refused() -> None:
    with pytest.raises(ValueError, match="grace_epochs=0"):
        compare([], 0)
