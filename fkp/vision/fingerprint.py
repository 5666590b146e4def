"""What an image looks like in a few bytes: a difference hash, and the 16 x 16 grey image it is checked by.

The hash is the dHash of N. Krawetz (2013) in both directions: whether each of 8 x 8 places is darker than its right neighbour, and than its
lower one. Another size, compression or light leaves nearly all of its 128 bits; `fkp.data.near_duplicates` compares them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fkp.vision.image import Image

SIDE_PX = 16

#: A place in the hash of each bit. Neighbours in the image, such as an even background, come into different 16-bit words.
_ORDER = np.random.default_rng(0).permutation(128)


@dataclass(frozen=True)
class Fingerprint:
    """Of one image.

    Attributes:
        hash_u16: (8,) uint16, 128 bits.
        mirrored_u16: (8,) uint16 of the image mirrored left to right.
        grey_u8: (16, 16) uint8.
    """

    hash_u16: np.ndarray
    mirrored_u16: np.ndarray
    grey_u8: np.ndarray


def fingerprint(image: Image) -> Fingerprint:
    """The fingerprint of an (H, W, 3) uint8 RGB image."""
    small = cv2.cvtColor(cv2.resize(image, (72, 72), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return Fingerprint(_hash(small), _hash(small[:, ::-1]), cv2.resize(small, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA))


def _hash(small: np.ndarray) -> np.ndarray:
    across = cv2.resize(small, (9, 8), interpolation=cv2.INTER_AREA).astype(int)
    down = cv2.resize(small, (8, 9), interpolation=cv2.INTER_AREA).astype(int)
    bits = np.concatenate([(np.diff(across, axis=1) > 0).ravel(), (np.diff(down, axis=0) > 0).ravel()])
    return np.packbits(bits[_ORDER]).view(np.uint16)
