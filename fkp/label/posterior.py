"""What one corrected point tells of the others of its face: the joint distribution of a model's errors, conditioned on corrections.

The errors of a face's 2 K coordinates are taken as normal with mean zero, seen in the face's own upright frame and in units of the scale
that the network states of each point. Corrections are observations of some of them, with a person's own error as noise; the rest is
Gaussian conditioning (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, eq. 2.23 and 2.24).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fkp.bundle import Bundle
from fkp.bundle.joint_errors import JointErrors
from fkp.scheme import Scheme
from fkp.vision.crop import roll_deg

#: How far a person's own point is from the truth on average, in percent of the face's size: what two labellers of one face differ by.
PERSON_PCT = 1.0
#: Standard deviation of each coordinate, by the scale of a point, of the normal distribution whose mean radius is the stated 2 s.
_SD = 2 / math.sqrt(math.pi / 2)

Fixed = Mapping[int, np.ndarray]


@dataclass(frozen=True)
class Errors:
    """The joint distribution of a model's errors on one face.

    Attributes:
        scheme: Of the points.
        joint: Correlation of the errors; without faces it follows from the distance of the points alone.
        person_pct: See `PERSON_PCT`.
        circle_90: Radius that holds 90 % of the errors, in expected errors: measured on held-out faces where the bundle keeps that, else
            of the head's density, `losses.radial_laplace_nll`.
    """

    scheme: Scheme
    joint: JointErrors
    person_pct: float = PERSON_PCT
    circle_90: float = 1.945

    @classmethod
    def of(cls, bundle: Bundle) -> Errors:
        """The errors of a bundle's network, measured on its held-out faces where the bundle keeps them."""
        radii = bundle.metrics.get("error_radii")
        circle = float(np.interp(0.9, radii["levels"], radii["ratios"])) if radii else cls.circle_90
        return cls(bundle.config.scheme, JointErrors.of(bundle), circle_90=circle)

    def condition(self, points_px: np.ndarray, scale_px: np.ndarray, fixed: Fixed, size_px: float) -> tuple[np.ndarray, np.ndarray]:
        """Where the points of a face are, given those that a person has set.

        Args:
            points_px: (K, 2) guesses of the model, in pixels of the image.
            scale_px: (K,) scale of their errors; twice that is the expected error, `Face.expected_error_px`.
            fixed: Number of a point -> (2,) where a person has set it, or has accepted it.
            size_px: Size of the face, `Scheme.size_px` of its points.

        Returns:
            (K, 2) points and (K,) scales, float64. Fixed points stand where they were set and have a person's scale. How much the
            corrections surprise goes into all other scales: a face that the model has misjudged has larger circles, not smaller ones.

        Raises:
            ValueError: A shape is another, a number is not finite, a scale or the size is not positive, or a point has no such number.
        """
        points, scale = self._checked(points_px, scale_px, fixed, size_px)
        if not fixed:
            return points, scale
        prior = self._covariance(points, scale)
        places = sorted(fixed)
        seen, gain, after = self._update(prior, places, size_px)
        turn = _turn(points, self.scheme)
        moved = np.stack([np.asarray(fixed[place], np.float64) for place in places]) - points[places]
        innovation = (moved @ turn.T).ravel()
        surprise = float(innovation @ np.linalg.solve(seen, innovation))
        freedom = self.joint.freedom
        wider = (freedom + surprise) / (freedom + len(innovation))  # Of a multivariate t, whose scale mixes those of all faces.
        result = points + (gain @ innovation).reshape(-1, 2) @ turn
        shrunk = np.sqrt(_by_point(after) * wider / _by_point(prior)) * scale
        result[places] = points[places] + moved
        shrunk[places] = self._person_sd(size_px) / _SD
        return result, shrunk

    def next_point(
        self,
        scale_px: np.ndarray,
        fixed: Fixed,
        points_px: np.ndarray,
        size_px: float,
        among: Sequence[int] | None = None,
    ) -> int | None:
        """The point whose correction lowers the sum of all expected errors of a face most.

        Args:
            scale_px: (K,) what the model states, not what `condition` made of it.
            fixed: See `condition`.
            points_px: (K, 2) guesses of the model.
            size_px: See `condition`.
            among: Numbers to choose from; by default all that are not fixed.

        Returns:
            None where there is nothing to choose from.

        Raises:
            ValueError: See `condition`.
        """
        points, scale = self._checked(points_px, scale_px, fixed, size_px)
        left = [place for place in (range(len(points)) if among is None else among) if place not in fixed]
        if not left:
            return None
        covariance = self._covariance(points, scale)
        if fixed:
            covariance = self._update(covariance, sorted(fixed), size_px)[2]
        columns = covariance[:, (2 * np.array(left)[:, None] + (0, 1)).ravel()].reshape(len(covariance), len(left), 2)
        own = np.stack([columns[2 * place : 2 * place + 2, at] for at, place in enumerate(left)])
        gain = np.linalg.inv(own + self._person_sd(size_px) ** 2 * np.eye(2))
        told = np.einsum("inj,njk,ink->in", columns, gain, columns, optimize=True).reshape(-1, 2, len(left)).sum(1)
        totals = np.sqrt(np.maximum(_by_point(covariance)[:, None] - told, 0)).sum(0)
        return left[int(np.argmin(totals))]

    def precision(
        self, labels_px: np.ndarray, points_px: np.ndarray, scale_px: np.ndarray, known: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The inverse covariance Q of a face's errors e, which its labels tell, and Q e; the labels have a person's noise.

        Args:
            labels_px: (K, 2).
            points_px: (K, 2) of the model.
            scale_px: (K,) scale of their errors.
            known: (K,) which points are labelled.

        Returns:
            (2K, 2K) and (2K,) in the face's own frame, 0 where a point is not labelled. For some points B the distribution of their
            errors given all others has the precision Q_BB, and they are off its mean by Q_BB^-1 (Q e)_B.
        """
        points, scale = self._checked(points_px, scale_px, {}, 1.0)
        size_px = float(self.scheme.size_px(points))
        columns = np.flatnonzero(np.repeat(known, 2))
        inside = np.ix_(columns, columns)
        covariance = self._covariance(points, scale)[inside] + self._person_sd(size_px) ** 2 * np.eye(len(columns))
        errors = (np.where(known[:, None], labels_px - points, 0) @ _turn(points, self.scheme).T).ravel()
        precision = np.zeros((2 * len(points),) * 2)
        precision[inside] = np.linalg.inv(covariance)
        return precision, precision @ errors

    def _person_sd(self, size_px: float) -> float:
        return self.person_pct / 100 * size_px / math.sqrt(math.pi / 2)

    def _covariance(self, points_px: np.ndarray, scale_px: np.ndarray) -> np.ndarray:
        """(2K, 2K) in the face's own frame."""
        sd = np.repeat(scale_px * _SD, 2)
        return self.joint.correlation(points_px @ _turn(points_px, self.scheme).T) * sd * sd[:, None]

    def _update(self, prior: np.ndarray, places: Sequence[int], size_px: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Covariance of what was observed (2F, 2F), the gain (2K, 2F) and the covariance after it."""
        observed = (2 * np.asarray(places)[:, None] + (0, 1)).ravel()
        seen = prior[np.ix_(observed, observed)] + self._person_sd(size_px) ** 2 * np.eye(len(observed))
        gain = np.linalg.solve(seen, prior[observed]).T
        return seen, gain, prior - gain @ prior[observed]

    def _checked(self, points_px: np.ndarray, scale_px: np.ndarray, fixed: Fixed, size_px: float) -> tuple[np.ndarray, np.ndarray]:
        points, scale = np.array(points_px, np.float64), np.array(scale_px, np.float64)
        if points.shape != (len(self.scheme), 2) or scale.shape != points.shape[:1]:
            raise ValueError(f"{points.shape} points and {scale.shape} scales are not those of scheme {self.scheme.name}")
        if not (np.isfinite(points).all() and np.isfinite(scale).all() and scale.min() > 0):
            raise ValueError("a point is not finite, or a scale is not positive")
        if not (math.isfinite(size_px) and size_px > 0):
            raise ValueError(f"the size of a face must be positive, got {size_px}")
        for place, where in fixed.items():
            if not (0 <= place < len(points) and np.shape(where) == (2,) and np.isfinite(where).all()):
                raise ValueError(f"point {place} of scheme {self.scheme.name} cannot be set to {where}")
        return points, scale


def _turn(points_px: np.ndarray, scheme: Scheme) -> np.ndarray:
    """(2, 2) matrix that takes a way in the image, a column, to the frame in which the face stands upright."""
    angle = math.radians(float(roll_deg(points_px, scheme)))
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


def _by_point(covariance: np.ndarray) -> np.ndarray:
    """(K,) variance of each point, both coordinates together; rounding makes none negative."""
    return np.maximum(np.diag(covariance).reshape(-1, 2).sum(1), 1e-12)
