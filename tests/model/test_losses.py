"""Losses against values by hand."""

from __future__ import annotations

import math

import pytest
import torch

from fkp.model import losses


def test_smooth_l1_by_hand() -> None:
    assert losses.smooth_l1(torch.tensor([0.5])).item() == pytest.approx(0.125)
    assert losses.smooth_l1(torch.tensor([-3.0])).item() == pytest.approx(2.5)
    assert losses.smooth_l1(torch.tensor([0.5, -3.0, 0.0])).item() == pytest.approx((0.125 + 2.5) / 3)


def test_wing_by_hand() -> None:
    # w = 4, epsilon = 0.8: w ln(1 + |x| / epsilon) inside, |x| - (w - w ln(1 + w / epsilon)) beyond.
    assert losses.wing(torch.tensor([0.8])).item() == pytest.approx(4 * math.log(2))
    assert losses.wing(torch.tensor([-0.8, 0.0])).item() == pytest.approx(2 * math.log(2))
    assert losses.wing(torch.tensor([10.0])).item() == pytest.approx(10 - 4 + 4 * math.log(6))


def test_wing_is_continuous_where_its_parts_meet() -> None:
    below, above = (losses.wing(torch.tensor([value], dtype=torch.float64)).item() for value in (4 - 1e-9, 4 + 1e-9))
    assert below == pytest.approx(above, abs=1e-8)
    assert below == pytest.approx(4 * math.log(6))


def test_mse_is_the_student_project_s() -> None:
    generator = torch.Generator().manual_seed(0)
    points_px, truth_px = (224 * torch.rand(3, 68, 2, generator=generator) for _ in range(2))
    expected = torch.nn.functional.mse_loss((points_px - 100) / 50, (truth_px - 100) / 50)
    torch.testing.assert_close(losses.mse((points_px - truth_px) * 100 / 224), expected)


def test_radial_laplace_by_hand() -> None:
    error_pct = torch.tensor([[[3.0, 4.0]]])
    assert losses.radial_laplace_nll(error_pct, torch.tensor([[2.0]])).item() == pytest.approx(2 * math.log(2) + 2.5)


def test_the_most_likely_scale_is_half_the_mean_radius() -> None:
    error_pct = torch.randn(1, 500, 2, generator=torch.Generator().manual_seed(0)) * 3
    half_mean = error_pct.norm(dim=-1).mean() / 2

    def loss(factor: float) -> float:
        return losses.radial_laplace_nll(error_pct, (half_mean * factor).expand(1, 500)).item()

    assert loss(1.0) < min(loss(0.97), loss(1.03)) < min(loss(0.5), loss(2.0))
    scale = half_mean.clone().requires_grad_()
    losses.radial_laplace_nll(error_pct, scale.expand(1, 500)).backward()
    assert abs(scale.grad.item()) < 1e-3


def test_the_radial_density_has_this_expected_radius() -> None:
    # The density exp(-r / s) / (2 pi s^2) over the plane, in rings of 2 pi r dr: it sums to 1 and its mean radius is 2 s.
    scale = 1.7
    radius = torch.linspace(0, 80, 200_001, dtype=torch.float64)
    ring = torch.exp(-radius / scale) / scale**2 * radius
    assert torch.trapezoid(ring, radius).item() == pytest.approx(1, abs=1e-6)
    assert torch.trapezoid(ring * radius, radius).item() == pytest.approx(2 * scale, rel=1e-6)


@pytest.mark.parametrize("name", [*losses.POINT_LOSSES, "laplace"])
def test_gradients_are_finite_at_zero_error(name: str) -> None:
    truth_px = torch.full((2, 68, 2), 30.0)
    points_px = truth_px.clone().requires_grad_()
    scale_px = torch.ones(2, 68, requires_grad=True)
    loss = losses.landmark_loss(name, points_px, scale_px, truth_px, size_px=64)
    loss.backward()
    assert loss.isfinite()
    assert points_px.grad.isfinite().all()
    assert scale_px.grad.isfinite().all()


