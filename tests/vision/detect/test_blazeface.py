"""BlazeFace's arithmetic on hand-made numbers, and its file."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fkp.errors import FkpError
from fkp.vision.detect import blazeface, open_detector
from fkp.vision.detect.blazeface import anchors, any_size, decode


def test_anchors_are_the_cell_middles() -> None:
    middles = anchors()
    assert middles.shape == (896, 2)
    np.testing.assert_array_equal(middles[:3], [[8, 8], [8, 8], [24, 8]])
    np.testing.assert_array_equal(middles[[511, 512, 517, 518, -1]], [[248, 248], [16, 16], [16, 16], [48, 16], [240, 240]])


def test_decode_one_candidate() -> None:
    raw, logits = np.zeros((896, 16), np.float32), np.full(896, -100, np.float32)
    raw[513, :8], logits[513] = [3, -4, 40, 20, 1, 2, -5, 6], math.log(0.8 / 0.2)
    found = decode(raw, logits, 0.6, anchors())
    # anchor (16, 16), centre (19, 12) from the border, half a pixel less from the first pixel's centre
    np.testing.assert_allclose(found.boxes_xyxy, [[-1.5, 1.5, 38.5, 21.5]], atol=1e-5)
    np.testing.assert_allclose(found.shapes_px[0, 2:4], [[16.5, 17.5], [10.5, 21.5]], atol=1e-5)
    np.testing.assert_allclose(found.scores, [0.8], atol=1e-6)


def test_decode_drops_what_is_no_box() -> None:
    raw, logits = np.zeros((896, 16), np.float32), np.full(896, 1e4, np.float32)
    raw[:, 2:4] = -5
    raw[7, :4] = [np.nan, 0, 5, 5]
    raw[8, :4] = [0, np.inf, 5, 5]
    found = decode(raw, logits, 0.6, anchors())
    assert found.shapes_px.shape == (0, 6, 2)
    assert found.scores.shape == (0,)


def test_the_network_takes_any_size_and_answers_its_own_the_same_to_the_last_bit() -> None:
    fixed = blazeface._model_bytes()
    pixels = np.random.default_rng(0).random((1, 256, 256, 3), np.float32)
    sessions = [onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]) for model in (fixed, any_size(fixed))]
    before, after = (list(session.run(None, {"input:0": pixels})) for session in sessions)
    assert [answer.shape for answer in before] == [(1, 512, 1), (1, 384, 1), (1, 512, 16), (1, 384, 16)]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    wide = sessions[1].run(None, {"input:0": pixels[:, :96, :224]})
    assert [answer.shape[1] for answer in wide] == [6 * 14 * 2, 3 * 7 * 6] * 2
    assert len(anchors(224, 96)) == 6 * 14 * 2 + 3 * 7 * 6
    with pytest.raises(ValueError, match="stands 0 times in the network"):
        any_size(any_size(fixed))


def test_a_missing_network_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(blazeface, "_MODEL_FILE", tmp_path / "none.onnx")
    with pytest.raises(FkpError, match=r"none\.onnx is missing: install fkp again with pip") as caught:
        open_detector("blazeface")
    assert "\n" not in str(caught.value)


def test_another_network_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(b"other")
    monkeypatch.setattr(blazeface, "_MODEL_FILE", tmp_path / "other.onnx")
    with pytest.raises(FkpError, match="is not the network"):
        open_detector("blazeface")


def test_no_heavy_import_and_the_package_never_runs() -> None:
    code = (
        "import sys; from fkp.vision.detect import open_detector; open_detector('blazeface');"
        "print([name for name in ('torch', 'ray', 'mlflow', 'lightning', 'dlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
