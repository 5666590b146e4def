"""How a head is turned, from its landmarks.

The shape is that of MediaPipe's canonical face (`mediapipe/modules/face_geometry/data/canonical_face_model.obj` of
https://github.com/google-ai-edge/mediapipe, Copyright The MediaPipe Authors, Apache License 2.0, whose text is
`fkp/vision/detect/LICENSE.Apache-2.0`): the vertices that the scheme mediapipe478 names, but for what moves with an expression, and for the
outline's lower part, whose points lie elsewhere from each side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fkp.scheme import Scheme

# In cm: x to the viewer's right, y up, z towards the viewer. The left half and the midline; the right half is its mirror image.
_CANONICAL: dict[str, tuple[float, float, float]] = {
    "nose_bridge_0": (0.0, 3.271, 5.236),
    "nose_bridge_1": (0.0, 1.728, 6.317),
    "nose_bridge_2": (0.0, 0.366, 7.243),
    "nose_tip": (0.0, -0.463, 7.587),
    "nose_base": (0.0, -2.089, 6.058),
    "left_nostril_0": (-1.406, -1.714, 5.241),
    "left_nostril_1": (-0.597, -2.014, 5.866),
    "left_eye_outer": (-4.446, 2.664, 3.173),
    "left_eye_upper_0": (-3.670, 2.928, 3.724),
    "left_eye_upper_1": (-2.724, 2.962, 3.872),
    "left_eye_inner": (-1.856, 2.585, 3.758),
    "left_eye_lower_1": (-2.724, 2.316, 3.777),
    "left_eye_lower_0": (-3.670, 2.360, 3.635),
    "left_pupil": (-3.182, 2.636, 3.657),  # It has none: the mean of the eye's six points.
    "left_mouth_corner": (-2.456, -4.343, 4.284),
    "left_jaw_0": (-7.743, 2.365, -2.005),
    "left_jaw_1": (-7.664, 0.673, -2.436),
    "left_jaw_2": (-7.542, -1.049, -2.431),
}
#: The jaw's upper ends reach far back, and hold the pitch: without them another way to place the points of a nose looks like one of 9
#: degrees, which is what both labels of YouTube-Faces and a network that learnt them have. The end of a side that turns away slides
#: along the outline; from the first of these yaws on it counts less, from the second on not at all.
_AWAY_DEG = (15.0, 35.0)
#: Least extent of the points that a scheme has in their flattest direction (root mean square), by that in their widest: in a plane, or
#: on a line, they would tell no turn. The five points of face recognisers have 0.32.
_LEAST_DEPTH = 0.05
_LEAST_POINTS = 4
#: Points that lie on a line in the image, or at one place, tell no turn either.
_LEAST_AREA = 1e-6


@dataclass(frozen=True)
class HeadPose:
    """How a head is turned from facing the camera: first by `yaw_deg`, then `pitch_deg`, then `roll_deg`.

    Attributes:
        yaw_deg: Positive turns the nose to the viewer's right.
        pitch_deg: Positive lowers it; -90 to 90.
        roll_deg: Positive turns the head clockwise in the image.
    """

    yaw_deg: float
    pitch_deg: float
    roll_deg: float


def has_pose(scheme: Scheme) -> bool:
    """Whether a scheme has the landmarks that tell a pose: at least four of the canonical ones by name, not in one plane."""
    return _solver(scheme.landmarks) is not None


def head_pose(points_px: np.ndarray, scheme: Scheme) -> HeadPose | None:
    """The pose of a head under weak perspective, which needs to know nothing of the camera.

    The affine camera of least squares in closed form, and the rotation nearest to it (polar decomposition). `cv2.solvePnP` with the
    same points is not nearer to the truth, whatever focal length is assumed, and takes longer: `benchmarks/pose.py`. Where the scheme has
    the jaw, a first pose without it tells which of its ends is seen.

    Args:
        points_px: (K, 2) in image pixels.
        scheme: Of the points.

    Returns:
        The pose; None where the scheme has too few of the landmarks, or the points are not finite, or on a line.
    """
    solver = _solver(scheme.landmarks)
    if solver is None:
        return None
    places, face, jaws = solver
    # The matrices take a shift of all points to nothing.
    seen = points_px[places].astype(np.float64)
    pose = _nearest(face @ seen)
    if pose is None or jaws is None:
        return pose
    left, both, right = jaws
    there = min(max((_AWAY_DEG[1] - abs(pose.yaw_deg)) / (_AWAY_DEG[1] - _AWAY_DEG[0]), 0.0), 1.0)
    return _nearest((there * both + (1 - there) * (left if pose.yaw_deg > 0 else right)) @ seen)


def _nearest(camera: np.ndarray) -> HeadPose | None:
    """The rotation nearest to a (3, 2) affine camera A^T; None where it shows no face but a line."""
    # Numbers of Python: NumPy would take five times as long.
    (ax, bx), (ay, by), (az, bz) = camera.tolist()
    # (A A^T)^(-1/2) A, with the square root of a 2 x 2 matrix in closed form.
    aa, ab, bb = ax * ax + ay * ay + az * az, ax * bx + ay * by + az * bz, bx * bx + by * by + bz * bz
    root = math.sqrt(max(aa * bb - ab * ab, 0.0))
    if not root > _LEAST_AREA * (aa + bb):
        return None
    scale = 1 / (root * math.sqrt(aa + bb + 2 * root))
    aa, ab, bb = scale * (bb + root), -scale * ab, scale * (aa + root)
    (ax, bx), (ay, by), (az, bz) = [(aa * a + ab * b, ab * a + bb * b) for a, b in ((ax, bx), (ay, by), (az, bz))]
    # What points to the viewer is their cross product.
    x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    pitch = math.asin(min(max(-y, -1.0), 1.0))
    return HeadPose(*map(math.degrees, (math.atan2(-x, z), pitch, math.atan2(-ay, by))))


def canonical_points(landmarks: tuple[str, ...]) -> np.ndarray:
    """(K, 3) places of landmarks by name in the canonical face, in cm: x to the viewer's right, y down, z to them; NaN without one."""
    left = {name: (x, -y, z) for name, (x, y, z) in _CANONICAL.items()}
    places = left | {name.replace("left_", "right_"): (-x, y, z) for name, (x, y, z) in left.items()}
    return np.array([places.get(name, (np.nan,) * 3) for name in landmarks])


