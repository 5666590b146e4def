"""What a set is worth now and what more labels would bring, and when a model is as sure as the person who labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: So many faces of which the model's stated error is believed before corrections tell how large it is with these labels.
_PRIOR_FACES = 3.0
#: Relative spread of a measured error about the curve.
_SPREAD = 0.05
#: What more labels may leave of the error, as a part of it, and from how many faces on it falls as their square root; each as likely.
_FLOORS, _KNEES = np.linspace(0.3, 1.0, 15), np.geomspace(3, 100, 7)


@dataclass(frozen=True)
class Forecast:
    """What the labels are worth, all in percent of the faces' size.

    Attributes:
        now_pct: Expected error of the model on the faces that are not labelled.
        after: (More faces, expected error then), fewest first.
        enough: Whether the model is as near to a person as this person is to himself.
        person_pct: How far two labels of one face by the same person are apart; None where no face was labelled twice.
    """

    now_pct: float
    after: tuple[tuple[int, float], ...]
    enough: bool
    person_pct: float | None = None

    @property
    def text(self) -> str:
        """The same in words."""
        said = f"expected error {self.now_pct:.1f} %"
        if self.enough:
            return f"{said}: as near as two labels of yours are to each other ({self.person_pct:.1f} %); more faces bring little"
        return "; ".join([said, *(f"{faces} more faces: about {pct:.1f} %" for faces, pct in self.after)])


def forecast(
    expected_pct: Sequence[float] | np.ndarray,
    corrected: Sequence[tuple[float, float]] = (),
    history: Sequence[tuple[int, float]] = (),
    twice_pct: Sequence[float] = (),
    more: Sequence[int] = (10, 25, 50),
) -> Forecast:
    """Foretell the error.

    The error now is the stated one, times what the errors of labelled faces were by those stated of them: so it does not matter that
    the labelled faces are not like the others. The error later is a mean over curves a + b / sqrt(n + k) by how well they go through the
    errors that were measured after fewer labels; without any of these it is no more than a rule of thumb.

    Args:
        expected_pct: (N,) of the faces that are not labelled, see `order.expected_pct`; empty where all are.
        corrected: Of each face that was labelled since the model was adapted last: the stated error and the true one. Faces that were
            labelled with the guesses hidden, if there are enough, for people follow what they are shown.
        history: Of each adaptation: how many faces it was given, and the error that was measured on held-out ones; fewest first. The
            model that was begun with may stand there with 0 faces.
        twice_pct: Of each face that was labelled twice: mean distance of its two labels.
        more: For how many more faces to foretell.

    Raises:
        ValueError: A number is not finite or is negative, there is no face at all, or the history does not grow.
    """
    stated, pairs, past = np.array(expected_pct, np.float64), np.array(corrected, np.float64).reshape(-1, 2), [*history]
    _check(stated, pairs, past)
    faces = stated if len(stated) else pairs[:, 0]
    weight = _PRIOR_FACES * float(faces.mean())
    now = float(faces.mean()) * (pairs[:, 1].sum() + weight) / (pairs[:, 0].sum() + weight)
    labelled = (past[-1][0] if past else 0) + len(pairs)
    person = float(np.mean(twice_pct)) if len(twice_pct) else None
    after = tuple((count, now * _ratio(past, labelled, labelled + count)) for count in more)
    return Forecast(now, after, person is not None and now <= person, person)


def _ratio(history: Sequence[tuple[int, float]], now: int, then: int) -> float:
    """The error after `then` faces as a part of the one of the model that was adapted last.

    It may have been adapted to fewer faces than are labelled now: those that it has not seen will be in its next adaptation.
    """
    counts, errors = (np.array(column, np.float64) for column in zip(*history, strict=True)) if history else (np.zeros(1), np.ones(1))
    floors, knees = (grid.ravel() for grid in np.meshgrid(_FLOORS, _KNEES))
    last = counts[-1]

    def curve(faces: np.ndarray | float) -> np.ndarray:
        return np.asarray(floors + (1 - floors) * np.sqrt((last + knees) / (np.asarray(faces)[..., None] + knees)))

    off = (curve(counts) * errors[-1] / errors[:, None] - 1) / _SPREAD
    likely = np.exp(-0.5 * (off**2).sum(0))
    if not likely.sum() > 0:  # The errors fell faster, or rose more, than any of these curves: the nearest one is taken.
        likely = (off**2).sum(0) == (off**2).sum(0).min()
    return float((likely * curve(float(max(then, now)))).sum() / likely.sum())


def _check(stated: np.ndarray, pairs: np.ndarray, history: Sequence[tuple[int, float]]) -> None:
    for values in (stated, pairs, np.array([error for _, error in history])):
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError("an error is negative or not finite")
    if not len(stated) + len(pairs):
        raise ValueError("there is no face to foretell the error of")
    counts = [faces for faces, _ in history]
    if counts != sorted(set(counts)) or min(counts, default=0) < 0 or any(error <= 0 for _, error in history):
        raise ValueError(f"a history of {counts} faces does not grow, or an error in it is 0")
