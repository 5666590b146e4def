"""A map of the shape moves with the face, changes nothing until it is fitted, and is exported in floats."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from fkp.bundle import Bundle, load_network, open_bundle, write_bundle
from fkp.bundle.quantize import quantize
from fkp.config import Config
from fkp.data.face_shape import mean_face
from fkp.model.network import Network
from fkp.model.shape_map import ShapeMap
from fkp.predict import Predictor
from fkp.scheme import IBUG68, load_scheme


def shapes(count: int, seed: int = 0) -> Tensor:
    """(N, 68, 2) faces in a crop, each another one."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy((mean_face()[None, :, :2] * 30 + 60 + rng.normal(0, 2, (count, 68, 2))).astype(np.float32))


def some_map(outer: str = "ibug68", inner: str = "ibug68") -> ShapeMap:
    """A map with numbers in it; no symmetry."""
    torch.manual_seed(0)
    made = ShapeMap(load_scheme(inner), load_scheme(outer))
    mean = torch.from_numpy(mean_face()[:, :2].astype(np.float32))
    mean = mean - mean.mean(0)
    made.mean.copy_(mean / (mean * mean).sum(-1).mean().sqrt())
    made.matrix.normal_(0, 0.02)
    made.offset.normal_(0, 0.1)
    return made


def test_until_it_is_fitted_it_changes_nothing() -> None:
    points, scales = shapes(3), torch.rand(3, 68)
    mapped, mapped_scales = ShapeMap(IBUG68, IBUG68)(points, scales)
    torch.testing.assert_close(mapped, points)
    torch.testing.assert_close(mapped_scales, scales)


def test_landmarks_of_the_same_name_stay_and_others_begin_in_the_middle() -> None:
    scheme = load_scheme("cofw29")
    points, scales = shapes(3), torch.rand(3, 68)
    mapped, mapped_scales = ShapeMap(IBUG68, scheme)(points, scales)
    there = scheme.places_in(IBUG68)
    new = sorted(set(range(29)) - there.keys())
    assert len(new) == 10
    torch.testing.assert_close(mapped[:, list(there)], points[:, list(there.values())])
    torch.testing.assert_close(mapped_scales[:, list(there)], scales[:, list(there.values())])
    torch.testing.assert_close(mapped[:, new], points.mean(1, keepdim=True).expand(-1, 10, -1))
    torch.testing.assert_close(mapped_scales[:, new], scales.mean(1, keepdim=True).expand(-1, 10))


@pytest.mark.parametrize("outer", ["ibug68", "cofw29"])
def test_it_moves_grows_and_turns_with_the_face(outer: str) -> None:
    made, points, scales = some_map(outer), shapes(4), torch.ones(4, 68)
    mapped, _ = made(points, scales)
    angle = torch.tensor(0.4)
    turn = torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])])
    changed, _ = made(points @ turn * 1.7 + torch.tensor([3.0, -8.0]), scales)
    torch.testing.assert_close(changed, mapped @ turn * 1.7 + torch.tensor([3.0, -8.0]), atol=1e-3, rtol=1e-4)
    assert (mapped - ShapeMap(IBUG68, load_scheme(outer))(points, scales)[0]).abs().max() > 1


def test_to_first_order_the_inner_truth_makes_the_mapped_points_right() -> None:
    made, points = some_map(), shapes(2)
    mapped, _ = made(points, torch.ones(2, 68))
    truth = mapped + 0.5
    truth[0, 3] = torch.nan
    inner = made.inner_truth(points, mapped, truth)
    assert inner.isnan().all(-1).nonzero().tolist() == [[0, 3]]
    moved, _ = made(torch.where(inner.isnan(), points + 0.5, inner), torch.ones(2, 68))
    torch.testing.assert_close(moved, mapped + 0.5, atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def mapped_bundle(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """From 68 points to 29."""
    config = tiny_bundle.config.updated({"data.scheme": "cofw29", "model.base_scheme": "ibug68"})
    return write_bundle(tmp_path_factory.mktemp("mapped") / "bundle", _network(tiny_bundle, config), config, {}, "")


def test_the_exported_network_answers_as_torch_does(mapped_bundle: Bundle) -> None:
    crops = _crops(mapped_bundle.config)
    with torch.inference_mode():
        wanted, scales = load_network(open_bundle(mapped_bundle.path))(torch.from_numpy(crops))
    found, errors = Predictor(mapped_bundle).run(crops)
    assert found.shape == (len(crops), 29, 2)
    np.testing.assert_allclose(found, wanted.numpy(), atol=2e-3)
    np.testing.assert_allclose(errors, 2 * scales.numpy(), rtol=1e-3)


def test_in_integers_the_map_stays_in_floats(mapped_bundle: Bundle, tmp_path: Path) -> None:
    path = Path(shutil.copy(mapped_bundle.onnx_path, tmp_path))
    quantize(path, _crops(mapped_bundle.config))
    graph = onnx.load(path).graph
    makers = {output: node for node in graph.node for output in node.output}
    behind, todo = list[onnx.NodeProto](), ["points_px"]
    while todo:
        node = makers.get(todo.pop())
        if node is not None and node.op_type != "Softmax" and node not in behind:
            behind.append(node)
            todo += node.input
    kinds = {node.op_type for node in behind}
    assert "Gemm" in kinds
    assert any(node.op_type == "QuantizeLinear" for node in graph.node)
    assert not kinds & {"QuantizeLinear", "DequantizeLinear"}


def _network(bundle: Bundle, config: Config) -> Network:
    network = Network(config)
    network.load_state_dict(load_network(bundle).state_dict(), strict=False)
    assert network.shape_map is not None
    network.shape_map.load_state_dict(some_map("cofw29").state_dict())
    return network.eval()


def _crops(config: Config) -> np.ndarray:
    rng = np.random.default_rng(0)
    size = config.input.size_px
    return rng.integers(0, 256, (5, config.input.channels, size // 8, size // 8), np.uint8).repeat(8, 2).repeat(8, 3)
