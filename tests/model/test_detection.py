"""The detector's network, its loss, and what becomes of its numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fkp.config import Config, build_config
from fkp.errors import FkpError
from fkp.model import detection
from fkp.model.detection import DetectionNetwork, cells
from fkp.model.detection_loss import assign, detection_loss, generalised_iou
from fkp.model.detection_module import candidates
from fkp.vision.detect import cells as grid


def config(**changes: object) -> Config:
    settings = {"task": "detect", "input.channels": 3, "model": {"arch": "slim", "width": 8, "depth": 1}}
    return build_config(settings, {key.replace("__", "."): value for key, value in changes.items()})


def shape_at(x: float, y: float, length: float) -> torch.Tensor:
    box = torch.tensor([[-0.5, -0.5], [0.5, 0.5], [-0.2, -0.2], [0.2, -0.2], [0.0, 0.0], [-0.2, 0.3], [0.2, 0.3]])
    return box * length + torch.tensor([x, y])


def perfect(shapes: list[torch.Tensor], height: int, width: int) -> torch.Tensor:
    """What a network tells that sees everything: (1, A, 15)."""
    middles, strides = cells(height, width)
    truth = torch.stack(shapes)
    face = assign(truth, torch.ones(len(shapes), dtype=torch.bool), middles, strides)
    told = torch.zeros(len(middles), detection.NUMBERS)
    told[:, 0] = -12.0
    own_face = face >= 0
    of_cell = truth[face[own_face]]
    unit = grid.UNIT * strides[own_face, None]
    told[own_face, 0] = 12.0
    told[own_face, 1:3] = (of_cell[:, :2].mean(1) - middles[own_face]) / strides[own_face, None]
    told[own_face, 3:5] = ((of_cell[:, 1] - of_cell[:, 0]) / unit).log()
    told[own_face, 5:] = ((of_cell[:, 2:] - middles[own_face, None]) / unit[:, None]).flatten(1)
    return told[None]


@pytest.mark.parametrize("arch", ["slim", "resnet", "mobile", "convnext"])
def test_each_map_has_its_cells(arch: str) -> None:
    network = DetectionNetwork(config(model__arch=arch)).eval()
    with torch.inference_mode():
        told = network(torch.zeros(2, 3, 64, 96, dtype=torch.uint8))
    middles, _ = cells(64, 96)
    assert told.shape == (2, len(middles), detection.NUMBERS) and len(middles) == 8 * 12 + 4 * 6 + 2 * 3
    assert middles[0].tolist() == [4, 4] and middles[1].tolist() == [12, 4] and middles[-1].tolist() == [80, 48]
    assert told[..., 0].sigmoid().mean() < 0.05, "at first nothing is a face"


def test_a_backbone_without_such_maps_is_one_sentence() -> None:
    with pytest.raises(FkpError, match=r"model\.arch=seed_cnn has no maps of strides \(8, 16, 32\)"):
        DetectionNetwork(config(model__arch="seed_cnn", input__size_px=224, input__channels=1))


@pytest.mark.parametrize("length", [8, 20, 30, 60, 150, 250])
def test_a_face_of_any_length_has_cells_and_one_that_sees_it_finds_it(length: float) -> None:
    shape = shape_at(131.0, 118.0, length)
    told = perfect([shape], 256, 256)
    assert (told[0, :, 0] > 0).any()
    (found,) = candidates(told, 256, 256)
    assert len(found) == 1
    np.testing.assert_allclose(found.shapes_px[0] + 0.5, shape, atol=1e-3)
    in_torch = detection.decode(told, *cells(256, 256))[0][told[0, :, 0] > 0]
    np.testing.assert_allclose(in_torch, shape.expand(len(in_torch), 7, 2), atol=1e-3)
    in_numpy = grid.decode(told[0].numpy(), 256, 256, 0.5)
    np.testing.assert_allclose(in_numpy.shapes_px + 0.5, shape.expand(len(in_numpy), 7, 2), atol=1e-3)
    assert (grid.STRIDES, grid.UNIT) == (detection.STRIDES, detection.UNIT)


def test_the_loss_is_least_for_the_truth_and_falls_toward_it() -> None:
    shapes = [shape_at(60, 70, 30), shape_at(180, 150, 90)]
    truth, counted = torch.stack(shapes), torch.ones(2, dtype=torch.bool)
    best = detection_loss(perfect(shapes, 256, 256), [truth], [counted], 256, 256)
    moved = perfect([shape_at(66, 70, 30), shape_at(180, 150, 90)], 256, 256)
    nothing = torch.zeros_like(moved)
    nothing[..., 0] = -12
    assert best < 0.01 < detection_loss(moved, [truth], [counted], 256, 256) < detection_loss(nothing, [truth], [counted], 256, 256)
    told = nothing.clone().requires_grad_()
    for _ in range(60):
        (step,) = torch.autograd.grad(detection_loss(told, [truth], [counted], 256, 256), told)
        told = (told - 2.0 * step).detach().requires_grad_()
    assert detection_loss(told, [truth], [counted], 256, 256) < 0.5 * detection_loss(nothing, [truth], [counted], 256, 256)


def test_nobody_is_blamed_for_a_face_that_does_not_count_and_an_empty_image_has_a_loss() -> None:
    shapes = [shape_at(60, 70, 40)]
    told = perfect(shapes, 128, 128)
    nobody = torch.zeros(1, dtype=torch.bool)
    assert detection_loss(told, [torch.stack(shapes)], [nobody], 128, 128) < 1e-3
    assert detection_loss(told, [torch.zeros(0, 7, 2)], [torch.zeros(0, dtype=torch.bool)], 128, 128) > 1


def test_the_smaller_of_two_faces_keeps_its_cells() -> None:
    middles, strides = cells(128, 128)
    both = torch.stack([shape_at(64, 64, 100), shape_at(66, 62, 30)])
    face = assign(both, torch.ones(2, dtype=torch.bool), middles, strides)
    assert {0, 1} <= set(face.tolist())
    assert face[(middles == torch.tensor([68.0, 60.0])).all(1) & (strides == 8)].tolist() == [1]


def test_a_face_is_denied_by_the_cells_of_other_strides_unless_it_nearly_fits_them() -> None:
    middles, strides = cells(256, 256)
    at_face = (middles - 132).abs().amax(1) < 8
    for length, asked, denied in ((14, {8}, {16, 32}), (36, {8, 16}, {32}), (200, {32}, {8, 16})):
        shape = shape_at(132.0, 132.0, length)[None]
        counted = torch.ones(1, dtype=torch.bool)
        face = assign(shape, counted, middles, strides)
        assert set(strides[face == 0].tolist()) == asked
        of_denied = torch.isin(strides, torch.tensor(sorted(denied)))
        assert (face[of_denied] == -1).all() and (face[~of_denied & at_face] != -1).all()
        assert (assign(shape, ~counted, middles, strides)[at_face] == -2).all(), "a face that does not count is nobody's"
    nearly = assign(shape_at(132.0, 132.0, 44)[None], torch.ones(1, dtype=torch.bool), middles, strides)
    assert (nearly[at_face & (strides == 8)] == -2).all()


def test_each_image_counts_the_same() -> None:
    """The one face that is missed weighs as much as all of a crowd."""
    crowd = [shape_at(16 + 32 * column, 16 + 32 * row, 20) for row in range(4) for column in range(4)]
    alone = [shape_at(64, 64, 20)]
    shapes, counted = [torch.stack(crowd), torch.stack(alone)], [torch.ones(16, dtype=torch.bool), torch.ones(1, dtype=torch.bool)]
    right = torch.cat([perfect(crowd, 128, 128), perfect(alone, 128, 128)])
    lost = []
    for image in (0, 1):
        wrong = right.clone()
        wrong[image, :, 0] = -12
        lost.append(detection_loss(wrong, shapes, counted, 128, 128))
    assert lost[0] == pytest.approx(lost[1], rel=0.01) and lost[0] > 1


def test_generalised_iou() -> None:
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1]])
    b = torch.tensor([[0.0, 0, 2, 2], [3, 0, 4, 1]])
    assert generalised_iou(a, b).tolist() == pytest.approx([1.0, -0.5])
