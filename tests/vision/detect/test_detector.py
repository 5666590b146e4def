"""From an image of any size to its faces: windows and tiles with a backend made for the test, and BlazeFace on real frames."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from fkp.errors import FkpError
from fkp.vision.crop import Crop
from fkp.vision.detect import BoxMap, FaceDetector, detector_name, iou, open_detector, with_smallest_face
from fkp.vision.detect.blazeface import MIN_SCORE
from fkp.vision.detect.candidates import Candidates
from fkp.vision.detect.detector import SMALLEST_FACE
from fkp.vision.detect.windows import CLOSE_PX, MAX_CLOSE, MAX_TILED_PX
from fkp.vision.image import Image

# --- windows and tiles, with squares for faces


def image(width: int, height: int, *boxes_xyxy: tuple[int, int, int, int]) -> Image:
    canvas = np.full((height, width, 3), 200, np.uint8)
    for x0, y0, x1, y1 in boxes_xyxy:
        canvas[y0:y1, x0:x1] = [255, 0, 0]
    return canvas


@pytest.mark.parametrize(
    ("box", "looks"),
    [
        pytest.param((20, 30, 50, 60), 1, id="one window"),
        pytest.param((10, 0, 89, 79), 2, id="a large face needs the wider window"),
        pytest.param((0, 0, 99, 99), 2, id="one that fills the image too"),
    ],
)
def test_windows(red: Any, box: tuple[int, int, int, int], looks: int) -> None:
    (found,) = FaceDetector(red).detect(image(99, 99, box))
    assert len(red.looks) == looks
    np.testing.assert_allclose(found.box_xyxy, np.array(box) - 0.5, atol=2)
    assert found.box_xyxy.dtype == np.float32


@pytest.mark.parametrize("box", [(500, 333, 530, 363), (0, 0, 30, 30), (870, 570, 900, 600), (300, 200, 340, 240), (590, 390, 615, 415)])
def test_small_faces_are_found_once_wherever_they_are(red: Any, box: tuple[int, int, int, int]) -> None:
    canvas = image(900, 600, box)
    assert FaceDetector(red, tiles=False).detect(canvas) == []
    (found,) = FaceDetector(red).detect(canvas)
    np.testing.assert_allclose(found.box_xyxy, np.array(box) - 0.5, atol=3)


def test_the_closer_looks_are_switched_off_by_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    for name in ("blazeface", "blazeface:0.02", "blazeface:whole"):
        detector = open_detector(name)
        monkeypatch.setattr(detector.backend, "look", Mock(side_effect=detector.backend.look))
        detector.detect(np.zeros((1200, 1800, 3), np.uint8))
        looks.append([call.args[0].shape[:2] for call in detector.backend.look.call_args_list])  # type: ignore[attr-defined]
    pixels = [sum(height * width for height, width in shapes) for shapes in looks]
    assert pixels[0] > 3 * pixels[1] > 3 * pixels[2]
    assert looks[2] == [(192, 256), (160, 192)]


@pytest.mark.parametrize("wrong", ["0", "1.5", "-0.1", "nan", "0.0001", "x", ""])
def test_a_smallest_face_that_is_no_part_of_an_image_is_refused(wrong: str) -> None:
    with pytest.raises(FkpError, match=r"the smallest face is a part of the image's longer side, 0\.001 to 0\.5, and not"):
        open_detector(f"blazeface:{wrong}")


def test_the_smallest_face_stands_in_the_name_once() -> None:
    assert with_smallest_face("blazeface", None) == "blazeface"
    name = with_smallest_face("blazeface", 0.05)
    assert open_detector(name).smallest_face == 0.05 and open_detector().smallest_face == SMALLEST_FACE
    for taken in (name, "blazeface:whole"):
        with pytest.raises(FkpError, match="already says what it looks for"):
            with_smallest_face(taken, 0.1)


def test_the_default_is_our_own_unless_a_model_was_calibrated_for_blazeface_alone() -> None:
    rows = [[0.5], [0.0], [1.0], [1.0]]
    for maps, expected in (({}, "fkp"), ({"blazeface": rows}, "blazeface"), ({"blazeface": rows, "fkp": rows}, "fkp")):
        assert detector_name(None, maps) == expected
        assert open_detector(box_maps=maps).backend.name == expected


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_doubtful_face_is_looked_at_turned(red: Any, quarters: int) -> None:
    """A backend that is sure of red squares with a blue one on their right alone: it must see the image upright once."""

    def look(pixels_u8: Image) -> Candidates:
        found = type(red).look(red, pixels_u8)
        (x, y) = np.round(found.shapes_px[:, 2:].mean(axis=1)).astype(int).T
        beside = np.minimum(x + np.round(0.8 * found.lengths_px).astype(int), pixels_u8.shape[1] - 1)
        return Candidates(found.shapes_px, np.where(pixels_u8[y, beside, 2] > 128, 0.9, 0.4))

    red_looks, canvas = Mock(wraps=red), image(250, 180, (100, 60, 140, 100))
    red_looks.look, red_looks.min_score = look, red.min_score
    for name in ("name", "size_px", "coarse_px", "sure_px", "least_px", "tile_score", "facial_points", "box_map"):
        setattr(red_looks, name, getattr(red, name))
    canvas[60:100, 140:165] = (0, 0, 255)
    upright = FaceDetector(red_looks).find(canvas)
    turned = FaceDetector(red_looks).find(np.ascontiguousarray(np.rot90(canvas, -quarters)))
    assert len(upright) == len(turned) == 1
    height, width = canvas.shape[:2]
    x, y = np.moveaxis(upright.shapes_px[0], -1, 0)
    x, y = {0: (x, y), 1: (height - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, width - 1 - x)}[quarters]
    expected = np.stack([x, y], axis=-1)
    expected[:2] = np.sort(expected[:2], axis=0)
    np.testing.assert_allclose(turned.shapes_px[0], expected, atol=1.5)


def test_a_face_that_the_image_shows_is_not_lost_in_tiles(red: Any) -> None:
    box = (100, 50, 400, 350)
    (found,) = FaceDetector(red).detect(image(900, 600, box))
    np.testing.assert_allclose(found.box_xyxy, np.array(box) - 0.5, atol=9)


def test_the_cost_follows_what_there_is_to_see(red: Any) -> None:
    large, doubtful, small = (100, 50, 700, 650), (2000, 1200, 2120, 1320), (2400, 1500, 2440, 1540)
    detector = FaceDetector(red, smallest_face=0.01)
    counts, pixels = [], []
    for boxes in ((large,), (large, doubtful), (large, doubtful, small), (small,), ()):
        red.looks = []
        counts.append(len(detector.detect(image(2700, 1800, *boxes))))
        pixels.append(sum(height * width for height, width in red.looks))
    # The first pass shows 1 / 17 of each side: `doubtful` is 7 pixels long in it, and `small` not there before the finer pass.
    assert counts == [1, 2, 3, 1, 0]
    assert pixels[0] < 60_000 and pixels[0] + 100_000 < pixels[1] <= pixels[2] <= 600_000 and pixels[4] < pixels[3] < pixels[2]


def test_the_cost_of_a_thousand_faces_is_bounded(red: Any) -> None:
    boxes = [(x, y, x + 36, y + 36) for x in range(20, 3900, 97) for y in range(20, 2900, 97)]
    found = FaceDetector(red).detect(image(4000, 3000, *boxes))
    assert len(boxes) > 1000 and len(found) >= MAX_CLOSE
    assert sum(height * width for height, width in red.looks) < 2 * MAX_TILED_PX + 2 * MAX_CLOSE * CLOSE_PX**2


def test_a_calibration_of_a_bundle_takes_the_place_of_the_built_in() -> None:
    maps = {"blazeface": [[0.5], [0.0], [1.0], [1.0]], "dlib": [[0.0]] * 4}
    built_in, own = open_detector("blazeface"), open_detector("blazeface", maps)
    shape = np.array([[[0.0, 0], [10, 10], [3, 4], [7, 4], [5, 6], [5, 8]]])
    np.testing.assert_allclose(own._box_map(shape), [[5, 0, 15, 10]])
    np.testing.assert_allclose(built_in._box_map(shape), built_in.backend.box_map(shape))


class Leaning:
    """One face of 60 pixels in a window of 224 pixels whose eyes' line is turned; the calibration shifts upright boxes to the right."""

    name, size_px, coarse_px, sure_px, least_px, min_score, tile_score, facial_points = "leaning", 224, 224, 20.0, 20.0, 0.5, 0.5, 2
    box_map = BoxMap(((0.2,), (0.0,), (0.8,), (0.5,)))

    def __init__(self, roll_deg: float) -> None:
        angle = np.radians(roll_deg)
        eye = 12 * np.array([np.cos(angle), np.sin(angle)])
        self.shape = np.stack([np.full(2, 81.5), np.full(2, 141.5), 111.5 - eye, 111.5 + eye])

    def look(self, pixels_u8: np.ndarray) -> Candidates:
        return Candidates(self.shape[None], np.array([0.9]))


