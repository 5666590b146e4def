"""The student project's recipe for one image, kept for those who have code written to it.

    recipe = Compose([Rescale(250), RandomCrop(224), Normalize(), ToTensor()])
    sample = recipe({"image": image, "keypoints": points_px})
    points_px = net.sample(sample["image"].unsqueeze(0))[0]

It takes the whole frame and no face box, so it belongs to networks with `input.size_px=224, input.channels=1`
trained that way. Everything else in fkp crops with `vision.Crop`. The points that come back are pixels of the
224 px crop; the student project's own answer was (p - 100) / 50.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch

Sample = dict[str, Any]
"""image: (H, W, 3) uint8 RGB, later (H, W) float32 in [0, 1], at last (1, H, W) tensor; keypoints: (68, 2), pixels."""


class Compose:
    """Apply steps in their order."""

    def __init__(self, steps: Sequence[Callable[[Sample], Sample]]) -> None:
        self.steps = steps

    def __call__(self, sample: Sample) -> Sample:
        for step in self.steps:
            sample = step(sample)
        return sample


class Rescale:
    """Bring the shorter side to `size_px`, keeping the aspect; points follow."""

    def __init__(self, size_px: int) -> None:
        self.size_px = size_px

    def __call__(self, sample: Sample) -> Sample:
        height, width = sample["image"].shape[:2]
        zoom = self.size_px / min(height, width)
        new = (max(self.size_px, int(width * zoom)), max(self.size_px, int(height * zoom)))
        points = np.asarray(sample["keypoints"], np.float32) * (np.array(new) / np.array([width, height], np.float32))
        return {"image": cv2.resize(sample["image"], new), "keypoints": points.astype(np.float32)}


class RandomCrop:
    """Cut a square of `size_px` at a random place.

    Args:
        size_px: Side of the square.
        seed: Seed of the places; None draws new ones each time.
    """

    def __init__(self, size_px: int, seed: int | None = None) -> None:
        self.size_px = size_px
        self._random = np.random.default_rng(seed)

    def __call__(self, sample: Sample) -> Sample:
        height, width = sample["image"].shape[:2]
        if min(height, width) < self.size_px:
            raise ValueError(f"a {width} x {height} image is too small for a crop of {self.size_px} px: rescale it first")
        top = int(self._random.integers(0, height - self.size_px + 1))
        left = int(self._random.integers(0, width - self.size_px + 1))
        image = sample["image"][top : top + self.size_px, left : left + self.size_px]
        return {"image": image, "keypoints": np.asarray(sample["keypoints"], np.float32) - np.array([left, top], np.float32)}


class Normalize:
    """uint8 RGB to grey in [0, 1]; points stay pixels, because the network encodes them itself."""

    def __call__(self, sample: Sample) -> Sample:
        grey = cv2.cvtColor(sample["image"], cv2.COLOR_RGB2GRAY)
        return {"image": grey.astype(np.float32) / 255, "keypoints": sample["keypoints"]}


class ToTensor:
    """(H, W) to a (1, H, W) tensor, and the points to a (68, 2) tensor."""

    def __call__(self, sample: Sample) -> Sample:
        return {"image": torch.from_numpy(sample["image"])[None], "keypoints": torch.from_numpy(sample["keypoints"])}
