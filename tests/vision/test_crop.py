"""The one crop: its affine by hand, its pixels against known ones, and that training and prediction share it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fkp.bundle import Bundle
from fkp.config import Config, build_config
from fkp.data import splits
from fkp.data.crop_cache import open_cache
from fkp.data.labels import DataConfig, load_labels
from fkp.predict import Predictor
from fkp.scheme import IBUG68, load_scheme
from fkp.vision.crop import Crop, box_of_points, roll_deg
from fkp.vision.image import read_image
from tests import faces


def blurred_noise(height: int, width: int, sigma: float = 3.0, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 with full contrast and no symmetry; `sigma` is its smoothness in pixels."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return np.clip(128 + 55 * soft / soft.std(), 0, 255).astype(np.uint8)


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.astype(int) - b.astype(int))


# --- the affine -------------------------------------------------------------------------------------------------


def test_matrix_by_hand() -> None:
    np.testing.assert_allclose(Crop((10, 20), 40, 20).matrix, [[0.5, 0, 4.5], [0, 0.5, -0.5]])
    # Turned clockwise by 90 degrees, the window has its upper side on the image's right.
    turned = Crop((10, 20), 40, 20, angle_deg=90)
    np.testing.assert_allclose(turned.do(np.array([[10.0, 20.0], [20.0, 20.0], [10.0, 30.0]])), [[9.5, 9.5], [9.5, 4.5], [14.5, 9.5]])
    assert turned.px_per_crop_px == 2


def test_of_box_takes_the_longer_side() -> None:
    crop = Crop.of_box(np.array([10, 20, 50, 100]), size_px=64, scale=1.5)
    assert crop == Crop((30.0, 60.0), 120.0, 64)


def test_box_of_points() -> None:
    points_px = np.array([[[3, 9], [5, -2], [4, 1]], [[0, 0], [1, 1], [2, 7]]], np.float32)
    np.testing.assert_array_equal(box_of_points(points_px), [[3, -2, 5, 9], [0, 0, 2, 7]])


@pytest.mark.parametrize("angle", [0, 17, -90, 180])
@pytest.mark.parametrize("side", [12.5, 240, 3000])
def test_do_and_undo_are_inverse(angle: float, side: float) -> None:
    crop = Crop((321.25, 98.5), side, 96, angle)
    points_px = np.random.default_rng(1).uniform(-side, side, (5, 68, 2)) / 2 + crop.center_px
    assert np.abs(crop.undo(crop.do(points_px)) - points_px).max() < 1e-3
    back = crop.do(crop.undo(crop.do(points_px)))
    assert np.abs(back - crop.do(points_px)).max() < 1e-3


@pytest.mark.parametrize("angle", [0.0, 12.5, -70.0, 179.0])
def test_a_turned_face_stands_upright_in_its_crop(angle: float, synthetic_root: Path) -> None:
    drawn_px = load_labels(DataConfig(source="folder", root=str(synthetic_root))).points_px[3]
    turned_px = Crop((50.0, 60.0), 1.0, 1, -angle).do(drawn_px)  # Turning the window to the left turns the face to the right.
    assert roll_deg(turned_px, IBUG68) == pytest.approx(roll_deg(drawn_px, IBUG68) + angle, abs=1e-3)
    crop = Crop.of_points(turned_px, IBUG68, 128, 1.3)
    inside_px = crop.do(turned_px)
    assert roll_deg(inside_px, IBUG68) == pytest.approx(0, abs=1e-3)
    low_x, low_y, high_x, high_y = box_of_points(inside_px)
    assert (low_x + high_x) / 2 == pytest.approx(63.5, abs=1e-2)
    assert (low_y + high_y) / 2 == pytest.approx(63.5, abs=1e-2)
    assert max(high_x - low_x, high_y - low_y) == pytest.approx(128 / 1.3, abs=1e-2)


@pytest.mark.parametrize("angle", [0.0, 25.0])
def test_a_mirrored_crop_is_the_crop_mirrored(angle: float) -> None:
    image = blurred_noise(120, 150)
    plain, mirrored = Crop((70.3, 55.8), 90.0, 64, angle), Crop((70.3, 55.8), 90.0, 64, angle, mirrored=True)
    assert difference(mirrored.apply(image, 3), plain.apply(image, 3)[..., ::-1]).max() <= 1
    points_px = np.random.default_rng(2).uniform(20, 100, (68, 2)).astype(np.float32)
    np.testing.assert_allclose(mirrored.do(points_px), plain.do(points_px) * [-1, 1] + [63, 0], atol=1e-3)
    np.testing.assert_allclose(mirrored.undo(mirrored.do(points_px)), points_px, atol=1e-3)


def test_points_on_a_line_make_a_crop() -> None:
    """Two landmarks do in each face that stands upright in its crop."""
    eyes = load_scheme('{"name": "eyes", "landmarks": ["left_eye", "right_eye"]}')
    for turned_px in ([[10, 20], [50, 20]], [[20, 10], [20, 50]], [[10, 10], [34, 42]]):
        crop = Crop.of_points(np.array(turned_px, np.float32), eyes, 64, 1.25)
        assert crop.side_px == pytest.approx(50, rel=1e-4)
        np.testing.assert_allclose(crop.do(np.array(turned_px, np.float32)), [[5.9, 31.5], [57.1, 31.5]], atol=0.01)


def test_points_without_extent_make_no_crop() -> None:
    for points_px in (np.zeros((68, 2), np.float32), np.full((68, 2), np.nan, np.float32)):
        with pytest.raises(ValueError, match="points need finite places and some extent"):
            Crop.of_points(points_px, IBUG68, 64, 1.3)


@pytest.mark.parametrize(
    "box",
    [[0, 0, np.nan, 9], [0, 0, np.inf, 9], [5, 5, 5, 9], [5, 5, 9, 5], [9, 0, 5, 9], [0, 9, 9, 5]],
    ids=str,
)
def test_bad_boxes_are_refused(box: list[float]) -> None:
    with pytest.raises(ValueError, match="a face box needs finite corners and some area"):
        Crop.of_box(np.array(box), 64, 1.3)


# --- pixels -----------------------------------------------------------------------------------------------------


def test_identity_is_byte_equal() -> None:
    image = blurred_noise(48, 48, sigma=0.5)
    crop = Crop((23.5, 23.5), 48, 48)
    np.testing.assert_array_equal(crop.apply(image, 3), image.transpose(2, 0, 1))
    np.testing.assert_array_equal(crop.apply(image, 1)[0], cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def test_grey_is_luma() -> None:
    for rgb, grey in (((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((255, 255, 255), 255)):
        crop = Crop((7.5, 7.5), 16, 16).apply(np.full((16, 16, 3), rgb, np.uint8), 1)
        assert crop.shape == (1, 16, 16)
        assert set(crop.ravel().tolist()) == {grey}


def test_points_follow_the_pixels() -> None:
    image = np.zeros((200, 240, 3), np.uint8)
    place = np.array([131.0, 77.0])
    cv2.circle(image, (131, 77), 9, (255, 255, 255), -1)
    for crop in (Crop((120, 90), 100, 64), Crop((110.3, 80.8), 91.5, 128, 25), Crop((125, 75), 300, 64, -70)):
        pixels = crop.apply(image, 1)[0].astype(float)
        y, x = np.mgrid[: crop.size_px, : crop.size_px]
        centroid = np.array([(pixels * x).sum(), (pixels * y).sum()]) / pixels.sum()
        assert np.abs(centroid - crop.do(place)).max() < 0.1


def test_mirrored_image_and_box_give_the_mirrored_crop() -> None:
    image = blurred_noise(150, 201)
    box = np.array([61.5, 30.25, 130.0, 111.0])
    mirrored_box = np.array([200 - box[2], box[1], 200 - box[0], box[3]])
    for size_px in (32, 128):
        crop = Crop.of_box(box, size_px, 1.3).apply(image, 3)
        mirrored = Crop.of_box(mirrored_box, size_px, 1.3).apply(np.ascontiguousarray(image[:, ::-1]), 3)
        assert difference(crop[:, :, ::-1], mirrored).max() <= 2


@pytest.mark.parametrize("factor", [2, 3.3, 7])
def test_shrinking_averages(factor: float) -> None:
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    image = np.repeat(board[..., None], 3, axis=-1)
    crop = Crop((127.5, 127.5), 30 * factor, 30).apply(image, 1)[0]
    # A checkerboard finer than the crop's pixels is grey; without averaging it would be stripes.
    assert abs(crop.mean() - 127.5) < 3
    assert crop.std() < 25


def test_outside_is_black() -> None:
    white = np.full((40, 40, 3), 255, np.uint8)
    crop = Crop((0, 0), 40, 40).apply(white, 3)
    assert (crop[:, :19, :] == 0).all()
    assert (crop[:, :, :19] == 0).all()
    assert (crop[:, 21:, 21:] == 255).all()
    assert (Crop((500, 500), 40, 40).apply(white, 1) == 0).all()


def test_a_face_twice_as_large_gives_the_same_crop() -> None:
    image = blurred_noise(160, 200, sigma=4)
    larger = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    box = np.array([60.0, 40.0, 130.0, 115.0])
    for size_px in (48, 96):
        crop = Crop.of_box(box, size_px, 1.3).apply(image, 3)
        same = Crop.of_box(box * 2 + 0.5, size_px, 1.3).apply(larger, 3)
        assert difference(crop, same).mean() < 1.5
        assert difference(crop, same).max() <= 10
        assert difference(crop, Crop.of_box(box * 2 + 8, size_px, 1.3).apply(larger, 3)).mean() > 5


def test_a_face_elsewhere_gives_the_same_crop() -> None:
    image = blurred_noise(160, 200)
    moved = np.zeros((300, 300, 3), np.uint8)
    moved[90:250, 70:270] = image
    box = np.array([60.0, 40.0, 130.0, 115.0])
    crop = Crop.of_box(box, 64, 1.2).apply(image, 3)
    same = Crop.of_box(box + np.array([70, 90, 70, 90]), 64, 1.2).apply(moved, 3)
    assert difference(crop, same).max() <= 1


# --- the golden crop --------------------------------------------------------------------------------------------


def golden_picture() -> np.ndarray:
    """(96, 112, 3): all values are multiples of 16, so that halves and quarters of pixels average to whole numbers.

    Every processor then finds the same crop, whatever the order of its additions.
    """
    y, x = np.mgrid[:96, :112]
    return np.stack([(x * 3 + y) % 256, (x + y * 5) % 256, (x * y // 7) % 256], axis=-1).astype(np.uint8) // 16 * 16


#: (crop, sha256 of its three channels): enlarged twice with the window's edges between pixels, and halved.
GOLDEN = [
    (Crop((50.0, 44.0), 32.0, 64), "8c01184c43280c8a313a977b776262bae411e3111b7cea763c33e49de7fc70df"),
    (Crop((55.5, 47.5), 128.0, 64), "0e9d0616603aa4cadb040e6e71cc83f8addd169dcc4bfcc002e59a7bb28bc8ad"),
]


@pytest.mark.parametrize(("crop", "digest"), GOLDEN, ids=["enlarged", "halved"])
def test_golden_crop(crop: Crop, digest: str) -> None:
    assert hashlib.sha256(crop.apply(golden_picture(), 3).tobytes()).hexdigest() == digest


@pytest.mark.parametrize("shift_px", [(0.0, 0.0), (1.15, 0.8)], ids=str)
def test_training_and_prediction_make_the_same_bytes(
    tmp_path: Path, write_frames: Callable[..., Path], tiny_config: Config, tiny_bundle: Bundle, shift_px: tuple[float, float]
) -> None:
    image = golden_picture()
    points_px = faces.face(55, 38, 24, seed=3) + (0.3, 0.1)
    # One person a fold, the same image for all.
    frames = {f"{name}_00.jpg": (image, points_px + shift_px) for name in persons_of_all_folds()}
    root = write_frames(tmp_path / "set", frames, {})
    config = build_config(
        tiny_config.model_dump(mode="json"),
        {"data": {"source": "folder", "root": str(root), "cache_dir": str(tmp_path / "cache"), "label_bias_px": shift_px}},
    )
    cache = open_cache(config)
    catalog = load_labels(config.data)
    received: list[np.ndarray] = []

    class Recorder(Predictor):
        def run(self, crops_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            received.append(crops_u8.copy())
            return super().run(crops_u8)

    box_xyxy = box_of_points(catalog.points_px[cache.val.rows[0]])
    (found,) = Recorder(tiny_bundle)(read_image(catalog.path(cache.val.rows[0])), [box_xyxy])
    assert received[0].shape == (1, 1, 64, 64)
    assert received[0].std() > 20
    assert received[0].tobytes() == cache.val.crops_u8.tobytes()
    np.testing.assert_allclose(cache.val.points_px[0], Recorder(tiny_bundle).crop(found.box_xyxy).do(points_px), atol=1e-3)


def persons_of_all_folds() -> list[str]:
    names = [f"Person{number}" for number in range(100)]
    return [next(name for name in names if splits.fold_of(name) == fold) for fold in range(splits.NUM_FOLDS)]


def test_only_what_the_window_shows_is_read() -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    crops = [
        Crop((200.3, 150.7), 60.0, 64, 25.0),
        Crop((10.0, 290.0), 130.0, 64, -100.0, True),
        Crop((390.0, 5.0), 300.0, 48),
        Crop((-500.0, 9000.0), 100.0, 32),
        Crop((200.0, 150.0), 5000.0, 32),
    ]
    for crop in crops:
        for channels in (1, 3):
            # As an image with wide black borders has it: there nothing is cut from another's border.
            wide = Crop((crop.center_px[0] + 700, crop.center_px[1] + 700), crop.side_px, crop.size_px, crop.angle_deg, crop.mirrored)
            other = wide.apply(np.pad(image, ((700, 700), (700, 700), (0, 0))), channels)
            found = crop.apply(image, channels)
            if crop.center_px[1] < 1000 and crop.side_px < 1000:
                assert np.abs(found.astype(int) - other).max() <= 1
            assert found.shape == (channels, crop.size_px, crop.size_px)
    assert not crops[3].apply(image, 3).any() and crops[4].apply(image, 3).any()