@pytest.mark.parametrize(
    ("roll_deg", "expected_deg", "shift"),
    [(20, 0, (12, 0)), (90, 90, (0, 12)), (-90, -90, (0, -12)), (180, 180, (-12, 0)), (45, 45, (8.49, 8.49))],
)
def test_the_box_of_a_leaning_face_is_turned_with_it(roll_deg: float, expected_deg: float, shift: tuple[float, float]) -> None:
    leaning = Leaning(roll_deg)
    (found,) = FaceDetector(leaning, tiles=False).detect(np.zeros((224, 224, 3), np.uint8))
    assert found.roll_deg == pytest.approx(expected_deg)
    np.testing.assert_allclose((found.box_xyxy[:2] + found.box_xyxy[2:]) / 2 - 111.5, shift, atol=0.01)
    np.testing.assert_allclose(found.box_xyxy[2:] - found.box_xyxy[:2], (48, 30), atol=0.01)
    leaning.facial_points = 0  # Without points nobody knows.
    assert FaceDetector(leaning, tiles=False).detect(np.zeros((224, 224, 3), np.uint8))[0].roll_deg == 0


# --- the network, without a face


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (100, 20000), (3000, 40), (2, 700)])
@pytest.mark.parametrize("value", [0, 255])
def test_any_size_works(blazeface: FaceDetector, shape: tuple[int, int], value: int) -> None:
    assert blazeface.detect(np.full((*shape, 3), value, np.uint8)) == []


