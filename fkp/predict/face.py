"""A face that was found, and what its points tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fkp.predict.belief import NO_DOUBT, Belief, quality_of
from fkp.scheme import IBUG68, Scheme
from fkp.vision.align import ARCFACE_SIZE_PX, aligned_crop
from fkp.vision.image import Image
from fkp.vision.openness import openness
from fkp.vision.pose import HeadPose, head_pose


@dataclass(frozen=True)
class Face:
    """One face of an image, everything in pixels of that image.

    Attributes:
        box_xyxy: (4,) float32, where the face was looked for: a box that was given, or tight around the landmarks.
        score: The detector's confidence, 1 for a box that was given.
        points_px: (K, 2) float32.
        expected_error_px: (K,) float32, how far from the truth the network expects each point to be.
        scheme: What the points are.
        roll_deg: Clockwise turn of the crop it was found in: how it stands, where the scheme has no pairs that tell.
        belief: The limits of the bundle that found it.
    """

    box_xyxy: np.ndarray
    score: float
    points_px: np.ndarray
    expected_error_px: np.ndarray
    scheme: Scheme = IBUG68
    roll_deg: float = 0.0
    belief: Belief = NO_DOUBT

    @property
    def quality(self) -> float:
        """How far the network believes in this face, 0 to 1: see `belief.quality_of`."""
        return quality_of(self.expected_error_px, self.box_xyxy)

    @property
    def believed(self) -> bool:
        """Whether the bundle's own limit lets it count. One that is kept all the same, as in a given box, is drawn dashed."""
        return self.quality >= self.belief.min_quality

    @property
    def unsure(self) -> np.ndarray:
        """(K,) bool: points of which the network is unsure, see `belief.UNSURE`; they are drawn hollow."""
        longer_px = float((self.box_xyxy[2:] - self.box_xyxy[:2]).max())
        unsure: np.ndarray = self.expected_error_px > self.belief.unsure_ratio * longer_px
        return unsure

    @property
    def pose(self) -> HeadPose | None:
        """How the head is turned: see `vision.pose.head_pose`; None where the scheme has not the points."""
        return head_pose(self.points_px, self.scheme)

    @property
    def openness(self) -> dict[str, float]:
        """How far `left_eye`, `right_eye` and `mouth` are open: see `vision.openness.openness`; without those that the scheme has not."""
        return openness(self.points_px, self.scheme)

    def aligned(self, image: Image, size_px: int = ARCFACE_SIZE_PX) -> Image:
        """The face as face recognisers expect it: (size_px, size_px, 3) uint8 RGB, see `vision.align.aligned_crop`.

        Args:
            image: (H, W, 3) uint8 RGB, in which it was found.
            size_px: Side of the crop.

        Raises:
            FkpError: The scheme lacks one of the five points, or the points tell no crop, or the size is out of range.
        """
        return np.ascontiguousarray(aligned_crop(self.points_px, self.scheme, size_px).apply(image, 3).transpose(1, 2, 0))

    def outline_json(self) -> dict[str, object]:
        """Plain JSON without the points, of a face that was left out."""
        box = np.round(self.box_xyxy.astype(float), 2).tolist()
        return {"box": box, "score": round(self.score, 4), "quality": round(self.quality, 4)}

    def to_json(self) -> dict[str, object]:
        """Plain JSON: pixels rounded to hundredths, degrees to tenths. `pose` is null where the scheme has not the points."""
        pose = self.pose
        return {
            **self.outline_json(),
            "keypoints": np.round(self.points_px.astype(float), 2).tolist(),
            "expected_error_px": np.round(self.expected_error_px.astype(float), 2).tolist(),
            "believed": self.believed,
            "pose": None if pose is None else {name: round(value, 1) for name, value in vars(pose).items()},
            "openness": {name: round(ratio, 3) for name, ratio in self.openness.items()},
        }
