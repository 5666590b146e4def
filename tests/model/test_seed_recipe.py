"""The student project's recipe for one image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from fkp.config import build_config
from fkp.model.lightning_module import Net
from fkp.model.seed_recipe import Compose, Normalize, RandomCrop, Rescale, Sample, ToTensor


def image_with_dots(height: int = 300, width: int = 420) -> Sample:
    """A black image with a white dot on each of 68 points that lie on a lattice near the middle."""
    image = np.zeros((height, width, 3), np.uint8)
    lattice = np.stack(np.meshgrid(np.arange(9), np.arange(8)), axis=-1).reshape(-1, 2)[:68]
    points_px = (lattice * (20, 18) + (130, 80)).astype(np.float32)
    for x, y in points_px.astype(int):
        cv2.circle(image, (int(x), int(y)), 5, (255, 255, 255), -1)
    return {"image": image, "keypoints": points_px}


def recipe(seed: int | None = None) -> Compose:
    return Compose([Rescale(250), RandomCrop(224, seed), Normalize(), ToTensor()])


def test_the_recipe_gives_68_points() -> None:
    torch.manual_seed(0)
    net = Net(build_config({"model": {"arch": "seed_cnn", "head": "direct", "loss": "mse"}, "input.size_px": 224}).model_dump(mode="json"))
    sample = recipe(seed=0)(image_with_dots())
    assert (sample["image"].dtype, tuple(sample["image"].shape)) == (torch.float32, (1, 224, 224))
    assert 0 <= sample["image"].min() <= sample["image"].max() <= 1
    points_px = net.sample(sample["image"].unsqueeze(0))
    assert tuple(points_px.shape) == (1, 68, 2)
    # An untrained network answers near the middle of its code, which is (100, 100); that shows the unit: pixels.
    assert 80 < points_px.mean() < 120


@pytest.mark.parametrize("shape", [(300, 420), (420, 300), (251, 900), (260, 260)], ids=str)
def test_points_follow_the_image(shape: tuple[int, int]) -> None:
    before = image_with_dots(420, 420)
    before["image"] = before["image"][: shape[0], : shape[1]]
    sample = recipe(seed=1)(before)
    pixels, points_px = sample["image"][0].numpy(), sample["keypoints"].numpy()
    assert points_px.shape == (68, 2)
    inside = ((points_px > 8) & (points_px < 215)).all(axis=1)
    zoom = 250 / min(shape)
    assert inside.sum() >= 20
    for x, y in points_px[inside]:
        reach = int(5 * zoom) + 2
        left, top = round(float(x)) - reach, round(float(y)) - reach
        patch = pixels[max(top, 0) : top + 2 * reach + 1, max(left, 0) : left + 2 * reach + 1]
        rows, columns = np.mgrid[: patch.shape[0], : patch.shape[1]]
        centroid = np.array([(patch * columns).sum(), (patch * rows).sum()]) / patch.sum() + (max(left, 0), max(top, 0))
        assert np.abs(centroid - (x, y)).max() < 1.0


def test_rescale_by_hand() -> None:
    sample = Rescale(250)({"image": np.zeros((500, 1000, 3), np.uint8), "keypoints": np.array([[100.0, 60.0]])})
    assert sample["image"].shape == (250, 500, 3)
    np.testing.assert_allclose(sample["keypoints"], [[50, 30]])


def test_random_crop_by_seed() -> None:
    sample = Rescale(250)(image_with_dots())
    first, again, other = (RandomCrop(224, seed)(sample) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first["image"], again["image"])
    assert not np.array_equal(first["keypoints"], other["keypoints"])
    crop = RandomCrop(224, 3)
    places = {tuple(crop(sample)["keypoints"][0]) for _ in range(20)}
    assert len(places) > 10
    offset = sample["keypoints"] - first["keypoints"]
    assert (offset == offset[0]).all()
    assert (offset >= 0).all()


def test_a_crop_may_be_the_whole_image() -> None:
    sample = {"image": np.zeros((224, 224, 3), np.uint8), "keypoints": np.ones((68, 2))}
    assert RandomCrop(224)(sample)["image"].shape == (224, 224, 3)


def test_an_image_too_small_for_the_crop() -> None:
    with pytest.raises(ValueError, match="a 300 x 200 image is too small for a crop of 224 px: rescale it first"):
        RandomCrop(224)({"image": np.zeros((200, 300, 3), np.uint8), "keypoints": np.zeros((68, 2))})


def test_the_sample_given_is_not_changed() -> None:
    sample = image_with_dots()
    image, points_px = sample["image"].copy(), sample["keypoints"].copy()
    recipe(seed=0)(sample)
    np.testing.assert_array_equal(sample["image"], image)
    np.testing.assert_array_equal(sample["keypoints"], points_px)