def test_noise_has_no_face(blazeface: FaceDetector) -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(30, 300, (12, 2))
    found = [blazeface.detect(random.integers(0, 256, (height, width, 3), dtype=np.uint8)) for height, width in sizes]
    assert found == [[]] * len(sizes)


@pytest.mark.parametrize(
    "wrong", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8), np.zeros((9, 9, 4), np.uint8)]
)
def test_what_is_no_image_is_refused(blazeface: FaceDetector, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="an image is"):
        blazeface.detect(wrong)


# --- real faces


def test_real_faces_are_found_where_they_are(blazeface: FaceDetector, real: tuple[list[Image], np.ndarray]) -> None:
    frames, truth = real
    faces = [blazeface.detect(frame) for frame in frames]
    best = np.stack([found[0].box_xyxy if found else np.zeros(4) for found in faces])
    overlap = iou(best, truth)
    assert (overlap > 0.5).mean() > 0.98
    assert overlap.mean() > 0.84
    # the affine is centred: no constant error of more than 2 % of the face
    error = ((best[:, :2] + best[:, 2:]) - (truth[:, :2] + truth[:, 2:])) / 2 / (truth[:, 2:] - truth[:, :2])
    assert np.abs(np.median(error, axis=0)).max() < 0.02
    for found in faces:
        assert [face.score for face in found] == sorted((face.score for face in found), reverse=True)
        assert all(face.score >= MIN_SCORE and face.box_xyxy.dtype == np.float32 for face in found)


