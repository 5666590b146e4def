"""A stated scale that is too small or too large is set right, whatever the head."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fkp.config import build_config
from fkp.model.calibrate import calibrate_scale
from fkp.model.network import Network


@pytest.mark.parametrize("head", ["direct", "heatmap"])
def test_the_mean_of_the_expected_errors_becomes_that_of_the_errors(head: str) -> None:
    torch.manual_seed(0)
    network = Network(build_config({"input.size_px": 64, "model": {"width": 8, "depth": 1, "head": head}}))
    rng = np.random.default_rng(0)
    crops_u8 = rng.integers(0, 256, (70, 1, 64, 64), np.uint8)  # More than one batch.
    truth_px = rng.uniform(10, 50, (70, 68, 2)).astype(np.float32)
    before = [tensor.clone() for tensor in network.eval()(torch.from_numpy(crops_u8))]
    factor = calibrate_scale(network, crops_u8, truth_px)
    with torch.no_grad():
        points_px, scale_px = network(torch.from_numpy(crops_u8))
    error_px = (points_px - torch.from_numpy(truth_px)).norm(dim=-1)
    assert float(2 * scale_px.mean()) == pytest.approx(float(error_px.mean()), rel=1e-4)
    assert torch.allclose(scale_px, factor * before[1])
    assert torch.equal(points_px, before[0])


def test_points_that_are_not_labelled_do_not_calibrate() -> None:
    torch.manual_seed(0)
    network = Network(build_config({"input.size_px": 64, "model": {"width": 8, "depth": 1}}))
    rng = np.random.default_rng(0)
    crops_u8, truth_px = rng.integers(0, 256, (9, 1, 64, 64), np.uint8), rng.uniform(10, 50, (9, 68, 2)).astype(np.float32)
    truth_px[2:5, :30] = np.nan
    calibrate_scale(network, crops_u8, truth_px)
    with torch.no_grad():
        points_px, scale_px = network(torch.from_numpy(crops_u8))
    known = np.isfinite(truth_px).all(-1)
    error_px = (points_px - torch.from_numpy(truth_px)).norm(dim=-1)[known]
    assert float(2 * scale_px[known].mean()) == pytest.approx(float(error_px.mean()), rel=1e-4)
