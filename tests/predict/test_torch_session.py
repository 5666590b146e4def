"""The network in torch answers as the exported one does; on the CPU, for want of a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fkp.bundle import Bundle, load_network, open_bundle, write_bundle
from fkp.errors import FkpError
from fkp.predict import DEFAULT_BUNDLE, Predictor
from fkp.predict.torch_session import TorchSession, open_gpu
from fkp.vision.crop import box_of_points
from fkp.vision.image import Image, read_image

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return open_bundle(DEFAULT_BUNDLE)


@pytest.fixture(scope="module")
def onnx(shipped: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """The shipped network in floats: what torch computes with, too."""
    config = shipped.config.updated({"export.int8": False})
    return Predictor(write_bundle(tmp_path_factory.mktemp("floats") / "bundle", load_network(shipped), config, {}, ""))


@pytest.fixture(scope="module")
def golden() -> tuple[Image, np.ndarray]:
    import json

    points = np.asarray(json.loads((REPO / "fkp/serve/golden/points.json").read_text()), np.float32)
    return read_image(REPO / "fkp/serve/golden/face.jpg"), box_of_points(points)


@pytest.mark.parametrize(("bf16", "limit_px"), [(False, 0.001), (True, 0.3)])
def test_it_answers_as_onnx_does(onnx: Predictor, golden: tuple[Image, np.ndarray], bf16: bool, limit_px: float) -> None:
    image, box = golden
    crops = np.stack([onnx.crop(box + shift).apply(image, onnx.config.input.channels) for shift in (0, 6, -4)])
    points, error = onnx.run(crops)
    ours = Predictor(onnx.bundle, session=TorchSession(onnx.bundle, torch.device("cpu"), bf16))
    found, found_error = ours.run(crops)
    assert found.dtype == found_error.dtype == np.float32
    assert np.abs(found - points).max() < limit_px
    assert np.abs(found_error / error - 1).max() < limit_px
    (face,), (expected,) = ours(image, [box]), onnx(image, [box])
    assert np.abs(face.points_px - expected.points_px).max() < 2 * limit_px


def test_the_shipped_file_answers_nearly_so(shipped: Bundle, onnx: Predictor, golden: tuple[Image, np.ndarray]) -> None:
    """A GPU serves floats, a processor the integers of model.onnx: the same points to a part of a pixel."""
    image, box = golden
    (face,), (expected,) = Predictor(shipped)(image, [box]), onnx(image, [box])
    side_px = float((box[2:] - box[:2]).max())
    assert np.linalg.norm(face.points_px - expected.points_px, axis=-1).mean() < 0.003 * side_px


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence(onnx: Predictor) -> None:
    with pytest.raises(FkpError, match=r"device gpu: torch finds no GPU here: give each replica one .*num_gpus: 1"):
        open_gpu(onnx.bundle)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_finds_the_same_points(onnx: Predictor, golden: tuple[Image, np.ndarray]) -> None:
    image, box = golden
    (face,) = Predictor(onnx.bundle, session=open_gpu(onnx.bundle))(image, [box])
    (expected,) = onnx(image, [box])
    assert np.abs(face.points_px - expected.points_px).max() < 0.5
