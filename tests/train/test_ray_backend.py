"""Ray Train for real: two workers, lost workers, a lost driver, one record."""

from __future__ import annotations

import functools
import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from mlflow import MlflowClient
from pyarrow import fs

from fkp import track
from fkp.bundle import open_bundle
from fkp.common import storage
from fkp.config import Config
from fkp.errors import FkpError
from fkp.model.lightning_module import Net
from fkp.train import loop
from fkp.train.checkpoint_files import newest
from fkp.train.checkpoint_list import SNAPSHOT
from fkp.train.metric_log import write_ahead
from fkp.train.ray_backend import ReportCheckpoint
from fkp.train.run_dir import open_run
from tests.faces import VAL_NME
from tests.processes import Process


def fit(config: Config, show: Callable[[Mapping[str, float]], None]) -> tuple[Path, str]:
    """Train on Ray; return the best checkpoint and the id of the MLflow run."""
    from fkp.train.ray_backend import fit_on_ray

    with open_run(config) as run, track.recording(run.config, {}, run.mlflow_run_id) as record:
        run.mlflow_run_id = record.run_id
        run.save()
        return fit_on_ray(run, write_ahead(run, record), show), record.run_id


def history(run_id: str, key: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in MlflowClient(track.tracking_uri()).get_metric_history(run_id, key)]


def worker_processes() -> list[psutil.Process]:
    """The training workers of this process' Ray."""
    return [process for process in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(process.cmdline())]


