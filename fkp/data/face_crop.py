"""The crop of a labelled face: what a network is trained and validated on, whatever the frames come from."""

from __future__ import annotations

import numpy as np

from fkp.config import InputConfig
from fkp.data.face_shape import box_of_label
from fkp.scheme import Scheme
from fkp.vision.augment import WIDE, wide_size_px
from fkp.vision.crop import Crop
from fkp.vision.image import Image


def crop_size_px(config: InputConfig, wide: bool) -> int:
    """Side in pixels of a face's crop. Training wants a wide one, which augmentation turns and shifts into the network's."""
    return wide_size_px(config.size_px) if wide else config.size_px


def crop_face(config: InputConfig, frame: Image, points_px: np.ndarray, scheme: Scheme, wide: bool) -> tuple[np.ndarray, np.ndarray]:
    """Crop a labelled face.

    Args:
        config: Size and colours.
        frame: (H, W, 3) uint8 RGB.
        points_px: (K, 2) in the frame's pixels, without the labels' shift; `fkp.data.labels.check_label` has seen them.
        scheme: Of the points.
        wide: See `crop_size_px`.

    Returns:
        (C, S, S) uint8 with S = `crop_size_px(config, wide)`, and (K, 2) float32 in its pixels.
    """
    crop = Crop.of_box(box_of_label(points_px, scheme), crop_size_px(config, wide), config.crop_scale * (WIDE if wide else 1))
    return crop.apply(frame, config.channels), crop.do(points_px)
