"""How the errors of a face's points hang together: a correlation that a bundle keeps of its held-out faces, in `joint_errors.json`.

Errors are seen in the frame in which a face stands upright, each in units of the scale that the network states of its point. Few faces
tell 2 K x 2 K numbers badly, so what they tell is shrunk towards what the distance of two points says (shrinkage towards a structured
target: Ledoit and Wolf, "Improved estimation of the covariance matrix of stock returns", 2003).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fkp.bundle.bundle import Bundle

#: Distance at which the correlation of two points' errors has fallen to 1/e, in root mean square distances of the points from their
#: middle; and the degrees of freedom of the t distribution. Under both the shipped model's validation faces are about likeliest.
REACH, FREEDOM = 0.25, 6.0


@dataclass(frozen=True)
class JointErrors:
    """A correlation of errors.

    Attributes:
        measured: (2K, 2K) of held-out faces, x before y of each point; the two variances of a point have the mean 1. None: not measured.
        share: What part of the correlation is measured; the rest follows from the distances.
        reach: See `REACH`.
        freedom: Degrees of freedom of the multivariate t that the errors of a face follow: how much faces differ in more than is stated.
        faces: How many were measured.
    """

    measured: np.ndarray | None = None
    share: float = 0.0
    reach: float = REACH
    freedom: float = FREEDOM
    faces: int = 0

    @classmethod
    def of(cls, bundle: Bundle) -> JointErrors:
        """What a bundle keeps; one that keeps nothing knows the distances alone."""
        return cls.from_json(bundle.joint_errors) if bundle.joint_errors else cls()

    def correlation(self, upright_px: np.ndarray) -> np.ndarray:
        """(2K, 2K) correlation of the errors of one face.

        Args:
            upright_px: (K, 2) its points, turned to stand upright.
        """
        target = by_distance(upright_px, self.reach)
        return target if self.measured is None else self.share * self.measured + (1 - self.share) * target

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `lower` holds the lower triangle row by row, in ten thousandths, as little-endian 16-bit integers in base64."""
        if self.measured is None:
            return {}
        lower = np.round(self.measured[np.tril_indices(len(self.measured))] * _ONE).astype("<i2")
        said = {"share": self.share, "reach": self.reach, "freedom": self.freedom, "faces": self.faces}
        return {**said, "coordinates": len(self.measured), "lower": base64.b64encode(lower.tobytes()).decode()}

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> JointErrors:
        """The inverse of `to_json`, to its rounding."""
        measured = np.zeros((said["coordinates"],) * 2)
        measured[np.tril_indices(len(measured))] = np.frombuffer(base64.b64decode(said["lower"]), "<i2") / _ONE
        measured += np.tril(measured, -1).T
        return cls(measured, said["share"], said["reach"], said["freedom"], said["faces"])


_ONE = 10_000


def by_distance(upright_px: np.ndarray, reach: float = REACH) -> np.ndarray:
    """(2K, 2K): exp(-distance / reach), for x and for y; see `REACH`."""
    points = upright_px - upright_px.mean(0)
    points = points / max(float(np.sqrt((points**2).sum() / len(points))), 1e-9)
    apart = np.linalg.norm(points[:, None] - points, axis=-1)
    both = np.zeros((2 * len(points),) * 2)
    both[::2, ::2] = both[1::2, 1::2] = np.exp(-apart / reach)
    return both
