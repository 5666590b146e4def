"""bf16 only where it is faster."""

from __future__ import annotations

import pytest
import torch

from fkp.config import build_config
from fkp.train import precision as precisions
from fkp.train.precision import bf16_speedup, precision


def test_a_set_precision_is_taken() -> None:
    assert precision(build_config({"train.precision": "fp32"}), on_gpu=False) == "32-true"
    assert precision(build_config({"train.precision": "bf16"}), on_gpu=False) == "bf16-mixed"


@pytest.mark.parametrize(("speedup", "taken"), [(0.6, "32-true"), (1.0, "32-true"), (1.9, "bf16-mixed")])
def test_auto_follows_the_measurement(monkeypatch: pytest.MonkeyPatch, speedup: float, taken: str) -> None:
    monkeypatch.setattr(precisions, "bf16_speedup", lambda: speedup)
    assert precision(build_config({}), on_gpu=False) == taken


def test_the_measurement_is_repeatable_and_leaves_the_seed_alone() -> None:
    state = torch.get_rng_state()
    bf16_speedup.cache_clear()
    first = bf16_speedup()
    bf16_speedup.cache_clear()
    assert bf16_speedup() == pytest.approx(first, rel=0.5), "both must lie on one side of the limit"
    assert torch.equal(torch.get_rng_state(), state)
