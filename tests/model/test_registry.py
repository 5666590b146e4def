"""One set of tests over every registered architecture with every head it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from fkp.bundle.export import export_onnx
from fkp.config import Config, build_config
from fkp.errors import FkpError
from fkp.model import losses, registry
from fkp.model.network import Network

BATCH_SIZES = (1, 2, 5)
#: Every architecture and head, but for the one that has no map to look at.
CASES = [(arch, head) for arch in registry.names() for head in ("direct", "heatmap") if (arch, head) != ("seed_cnn", "heatmap")]
#: An export takes seconds: in the fast tier there is one for each head.
EXPORTED = [case if case[0] == "resnet" else pytest.param(case, marks=pytest.mark.slow("one export more of a head")) for case in CASES]


def config_of(arch: str, head: str) -> Config:
    size = 224 if arch == "seed_cnn" else 64
    return build_config({"model": {"arch": arch, "head": head, "width": 8, "depth": 1}, "input.size_px": size})


def random_crops(count: int, config: Config, seed: int = 0) -> Tensor:
    """Random blocks of 8 x 8 pixels: more like an image than noise is."""
    size = config.input.size_px
    coarse = torch.randint(0, 256, (count, config.input.channels, size // 8, size // 8), generator=torch.Generator().manual_seed(seed))
    return coarse.repeat_interleave(8, 2).repeat_interleave(8, 3).to(torch.uint8)


def lively_network(config: Config) -> Network:
    """Random weights without zeros and, for heatmaps, steep maps; statistics of normalisation as after some training."""
    torch.manual_seed(0)
    network = Network(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.7, 1.3)
            module.momentum = 0.5
    if hasattr(network.head, "temperature"):
        nn.init.constant_(network.head.temperature, 20.0)
    with torch.no_grad():
        for seed in range(3):
            network.train()(random_crops(4, config, seed))
    return network.eval()


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[Config, Network]:
    config = config_of(*request.param)
    return config, lively_network(config)


# --- every architecture -----------------------------------------------------------------------------------------


def test_forward(case: tuple[Config, Network]) -> None:
    config, network = case
    size = config.input.size_px
    with torch.no_grad():
        for count in BATCH_SIZES:
            points_px, scale_px = network(random_crops(count, config))
            assert (points_px.dtype, tuple(points_px.shape)) == (torch.float32, (count, 68, 2))
            assert (scale_px.dtype, tuple(scale_px.shape)) == (torch.float32, (count, 68))
            assert points_px.isfinite().all()
            assert (scale_px > 0).all()
            assert (scale_px < 0.25 * size).all()
    # Another image gives other points: nothing below could go wrong in a network that ignores its input.
    assert (network(random_crops(1, config, 1))[0] - network(random_crops(1, config, 2))[0]).abs().max() > 0.05


def test_every_parameter_learns(case: tuple[Config, Network]) -> None:
    config, network = case
    crops = random_crops(2, config)
    truth_px = torch.rand(2, 68, 2, generator=torch.Generator().manual_seed(3)) * config.input.size_px
    network.zero_grad()
    points_px, scale_px = network(crops)
    losses.landmark_loss("smooth_l1", points_px, scale_px, truth_px, config.input.size_px).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_scales_do_not_move_the_points(case: tuple[Config, Network]) -> None:
    config, network = case
    crops = random_crops(2, config)
    truth_px = torch.rand(2, 68, 2, generator=torch.Generator().manual_seed(4)) * config.input.size_px
    error_pct = 100 / config.input.size_px

    def gradients(with_scale: bool, name: str) -> dict[str, Tensor]:
        network.zero_grad()
        points_px, scale_px = network(crops)
        if with_scale:
            loss = losses.landmark_loss(name, points_px, scale_px, truth_px, config.input.size_px)
        else:
            loss = losses.POINT_LOSSES[name]((points_px - truth_px) * error_pct)
        loss.backward()
        return {key: parameter.grad.clone() for key, parameter in network.named_parameters() if parameter.grad is not None}

    alone = gradients(False, "smooth_l1")
    together = gradients(True, "smooth_l1")
    likelihood = gradients(True, "laplace")
    only_scale = set(together) - set(alone)
    assert only_scale
    assert all(".log_scale." in name or name.endswith("spread_gain") for name in only_scale)
    for name, gradient in alone.items():
        torch.testing.assert_close(gradient, together[name], rtol=1e-4, atol=1e-6)
    assert any(not torch.allclose(gradient, likelihood[name], rtol=0.01) for name, gradient in alone.items())


@pytest.mark.parametrize("case", EXPORTED, ids=map("-".join, CASES), indirect=True)
def test_onnx_gives_the_same_points(case: tuple[Config, Network], tmp_path: Path) -> None:
    config, network = case
    path = tmp_path / "model.onnx"
    export_onnx(network, config, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [(node.name, node.type) for node in session.get_inputs()] == [("crops_u8", "tensor(uint8)")]
    for count in BATCH_SIZES:
        crops = random_crops(count, config, seed=count)
        points_px, scale_px = session.run(["points_px", "scale_px"], {"crops_u8": crops.numpy()})
        with torch.no_grad():
            expected_points_px, expected_scale_px = network(crops)
        assert np.abs(points_px - expected_points_px.numpy()).max() < 0.05
        np.testing.assert_allclose(scale_px, expected_scale_px.numpy(), rtol=1e-2)


def test_encode_and_decode_are_inverse(case: tuple[Config, Network]) -> None:
    config, network = case
    size = config.input.size_px
    along = torch.cat([torch.linspace(4, size - 5, 131), torch.tensor([4.0, 5.1, size / 2, size - 6.1, size - 5])])
    grid = torch.stack(torch.meshgrid(along, along, indexing="ij"), -1).reshape(-1, 68, 2)
    with torch.no_grad():
        decoded = network.head.decode(network.head.encode(grid))
    points_px = decoded if isinstance(decoded, Tensor) else decoded[0]
    assert (points_px - grid).norm(dim=-1).max() < 0.5


# --- names ------------------------------------------------------------------------------------------------------


def test_names() -> None:
    assert {"convnext", "mobile", "resnet", "seed_cnn"} <= set(registry.names())
    assert registry.names() == sorted(registry.names())


def test_unknown_architecture_names_the_known_ones() -> None:
    with pytest.raises(FkpError, match=r"unknown architecture 'vit': model\.arch is one of convnext, mobile, resnet, seed_cnn"):
        Network(build_config({"model.arch": "vit"}))


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="architecture 'resnet' is registered twice"):
        registry.register("resnet")(lambda model, inputs: nn.Identity())


@pytest.mark.parametrize("arch", ["convnext", "mobile", "resnet"])
def test_width_and_depth_make_it_larger(arch: str) -> None:
    def size(**settings: int) -> int:
        network = Network(build_config({"model": {"arch": arch, **settings}}))
        return sum(parameter.numel() for parameter in network.parameters())

    assert size(width=8, depth=1) < size(width=16, depth=1) < size(width=16, depth=2)


def test_settings_of_dropout_and_colour_reach_the_network() -> None:
    network = Network(
        build_config({"model": {"arch": "mobile", "head": "direct", "width": 8, "depth": 1, "dropout": 0.3}, "input.channels": 3})
    )
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.3]
    assert network(torch.zeros(1, 3, 128, 128, dtype=torch.uint8))[0].shape == (1, 68, 2)


# --- the student project's network ------------------------------------------------------------------------------


def test_seed_cnn_is_the_student_project_s() -> None:
    network = Network(config_of("seed_cnn", "direct"))
    layers = list(network.backbone.modules())
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels, layer.kernel_size[0]) for layer in convolutions] == [
        (1, 32, 5),
        (32, 64, 4),
        (64, 128, 3),
        (128, 256, 3),
        (256, 512, 3),
    ]
    assert len([layer for layer in layers if isinstance(layer, nn.MaxPool2d)]) == 5
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    # The last one is ours: the scale of each point's error.
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(8192, 2048), (2048, 1024), (1024, 136), (1024, 68)]
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.1, 0.25, 0.25]
    points_px = torch.tensor([[[100.0, 150.0]]])
    torch.testing.assert_close(network.head.encode(points_px), torch.tensor([[[0.0, 1.0]]]))


def test_seed_cnn_has_no_map_for_a_heatmap() -> None:
    with pytest.raises(FkpError, match=r"model\.arch=seed_cnn has no map for model\.head=heatmap: use model\.head=direct"):
        Network(config_of("seed_cnn", "heatmap"))


@pytest.mark.parametrize("wrong", [{"input.size_px": 128}, {"input.size_px": 224, "input.channels": 3}], ids=str)
def test_seed_cnn_fits_one_crop(wrong: dict[str, int]) -> None:
    with pytest.raises(FkpError, match=r"model\.arch=seed_cnn needs input\.size_px=224 and input\.channels=1"):
        Network(build_config({"model": {"arch": "seed_cnn", "head": "direct"}}, wrong))
