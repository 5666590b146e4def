"""What the heads' numbers mean: codes by hand, expectation and spread of a map, the range of a scale."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fkp.model.heads import DirectHead, HeatmapHead, _scale_px


def backbone(channels: list[int], strides: list[int]) -> Any:
    return SimpleNamespace(channels=channels, strides=strides)


def heatmap_head(size_px: int = 64) -> HeatmapHead:
    return HeatmapHead(backbone([8, 16, 32, 32], [4, 8, 16, 32]), size_px, 68)


@pytest.mark.parametrize(("size_px", "middle", "unit"), [(224, 100.0, 50.0), (112, 50.0, 25.0)])
def test_direct_code_by_hand(size_px: int, middle: float, unit: float) -> None:
    head = DirectHead(backbone([8], [32]), size_px, dropout=0.0, landmarks=68)
    points_px = torch.tensor([[[middle, middle + unit], [0.0, middle - 2 * unit]]])
    torch.testing.assert_close(head.encode(points_px), torch.tensor([[[0.0, 1.0], [-2.0, -2.0]]]))
    torch.testing.assert_close(head.decode(head.encode(points_px)), points_px)


def test_one_hot_map_is_the_middle_of_its_cell() -> None:
    head = heatmap_head()
    logits = torch.full((1, 68, 16, 16), -1e4)
    logits[:, :, 2, 5] = 0
    points_px, spread_px = head.decode(logits)
    # Cell 5 holds the pixels 20 to 23, whose middle is 21.5.
    torch.testing.assert_close(points_px[0, 0], torch.tensor([21.5, 9.5]))
    assert spread_px.max() < 0.1


def test_two_equal_cells_by_hand() -> None:
    logits = torch.full((1, 68, 16, 16), -1e4)
    logits[:, :, 4, 3] = logits[:, :, 4, 7] = 2.0
    points_px, spread_px = heatmap_head().decode(logits)
    torch.testing.assert_close(points_px[0, 9], torch.tensor([21.5, 17.5]))
    torch.testing.assert_close(spread_px, torch.full((1, 68), 8.0))


def test_flat_map_is_the_middle_of_the_crop() -> None:
    points_px, spread_px = heatmap_head().decode(torch.zeros(2, 68, 16, 16))
    torch.testing.assert_close(points_px, torch.full((2, 68, 2), 31.5))
    assert spread_px.min() > 20


def test_a_wider_map_is_a_larger_scale() -> None:
    torch.manual_seed(0)
    head = heatmap_head().eval()
    torch.nn.init.constant_(head.log_scale.weight, 0.0)
    maps = [torch.randn(2, channels, 64 // stride, 64 // stride) for channels, stride in ((8, 4), (16, 8), (32, 16), (32, 32))]
    with torch.no_grad():
        wide = head(maps)[1]
        head.temperature.fill_(50.0)
        narrow = head(maps)[1]
    # Not for each point: two far peaks of a steep map are wide as well.
    assert (narrow < wide).float().mean() > 0.7
    assert narrow.mean() < 0.8 * wide.mean()


def test_scale_stays_between_its_limits() -> None:
    scale_px = _scale_px(torch.tensor([-1e6, 0.0, 1e6]), size_px=200)
    torch.testing.assert_close(scale_px, torch.tensor([0.0996, 2.0, 40.17]), rtol=1e-3, atol=0)


def test_a_direct_head_keeps_the_place_of_features() -> None:
    head = DirectHead(backbone([4, 8], [16, 32]), 64, dropout=0.0, landmarks=68)
    maps = torch.zeros(1, 8, 2, 2)
    maps[..., 0, 0] = 1
    with torch.no_grad():
        assert not torch.allclose(head([maps])[0], head([maps.flip(-1)])[0])


def test_the_code_of_a_point_that_is_not_labelled_counts_nothing() -> None:
    head = heatmap_head()
    generator = torch.Generator().manual_seed(0)
    encoding = torch.rand(3, 68, 2, head.cells, generator=generator).softmax(-1)
    truth_px = 64 * torch.rand(3, 68, 2, generator=generator)
    inner = head.heatmap_loss(encoding[:, 17:], truth_px[:, 17:])
    truth_px[:, :17] = torch.nan
    encoding.requires_grad_()
    loss = head.heatmap_loss(encoding, truth_px)
    torch.testing.assert_close(loss, inner)
    loss.backward()  # type: ignore[no-untyped-call]
    assert encoding.grad is not None and encoding.grad.isfinite().all() and not encoding.grad[:, :17].any() and encoding.grad[:, 17:].any()
