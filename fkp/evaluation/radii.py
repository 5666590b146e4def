"""The radii that a bundle states of its errors: on faces like the set's, and off the set.

Off the set more lies between a point and its label than the network's error: whoever labelled photographs of another source follows another
convention. One constant a landmark is seen at once and taken out; how a convention slides along the jaw as the head turns is not. The radii
off the set hold the sum of both: the errors of the validation faces, and ways as two conventions lie apart. And what a network expects may
be less there, see `extra_faces`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fkp.evaluation.evaluate import ERROR_RADII, Evaluation
from fkp.evaluation.metrics import error_radii
from fkp.scheme import IBUG68

#: Key in a bundle's metrics.json, beside `ERROR_RADII` and in its form.
OFF_SET_RADII = "error_radii_off_set"

#: How far another convention of the same landmarks lies from ours where a constant is taken out: root mean square in percent of the
#: outer eye corners' distance, by the last word of a region of ibug68. Two networks that are free to use tell it on faces of nobody, and
#: no label of the sets that the radii are measured on: face-api's points against what a linear map makes of them in the convention of our
#: training faces, on 1,705 faces of SFHQ-T2I. `benchmarks/teachers/label.py` prints them.
OTHER_CONVENTION_PCT = {"jaw": 3.2, "brow": 1.9, "nose": 1.7, "eye": 1.6, "mouth": 1.8}
#: Ways that are added to each error; their number and seed move a radius by less than 1 %.
_DRAWS, _SEED = 8, 0


def stated_radii(evaluation: Evaluation, surer: float = 1.0) -> dict[str, Any]:
    """What a bundle keeps of its radii, by key of metrics.json.

    Args:
        evaluation: Of faces that were not trained on.
        surer: By what expected errors are smaller off the set, see `extra_faces.surer_off_set`.

    Returns:
        `ERROR_RADII` and `OFF_SET_RADII`, both as `metrics.error_radii` has them. The second is absent where the scheme has no landmark of
        ibug68, or other errors than those by the eyes' distance.
    """
    expected_px = evaluation.expected_error_px
    found: dict[str, Any] = {ERROR_RADII: error_radii(evaluation.error_px(), expected_px)}
    apart = convention_pct(evaluation)
    if apart is not None:
        truth_px = evaluation.truth_px()
        one_px = apart / 100 / np.sqrt(2) * evaluation.scheme.size_px(truth_px)[:, None]  # Of each axis.
        ways_px = np.random.default_rng(_SEED).normal(0, 1, (_DRAWS, *truth_px.shape)) * one_px[..., None]
        errors_px = np.linalg.norm(evaluation.points_px - truth_px + ways_px, axis=-1)
        found[OFF_SET_RADII] = error_radii(errors_px, np.broadcast_to(surer * expected_px, errors_px.shape))
    return found


def convention_pct(evaluation: Evaluation) -> np.ndarray | None:
    """(K,) `OTHER_CONVENTION_PCT` of each landmark, NaN of those that ibug68 has not; None where the scheme has none of it."""
    scheme = evaluation.scheme
    by_landmark = {point: OTHER_CONVENTION_PCT[name.split("_")[-1]] for name, points in IBUG68.regions.items() for point in points}
    places = scheme.places_in(IBUG68)
    if not places or scheme.normaliser != IBUG68.normaliser:
        return None
    return np.array([by_landmark[places[point]] if point in places else np.nan for point in range(len(scheme))])


def multiple(radii: Mapping[str, Any], level: float) -> float:
    """By what the expected error is to be multiplied for the radius of a level, 0.01 to 0.99."""
    return float(np.interp(level, radii["levels"], radii["ratios"]))
