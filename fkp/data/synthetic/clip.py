"""A synthetic face as a clip with exact labels: one painted image, seen through a window that moves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fkp.data.synthetic import render
from fkp.vision.crop import Crop, box_of_points
from fkp.vision.image import Image


@dataclass(frozen=True)
class Motion:
    """How a face moves in its clip: to and fro, as a sine.

    Attributes:
        sway_boxes: Farthest way from the middle to the side, in longer sides of the face's box.
        turn_deg: Farthest turn in the image.
        period_s: Time of one to and fro.
    """

    sway_boxes: float = 0.0
    turn_deg: float = 0.0
    period_s: float = 2.0


def frames(
    index: int, seed: int, count: int, fps: float, motion: Motion, size_px: int = 240, noise: float = 6.0
) -> Iterator[tuple[Image, np.ndarray]]:
    """Yield the frames of a clip of one synthetic face, half as large as the frame.

    Args:
        index: Of the image, see `synthetic.frame_of`.
        seed: Likewise; the noise depends on both alone.
        count: Frames.
        fps: Frames a second.
        motion: Of the face.
        size_px: Side of the square frames.
        noise: Standard deviation of each pixel's noise, from frame to frame independent, in steps of 0 to 255.

    Yields:
        (size_px, size_px, 3) uint8 RGB and the true (68, 2) float32 points in its pixels.
    """
    _, _, image, points_px = render.frame_of(index, seed)
    border = max(image.shape[:2])
    image = np.pad(image, ((border, border), (border, border), (0, 0)), mode="edge")
    box = box_of_points(points_px + border)
    center, side = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())
    rng = np.random.default_rng([seed, index])
    for number in range(count):
        phase = math.sin(2 * math.pi * number / fps / motion.period_s)
        # The window goes the other way, so that the face goes this one.
        window = Crop((center[0] - motion.sway_boxes * side * phase, center[1]), 2 * side, size_px, -motion.turn_deg * phase)
        frame = window.apply(image, 3).transpose(1, 2, 0) + rng.normal(0, noise, (size_px, size_px, 3))
        yield np.clip(np.round(frame), 0, 255).astype(np.uint8), window.do(points_px + border)