@lru_cache(maxsize=16)
def _solver(landmarks: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray] | None] | None:
    """Numbers of the landmarks that count, and (3, N) matrices that take their places to a camera.

    They are: without the jaw, and where the scheme has it with that of the left, of both sides and of the right.
    """
    shape = canonical_points(landmarks)
    places = np.flatnonzero(np.isfinite(shape).all(-1))
    sides = np.array([landmarks[place].partition("_jaw_")[0] if "_jaw_" in landmarks[place] else "" for place in places])
    face = _inverse(shape[places], sides == "")
    if face is None:
        return None
    if set(sides) < {"", "left", "right"}:
        return places, face, None
    left, both, right = (_inverse(shape[places], sides != away) for away in ("right", "none", "left"))
    return places, face, None if left is None or both is None or right is None else (left, both, right)


def _inverse(shape: np.ndarray, chosen: np.ndarray) -> np.ndarray | None:
    """The (3, N) pseudo-inverse of some of (N, 3) points about their middle, 0 for the others; None where they tell no turn."""
    if chosen.sum() < _LEAST_POINTS:
        return None
    head = shape[chosen] - shape[chosen].mean(0)
    extent = np.linalg.svd(head, compute_uv=False)
    if extent[-1] < _LEAST_DEPTH * extent[0]:
        return None
    inverse = np.zeros((3, len(shape)))
    inverse[:, chosen] = np.linalg.pinv(head)
    return inverse
