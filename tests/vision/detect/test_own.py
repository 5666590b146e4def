"""The detector that ships, and one size at each place."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from fkp.bundle import open_bundle
from fkp.data.synthetic.render import frame_of
from fkp.predict import Predictor
from fkp.vision.crop import box_of_points
from fkp.vision.detect import OWN, iou, open_detector
from fkp.vision.detect.candidates import Candidates, one_scale
from fkp.vision.detect.cells import decode
from fkp.vision.detect.own import OwnDetector
from fkp.vision.detect.session import small_session
from fkp.vision.image import read_image

REPO = Path(__file__).resolve().parents[3]


def shapes(*boxes: tuple[float, float, float]) -> np.ndarray:
    """Squares by their middle and side; (N, 7, 2)."""
    return np.array([[(x - s / 2, y - s / 2), (x + s / 2, y + s / 2), *[(x, y)] * 5] for x, y, s in boxes]).reshape(-1, 7, 2)


@pytest.mark.parametrize(
    ("boxes", "scores", "kept"),
    [
        pytest.param([(50, 50, 14), (52, 51, 40)], [0.9, 0.6], [0], id="the larger one is the head around the face"),
        pytest.param([(50, 50, 14), (52, 51, 40)], [0.3, 0.8], [1], id="the smaller one is its nose"),
        pytest.param([(50, 50, 20), (51, 50, 22)], [0.9, 0.8], [0, 1], id="two candidates of one size wait for the mean"),
        pytest.param([(50, 50, 20), (80, 50, 40)], [0.9, 0.8], [0, 1], id="neighbours"),
        pytest.param([(50, 50, 20)], [0.5], [0], id="one"),
        pytest.param([], [], [], id="none"),
    ],
)
def test_one_size_at_each_place(boxes: list[tuple[float, float, float]], scores: list[float], kept: list[int]) -> None:
    found = one_scale(Candidates(shapes(*boxes), np.array(scores, float)))
    np.testing.assert_array_equal(found.scores, np.array(scores, float)[kept])


def test_numbers_that_are_none_are_no_face() -> None:
    told = np.zeros((21, 15), np.float32)  # 32 x 32 pixels: 16, 4 and 1 cells.
    told[:, 0] = -9
    told[3] = 5
    told[3, 7] = np.nan
    told[20, 0], told[20, 3:5] = 5, 1e30
    found = decode(told, 32, 32, 0.5)
    assert len(found) == 1 and np.isfinite(found.shapes_px).all()


def test_the_one_that_ships_is_whole_and_says_what_it_was_trained_on() -> None:
    bundle = open_bundle(REPO / "saved_models/detector", "detect")
    assert bundle.config.data.root is None and "/" not in "".join(bundle.config.data.extra).removeprefix("data/")
    assert "license MIT" in bundle.card and "data/backgrounds" in bundle.card
    assert f"{bundle.metrics['test']['ap_pct']:.1f} %" in bundle.card
    assert not re.search(rb"\.py\b", bundle.onnx_path.read_bytes()), "no stack trace travels with a model"
    assert sum(value.size for value in _weights(bundle.path).values()) < 300_000
    noise = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64), np.uint8)
    (told,) = small_session(bundle.onnx_path.read_bytes()).run(None, {"images_u8": noise})
    assert len(np.unique(told)) > 0.9 * told.size, "the integers inside do not show in steps"


def _weights(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(folder / "weights.safetensors")


@pytest.mark.parametrize("length", [24, 40, 120])
def test_the_one_that_ships_finds_faces_of_any_size(length: int) -> None:
    """Faces of nobody, their boxes by the landmark network from the face seen large."""
    predictor = Predictor()
    for path in sorted((REPO / "docs/images/sfhq").glob("*.jpg"))[:4]:
        tile = read_image(path)
        box = box_of_points(predictor(tile)[0].points_px)
        zoom = length / float((box[2:] - box[:2]).max())
        small = cv2.resize(tile, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
        image = np.full((360, 500, 3), 90, np.uint8)
        image[40 : 40 + small.shape[0], 30 : 30 + small.shape[1]] = small[: 360 - 40, : 500 - 30]
        truth = (box + 0.5) * zoom - 0.5 + np.array([30, 40, 30, 40])
        (found,) = open_detector(OWN).detect(image)
        assert iou(found.box_xyxy, truth) > 0.45


def test_drawn_faces_and_whole_images() -> None:
    for index in range(5):
        _, _, image, points_px = frame_of(index, 11)
        found = open_detector(OWN).detect(image)
        assert found and max(float(iou(face.box_xyxy, box_of_points(points_px))) for face in found) > 0.6
    assert OwnDetector().name == OWN
    assert open_detector(OWN).detect(np.zeros((1, 1, 3), np.uint8)) == []
