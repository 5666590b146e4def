"""`Net` under a plain Lightning Trainer: steps, checkpoints, what is logged, and `sample`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

import fkp
from fkp.config import Config
from fkp.data.datamodule import FacesDataModule
from fkp.errors import FkpError
from fkp.model.lightning_module import Net, nme_pct
from fkp.scheme import IBUG68
from tests.faces import VAL_NME


def net_of(config: Config) -> Net:
    torch.manual_seed(0)
    return Net(config.model_dump(mode="json"))


def fit(net: Net, config: Config, ckpt_path: Path | None = None, **settings: Any) -> pl.Trainer:
    """Two steps and a validation, if nothing else is said."""
    trainer = pl.Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 1,
            "limit_train_batches": 2,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            **settings,
        }
    )
    trainer.fit(net, datamodule=FacesDataModule(config, batch_size=16), ckpt_path=ckpt_path)
    return trainer


def some_crops(count: int = 3, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 1, 64, 64), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.fixture(scope="module")
def trained(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Net, pl.Trainer, Path]:
    net = net_of(tiny_config)
    trainer = fit(net, tiny_config)
    path = tmp_path_factory.mktemp("checkpoint") / "last.ckpt"
    trainer.save_checkpoint(path)
    return net, trainer, path


# --- checkpoints and metrics ------------------------------------------------------------------------------------


def test_a_checkpoint_alone_gives_the_same_answers(trained: tuple[Net, pl.Trainer, Path], tiny_config: Config) -> None:
    net, _, path = trained
    again = Net.load_from_checkpoint(path)
    assert again.config == tiny_config
    assert torch.equal(again.sample(some_crops()), net.sample(some_crops()))
    assert not torch.equal(net_of(tiny_config).sample(some_crops()), net.sample(some_crops()))
    assert fkp.Net is Net


def test_what_is_logged(trained: tuple[Net, pl.Trainer, Path], tiny_config: Config) -> None:
    net, trainer, _ = trained
    assert VAL_NME == "val_nme_interocular_pct"
    assert {"train_loss", "val_loss", VAL_NME} <= set(trainer.callback_metrics)
    module = FacesDataModule(tiny_config, batch_size=16)
    module.setup("fit")
    assert module.cache is not None
    crops, truth_px = (torch.tensor(array) for array in (module.cache.val.crops_u8, module.cache.val.points_px))
    expected = nme_pct(net.sample(crops), truth_px, IBUG68).mean().item()
    assert 5 < expected < 200
    assert float(trainer.callback_metrics[VAL_NME]) == pytest.approx(expected, rel=1e-4)


def test_a_resumed_run_ends_where_the_unbroken_one_does(tiny_config: Config, tmp_path: Path) -> None:
    def two_epochs(net: Net, folder: Path, ckpt_path: Path | None = None) -> pl.Trainer:
        keep = pl.callbacks.ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
        return fit(net, tiny_config, ckpt_path, max_epochs=2, enable_checkpointing=True, callbacks=[keep])

    unbroken = net_of(tiny_config)
    two_epochs(unbroken, tmp_path / "unbroken")
    resumed = Net(tiny_config.model_dump(mode="json"))
    trainer = two_epochs(resumed, tmp_path / "resumed", tmp_path / "unbroken" / "epoch=0.ckpt")
    assert (trainer.current_epoch, trainer.global_step) == (2, 4)
    for (name, expected), value in zip(unbroken.state_dict().items(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6, msg=name)


# --- optimisers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "plateau", "constant"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
def test_every_schedule_and_optimiser_makes_its_steps(tiny_config: Config, optimizer: str, schedule: str) -> None:
    config = tiny_config.updated({"optim": {"optimizer": optimizer, "schedule": schedule, "warmup": 0.5}})
    net = net_of(config)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    trainer = fit(net, config, max_epochs=2, limit_val_batches=1)
    assert trainer.global_step == 4
    assert type(trainer.optimizers[0]).__name__.lower() == optimizer
    moved = [name for name, value in net.named_parameters() if not torch.equal(value, before[name])]
    assert len(moved) > 0.9 * len(list(net.parameters()))
    assert all(value.isfinite().all() for value in net.parameters())
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    assert (rate == config.optim.lr) == (schedule in ("plateau", "constant"))


@pytest.mark.parametrize("schedule", ["onecycle", "cosine"])
@pytest.mark.parametrize(("warmup", "steps"), [(0.0, 4), (0.1, 4), (0.1, 1), (0.5, 2)], ids=str)
def test_short_runs_have_a_schedule_too(tiny_config: Config, schedule: str, warmup: float, steps: int) -> None:
    config = tiny_config.updated({"optim": {"schedule": schedule, "warmup": warmup}})
    trainer = fit(net_of(config), config, limit_train_batches=steps, limit_val_batches=0)
    assert trainer.global_step == steps


def test_learning_rate_over_a_run(tiny_config: Config) -> None:
    rates: dict[str, list[float]] = {"onecycle": [], "cosine": []}

    class Note(pl.Callback):
        def __init__(self, into: list[float]) -> None:
            self.into = into

        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            self.into.append(trainer.optimizers[0].param_groups[0]["lr"])

    for schedule, into in rates.items():
        config = tiny_config.updated({"optim": {"schedule": schedule, "warmup": 0.4, "lr": 0.01}})
        fit(net_of(config), config, max_epochs=5, limit_train_batches=2, limit_val_batches=0, callbacks=[Note(into)])
        assert len(into) == 10
        peak = into.index(max(into))
        assert 3 <= peak <= 4
        assert max(into) == pytest.approx(0.01)
        assert into[: peak + 1] == sorted(into[: peak + 1])
        assert into[peak:] == sorted(into[peak:], reverse=True)
        assert into[-1] < 0.002


def test_biases_and_normalisation_are_not_decayed(tiny_config: Config) -> None:
    net = net_of(tiny_config.updated({"optim": {"weight_decay": 0.3, "schedule": "constant"}}))
    optimizer = net.configure_optimizers()
    decay = {id(parameter): group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    assert len(decay) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        assert decay[id(parameter)] == (0.3 if parameter.ndim > 1 else 0.0), name


# --- sample -----------------------------------------------------------------------------------------------------


def test_sample_takes_bytes_and_fractions(tiny_config: Config) -> None:
    net = net_of(tiny_config)
    crops_u8 = some_crops()
    points_px = net.sample(crops_u8)
    assert (points_px.dtype, tuple(points_px.shape)) == (torch.float32, (3, 68, 2))
    assert torch.equal(points_px, net.sample(crops_u8.float() / 255))
    assert torch.equal(points_px, net.sample(crops_u8.double() / 255))
    assert not points_px.requires_grad
    assert net.sample(some_crops(0)).shape == (0, 68, 2)


@pytest.mark.parametrize("shape", [(1, 64, 64), (2, 3, 64, 64), (2, 1, 32, 64), (2, 64, 64, 1)], ids=str)
def test_sample_refuses_other_shapes(tiny_config: Config, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected images of shape \(N, 1, 64, 64\)"):
        net_of(tiny_config).sample(torch.zeros(shape, dtype=torch.uint8))


def test_sample_answers_in_evaluation_mode_and_leaves_the_mode(tiny_config: Config) -> None:
    net = net_of(tiny_config)
    expected = net.eval().sample(some_crops())
    assert not net.training
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert torch.equal(net.train().sample(some_crops()), expected)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_unknown_architecture(tiny_config: Config) -> None:
    with pytest.raises(FkpError, match="unknown architecture 'vit'"):
        net_of(tiny_config.updated({"model.arch": "vit"}))


# --- the figure -------------------------------------------------------------------------------------------------


def test_nme_by_hand() -> None:
    truth_px = torch.zeros(2, 68, 2)
    truth_px[:, 36], truth_px[:, 45] = torch.tensor([10.0, 20.0]), torch.tensor([40.0, 60.0])  # 50 px apart
    points_px = truth_px.clone()
    points_px[0] += torch.tensor([3.0, 4.0])
    points_px[1, 0] += torch.tensor([0.0, 34.0])
    torch.testing.assert_close(nme_pct(points_px, truth_px, IBUG68), torch.tensor([10.0, 1.0]))
    assert math.isfinite(nme_pct(points_px, torch.zeros(2, 68, 2), IBUG68).max().item())
