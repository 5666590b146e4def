"""The crop of a labelled face: what a network is trained and validated on, whatever the frames come from."""

from __future__ import annotations

import numpy as np

from fkp.config import InputConfig
from fkp.errors import FkpError
from fkp.vision import image as images
from fkp.vision.augment import WIDE, wide_size_px
from fkp.vision.crop import Crop, box_of_points


def crop_size_px(part: str, config: InputConfig) -> int:
    """Side in pixels of the crops of a part: those of "train" are wider than the network's, for augmentation turns and shifts them."""
    return wide_size_px(config.size_px) if part == "train" else config.size_px


def crop_face(part: str, config: InputConfig, frame: images.Image, points_px: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Crop a face as its part needs it.

    Args:
        part: "train", "val" or "test".
        config: Size and colours.
        frame: (H, W, 3) uint8 RGB.
        points_px: (68, 2) in the frame's pixels, without the labels' shift.
        name: What an error message calls the frame.

    Returns:
        (C, S, S) uint8 with S = `crop_size_px(part, config)`, and (68, 2) float32 in its pixels.

    Raises:
        FkpError: All points lie on one line, so that the face has no size.
    """
    scale = config.crop_scale * (WIDE if part == "train" else 1)
    try:
        crop = Crop.of_box(box_of_points(points_px), crop_size_px(part, config), scale)
    except ValueError as error:
        raise FkpError(f"{name}: the label has no extent ({error}): correct or remove it") from error
    return crop.apply(frame, config.channels), crop.do(points_px)