@pytest.mark.parametrize("name", [*losses.POINT_LOSSES, "laplace"])
def test_a_smaller_error_is_a_smaller_loss(name: str) -> None:
    truth_px, scale_px = torch.zeros(1, 68, 2), torch.ones(1, 68)
    values = [losses.landmark_loss(name, truth_px + error, scale_px, truth_px, size_px=64).item() for error in (0.0, 0.1, 1.0, 5.0, 30.0)]
    assert values == sorted(values)
    assert len(set(values)) == 5


@pytest.mark.parametrize("name", [*losses.POINT_LOSSES, "laplace"])
def test_total_means_the_same_at_every_size(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    points_px, truth_px = (64 * torch.rand(2, 68, 2, generator=generator) for _ in range(2))
    scale_px = 1 + torch.rand(2, 68, generator=generator)
    small = losses.landmark_loss(name, points_px, scale_px, truth_px, 64)
    torch.testing.assert_close(losses.landmark_loss(name, points_px * 2, scale_px * 2, truth_px * 2, 128), small)


def test_landmark_loss_by_hand() -> None:
    truth_px = torch.zeros(1, 68, 2)
    points_px = truth_px + torch.tensor([3.0, 4.0])  # 1.5 % and 2 % of 200 px, a radius of 2.5 %.
    scale_px = torch.full((1, 68), 4.0)  # 2 %
    likelihood = 2 * math.log(2) + 1.25
    assert losses.landmark_loss("laplace", points_px, scale_px, truth_px, 200).item() == pytest.approx(likelihood, rel=1e-5)
    assert losses.landmark_loss("smooth_l1", points_px, scale_px, truth_px, 200).item() == pytest.approx(
        (1.0 + 1.5) / 2 + likelihood, rel=1e-5
    )


@pytest.mark.parametrize("name", [*losses.POINT_LOSSES, "laplace"])
def test_a_point_that_is_not_labelled_counts_nothing(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    points_px, truth_px = (64 * torch.rand(3, 68, 2, generator=generator) for _ in range(2))
    scale_px = 1 + torch.rand(3, 68, generator=generator)
    inner = losses.landmark_loss(name, points_px[:, 17:], scale_px[:, 17:], truth_px[:, 17:], 64)
    truth_px[:, :17] = torch.nan
    points_px.requires_grad_()
    scale_px.requires_grad_()
    loss = losses.landmark_loss(name, points_px, scale_px, truth_px, 64)
    torch.testing.assert_close(loss, inner)
    loss.backward()  # type: ignore[no-untyped-call]
    for gradient in (points_px.grad, scale_px.grad):
        assert gradient is not None and gradient.isfinite().all() and not gradient[:, :17].any() and gradient[:, 17:].any()


@pytest.mark.parametrize("name", [*losses.POINT_LOSSES, "laplace"])
def test_a_label_counts_by_its_weight(name: str) -> None:
    """A point of weight 3 counts as three points; equal weights change nothing, and points without a label count nothing."""
    draw = torch.Generator().manual_seed(0)
    truth_px, scale_px = 64 * torch.rand(2, 5, 2, generator=draw), 1 + torch.rand(2, 5, generator=draw)
    points_px = truth_px + torch.randn(2, 5, 2, generator=draw)
    truth_px[0, 4] = torch.nan
    weights = torch.ones(2, 5)
    plain = losses.landmark_loss(name, points_px, scale_px, truth_px, 64)
    torch.testing.assert_close(losses.landmark_loss(name, points_px, scale_px, truth_px, 64, 0.2 * weights), plain)
    weights[:, 1] = 3
    again = [0, 1, 1, 1, 2, 3, 4]
    repeated = losses.landmark_loss(name, points_px[:, again], scale_px[:, again], truth_px[:, again], 64)
    torch.testing.assert_close(losses.landmark_loss(name, points_px, scale_px, truth_px, 64, weights), repeated)
