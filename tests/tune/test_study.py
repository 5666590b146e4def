"""A search on disk: what its trials become, what it may be resumed with, and that one process at a time holds it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from fkp import track
from fkp.common import storage
from fkp.config import Config
from fkp.errors import FkpError
from fkp.tune import record
from fkp.tune.options import Settings
from fkp.tune.space import Entry, Space
from fkp.tune.study import Study, StudyCallback, TimeBudgetStopper, open_study
from fkp.tune.trial import FAILED
from tests.faces import VAL_NME

SPACE = Space((Entry("optim.lr", "log", 0.001, 0.1),))


@pytest.fixture
def study(small_run: Callable[..., Config]) -> Iterator[Study]:
    with open_study(Settings(trials=2, epochs=3, name="small"), small_run(), SPACE) as study:
        yield study


def begin(study: Study, trial_id: str, **sample: Any) -> None:
    study.proposed(trial_id, {"optim.lr": 0.01})
    study.started(trial_id, {"optim.lr": 0.01})


def tell(study: Study, trial_id: str, *nme: float, first: int = 1) -> None:
    for epochs, value in enumerate(nme, first):
        study.reported(trial_id, {"epochs": epochs, VAL_NME: value, "time_total_s": float(epochs)})


def test_trials_keep_the_order_in_which_they_were_proposed(study: Study) -> None:
    study.proposed("b", {"optim.lr": 0.01})
    begin(study, "a")
    assert [(trial.number, trial.trial_id, trial.state) for trial in study.ordered()] == [(0, "b", "pending"), (1, "a", "running")]


def test_a_trial_that_fails_before_it_begins_is_over_and_in_the_record(study: Study) -> None:
    """Its process may be lost while it starts; the search must not wait for it for ever."""

    class Told:
        trial_id, config = "early", {"optim.lr": 0.01}

        def get_error(self) -> str:
            return "traceback\nthe process was lost"

    StudyCallback(study).on_trial_error(0, [Told()], Told())
    (trial,) = study.ordered()
    assert (trial.state, trial.reason) == ("failed", "the process was lost")


def test_a_trial_is_finished_stopped_or_failed_as_its_epochs_and_its_error_say(study: Study) -> None:
    for name in ("all", "few", "bad", "error"):
        begin(study, name)
    tell(study, "all", 9.0, 8.0, 7.0)
    tell(study, "few", 9.0)
    study.reported("bad", {"epochs": 0, VAL_NME: 100.0, FAILED: "out of memory: 3 GiB"})
    for name in ("all", "few", "bad"):
        study.ended(name)
    study.ended("error", "it broke")
    told = {trial.trial_id: (trial.state, trial.reason, trial.epochs) for trial in study.ordered()}
    assert told == {
        "all": ("finished", "", 3),
        "few": ("stopped", "by asha after 1 of 3 epochs", 1),
        "bad": ("failed", "out of memory: 3 GiB", 0),
        "error": ("failed", "it broke", 0),
    }


def test_an_epoch_that_is_trained_again_replaces_the_first(study: Study) -> None:
    begin(study, "a")
    tell(study, "a", 9.0, 8.0)
    begin(study, "a")
    tell(study, "a", 8.5, 7.0, first=2)
    assert study.trials["a"].nme_by_epoch == (9.0, 8.5, 7.0)


def test_a_trial_that_took_over_the_weights_of_another_is_finished_at_the_last_epoch(study: Study) -> None:
    begin(study, "a")
    tell(study, "a", 9.0)
    tell(study, "a", 7.0, first=3)
    study.ended("a")
    assert (study.trials["a"].state, study.trials["a"].epochs) == ("finished", 2), "it has trained two of the three itself"


def test_a_trial_ends_with_its_last_epoch_whatever_the_scheduler_would_do_with_it(study: Study) -> None:
    """Population-based training would move it to other weights, with nothing left to train, and it never ended."""
    stop = TimeBudgetStopper(study)
    assert [stop("a", {"epochs": epochs}) for epochs in (0, 2, 3)] == [False, False, True]
    assert not stop.stop_all()


@pytest.mark.parametrize("nme", [float("inf"), float("nan")])
def test_an_error_that_is_no_number_fails_the_trial_and_not_the_search(study: Study, nme: float) -> None:
    begin(study, "a")
    tell(study, "a", 9.0, nme)
    study.ended("a")
    trial = study.trials["a"]
    assert (trial.state, trial.nme_by_epoch) == ("failed", (9.0,))
    assert trial.reason == f"the validation error became {nme} in epoch 1: lower optim.lr or set optim.grad_clip"
    assert json.loads((study.folder / "trials.json").read_text())[0]["state"] == "failed"


def test_a_search_without_a_trial_that_succeeded_says_why_and_keeps_its_table(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    from fkp.track.write_ahead_log import WriteAheadLog

    study.log = WriteAheadLog.open(study.folder / "outbox.jsonl", "fkp")
    record.begin(study, "digest")
    for name in ("a", "b"):
        begin(study, name)
        study.reported(name, {"epochs": 0, VAL_NME: 100.0, FAILED: "out of memory: 3 GiB"})
        study.ended(name)
    assert study.close()
    with pytest.raises(
        FkpError, match=r"^no trial of search small succeeded, most often because: out of memory: 3 GiB; .*trials\.csv lists"
    ):
        record.finish(study)
    assert (study.folder / "charts/trials.csv").read_text().count("out of memory") == 2
    assert record.close(study, "FAILED") == ""


def test_a_second_process_is_refused(study: Study) -> None:
    with pytest.raises(FkpError, match="search small is being trained by another process"), open_study(study.settings, study.config, SPACE):
        pass


def test_a_resumed_search_knows_its_trials_and_its_time(small_run: Callable[..., Config]) -> None:
    settings, config = Settings(trials=2, epochs=1, name="small"), small_run()
    with open_study(settings, config, SPACE) as study:
        begin(study, "a")
        begin(study, "b")
        tell(study, "a", 9.0)
        study.ended("a")
        assert not study.close(), "a trial is not done"
        study.seconds = 100.0
        study.save()
    with open_study(Settings(trials=2, epochs=1, name="small", resume=True), config, SPACE) as study:
        assert [trial.state for trial in study.ordered()] == ["finished", "running"]
        assert study.elapsed_s > 100


@pytest.mark.parametrize(
    ("changes", "space", "sentence"),
    [
        ({}, SPACE, r"search small exists: continue with it by --resume, or choose another --name"),
        ({"resume": True, "trials": 9}, SPACE, r"other settings: search\.trials=9 \(was 2\)"),
        ({"resume": True}, Space((Entry("optim.lr", "log", 0.001, 0.2),)), r"other settings: space\.optim\.lr\.log"),
    ],
)
def test_a_name_that_is_taken_is_refused(small_run: Callable[..., Config], changes: dict[str, Any], space: Space, sentence: str) -> None:
    with open_study(Settings(trials=2, name="small"), small_run(), SPACE) as study:
        study.save()
    with pytest.raises(FkpError, match=sentence), open_study(Settings(**{"trials": 2, "name": "small", **changes}), small_run(), space):
        pass


def test_more_trials_are_for_a_search_that_is_finished(small_run: Callable[..., Config]) -> None:
    settings, config = Settings(trials=1, epochs=1, name="small"), small_run()
    with open_study(settings, config, SPACE) as study:
        begin(study, "a")
        study.save()
    sentence = r"search\.trials=3 \(was 1\); finish it with --trials 1 before you ask for more"
    with pytest.raises(FkpError, match=sentence), open_study(replace(settings, trials=3, resume=True), config, SPACE):
        pass
    with open_study(replace(settings, resume=True), config, SPACE) as study:
        tell(study, "a", 9.0)
        study.ended("a")
        assert study.close()
    for changes, told in (({"trials": None}, "search.trials=None"), ({"resume": True}, "is finished: ask for --trials above 1")):
        with pytest.raises(FkpError, match=told), open_study(replace(settings, **changes), config, SPACE):
            pass
    with open_study(replace(settings, trials=3), config, SPACE) as study:
        assert ([trial.trial_id for trial in study.found], study.planned, study.finished) == (["a"], 3, False)
        assert study.state == f"{study.place}/tune-1", "what Tune kept of the first ones is whole"
        begin(study, "b")
        study.save()
    with open_study(replace(settings, trials=3, resume=True), config, SPACE) as study:  # Which was interrupted.
        assert ([trial.trial_id for trial in study.found], len(study.trials)) == (["a"], 2)


def test_a_stopped_search_ends_the_trials_that_run_in_the_record(study: Study, tmp_path: Path, empty_store: Path) -> None:
    from fkp.track.write_ahead_log import WriteAheadLog

    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    study.log = WriteAheadLog.open(study.folder / "outbox.jsonl", "fkp")
    record.begin(study, "digest")
    begin(study, "done")
    tell(study, "done", 9.0, 8.0, 7.0)
    study.ended("done")
    begin(study, "runs")
    study.proposed("waits", {"optim.lr": 0.01})
    status = record.failed(study, KeyboardInterrupt())
    assert record.close(study, status) == ""
    client = MlflowClient(track.tracking_uri())
    found = client.search_runs([client.get_experiment_by_name("fkp").experiment_id])
    assert {run.info.run_name: run.info.status for run in found} == {"small": "KILLED", "small-000": "FINISHED", "small-001": "KILLED"}
    assert study.trials["runs"].state == "running", "it goes on where the search does"


def test_a_trainings_folder_is_refused(small_run: Callable[..., Config]) -> None:
    folder = Path(small_run().track.storage) / "small"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    with pytest.raises(FkpError, match="is a training's folder: choose another --name"), open_study(Settings(), small_run(), SPACE):
        pass


def test_a_search_in_a_bucket_keeps_its_own_files_on_this_machine(small_run: Callable[..., Config], bucket: str) -> None:
    config = small_run(track__storage=bucket)
    with open_study(Settings(trials=1, name="small"), config, SPACE) as study:
        study.save()
        assert study.place == f"{bucket}/small"
        assert study.folder.name == study.name == "small" and (study.folder / "study.json").is_file()
    with pytest.raises(FkpError, match="search small exists"), open_study(Settings(trials=1, name="small"), config, SPACE):
        pass


def test_a_trainings_place_in_a_bucket_is_refused(small_run: Callable[..., Config], bucket: str) -> None:
    storage.write_bytes(f"{bucket}/small/run.json", b"{}")
    config = small_run(track__storage=bucket)
    with pytest.raises(FkpError, match=f"{bucket}/small is a training's folder"), open_study(Settings(), config, SPACE):
        pass
