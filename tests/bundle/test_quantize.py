"""The network in integers answers as the one in floats, at its own input and outputs, in half the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from fkp.bundle import Bundle, load_network, open_bundle, write_bundle
from fkp.config import Config
from fkp.errors import FkpError
from fkp.predict import Predictor


def crops_of(config: Config, count: int) -> np.ndarray:
    """(N, C, S, S) smooth uint8 crops, as photographs are."""
    rng = np.random.default_rng(0)
    size = config.input.size_px
    coarse = rng.integers(0, 256, (count, config.input.channels, size // 8, size // 8), np.uint8)
    return coarse.repeat(8, 2).repeat(8, 3)


@pytest.fixture(scope="module")
def integers(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    config = tiny_bundle.config.updated({"export.int8": True})
    folder = tmp_path_factory.mktemp("integers") / "bundle"
    return write_bundle(folder, load_network(tiny_bundle), config, {}, "", calibration_u8=crops_of(config, 32))


def test_convolutions_are_in_integers_but_for_the_first(integers: Bundle, tiny_bundle: Bundle) -> None:
    graph = onnx.load(integers.onnx_path).graph
    made_by = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    whole = [made_by.get(node.input[0]) is not None and made_by[node.input[0]].op_type == "DequantizeLinear" for node in convolutions]
    assert len(whole) > 5
    assert whole == [False] + [True] * (len(whole) - 1)
    assert [part.name for part in graph.input] == ["crops_u8"]
    assert [part.name for part in graph.output] == ["points_px", "scale_px"]
    assert not any(node.metadata_props or node.doc_string for node in graph.node)


def test_points_hardly_move_in_a_batch_of_any_size(integers: Bundle, tiny_bundle: Bundle) -> None:
    crops_u8 = crops_of(integers.config, 7)
    points_px, error_px = Predictor(integers).run(crops_u8)
    floats_px, floats_error_px = Predictor(tiny_bundle).run(crops_u8)
    moved = np.linalg.norm(points_px - floats_px, axis=-1)
    assert 0 < moved.mean() < 0.02 * integers.config.input.size_px
    assert error_px == pytest.approx(floats_error_px, rel=0.2)
    alone = np.concatenate([Predictor(integers).run(crop[None])[0] for crop in crops_u8])
    np.testing.assert_allclose(alone, points_px, atol=1e-3)


def test_no_integers_without_crops(tiny_bundle: Bundle, tmp_path: Path) -> None:
    config = tiny_bundle.config.updated({"export.int8": True})
    with pytest.raises(FkpError, match=r"export\.int8 needs training crops to find the ranges of its integers"):
        write_bundle(tmp_path / "bundle", load_network(tiny_bundle), config, {}, "")
    assert not list(tmp_path.iterdir())


def test_the_weights_stay_in_floats(integers: Bundle, tiny_bundle: Bundle) -> None:
    ours, theirs = (load_network(open_bundle(bundle.path)).state_dict() for bundle in (integers, tiny_bundle))
    assert all((ours[name] == value).all() for name, value in theirs.items())
