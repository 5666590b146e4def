"""Crops in which eyes, nose and mouth stand where face recognisers expect them."""

from __future__ import annotations

import math

import numpy as np

from fkp.errors import FkpError
from fkp.scheme import Scheme
from fkp.vision.crop import Crop

#: Eyes, tip of the nose and corners of the mouth in a crop of 112 pixels, the viewer's left first: `arcface_dst` of InsightFace
#: (https://github.com/deepinsight/insightface, python-package/insightface/utils/face_align.py, MIT), on whose crops ArcFace
#: (J. Deng et al., CVPR 2019) and most recognisers since are trained.
ARCFACE_PX = np.array([(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)])
#: Side of the crop that these are places in.
ARCFACE_SIZE_PX = 112
#: Sides of aligned crops that can be asked for.
SMALLEST_PX, LARGEST_PX = 16, 1024


def five_points(points_px: np.ndarray, scheme: Scheme) -> np.ndarray:
    """(5, 2) float64: the viewer's left eye, right eye, tip of the nose, left and right corner of the mouth.

    An eye is its pupil where the scheme has one, and else the mean of its outline.

    Args:
        points_px: (K, 2) in pixels.
        scheme: Of the points.

    Raises:
        FkpError: The scheme lacks one of them.
    """
    found = []
    for name in ("left_pupil", "right_pupil", "nose_tip", "left_mouth_corner", "right_mouth_corner"):
        outline = f"{name.removesuffix('_pupil')}_eye_" if name.endswith("_pupil") else None
        places = [place for place, other in enumerate(scheme.landmarks) if other == name]
        places = places or [place for place, other in enumerate(scheme.landmarks) if outline and other.startswith(outline)]
        if not places:
            what = name.replace("_pupil", "_eye").replace("_", " ")
            raise FkpError(f"scheme {scheme.name} has no {what}: aligned crops need both eyes, the tip of the nose and the mouth's corners")
        found.append(points_px[places].mean(axis=0, dtype=np.float64))
    return np.stack(found)


def aligned_crop(points_px: np.ndarray, scheme: Scheme, size_px: int = ARCFACE_SIZE_PX) -> Crop:
    """The window in which a face's five points come nearest to `ARCFACE_PX`: the similarity of least squares (S. Umeyama, PAMI 1991).

    Args:
        points_px: (K, 2) in image pixels.
        scheme: Of the points.
        size_px: Side of the crop; the places are scaled with it.

    Raises:
        FkpError: See `five_points`; or the size is out of range, or the points are not finite, or at one place.
    """
    if not SMALLEST_PX <= size_px <= LARGEST_PX:
        raise FkpError(f"an aligned crop has a side of {SMALLEST_PX} to {LARGEST_PX} pixels, not {size_px}")
    seen = five_points(points_px, scheme)
    middle_px = seen.mean(0)
    # As complex numbers a similarity without a reflection is a factor and a shift.
    source, target = ((places - places.mean(0)) @ (1, 1j) for places in (seen, ARCFACE_PX * (size_px / ARCFACE_SIZE_PX)))
    spread = float((np.abs(source) ** 2).sum())
    factor = complex(np.conj(source) @ target / spread) if spread > 0 else 0j
    if not (math.isfinite(abs(factor)) and abs(factor) > 0):
        raise FkpError("its points are at one place or no numbers, so that no crop can be aligned by them")
    # The crop's middle, seen from that of the five points.
    shift = ((size_px - 1) / 2 - (ARCFACE_PX.mean(0) * (size_px / ARCFACE_SIZE_PX))) @ (1, 1j) / factor
    center_px = (float(middle_px[0] + shift.real), float(middle_px[1] + shift.imag))
    return Crop(center_px, size_px / abs(factor), size_px, -math.degrees(math.atan2(factor.imag, factor.real)))