def test_faces_that_fill_the_image(blazeface: FaceDetector, real: tuple[list[Image], np.ndarray]) -> None:
    overlap = []
    for frame, box in zip(real[0][::2], real[1][::2], strict=True):
        x0, y0, x1, y1 = (max(int(v), 0) for v in box)
        found = blazeface.detect(np.ascontiguousarray(frame[y0 : y1 + 1, x0 : x1 + 1]))
        overlap.append(float(iou(found[0].box_xyxy, box - [x0, y0, x0, y0])) if found else 0.0)
    assert (np.array(overlap) > 0.5).mean() > 0.9
    assert np.median(overlap) > 0.75


def test_three_faces_in_one_image(blazeface: FaceDetector, real: tuple[list[Image], np.ndarray]) -> None:
    canvas = np.zeros((700, 900, 3), np.uint8)
    truth = []
    for number, (x, y) in zip((0, 20, 40), ((10, 20), (480, 60), (200, 400)), strict=True):
        frame, box = real[0][number][:290, :420], real[1][number]
        canvas[y : y + frame.shape[0], x : x + frame.shape[1]] = frame
        truth.append(box + [x, y, x, y])
    found = blazeface.detect(canvas)
    assert len(found) == 3
    for box in truth:
        assert max(iou(face.box_xyxy, box) for face in found) > 0.6


@pytest.mark.parametrize("turns", [1, 3])
def test_faces_that_lie_on_their_side(blazeface: FaceDetector, real: tuple[list[Image], np.ndarray], turns: int) -> None:
    off_deg, overlap = [], []
    for frame, box in zip(real[0][::2], real[1][::2], strict=True):
        (upright, *_) = blazeface.detect(frame)
        found = blazeface.detect(np.ascontiguousarray(np.rot90(frame, -turns)))  # Clockwise.
        if found:
            off_deg.append((found[0].roll_deg - 90 * turns - upright.roll_deg + 180) % 360 - 180)
            # Back into the upright image.
            center = (found[0].box_xyxy[:2] + found[0].box_xyxy[2:]) / 2
            half = (found[0].box_xyxy[2:] - found[0].box_xyxy[:2]) / 2
            height, width = frame.shape[:2]
            x, y = center
            back = np.array([y, height - 1 - x]) if turns == 1 else np.array([width - 1 - y, x])
            overlap.append(float(iou(np.concatenate([back - half, back + half])[None], box[None])[0]))
    assert len(off_deg) > 0.9 * len(real[0][::2])
    assert np.median(np.abs(off_deg)) < 20
    assert np.median(overlap) > 0.7


@pytest.mark.parametrize("number", [3, 17, 31, 45])
def test_place_and_size_do_not_matter(blazeface: FaceDetector, real: tuple[list[Image], np.ndarray], number: int) -> None:
    frame = real[0][number]
    height, width = frame.shape[:2]
    box = blazeface.detect(frame)[0].box_xyxy
    limit = 0.06 * (box[2:] - box[:2]).max()
    for x, y in ((0, 0), (width // 2, height), (width, height // 3)):
        canvas = np.zeros((2 * height, 2 * width, 3), np.uint8)
        canvas[y : y + height, x : x + width] = frame
        np.testing.assert_allclose(blazeface.detect(canvas)[0].box_xyxy, box + [x, y, x, y], atol=limit)
    side = max(height, width)
    window = Crop(((width - 1) / 2, (height - 1) / 2), side, 2 * side)
    twice = blazeface.detect(np.ascontiguousarray(window.apply(frame, 3).transpose(1, 2, 0)))[0].box_xyxy
    np.testing.assert_allclose(window.undo(twice.reshape(2, 2)).ravel(), box, atol=limit)
