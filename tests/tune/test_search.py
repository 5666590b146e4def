"""Whole searches on faces, Ray and MLflow, as small as they can be."""

from __future__ import annotations

import csv
import functools
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import yaml
from pyarrow import fs

from fkp.common import storage
from fkp.config import build_config
from fkp.errors import FkpError
from fkp.track.__main__ import main as track_main
from fkp.tune.options import Settings
from fkp.tune.search import main, search
from fkp.tune.space import read_space
from tests.faces import VAL_NME
from tests.processes import Process

from .conftest import Searched, find, lose, search_on, state_of

REPO = Path(__file__).resolve().parents[2]

#: A good learning rate, and one at which nothing moves.
RATES = {"optim.lr": {"choice": [0.01, 1e-6]}}


@pytest.fixture(scope="module")
def halving(run_search: Callable[..., Searched], tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """A grid under ASHA, one trial after the other: two rates, one of them far too low, and a network that fits no such crop."""
    space = {"model.arch": {"choice": ["resnet", "seed_cnn"]}, **RATES}
    with pytest.MonkeyPatch.context() as patch:  # As of a fault that only a trial finds: this one the space's reader would refuse.
        patch.setattr("fkp.tune.space._check_network", lambda config, where: None)
        return run_search(tmp_path_factory.mktemp("halving"), space, algo="grid", concurrent=1, reduction=2)


def test_a_bad_trial_is_stopped_after_its_first_epoch_and_a_good_one_is_not(halving: Searched) -> None:
    assert halving.error is None
    states = {(trial.sample["model.arch"], trial.sample["optim.lr"]): (trial.state, trial.reason, trial.epochs) for trial in halving.trials}
    assert states["resnet", 0.01] == ("finished", "", 3)
    assert states["resnet", 1e-6] == ("stopped", "by asha after 1 of 3 epochs", 1)


def test_a_trial_that_cannot_be_trained_fails_with_its_reason_and_the_search_goes_on(halving: Searched) -> None:
    failed = [trial for trial in halving.trials if trial.sample["model.arch"] == "seed_cnn"]
    assert [trial.state for trial in failed] == ["failed", "failed"]
    assert all(trial.reason.startswith("model.arch=seed_cnn needs input.size_px=224") and not trial.epochs for trial in failed)
    assert max(trial.number for trial in halving.trials if trial.epochs) > min(trial.number for trial in failed)


def test_trials_of_one_worker_share_one_process(halving: Searched) -> None:
    assert len({number for number, _, _ in halving.reports}) == 4
    assert len({pid for _, _, pid in halving.reports}) == 1


def test_the_record_is_one_run_with_a_nested_run_a_trial(halving: Searched) -> None:
    runs = halving.runs()
    parent = runs.pop("small")
    assert sorted(runs) == [f"small-{number:03d}" for number in range(4)]
    for trial in halving.trials:
        run = runs[f"small-{trial.number:03d}"]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.status == ("FAILED" if trial.state == "failed" else "FINISHED")
        assert run.data.tags["state"] == trial.state
        assert run.data.tags["stop_reason"] == (trial.reason or "all epochs are done")
        assert run.data.params["optim.lr"] == str(trial.sample["optim.lr"])
        assert run.data.params["train.epochs"] == "3"
        assert halving.history(run, VAL_NME) == dict(enumerate(trial.nme_by_epoch, 1))
        for key in ("train_loss", "val_loss", "images_per_s"):
            assert len(halving.history(run, key)) == trial.epochs


def test_the_parent_has_space_budget_summary_and_charts(halving: Searched) -> None:
    parent = halving.runs()["small"]
    assert parent.info.status == "FINISHED"
    assert (parent.data.params["search.epochs"], parent.data.params["search.planned"]) == ("3", "4")
    assert '"choice": [0.01, 1e-06]' in parent.data.tags["space"]
    best = min((trial for trial in halving.trials if trial.epochs), key=lambda trial: min(trial.nme_by_epoch))
    figures = parent.data.metrics
    assert figures["best_val_nme"] == min(best.nme_by_epoch)
    assert parent.data.tags["best_trial"] == str(best.number)
    counts = [figures[f"trials_{state}"] for state in ("finished", "stopped", "failed")]
    assert counts == [1, 1, 2]
    assert (figures["epochs_spent"], figures["epochs_full"]) == (4, 6)
    listed = {Path(item.path).name for item in halving.store.list_artifacts(parent.info.run_id, "search")}
    assert listed == {"space.json", "trials.csv", "search.html"}


def test_the_folder_and_the_terminal_say_the_same(halving: Searched) -> None:
    best = min((trial for trial in halving.trials if trial.epochs), key=lambda trial: min(trial.nme_by_epoch))
    assert f"best       trial {best.number}: validation NME {min(best.nme_by_epoch):.2f} % after 3 epochs" in halving.out
    written = yaml.safe_load((halving.folder / "best.yaml").read_text())
    config = build_config(written)
    assert (config.optim.lr, config.train.epochs, config.track.run_name) == (0.01, halving.config.train.epochs, None)
    with (halving.folder / "charts/trials.csv").open() as table:
        assert {row["number"]: row["state"] for row in csv.DictReader(table)} == {str(t.number): t.state for t in halving.trials}
    assert state_of(halving)["finished"]


def test_the_terminal_shows_a_line_a_trial_and_nothing_of_rays(halving: Searched) -> None:
    lines = halving.err.splitlines()
    assert len(lines) == 4, halving.err
    assert [line.split()[:2] for line in lines] == [["trial", str(number)] for number in range(4)]


def test_a_finished_search_is_not_begun_again(halving: Searched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fkp.tune.space._check_network", lambda config, where: None)  # See `halving`.
    refusals = {
        "exists: continue with it by --resume": {},
        "is finished: .*train its best by --resume --refit": {"resume": True},
        r"was begun with other settings: search\.epochs=5 \(was 3\)": {"resume": True, "epochs": 5},
    }
    before = (halving.folder / "trials.json").read_bytes()
    for sentence, changes in refusals.items():
        with pytest.raises(FkpError, match=sentence):
            search(replace(halving.settings, **changes), halving.config)
    other = Path(halving.settings.space).with_name("other.yaml")
    other.write_text(yaml.safe_dump({"optim.lr": {"choice": [0.01, 1e-5]}}))
    with pytest.raises(
        FkpError, match=r"begun with other settings: space\.model\.arch\.choice=None.*space\.optim\.lr\.choice=\[0\.01, 1e-05\]"
    ):
        search(replace(halving.settings, space=str(other), resume=True), halving.config)
    assert (halving.folder / "trials.json").read_bytes() == before


of_nested = pytest.mark.slow("a search whose trials start two Ray Train workers each")


@pytest.fixture(scope="module")
def nested(run_search: Callable[..., Searched], tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """The same two rates with two Ray Train workers a trial."""
    return run_search(tmp_path_factory.mktemp("nested"), RATES, algo="grid", concurrent=1, reduction=2, workers=2)


@of_nested
def test_a_bad_trial_of_two_workers_is_stopped_too(nested: Searched) -> None:
    assert nested.error is None
    good, bad = nested.trials
    assert (good.state, good.epochs, good.cores) == ("finished", 3, 2)
    assert (bad.state, bad.reason, bad.epochs) == ("stopped", "by asha after 1 of 3 epochs", 1)
    assert nested.epochs_of(0) == [1, 2, 3], "Tune is told of every epoch"
    assert nested.history(nested.runs()["small-000"], VAL_NME) == dict(enumerate(good.nme_by_epoch, 1))


@of_nested
def test_the_workers_of_a_stopped_trial_give_their_cores_back(nested: Searched) -> None:
    until = time.monotonic() + 60
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < until, f"still taken: {ray.available_resources()}"
        time.sleep(0.2)


@of_nested
def test_two_workers_leave_the_terminal_as_clean_as_one(nested: Searched) -> None:
    assert len(nested.err.splitlines()) == 2, nested.err


of_troubled = pytest.mark.slow("a search of three trials, four of whose processes are killed")


@pytest.fixture(scope="module")
def troubled(run_search: Callable[..., Searched], tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """A search whose record is lost with the first epoch; trial 0 loses its process after its second, trial 1 after each."""
    folder = tmp_path_factory.mktemp("troubled")
    killed: list[int] = []

    def trouble(number: int, report: Mapping[str, Any]) -> None:
        if number == 0 and report["epochs"] == 1:
            lose(folder / "mlflow.db")
        if number == 1 or (number == 0 and report["epochs"] == 2 and 0 not in killed):
            killed.append(number)
            os.kill(report["pid"], signal.SIGKILL)

    space = {"optim.lr": {"log": [0.005, 0.02]}}
    found = run_search(folder, space, trouble, trials=3, algo="random", scheduler="none", concurrent=1, scale__max_failures=1)
    find(folder / "mlflow.db")
    return found


@of_troubled
def test_a_trial_whose_process_dies_goes_on_from_its_checkpoint(troubled: Searched) -> None:
    first = troubled.trials[0]
    assert (first.state, first.epochs) == ("finished", 3)
    epochs = troubled.epochs_of(0)
    assert epochs[0] == 1 and epochs.count(1) == 1, "it does not start over"
    assert sorted(set(epochs)) == [1, 2, 3]
    assert len({pid for number, _, pid in troubled.reports if number == 0}) == 2


@of_troubled
def test_a_trial_whose_process_dies_too_often_fails_and_the_search_goes_on(troubled: Searched) -> None:
    assert troubled.error is None
    _, second, third = troubled.trials
    assert second.state == "failed"
    assert second.reason
    assert len(troubled.epochs_of(1)) == 2, "scale.max_failures=1: it is begun again once"
    assert (third.state, third.epochs) == ("finished", 3)


@of_troubled
def test_a_record_lost_in_the_middle_is_said_and_uploaded_with_one_command(
    troubled: Searched, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = troubled.folder / "outbox.jsonl"
    assert f"entries of the record are only in {path}, because MLflow's database has the tables of" in troubled.undelivered
    assert troubled.undelivered.endswith(f", then `fkp track upload {path}` delivers them")
    assert len(troubled.runs()) < 4
    monkeypatch.setenv("MLFLOW_TRACKING_URI", troubled.uri)
    assert track_main(["upload", str(path)]) == 0
    assert capsys.readouterr().out == f"{troubled.undelivered.split()[0]} operations delivered\n"
    runs = troubled.runs()
    assert len(runs) == 4
    for trial in troubled.trials:
        run = runs[f"small-{trial.number:03d}"]
        assert troubled.history(run, VAL_NME) == dict(enumerate(trial.nme_by_epoch, 1))
        assert run.info.status == ("FAILED" if trial.state == "failed" else "FINISHED")
        assert run.data.tags["mlflow.parentRunId"] == runs["small"].info.run_id
    assert "search/trials.csv" in {item.path for item in troubled.store.list_artifacts(runs["small"].info.run_id, "search")}


def test_the_command_fails_when_the_record_is_not_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fkp.tune.search.search", lambda settings, config: "7 entries are missing")
    with pytest.raises(FkpError, match=r"^7 entries are missing$"):
        main(["--name", "any"])


@pytest.mark.over_5s("two searches")
def test_a_finished_search_takes_more_trials(run_search: Callable[..., Searched], tmp_path: Path) -> None:
    """Two, then two more, which are drawn by the same algorithm with what is known of the first ones."""
    space = {"optim.lr": {"log": [0.005, 0.02]}}
    begun = run_search(tmp_path, space, trials=2, epochs=2, concurrent=1)
    before, first = {name: run.info.run_id for name, run in begun.runs().items()}, begun.trials
    for sentence, changes in {
        r"search\.trials=1 \(was 2\)": {"trials": 1, "resume": True},
        r"search\.seed=1 \(was 0\)": {"trials": 4, "seed": 1},
        r"search\.algo=random \(was optuna\)": {"trials": 4, "algo": "random"},
    }.items():
        with pytest.raises(FkpError, match=f"begun with other settings: {sentence}; repeat them"):
            search(replace(begun.settings, **changes), begun.config)

    done = search_on(begun, trials=4)
    assert done.error is None and done.undelivered == "" and "refuses" not in done.err
    assert done.trials[:2] == first, "what is finished stays"
    assert [trial.number for trial in done.trials] == [0, 1, 2, 3]
    assert done.epochs_of(0) == done.epochs_of(1) == [], "and is not run again"
    assert len({trial.sample["optim.lr"] for trial in done.trials}) == 4, "nothing is drawn a second time"
    runs = done.runs()
    assert {name: runs[name].info.run_id for name in before} == before
    assert sorted(runs) == ["small", *(f"small-{number:03d}" for number in range(4))]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert {runs[f"small-{number:03d}"].data.tags["mlflow.parentRunId"] for number in range(4)} == {before["small"]}
    parent = runs["small"]
    assert (parent.data.metrics["trials"], parent.data.tags["trials_asked_for"]) == (4, "4, after 2")
    best = min((trial for trial in done.trials if trial.epochs), key=lambda trial: min(trial.nme_by_epoch))
    assert parent.data.metrics["best_val_nme"] == min(best.nme_by_epoch)
    with (done.folder / "charts/trials.csv").open() as table:
        assert {row["number"] for row in csv.DictReader(table)} == set("0123")


@pytest.mark.slow("a search of three trials")
def test_population_based_training_moves_a_bad_trial_to_another_ones_weights(run_search: Callable[..., Searched], tmp_path: Path) -> None:
    seen: set[int] = set()

    def wait_for_the_other(number: int, report: Mapping[str, Any]) -> None:
        """Only trials that run at the same time can take over from each other, and on a busy machine one can end before the next begins."""
        seen.add(number)
        if len(seen) == 1:
            time.sleep(5)  # The trial waits for the driver, and the other one's process starts meanwhile.

    space = {"optim.lr": {"log": [1e-6, 0.02], "default": 0.01}}
    found = run_search(tmp_path, space, wait_for_the_other, trials=3, scheduler="pbt", epochs=4, seed=1)
    assert found.error is None
    assert [trial.state for trial in found.trials] == ["finished"] * 3
    assert "refuses" not in found.err
    moved = 0
    for trial in found.trials:
        run = found.runs()[f"small-{trial.number:03d}"]
        rates = found.history(run, "optim.lr")
        assert set(rates) == set(found.history(run, VAL_NME)), "the rate of each epoch is in the record"
        assert rates[4] == trial.sample["optim.lr"]
        moved += len(set(rates.values())) > 1
    assert moved, "at least one trial has taken over another one's weights and left its own rate"


@pytest.mark.slow("a search of five trials")
@pytest.mark.parametrize("concurrent", [1, 2])
def test_hyperband_stops_all_but_the_best_of_a_bracket(run_search: Callable[..., Searched], tmp_path: Path, concurrent: int) -> None:
    found = run_search(tmp_path, {"optim.lr": {"log": [1e-4, 0.02]}}, trials=5, scheduler="hyperband", concurrent=concurrent)
    assert found.error is None
    # The first bracket is of two trials that nobody stops, the second of three, of which one goes on after an epoch.
    assert [trial.state for trial in found.trials[:2]] == ["finished"] * 2
    assert sorted((trial.state, trial.epochs) for trial in found.trials[2:]) == [("finished", 3), ("stopped", 1), ("stopped", 1)]


def test_crops_are_decoded_once_for_each_input_setting_and_shared(
    run_search: Callable[..., Searched], halving: Searched, tmp_path: Path
) -> None:
    from fkp.tune.search import _put_crops
    from fkp.tune.trial import crops_key, trial_config

    (tmp_path / "space.yaml").write_text(yaml.safe_dump({"input.crop_scale": {"choice": [1.2, 1.4]}, **RATES}))
    space = read_space(tmp_path / "space.yaml", halving.config)
    crops = _put_crops(space, halving.config)
    samples = [{"input.crop_scale": scale, "optim.lr": rate} for scale in (1.2, 1.4) for rate in (0.01, 1e-6)]
    assert {crops_key(trial_config(halving.config, sample, 3, 1)) for sample in samples} == set(crops)
    assert len(crops) == 2
    for reference in crops.values():
        shared = ray.get(reference).train.crops_u8
        assert not shared.flags.owndata
        assert not shared.flags.writeable, "it lies in the object store, and every trial reads it there"
        assert np.shares_memory(shared, ray.get(reference).train.crops_u8)


@pytest.mark.slow("a search of three trials")
def test_trials_at_once_read_a_packed_set(run_search: Callable[..., Searched], packed_root: Path, tmp_path: Path) -> None:
    """Each holds a core and decodes on another one, which Tune does not reserve: they must not wait for each other for ever."""
    stream = {"data__backend": "stream", "data__root": str(packed_root)}
    found = run_search(tmp_path, {"optim.lr": {"choice": [0.01, 0.02]}}, trials=3, epochs=2, concurrent=2, scheduler="none", **stream)
    assert found.error is None
    assert [(trial.state, trial.epochs) for trial in found.trials] == [("finished", 2)] * 3
    assert len({process for *_, process in found.reports}) == 2
    assert found.trials[0].cores == 2


@pytest.mark.slow("two searches")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_driver_that_was_ended_goes_on_with_resume(
    small_run_in: Callable[..., Any],
    empty_store: Path,
    ray_address: str,
    start_process: Callable[..., Process],
    tmp_path: Path,
    number: int,
) -> None:
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    config = small_run_in(tmp_path, scale__use_gpu="no")
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({"optim.lr": {"log": [0.005, 0.02]}}))
    settings = Settings(space=str(tmp_path / "space.yaml"), trials=3, epochs=12, concurrent=1, scheduler="none", name="small")
    begun = Searched(settings, config, f"sqlite:///{tmp_path}/mlflow.db")
    plain = config.model_dump(mode="json")
    plain["track"].pop("run_name")
    (tmp_path / "run.yaml").write_text(json.dumps(plain))  # JSON is YAML.
    flags = ["--trials", "3", "--epochs", "12", "--concurrent", "1", "--scheduler", "none", "--name", "small"]
    command = [REPO / "tune/search.py", "--config", tmp_path / "run.yaml", "--space", settings.space, *flags]
    driver = start_process(*command, MLFLOW_TRACKING_URI=begun.uri, RAY_ADDRESS=ray_address)
    until = time.monotonic() + 120
    while not ("small-001" in (runs := begun.runs()) and len(begun.history(runs["small-001"], VAL_NME)) >= 3):
        assert driver.poll() is None, driver.err
        assert time.monotonic() < until, driver.err
        time.sleep(0.1)
    refused = search_on(begun, resume=True)
    assert str(refused.error) == "search small is being trained by another process: wait for it or choose another name"
    driver.press(number)
    status = driver.wait()
    shown = (driver.out + driver.err).splitlines()
    if number == signal.SIGKILL:
        states = {"small": "RUNNING", "small-000": "FINISHED", "small-001": "RUNNING"}
    else:
        assert status == 128 + number
        assert shown.pop() == "stopped: search small is kept; continue with the same command and --name small --resume"
        states = {"small": "KILLED", "small-000": "FINISHED", "small-001": "KILLED"}
    assert shown and all(line.startswith("trial ") for line in shown), "a log has a line for each ended trial and nothing of Ray's"
    before = {name: run.info.run_id for name, run in begun.runs().items()}
    assert {name: run.info.status for name, run in begun.runs().items()} == states, "the driver must end in the middle"

    done = search_on(begun, resume=True)
    assert done.error is None
    assert done.epochs_of(0) == [], "a finished trial is not run again"
    assert done.epochs_of(1)[0] > 1, "an unfinished one resumes from its checkpoint"
    assert [(trial.state, trial.epochs) for trial in done.trials] == [("finished", 12)] * 3
    runs = done.runs()
    assert {name: runs[name].info.run_id for name in before} == before
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for trial in done.trials:
        assert done.history(runs[f"small-{trial.number:03d}"], VAL_NME) == dict(enumerate(trial.nme_by_epoch, 1))


@pytest.mark.slow("a search with a cluster of its own, for only that one knows the bucket's keys")
def test_a_search_in_a_bucket_leaves_there_what_it_needs_to_go_on(
    small_run_in: Callable[..., Any], empty_store: Path, bucket: str, run_process: Callable[..., Any], tmp_path: Path
) -> None:
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    config = small_run_in(tmp_path, scale__use_gpu="no", track__storage=bucket, train__epochs=1)
    plain = config.model_dump(mode="json")
    plain["track"].pop("run_name")
    (tmp_path / "run.yaml").write_text(json.dumps(plain))
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({"optim.lr": {"log": [0.005, 0.02]}}))
    flags = ["--trials", "1", "--epochs", "2", "--concurrent", "1", "--name", "small", "--space", str(tmp_path / "space.yaml")]
    search_here = functools.partial(
        run_process,
        *(REPO / "tune/search.py", "--config", tmp_path / "run.yaml", *flags),
        cwd=tmp_path,
        MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db",
    )
    done = search_here()
    assert done.returncode == 0, done.stderr[-2000:]
    assert ray.tune.Tuner.can_restore(f"{bucket}/small/tune")
    system, inner = storage.open_place(f"{bucket}/small")
    found = [entry.path for entry in system.get_file_info(fs.FileSelector(inner, recursive=True))]
    assert sum(path.endswith("/checkpoint.ckpt") for path in found) == 2, found
    (folder,) = (tmp_path / "cache/searches").glob("*/small")
    assert (folder / "best.yaml").is_file() and not (folder / "tune").exists()
    assert not (tmp_path / "s3:").exists(), "the address was taken for a folder"
    elsewhere = search_here("--data.cache_dir", tmp_path / "elsewhere", "--resume")
    assert (elsewhere.returncode, elsewhere.stderr.count("\n")) == (1, 1)
    assert "of the machine that began it: go on there, or choose another --name" in elsewhere.stderr


def test_what_can_never_work_is_refused_before_anything_starts(
    small_run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fkp.cluster.ray_session.connect", lambda *given: pytest.fail("Ray was asked"))
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(RATES))
    settings = Settings(space=str(tmp_path / "space.yaml"), name="small")
    with pytest.raises(FkpError, match=r"there is no search small in .*runs to resume: look at --name and --track\.storage"):
        search(replace(settings, resume=True), small_run())
    with pytest.raises(FkpError, match=r"optim\.global_batch_size=16 does not divide by 3 workers"):
        search(replace(settings, workers=3), small_run())
    with pytest.raises(FkpError, match="the grid has 2 points and --trials is 3: leave --trials out"):
        search(replace(settings, algo="grid", trials=3), small_run())
    (tmp_path / "typo.yaml").write_text(yaml.safe_dump({"optim.lrr": {"choice": [0.1]}}))
    with pytest.raises(FkpError, match=r"unknown setting optim\.lrr: did you mean optim\.lr\?"):
        search(replace(settings, space=str(tmp_path / "typo.yaml")), small_run())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(FkpError, match=r"^cannot reach MLflow at http://127\.0\.0\.1:9 "):
        search(settings, small_run())


@pytest.mark.usefixtures("ray_cluster")
def test_more_than_can_ever_fit_is_refused_at_once(run_search: Callable[..., Searched], tmp_path: Path) -> None:
    found = run_search(tmp_path, RATES, trials=2, workers=64, optim__global_batch_size=64)
    assert str(found.error).startswith("a trial needs 64 workers of 1 cores and the cluster holds 4 such workers: lower --workers")
    assert found.runs()["small"].info.status == "FAILED"
