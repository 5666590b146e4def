"""The Lightning loop in this process, without Ray."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from fkp.config import Config, build_config
from fkp.errors import FkpError
from fkp.model import losses
from fkp.model.lightning_module import Net
from fkp.train import loop
from fkp.train.checkpoint_files import LAST_CHECKPOINT


def fit(config: Config, folder: Path) -> tuple[Path, list[Mapping[str, float]]]:
    told: list[Mapping[str, float]] = []
    return loop.fit_in_process(config, folder, told.append), told


def test_the_error_falls_and_the_best_checkpoint_is_kept(small_run: Callable[..., Config], tmp_path: Path) -> None:
    best, told = fit(small_run(train__epochs=12, augment__strength=0.0), tmp_path / "checkpoints")
    errors = [progress["nme"] for progress in told if progress["nme"] == progress["nme"]]
    assert errors[-1] < 0.6 * errors[0]
    assert isinstance(Net.load_from_checkpoint(best, weights_only=True), Net)
    assert len(list((tmp_path / "checkpoints").glob("best-*.ckpt"))) == 2  # train.keep_checkpoints
    assert told[-1]["step"] == told[-1]["steps"]


@pytest.mark.parametrize(
    "changes",
    [
        {"optim__ema_decay": 0.0},
        {"optim__ema_decay": 0.0, "optim__schedule": "plateau", "model__head": "direct", "model__dropout": 0.5},
        {},
        {"data__backend": "stream"},
    ],
    ids=["plain", "plateau and dropout", "averaged", "streamed"],
)
def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(
    small_run: Callable[..., Config], packed_root: Path, tmp_path: Path, break_off: Callable[..., None], changes: dict[str, object]
) -> None:
    """Epoch, step, optimiser, schedule, averaged weights, order, augmentation and dropout all go on."""
    root = {"data__root": str(packed_root)} if changes.get("data__backend") == "stream" else {}
    config = small_run(train__epochs=4, **changes, **root)
    fit(config, tmp_path / "unbroken")

    break_off(config, tmp_path / "broken")
    fit(config, tmp_path / "broken")
    unbroken, broken = (
        torch.load(tmp_path / name / LAST_CHECKPOINT, weights_only=True, map_location="cpu") for name in ("unbroken", "broken")
    )
    assert broken["global_step"] == unbroken["global_step"]
    assert broken["epoch"] == unbroken["epoch"]
    assert broken["lr_schedulers"] == unbroken["lr_schedulers"]
    for name, value in unbroken["state_dict"].items():
        torch.testing.assert_close(broken["state_dict"][name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_training_stops_early_when_nothing_improves(small_run: Callable[..., Config], tmp_path: Path) -> None:
    config = small_run(train__epochs=50, train__early_stop_epochs=2, optim__lr=1e-9, optim__schedule="constant", optim__ema_decay=0)
    _, told = fit(config, tmp_path / "checkpoints")
    assert told[-1]["epoch"] < 10
    _, again = fit(config, tmp_path / "checkpoints")
    assert not again, "its patience is used up: the same command trains no further"


def test_training_stops_when_its_time_is_over(small_run: Callable[..., Config], tmp_path: Path) -> None:
    _, told = fit(small_run(train__epochs=100_000, train__max_minutes=0.03), tmp_path / "checkpoints")
    assert told[-1]["epoch"] < 1000


def test_a_lost_loss_is_one_sentence(small_run: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses.POINT_LOSSES, "mse", lambda error_pct, weights: error_pct.sum() * float("nan"))
    with pytest.raises(FkpError, match=r"the training loss became nan in epoch 0: lower optim\.lr"):
        fit(small_run(loss__kind="mse", optim__ema_decay=0), tmp_path / "checkpoints")


def test_a_gpu_that_is_demanded_and_not_there_is_one_sentence(small_run: Callable[..., Config], tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(FkpError, match=r"scale\.use_gpu=yes and torch finds no GPU here"):
        fit(small_run(scale__use_gpu="yes"), tmp_path / "checkpoints")


def test_the_global_batch_is_divided_by_the_workers() -> None:
    assert loop.worker_batch_size(build_config({"optim.global_batch_size": 64}), 4) == 16
    with pytest.raises(FkpError, match="does not divide by 3 workers"):
        loop.worker_batch_size(build_config({"optim.global_batch_size": 64}), 3)


def test_the_moving_average_follows_the_weights_from_the_first_steps_on() -> None:
    """With a constant decay of 0.99 it would be at 26 % of the way after 30 steps."""
    average = loop._moving_average(0.99)
    averaged, weight = [torch.zeros(1)], [torch.ones(1)]
    for step in range(1, 31):
        average(averaged, weight, torch.tensor(step))
    assert averaged[0].item() > 0.95
    averaged = [torch.zeros(1)]
    average(averaged, weight, torch.tensor(100_000))
    assert averaged[0].item() == pytest.approx(0.01), "in the long run the decay is the configured one"


def test_faces_with_points_that_are_not_labelled_train(small_run: Callable[..., Config], synthetic_root: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(synthetic_root, tmp_path / "own"))
    for table in own.glob("*.csv"):
        lines = [line.split(",") for line in table.read_text().splitlines()]
        for number, cells in enumerate(lines[1:]):
            if number % 2:
                cells[1:35] = ["0"] * 34
        table.write_text("\n".join(map(",".join, lines)) + "\n")
    config = small_run(train__epochs=6, data__source="folder", data__root=str(own), loss__kind="laplace")
    best, told = fit(config, tmp_path / "checkpoints")
    errors = [progress["nme"] for progress in told if progress["nme"] == progress["nme"]]
    assert len(errors) >= 5 and errors[-1] < 0.8 * errors[0]
    assert all(value.isfinite().all() for value in torch.load(best, weights_only=True)["state_dict"].values())