class Kept:
    """Stands for Ray's `Checkpoint`, and outlives the folder it is made from."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    @classmethod
    def from_directory(cls, folder: str) -> Kept:
        (path,) = Path(folder).glob("*.ckpt")
        return cls(torch.load(path, weights_only=True, map_location="cpu"))


def test_a_reported_checkpoint_holds_all_that_the_end_of_its_epoch_moved(small_run: Callable[..., Config]) -> None:
    """Or a run that lost a worker would wait an epoch longer for its rate to fall, and for its end."""
    never_better = {"optim__lr": 1e-9, "optim__ema_decay": 0, "optim__schedule": "plateau"}
    config = small_run(train__epochs=50, train__early_stop_epochs=2, **never_better)
    told: list[dict[str, Any]] = []
    keep = ReportCheckpoint(lambda metrics, checkpoint: told.append({**metrics, **checkpoint.state}), Kept)
    loop.fit(config, world_size=1, report=lambda progress: None, callbacks=[keep], checkpoint=None, on_gpu=False)
    (patience,) = (state for name, state in told[-1]["callbacks"].items() if name.startswith("Patience"))
    assert patience["wait_count"] == 2
    assert [state["lr_schedulers"][0]["last_epoch"] for state in told] == [state["epochs"] for state in told]


@pytest.mark.slow("two Ray Train workers start; the next test has them in the fast tier")
@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_train_one_model_and_write_one_record(small_run: Callable[..., Config]) -> None:
    told: list[Mapping[str, float]] = []
    best, run_id = fit(small_run(scale__num_workers=2), told.append)
    assert isinstance(Net.load_from_checkpoint(best, weights_only=True), Net)
    errors = history(run_id, VAL_NME)
    assert len(errors) == 3, "one value an epoch: only the first worker writes"
    assert {len(history(run_id, key)) for key in ("images_per_s", "train_loss", "lr-AdamW/pg1")} == {3}
    assert told[-1]["images_per_s"] > 0
    run = MlflowClient(track.tracking_uri()).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["optim.lr"] == "0.003"


@pytest.mark.over_5s("two Ray Train workers start, and one of them once more")
@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_worker_is_replaced_and_training_goes_on(small_run: Callable[..., Config]) -> None:
    epochs = 18
    config = small_run(scale__num_workers=2, train__epochs=epochs, augment__strength=0.0, optim__schedule="constant", optim__ema_decay=0)
    killed = threading.Event()

    def kill_one(progress: Mapping[str, float]) -> None:
        if progress["epoch"] >= 8 and not killed.is_set():
            killed.set()
            worker_processes()[0].send_signal(signal.SIGKILL)

    best, run_id = fit(config, kill_one)
    assert killed.is_set()
    errors = history(run_id, VAL_NME)
    steps = [step for step, _ in errors]
    per_epoch = steps[0] + 1
    assert steps[-1] == epochs * per_epoch - 1, "the run ends at the step of an unbroken one"
    assert len(set(steps)) == epochs, "every epoch was trained"
    assert len(steps) - epochs <= 3, "at most the epochs since the last checkpoint are trained twice"
    # At the break the error goes on where it was; starting over would be several times higher.
    assert max(value for _, value in errors[8:]) < 0.6 * errors[0][1]
    assert Net.load_from_checkpoint(best, weights_only=True)


@pytest.mark.usefixtures("ray_cluster")
def test_the_relay_hands_on_in_order_and_its_error_is_told_at_the_end() -> None:
    from fkp.train.ray_backend import _relay

    told: list[Any] = []
    with _relay(lambda *entry: told.append(entry), told.append) as queue:
        for step in range(5):
            queue.put((step, 1_700_000_000_000, {"loss": 1.0}))
        queue.put(({"epoch": 3.0},))
    assert told == [*((step, 1_700_000_000_000, {"loss": 1.0}) for step in range(5)), {"epoch": 3.0}]

    def full(*entry: Any) -> None:
        raise FkpError("the disk is full")

    def train(error: type[Exception] | None) -> None:
        with _relay(full, told.append) as queue:
            queue.put((0, 0, {}))
            if error:
                raise error("lower the rate")

    with pytest.raises(FkpError, match="the disk is full"):
        train(None)
    with pytest.raises(FkpError, match="lower the rate"):
        train(FkpError)


@pytest.mark.usefixtures("ray_cluster")
def test_more_than_the_cluster_has_is_refused_at_once(small_run: Callable[..., Config]) -> None:
    with pytest.raises(FkpError, match="64 workers of 1 cores need 64 cores and the cluster has 4"):
        fit(small_run(scale__num_workers=64, optim__global_batch_size=64), lambda progress: None)
    with pytest.raises(FkpError, match=r"scale\.use_gpu=yes needs 1 GPUs and the cluster has 0"):
        fit(small_run(scale__num_workers=1, scale__use_gpu="yes", track__run_name="gpu"), lambda progress: None)


@pytest.mark.slow("a Ray Train worker starts")
@pytest.mark.usefixtures("ray_cluster")
def test_a_failing_worker_gives_its_one_sentence(small_run: Callable[..., Config], tmp_path: Path) -> None:
    config = small_run(scale__num_workers=1, scale__max_failures=0, data__root=str(tmp_path / "nothing"))
    with pytest.raises(FkpError, match=r"nothing.*training_frames_keypoints\.csv is missing"):
        fit(config, lambda progress: None)


def command(config: Config, folder: Path) -> list[str]:
    path = folder / "run.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json")))  # JSON is YAML.
    return ["fkp.train", "--config", str(path)]


@pytest.mark.slow("three trainings as commands")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_was_ended_goes_on_with_the_same_command(
    small_run: Callable[..., Config], tmp_path: Path, start_process: Callable[..., Process], number: int
) -> None:
    config = small_run(scale__num_workers=0, train__epochs=30)
    check_it_goes_on(config, functools.partial(start_process, *command(config, tmp_path)), number)


@pytest.mark.slow("three trainings as commands, two of them on Ray workers")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_of_ray_workers_that_was_ended_goes_on_with_the_same_command(
    small_run: Callable[..., Config], tmp_path: Path, start_process: Callable[..., Process], ray_address: str, number: int
) -> None:
    config = small_run(scale__num_workers=1, train__epochs=14)
    check_it_goes_on(config, functools.partial(start_process, *command(config, tmp_path), RAY_ADDRESS=ray_address), number)


@pytest.mark.slow("two Ray Train workers on a cluster that the command starts")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_training_takes_its_own_cluster_along(
    small_run: Callable[..., Config], tmp_path: Path, start_process: Callable[..., Process], number: int, status: int
) -> None:
    config = small_run(scale__num_workers=2, train__epochs=1000)
    driver = start_process(*command(config, tmp_path))
    run_id = wait_for_epochs(f"{config.track.storage}/small", driver, 2)
    started = psutil.Process(driver.pid).children(recursive=True)
    assert any("raylet" in " ".join(process.cmdline()) for process in started)
    driver.press(number)
    check_stopped(config, driver, status, run_id)
    assert not psutil.wait_procs(started, timeout=20)[1], "a process of Ray is left"
    assert list((Path(config.track.storage) / "small").glob("checkpoint_2*/checkpoint.ckpt"))


@pytest.mark.over_5s("a training as a command")
def test_ctrl_c_ends_a_training_with_one_line_and_keeps_what_it_has(
    small_run: Callable[..., Config], tmp_path: Path, start_process: Callable[..., Process], empty_store: Path
) -> None:
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    config = small_run(scale__num_workers=0, train__epochs=1000)
    driver = start_process(*command(config, tmp_path))
    run_id = wait_for_epochs(f"{config.track.storage}/small", driver, 2)
    driver.press()
    check_stopped(config, driver, 130, run_id)
    assert newest(Path(config.track.storage) / "small/checkpoints"), "what is kept can be read"


def check_stopped(config: Config, driver: Process, status: int, run_id: str) -> None:
    """Its status, its one line beside the progress bar, and its record."""
    assert driver.wait(60) == status, driver.err
    told = [line for line in re.split(r"[\r\n]+", driver.err) if line and not line.startswith("small: ")]
    assert told == [f"stopped: run small is kept in {config.track.storage}/small; continue with the same command"], driver.err
    assert driver.out == ""
    assert MlflowClient(track.tracking_uri()).get_run(run_id).info.status == "KILLED"


def check_it_goes_on(config: Config, train: Callable[[], Process], number: int) -> None:
    epochs = config.train.epochs
    driver = train()
    run_id = wait_for_epochs(f"{config.track.storage}/small", driver, 4)
    driver.press(number)
    if number == signal.SIGKILL:
        driver.wait()
    else:
        check_stopped(config, driver, 128 + number, run_id)
    reached = len(history(run_id, VAL_NME))
    assert reached < epochs, "the driver must die in the middle"
    if config.scale.num_workers:
        # As if it had died while Ray wrote its list of checkpoints, which it does not do in one step.
        torn = Path(config.track.storage) / "small" / SNAPSHOT
        assert torn.stat().st_size > 0
        torn.write_text("")
        leave_as_earlier_version(torn.parent)
    done = train().completed()
    assert done.returncode == 0, done.stderr[-2000:]
    assert run_id in done.stdout, "the record goes on in the same run"
    steps = [step for step, _ in history(run_id, VAL_NME)]
    assert len(set(steps)) == epochs, "every epoch was trained"
    assert len(steps) <= epochs + 4, "the second command did not start over"
    assert MlflowClient(track.tracking_uri()).get_run(run_id).info.status == "FINISHED"
    if config.scale.num_workers:
        assert history(run_id, "earlier") == [(1, 0.1), (2, 0.2)]
    refused = train().completed()
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: run small is finished: its model is ")


def leave_as_earlier_version(folder: Path) -> None:
    """Metrics that version 0.1 had not delivered yet lay in the run's folder and in its checkpoints, among them the last one."""
    (folder / "figures.jsonl").write_text('[1, 1700000000000, {"earlier": 0.1}]\n')
    for checkpoint in folder.glob("checkpoint_2*"):
        (checkpoint / "figures.json").write_text('[[2, 1700000001000, {"earlier": 0.2}]]')


