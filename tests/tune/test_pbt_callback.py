"""A trial that resumes from another one's checkpoint trains with its own rate and decay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from fkp.config import Config
from fkp.data.crop_cache import open_cache
from fkp.train import loop
from fkp.tune.pbt_callback import PBTCallback


def train(config: Config, folder: Path, checkpoint: Path | None, *more: pl.Callback) -> dict[str, torch.Tensor]:
    """Train and return the last checkpoint's content."""
    keep = ModelCheckpoint(folder, "last", save_top_k=-1)
    loop.fit(
        config,
        world_size=1,
        report=lambda progress: None,
        callbacks=[keep, *more],
        checkpoint=checkpoint,
        on_gpu=False,
        cache=open_cache(config),
    )
    return torch.load(folder / "last.ckpt", weights_only=True)


def test_rate_and_decay_are_the_samples_own_and_not_the_checkpoints(small_run: Callable[..., Config], tmp_path: Path) -> None:
    settings = {"optim__schedule": "constant", "optim__ema_decay": 0, "augment__strength": 0.0}
    train(small_run(train__epochs=1, optim__lr=0.01, optim__weight_decay=0.1, **settings), tmp_path / "donor", None)
    donor = tmp_path / "donor/last.ckpt"
    tracker = small_run(train__epochs=2, optim__lr=1e-9, optim__weight_decay=0.3, **settings)

    without = train(tracker, tmp_path / "without", donor)
    assert without["optimizer_states"][0]["param_groups"][0]["lr"] == 0.01, "a checkpoint brings the rate of its former owner"

    after = train(tracker, tmp_path / "with", donor, PBTCallback(tracker))
    groups = after["optimizer_states"][0]["param_groups"]
    assert [group["lr"] for group in groups] == [1e-9, 1e-9]
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    # Not only noted: at such a rate the weights stay where the donor left them.
    weights = torch.load(donor, weights_only=True)["state_dict"]
    trained = [name for name, value in weights.items() if value.is_floating_point() and "running" not in name]
    for name in trained:
        torch.testing.assert_close(after["state_dict"][name], weights[name], rtol=1e-3, atol=1e-6)
    assert any(not torch.allclose(without["state_dict"][name], weights[name], rtol=1e-3, atol=1e-6) for name in trained)


def test_a_decay_of_nothing_is_no_hindrance_to_a_later_one(small_run: Callable[..., Config], tmp_path: Path) -> None:
    settings = {"optim__schedule": "constant", "optim__ema_decay": 0}
    train(small_run(train__epochs=1, optim__weight_decay=0.0, **settings), tmp_path / "donor", None)
    tracker = small_run(train__epochs=2, optim__weight_decay=0.3, **settings)
    after = train(tracker, tmp_path / "with", tmp_path / "donor/last.ckpt", PBTCallback(tracker))
    assert [group["weight_decay"] for group in after["optimizer_states"][0]["param_groups"]] == [0.3, 0.0]
