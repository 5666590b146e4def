"""Images that are nearly the same are found, others are not, and the time does not grow with the square of their number."""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from fkp.data.near_duplicates import clusters_of
from fkp.vision.fingerprint import Fingerprint, fingerprint

COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "the same": lambda image: image,
    "half as large": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "JPEG of quality 30": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR),
    "brighter": lambda image: cv2.convertScaleAbs(image, alpha=0.9, beta=20),
    "grey": lambda image: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "mirrored and smaller": lambda image: cv2.resize(np.ascontiguousarray(image[:, ::-1]), None, fx=0.6, fy=0.6),
    "cut by one in a hundred": lambda image: np.ascontiguousarray(image[2:-2, 2:-2]),
}


def scene(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(40, 200, (10, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (240, 300), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_one_with_its_original(kind: str) -> None:
    scenes = [scene(seed) for seed in range(8)]
    found = clusters_of([fingerprint(image) for image in [*scenes, *(COPIES[kind](image) for image in scenes)]])
    assert (found[:8] == found[8:]).all() and len(set(found)) == 8


def test_a_chain_of_neighbouring_frames_is_one() -> None:
    first, last = scene(1).astype(float), scene(2).astype(float)
    frames = [((1 - share) * first + share * last).astype(np.uint8) for share in np.linspace(0, 1, 120)]
    found = clusters_of([fingerprint(frame) for frame in [*frames, scene(3)]])
    assert len(set(found[:-1])) == 1 and found[-1] != found[0]


def test_one_image_and_none() -> None:
    assert clusters_of([fingerprint(scene(0))]).tolist() == [0]
    even = np.zeros((50, 40, 3), np.uint8)
    assert len(set(clusters_of([fingerprint(even), fingerprint(even)]))) == 1


def _prints(count: int, changed: float | None) -> list[Fingerprint]:
    """Hashes of unlike images, or of one with a share of its bits changed in each."""
    rng = np.random.default_rng(0)
    grey = np.zeros((16, 16), np.uint8)
    if changed is None:
        words = rng.integers(0, 2**16, (count, 2, 8), dtype=np.uint16)
    else:
        words = rng.integers(0, 2**16, (1, 2, 8), dtype=np.uint16) ^ np.packbits(rng.random((count, 2, 128)) < changed, axis=-1).view(
            np.uint16
        )
    return [Fingerprint(one, other, grey) for one, other in words]


@pytest.mark.parametrize("changed", [None, 0.01], ids=["unlike", "one scene"])
def test_the_time_is_not_quadratic(changed: float | None) -> None:
    took = []
    for count in (1_000, 8_000):
        prints = _prints(count, changed)
        began = time.process_time()
        found = clusters_of(prints)
        took.append(time.process_time() - began)
        assert len(set(found)) == (count if changed is None else 1)
    assert took[1] < 30 * took[0] + 1, "eight times as many images: 64 times as long would be quadratic"