def wait_for_epochs(place: str, driver: Process, epochs: int) -> str:
    """Wait until the record holds some epochs; return the id of its run."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert driver.poll() is None, "the training ended before it could be killed"
        time.sleep(0.2)
        # Opening the store before the driver has made it would race with it.
        note = f"{place}/run.json"
        if storage.size_bytes(note) is None:
            continue
        try:
            run_id = json.loads(storage.read_bytes(note))["mlflow_run_id"]
        except json.JSONDecodeError:  # A bucket's file that is replaced while it is read comes with the length of the old one.
            continue
        if run_id and len(history(run_id, VAL_NME)) >= epochs:
            return run_id
    raise AssertionError("the training recorded no epochs within two minutes")


def wait_for_checkpoints(place: str, count: int) -> None:
    """Wait until as many more checkpoints have begun to arrive, old ones being deleted meanwhile."""
    before, seen = checkpoints(place), set[str]()
    until = time.monotonic() + 120
    while len(seen - before) < count:
        assert time.monotonic() < until, f"only {len(seen - before)} checkpoints arrived within two minutes"
        time.sleep(0.1)
        seen |= checkpoints(place)


def checkpoints(place: str) -> set[str]:
    system, inner = storage.open_place(place)
    return {entry.base_name for entry in system.get_file_info(fs.FileSelector(inner)) if entry.base_name.startswith("checkpoint_2")}


@pytest.mark.slow("two trainings on Ray workers, with a cluster of their own, for only that one knows the bucket's keys")
def test_a_run_in_a_bucket_goes_on_from_what_arrived_whole(
    small_run: Callable[..., Config], bucket: str, tmp_path: Path, start_process: Callable[..., Process]
) -> None:
    epochs = 20
    config = small_run(scale__num_workers=1, train__epochs=epochs, track__storage=bucket)
    place = f"{bucket}/small"
    driver = start_process(*command(config, tmp_path))
    run_id = wait_for_epochs(place, driver, 3)
    running = " ".join(" ".join(process.cmdline()) for process in psutil.Process(driver.pid).children(recursive=True))
    assert "TrainController" in running and "PreemptionWatcher" not in running, "nothing waits for the only host to be taken away"
    # It writes no more, its workers go on: the metrics of the next epochs are in their checkpoints and nowhere else.
    # Nobody reads the store meanwhile: it may have been stopped in the middle of a transaction, whose lock only its end lifts.
    driver.send_signal(signal.SIGSTOP)
    wait_for_checkpoints(place, 4)
    driver.kill()
    assert len(history(run_id, VAL_NME)) < epochs - 3, "the driver must die in the middle"
    # What an upload leaves that was cut off before Ray listed it, under the name that sorts last.
    storage.write_bytes(f"{place}/checkpoint_9999-12-31_23-59-59.999999/checkpoint.ckpt", b"cut off")
    shutil.rmtree(config.data.cache_dir)  # As on another machine.
    done = start_process(*command(config, tmp_path)).completed()
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"kept in    {place}" in done.stdout
    steps = [step for step, _ in history(run_id, VAL_NME)]
    assert len(set(steps)) == epochs, "every epoch was trained, and its metrics are in the record"
    assert {step for step, _ in history(run_id, "train_loss")} == set(steps)
    assert len(steps) <= epochs + 4, "the second command did not start over"
    assert json.loads(storage.read_bytes(f"{place}/run.json"))["finished"]
    arrived = storage.sizes_bytes(f"{place}/bundle")
    for name in arrived:
        storage.write_bytes(str(tmp_path / "bundle" / name), storage.read_bytes(f"{place}/bundle/{name}"))
    assert open_bundle(tmp_path / "bundle").metrics["validation"]["faces"] > 0
    assert storage.size_bytes(f"{place}/report.html")
    with pytest.raises(FkpError, match=f"run small is finished: its model is {place}/bundle"), open_run(config):
        pass


@pytest.mark.parametrize(("workers", "sentence"), [(1, "there is no such bucket"), (0, r"needs Ray workers: set scale\.num_workers")])
def test_a_bucket_that_cannot_be_used_is_refused_before_anything_begins(
    small_run: Callable[..., Config], bucket: str, workers: int, sentence: str
) -> None:
    from fkp.train.pipeline import train

    storage_of = {1: "s3://nowhere", 0: bucket}
    config = small_run(scale__num_workers=workers, track__storage=storage_of[workers])
    with pytest.raises(FkpError, match=sentence):
        train(config)
    assert not Path(config.data.cache_dir).exists()
