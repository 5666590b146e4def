"""One trial: its run, and which errors are the sample's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fkp.config import build_config
from fkp.errors import FkpError
from fkp.tune.options import Settings
from fkp.tune.space import read_space
from fkp.tune.trial import WORST_NME, _reason, check_batch, crops_key, trial_config


def raised_by_torch() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    return caught.value


def test_the_budget_is_the_searchs_and_not_the_runs() -> None:
    base = build_config({"train": {"epochs": 60, "max_minutes": 5.0, "early_stop_epochs": 3}, "scale.num_workers": 0})
    run = trial_config(base, {"optim.lr": 0.02}, 9, 2)
    assert (run.train.epochs, run.train.max_minutes, run.train.early_stop_epochs, run.scale.num_workers) == (9, None, None, 2)
    assert run.optim.lr == 0.02


@pytest.mark.parametrize(("batch", "size"), [({"int": [16, 18]}, 17), ({"choice": [64, 9]}, 9), ({"int": [15, 63], "step": 16}, 15)])
def test_every_batch_that_can_be_drawn_divides_by_the_workers(tmp_path: Path, batch: dict[str, Any], size: int) -> None:
    (tmp_path / "space.yaml").write_text(json.dumps({"optim.global_batch_size": batch}))
    base = build_config({"optim.global_batch_size": 64})
    space = read_space(tmp_path / "space.yaml", base)
    check_batch(Settings(workers=1), base, space)
    with pytest.raises(FkpError, match=f"global_batch_size={size} does not divide by 2 workers"):
        check_batch(Settings(workers=2), base, space)


def test_crops_are_named_by_the_settings_that_change_them() -> None:
    base = build_config()
    assert crops_key(trial_config(base, {"optim.lr": 0.02, "model.width": 8}, 9, 2)) == crops_key(base)
    assert crops_key(build_config({"input.crop_scale": 1.5})) != crops_key(base)
    assert crops_key(build_config({"data.val_fold": 2})) != crops_key(base)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FkpError("the training loss became nan in epoch 0: lower optim.lr"), "the training loss became nan in epoch 0: lower optim.lr"),
        (FkpError("two\nlines"), "two lines"),
        (MemoryError("no more"), "out of memory: no more"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB"), "out of memory: CUDA out of memory"),
        (raised_by_torch(), "out of memory: "),
    ],
)
def test_a_sample_that_cannot_be_trained_has_a_reason(error: Exception, reason: str) -> None:
    assert str(_reason(error)).startswith(reason)
    assert "\n" not in str(_reason(error))


@pytest.mark.parametrize(
    "error", [FkpError("training failed on a worker: it is gone"), RuntimeError("CUDA error: unspecified launch failure")]
)
def test_what_a_second_attempt_may_mend_has_none(error: Exception) -> None:
    assert _reason(error) is None


def test_a_failed_trial_reports_a_number_beyond_a_mean_shape() -> None:
    assert 22 < WORST_NME < float("inf")
