"""Augmentation: points stay on their pixels, pixels stay in their range, one seed gives one result."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fkp.config import AugmentConfig
from fkp.scheme import IBUG68
from fkp.vision import augment as augments
from fkp.vision.augment import WIDE, Augment, warp, wide_size_px
from fkp.vision.crop import Crop

#: No change of the pixels' values.
CLEAR = dict.fromkeys(["shade", "sharpen", "light", "noise", "blur", "downscale", "jpeg", "occlude", "objects"], 0.0)
STILL = {"rotate_deg": 0.0, "scale": 0.0, "stretch": 0.0, "shift": 0.0, "flip": 0.0}
SIZE = 64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth_batch(count: int, channels: int, size: int, sigma: float = 3.0) -> np.ndarray:
    """(N, C, S, S) uint8 with full contrast."""
    noise = np.random.default_rng(0).normal(size=(count * channels, size, size)).astype(np.float32)
    soft = np.stack([cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for plane in noise])
    return np.clip(128 + 45 * soft / soft.std(), 0, 255).astype(np.uint8).reshape(count, channels, size, size)


def some_points(count: int, wide_px: int) -> Tensor:
    """(N, 68, 2) float32 around the middle, never lying as a mirror image would."""
    return torch.from_numpy(np.random.default_rng(1).uniform(wide_px * 0.35, wide_px * 0.65, (count, len(IBUG68), 2)).astype(np.float32))


# --- the warp ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_warp_is_opencv_s(channels: int) -> None:
    images = smooth_batch(6, channels, 96)
    rng = np.random.default_rng(2)
    crops = [Crop(tuple(rng.uniform(40, 56, 2)), float(rng.uniform(40, 64)), SIZE, float(rng.uniform(-40, 40))) for _ in images]
    matrices = torch.from_numpy(np.stack([crop.matrix for crop in crops]).astype(np.float32))
    ours = warp(torch.from_numpy(images), matrices, SIZE).numpy()
    for image, crop, mine in zip(images, crops, ours, strict=True):
        theirs = cv2.warpAffine(image.transpose(1, 2, 0), crop.matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
        theirs = theirs.reshape(SIZE, SIZE, channels).transpose(2, 0, 1)
        inside = slice(3, -3)
        assert np.abs(mine - theirs.astype(np.float32))[:, inside, inside].max() <= 2


def test_warp_is_black_outside() -> None:
    white = torch.full((1, 1, 32, 32), 255, dtype=torch.uint8)
    moved = warp(white, torch.tensor([[[1.0, 0, 16], [0, 1, 0]]]), 32)
    assert (moved[0, 0, :, :15] == 0).all()
    assert (moved[0, 0, :, 17:] == 255).all()


# --- points and pixels ------------------------------------------------------------------------------------------


def with_blobs(points_px: Tensor, which: list[int], wide_px: int) -> Tensor:
    """One bright blob in each image, on point `which[n]` of image n."""
    y, x = np.mgrid[:wide_px, :wide_px]
    blobs = []
    for points, point in zip(points_px.numpy(), which, strict=True):
        square = (x - points[point, 0]) ** 2 + (y - points[point, 1]) ** 2
        blobs.append(np.round(250 * np.exp(-square / (2 * 2.5**2))).astype(np.uint8))
    return torch.from_numpy(np.stack(blobs)[:, None])


def centroids(crops_u8: Tensor) -> np.ndarray:
    pixels = crops_u8[:, 0].numpy().astype(float)
    y, x = np.mgrid[: pixels.shape[1], : pixels.shape[2]]
    total = pixels.sum(axis=(1, 2))
    return np.stack([(pixels * x).sum(axis=(1, 2)) / total, (pixels * y).sum(axis=(1, 2)) / total], axis=-1)


def fitted(points_in: np.ndarray, points_out: np.ndarray) -> tuple[np.ndarray, float]:
    """The affine that best explains the points, and the largest error it leaves."""
    known = np.concatenate([points_in, np.ones((len(points_in), 1))], axis=1)
    affine = np.linalg.lstsq(known, points_out, rcond=None)[0]
    return affine, float(np.abs(known @ affine - points_out).max())


@pytest.mark.parametrize("size", [SIZE, 80])
def test_points_follow_the_pixels(size: int) -> None:
    count, wide_px = 60, wide_size_px(size)
    points_wide = some_points(count, wide_px)
    which = [point % len(IBUG68) for point in range(count)]
    crops, points = Augment(AugmentConfig(**CLEAR), size, IBUG68)(with_blobs(points_wide, which, wide_px), points_wide, seeded())
    found = centroids(crops)
    flips = []
    for row, point in enumerate(which):
        affine, error = fitted(points_wide[row].numpy(), points[row].numpy())
        if error > 0.01:  # No affine explains the points as they are: they were renumbered.
            affine, error = fitted(points_wide[row].numpy()[list(IBUG68.mirror)], points[row].numpy())
            flips.append(row)
            assert np.linalg.det(affine[:2]) < 0
            point = IBUG68.mirror[point]
        else:
            assert np.linalg.det(affine[:2]) > 0
        assert error < 0.01
        assert np.abs(found[row] - points[row, point].numpy()).max() < 0.5
    assert 15 < len(flips) < 45


def test_mirroring_alone_is_exact() -> None:
    wide = torch.from_numpy(smooth_batch(20, 1, wide_size_px(SIZE)))
    points_wide = some_points(20, wide_size_px(SIZE))
    still = AugmentConfig(**CLEAR, **STILL)
    crops, points = Augment(still, SIZE, IBUG68)(wide, points_wide, seeded())
    maybe, maybe_points = Augment(still.updated({"flip": 0.5}), SIZE, IBUG68)(wide, points_wide, seeded())
    flipped = [row for row in range(20) if not torch.equal(maybe_points[row], points[row])]
    assert 4 < len(flipped) < 16
    for row in range(20):
        mirrored = row in flipped
        expected = crops[row].flip(-1) if mirrored else crops[row]
        assert (maybe[row].int() - expected.int()).abs().max() <= 1
        if mirrored:
            expected_points = points[row][list(IBUG68.mirror)] * torch.tensor([-1.0, 1.0]) + torch.tensor([SIZE - 1.0, 0])
            assert torch.allclose(maybe_points[row], expected_points, atol=1e-3)


@pytest.mark.parametrize(("size", "tolerance"), [(SIZE, 1), (128, 1), (80, 6)])
def test_strength_0_is_the_plain_crop(size: int, tolerance: int) -> None:
    image = smooth_batch(1, 3, 300, sigma=5)[0].transpose(1, 2, 0)
    points_px = np.random.default_rng(4).uniform(110, 190, (1, len(IBUG68), 2)).astype(np.float32)
    plain, wide = Crop((151.3, 148.8), 110, size), Crop((151.3, 148.8), 110 * WIDE, wide_size_px(size))
    wide_u8 = torch.from_numpy(wide.apply(np.ascontiguousarray(image), 1))[None]
    before = wide_u8.clone()
    crops, points = Augment(AugmentConfig(strength=0.0), size, IBUG68)(wide_u8, torch.from_numpy(wide.do(points_px)), seeded())
    assert torch.equal(wide_u8, before)
    assert (crops.dtype, crops.shape) == (torch.uint8, (1, 1, size, size))
    assert np.abs(crops[0].numpy().astype(int) - plain.apply(np.ascontiguousarray(image), 1)).max() <= tolerance
    np.testing.assert_allclose(points[0].numpy(), plain.do(points_px)[0], atol=2e-3)


def test_wide_crops_show_image_in_the_corners() -> None:
    white = torch.full((200, 1, wide_size_px(SIZE), wide_size_px(SIZE)), 255, dtype=torch.uint8)
    crops, _ = Augment(AugmentConfig(**CLEAR), SIZE, IBUG68)(white, some_points(200, wide_size_px(SIZE)), seeded())
    assert (crops == 0).float().mean() < 0.01


# --- seeds and strength -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_one_seed_gives_one_result(channels: int) -> None:
    augment = Augment(AugmentConfig(), SIZE, IBUG68)
    wide = torch.from_numpy(smooth_batch(12, channels, wide_size_px(SIZE)))
    points_wide = some_points(12, wide_size_px(SIZE))
    crops, points = augment(wide, points_wide, seeded(5))
    again, points_again = augment(wide, points_wide, seeded(5))
    other, _ = augment(wide, points_wide, seeded(6))
    assert (crops.dtype, tuple(crops.shape)) == (torch.uint8, (12, channels, SIZE, SIZE))
    assert (points.dtype, tuple(points.shape)) == (torch.float32, (12, len(IBUG68), 2))
    assert torch.equal(crops, again)
    assert torch.equal(points, points_again)
    assert not torch.equal(crops, other)


def test_strength_multiplies_the_rotation() -> None:
    points_wide = some_points(200, wide_size_px(SIZE))
    wide = torch.zeros(200, 1, wide_size_px(SIZE), wide_size_px(SIZE), dtype=torch.uint8)

    def spread_deg(strength: float) -> float:
        config = AugmentConfig(strength=strength, **{**CLEAR, **STILL, "rotate_deg": 20.0})
        _, points = Augment(config, SIZE, IBUG68)(wide, points_wide, seeded())
        affines = [fitted(before.numpy(), after.numpy())[0] for before, after in zip(points_wide, points, strict=True)]
        return float(np.std([np.degrees(np.arctan2(affine[0, 1], affine[0, 0])) for affine in affines]))

    assert 15 < spread_deg(1.0) < 20  # Cut off at twice 20, so a little less than 20.
    assert spread_deg(0.5) == pytest.approx(spread_deg(1.0) / 2, rel=1e-3)


# --- pixels alone -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [augments.blur, augments.downscale, augments.noise, augments.jpeg], ids=lambda change: change.__name__)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_change_alters_pixels_a_little(change: Callable[[Tensor, torch.Generator], Tensor], channels: int) -> None:
    before = torch.from_numpy(smooth_batch(5, channels, SIZE, sigma=1.5)).float()
    after = change(before.clone(), seeded())
    assert after.shape == before.shape
    assert after.dtype == torch.float32
    for row in range(5):
        assert 0.3 < (after[row] - before[row]).abs().mean() < 40
        assert np.corrcoef(after[row].ravel(), before[row].ravel())[0, 1] > 0.4
        assert abs(after[row].mean() - before[row].mean()) < 4


@pytest.mark.parametrize("name", ["shade", "sharpen", "light", "noise", "blur", "downscale", "jpeg", "occlude", "objects"])
def test_each_setting_does_something_and_keeps_the_range(name: str) -> None:
    wide = torch.from_numpy(smooth_batch(8, 3, wide_size_px(SIZE), sigma=1.5))
    points_wide = some_points(8, wide_size_px(SIZE))
    plain, points_plain = Augment(AugmentConfig(**CLEAR, **STILL), SIZE, IBUG68)(wide, points_wide, seeded())
    changed, points = Augment(AugmentConfig(**{**CLEAR, **STILL, name: 1.0}), SIZE, IBUG68)(wide, points_wide, seeded())
    assert (changed.dtype, changed.shape) == (torch.uint8, plain.shape)
    assert torch.equal(points, points_plain)
    # Not all: the strength is random, and a rectangle may lie beyond the border.
    assert sum((changed[row] != plain[row]).float().mean() > 0.01 for row in range(8)) >= 6


def test_blur_keeps_a_flat_image_and_widens_a_point() -> None:
    flat = torch.full((3, 1, SIZE, SIZE), 93.0)
    assert torch.allclose(augments.blur(flat, seeded()), flat, atol=1e-3)
    point = torch.zeros(3, 1, SIZE, SIZE)
    point[:, :, 32, 32] = 1000
    blurred = augments.blur(point, seeded())
    assert torch.allclose(blurred.sum((1, 2, 3)), torch.full((3,), 1000.0), rtol=1e-3)
    assert (blurred[:, 0, 32, 32] < 1000).all()
    assert torch.allclose(blurred, blurred.flip(-1).roll(1, -1), atol=1e-3)  # It moves nothing.


def test_downscaling_loses_detail() -> None:
    board = (torch.arange(SIZE)[:, None] + torch.arange(SIZE)) % 2 * 255.0
    assert augments.downscale(board.repeat(2, 1, 1, 1), seeded()).std() < 70
    flat = torch.full((1, 1, SIZE, SIZE), 93.0)
    assert torch.allclose(augments.downscale(flat, seeded()), flat)


def test_jpeg_is_a_real_jpeg() -> None:
    before = smooth_batch(6, 1, SIZE, sigma=2)
    generator = seeded(3)
    twin = seeded(3)
    after = augments.jpeg(torch.from_numpy(before).float(), generator).round().clamp(0, 255).numpy()
    strengths = 0.4 * 10 ** torch.rand(6, 1, 1, 1, 1, 1, generator=twin).flatten().numpy()
    for image, ours, strength in zip(before[:, 0], after[:, 0], strengths, strict=True):
        # The quality whose tables are the standard's times `strength`, as the IJG's library defines it.
        quality = round(100 - 50 * strength) if strength < 1 else round(50 / strength)
        real = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)
        loss = np.abs(real.astype(float) - image).mean()
        # Its tables are whole numbers, ours are not; two unrelated errors of that size would differ by 1.4 times the loss.
        assert np.abs(ours - real).mean() < 0.8 * loss
        assert np.abs(ours - image).mean() == pytest.approx(loss, rel=0.25)


def test_jpeg_of_high_quality_is_nearly_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augments, "_JPEG_TABLE", torch.ones(8, 8))
    before = torch.from_numpy(smooth_batch(2, 3, SIZE)).float()
    assert (augments.jpeg(before, seeded()) - before).abs().mean() < 1


def test_cover_covers_a_rectangle_with_one_tone_or_a_piece_of_another_crop() -> None:
    before = torch.from_numpy(smooth_batch(60, 3, SIZE)).float()
    after = before.clone()
    augments.cover(after, 1.0, seeded())
    sides, even = [], 0
    for row, (old, new) in enumerate(zip(before, after, strict=True)):
        changed = (old != new).any(0)
        if not changed.any():  # The rectangle lies beyond the border.
            continue
        rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
        patch = new[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert changed.sum() > 0.8 * patch[0].numel()  # A pixel may have had that value before.
        sides += [len(rows), len(columns)]
        if (patch == patch[:, :1, :1]).all():
            even += 1
        else:
            places = F.conv2d((after[row - 1] ** 2).sum(0)[None, None], torch.ones(1, 1, *patch.shape[1:]))
            places = places - 2 * F.conv2d(after[row - 1][None], patch[None]) + (patch**2).sum()
            assert row == 0 or places.min() < 1.0 * patch.numel()  # The first crop's piece is from the last one, uncovered then.
    assert 15 < even < 45
    assert max(sides) <= SIZE // 2
    assert np.mean(sides) > SIZE / 8


def test_stretch_keeps_areas_and_moves_points_as_pixels() -> None:
    config = AugmentConfig(**CLEAR, **{**STILL, "stretch": 0.2})
    points_wide = some_points(40, wide_size_px(SIZE))
    wide = torch.from_numpy(smooth_batch(40, 1, wide_size_px(SIZE)))
    plain = Augment(AugmentConfig(**CLEAR, **STILL), SIZE, IBUG68)(wide, points_wide, seeded())[1]
    points = Augment(config, SIZE, IBUG68)(wide, points_wide, seeded())[1]
    for old, new in zip(plain, points, strict=True):
        linear = torch.linalg.lstsq(torch.cat([old, torch.ones(len(old), 1)], 1), new).solution[:2]
        assert float(torch.linalg.det(linear)) == pytest.approx(1.0, abs=1e-3)
        assert torch.allclose(linear, linear.T, atol=1e-3)
        assert 1.0 < float(torch.linalg.eigvalsh(linear).max()) < 1.8


def test_shade_leaves_the_middle_and_falls_off_evenly() -> None:
    crops = torch.full((20, 1, SIZE, SIZE), 100.0)
    augments.shade(crops, 0.3, seeded())
    middle = crops[:, 0, SIZE // 2 - 1 : SIZE // 2 + 1, SIZE // 2 - 1 : SIZE // 2 + 1].mean((1, 2))
    assert torch.allclose(middle, torch.full_like(middle, 100.0), atol=0.5)
    assert float((crops[:, 0, 0, 0] * crops[:, 0, -1, -1]).sub(1e4).abs().max()) < 1.0
    assert float(crops[:, 0, 0].log().std()) > 0.1


def test_sharpen_leaves_flat_places_and_steepens_an_edge() -> None:
    edge = torch.zeros(4, 1, SIZE, SIZE)
    edge[..., SIZE // 2 :] = 100.0
    after = augments.sharpen(edge.clone(), seeded())
    assert torch.equal(after[..., : SIZE // 2 - 2], edge[..., : SIZE // 2 - 2])
    assert (after[..., SIZE // 2] > 100).all() and (after[..., SIZE // 2 - 1] < 0).all()


def test_nothing_is_covered_at_probability_0() -> None:
    before = torch.from_numpy(smooth_batch(10, 1, SIZE)).float()
    after = before.clone()
    augments.cover(after, 0.0, seeded())
    assert torch.equal(before, after)
