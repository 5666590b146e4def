"""Trials of a search: order, table, cost, time left, JSON."""

from __future__ import annotations

import io
import json
from typing import Any

import pandas as pd
import pytest

from fkp.errors import FkpError
from fkp.tune.results import State, Trial, best, cost, from_json, ranked, short_names, table, time_left, to_json, varied


def trial(number: int, state: State, *nme: float, seconds: float = 0.0, cores: float = 1.0, **sample: Any) -> Trial:
    return Trial(number, f"t{number}", state, "", {key.replace("__", "."): value for key, value in sample.items()}, nme, seconds, cores)


def test_a_trial_knows_its_best_epoch_and_its_core_seconds() -> None:
    one = trial(0, "running", 9.0, 5.0, 6.0, seconds=30, cores=2)
    assert (one.best_nme, one.epochs, one.core_seconds, one.ended) == (5.0, 3, 60, False)
    assert trial(1, "pending").best_nme is None


def test_best_leaves_out_failed_trials_and_those_without_an_epoch() -> None:
    trials = [trial(0, "failed", 1.0), trial(1, "stopped", 7.0), trial(2, "finished", 9.0, 4.0, 5.0), trial(3, "pending")]
    assert best(trials) is trials[2]
    assert [each.number for each in ranked(trials)] == [2, 1, 3, 0]
    assert best([trials[0], trials[3]]) is None
    assert best([]) is None


def test_of_equal_trials_the_earlier_one_is_best() -> None:
    assert best([trial(1, "finished", 4.0), trial(0, "finished", 4.0)]).number == 0  # type: ignore[union-attr]


def test_cost_compares_the_same_trials_and_takes_each_at_its_own_speed() -> None:
    trials = [
        trial(0, "finished", *[5.0] * 10, seconds=100, cores=2),
        trial(1, "stopped", 8.0, 8.0, seconds=60, cores=1),
        trial(2, "failed", 8.0, 8.0, 8.0, seconds=7, cores=1),
        trial(3, "running", 8.0, seconds=3, cores=1),
        trial(4, "stopped", seconds=2, cores=1),
        trial(5, "pending"),
    ]
    found = cost(trials, max_epochs=10)
    assert (found.trials, found.epochs_spent, found.epochs_full, found.epochs_other) == (2, 12, 20, 4)
    # 200 core-seconds, and 30 s an epoch for ten epochs.
    assert (found.core_seconds_spent, found.core_seconds_full, found.core_seconds_other) == (260, 500, 12)
    assert found.epochs_saved_part == pytest.approx(0.4)
    assert found.core_seconds_saved_part == pytest.approx(0.48)


def test_cost_of_nothing_saves_nothing() -> None:
    found = cost([trial(0, "failed", 3.0)], max_epochs=5)
    assert (found.trials, found.epochs_saved_part, found.core_seconds_saved_part) == (0, 0.0, 0.0)
    with pytest.raises(ValueError, match="max_epochs=0"):
        cost([], 0)


def test_time_left_is_unknown_before_a_trial_with_an_epoch_has_ended() -> None:
    assert time_left([], 5, 10, 2) is None
    assert time_left([trial(0, "running", 5.0, seconds=3), trial(1, "failed", seconds=1)], 5, 10, 2) is None


def test_time_left_spreads_the_expected_epochs_over_the_slots() -> None:
    ended = [trial(0, "finished", *[5.0] * 10, seconds=40), trial(1, "stopped", 8.0, 8.0, seconds=8)]
    # 4 s an epoch, 6 epochs a trial: four to come on two slots.
    assert time_left(ended, 6, 10, 2) == pytest.approx(4 * 6 * 4 / 2)
    # One that is past where the stopped one ended is expected to do as the finished one did.
    assert time_left([*ended, trial(2, "running", *[6.0] * 3)], 3, 10, 1) == pytest.approx(7 * 4)
    # No trial is split over two slots.
    assert time_left([*ended, trial(2, "running", *[6.0] * 3)], 3, 10, 8) == pytest.approx(7 * 4)
    assert time_left([*ended, trial(2, "pending")], 3, 10, 1) == pytest.approx(6 * 4)


def test_time_left_of_a_search_that_is_done_is_zero_and_bad_counts_are_refused() -> None:
    assert time_left([trial(0, "stopped", 3.0, seconds=5)], 1, 10, 4) == 0
    with pytest.raises(ValueError, match="concurrency"):
        time_left([], 1, 10, 0)


def test_short_names_keep_the_path_where_the_last_part_is_ambiguous() -> None:
    names = short_names(["optim.lr", "model.width", "head.width", "optim.lr"])
    assert names == {"optim.lr": "lr", "model.width": "model.width", "head.width": "head.width"}


def test_varied_tells_lists_booleans_and_missing_values_apart() -> None:
    trials = [
        trial(0, "finished", a__same=1, a__list=[1, 2], a__flag=True, a__late=None),
        trial(1, "finished", a__same=1, a__list=[1, 3], a__flag=1),
        trial(2, "finished", a__same=1, a__list=[1, 2], a__flag=True, a__some="x"),
    ]
    assert varied(trials) == ["a.list", "a.flag"]


def test_the_table_is_sorted_and_keeps_values_as_they_were_sampled() -> None:
    trials = [
        trial(0, "stopped", 8.0, 9.0, seconds=6, cores=2, model__width=32),
        trial(1, "pending"),
        trial(2, "finished", 4.0, optim__lr=0.1),
    ]
    frame = table(trials)
    assert list(frame.columns) == [
        *["number", "trial_id", "state", "reason", "epochs", "best_nme_pct", "last_nme_pct"],
        *["seconds", "core_seconds", "optim.lr", "model.width"],
    ]
    assert frame["number"].tolist() == [2, 0, 1]
    row = frame.iloc[1]
    assert (row["best_nme_pct"], row["last_nme_pct"], row["core_seconds"]) == (8.0, 9.0, 12)
    assert frame["model.width"].tolist() == [None, 32, None] and isinstance(frame["model.width"][1], int)
    read = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    assert read["best_nme_pct"].isna().tolist() == [False, False, True]


def test_the_table_of_no_trials_is_empty() -> None:
    assert table([]).empty and "best_nme_pct" in table([]).columns


def test_json_brings_every_trial_back() -> None:
    trials = [trial(0, "failed", 8.5, 7.25, seconds=1.5, a__list=[1, [2]], a__none=None, a__text="ü <b>"), trial(1, "pending")]
    assert from_json(to_json(trials)) == trials
    assert json.loads(to_json(trials))[0]["nme_by_epoch"] == [8.5, 7.25]


def test_json_refuses_what_is_no_number_and_what_is_no_list_of_trials() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json([trial(0, "finished", float("nan"))])
    for text in ["{", "[1]", '[{"number": 1}]', to_json([trial(0, "finished")]).replace('"cores"', '"kernels"')]:
        with pytest.raises(FkpError, match="list of trials"):
            from_json(text)
    with pytest.raises(FkpError, match="unknown state 'paused'"):
        from_json(to_json([trial(0, "finished")]).replace("finished", "paused"))
