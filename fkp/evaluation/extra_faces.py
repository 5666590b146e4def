"""How much surer a network is of faces of other sources than of its set's: what its radii off the set have to make good.

Labels of `data.extra` are often other networks' answers, which leave less to expect than labels with a grid or a hand's noise. Whoever
trains on them expects small errors of such faces, and the labels of other sources err no less for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fkp.bundle.drift import ERROR_RATIO, MEDIAN
from fkp.data.extra import load_extra
from fkp.data.face_shape import box_of_label
from fkp.data.labels import read_frame

if TYPE_CHECKING:
    from fkp.config import DataConfig
    from fkp.predict import Predictor

#: Key in a bundle's metrics.json: where the sets are elsewhere, the radii are made by it.
SURER = "expected_off_set"
#: Of all sets together, evenly spread.
_FACES = 300
_BATCH = 32
_LEAST = 0.5


def surer_off_set(predictor: Predictor, data: DataConfig, median: float) -> float:
    """By what a network's expected errors are smaller off its set, 0.5 to 1; 1 without `data.extra`.

    It has trained on the faces that are asked about, and expects less of them than of others of their kind: the ratio of the medians of
    both sets goes too far, and its root is taken. `benchmarks/general.py` tells on photographs what that is worth.

    Args:
        predictor: The bundle.
        data: With the sets, in `extra`.
        median: The error ratio of the validation faces, as `drift_reference` measures it.

    Raises:
        FkpError: A set is missing, or an image of it is broken.
    """
    places = [(catalog, row) for catalog in load_extra(data) for row in range(len(catalog))]
    if not places:
        return 1.0
    config = predictor.config.input
    side_px, ratios = config.size_px / config.crop_scale, []
    chosen = [places[place] for place in np.unique(np.linspace(0, len(places) - 1, _FACES).astype(int))]
    for first in range(0, len(chosen), _BATCH):
        crops = []
        for catalog, row in chosen[first : first + _BATCH]:
            frame, _ = read_frame(catalog, row)
            crops.append(predictor.crop(box_of_label(catalog.points_px[row], catalog.scheme)).apply(frame, config.channels))
        ratios += (predictor.run(np.stack(crops))[1].mean(-1) / side_px).tolist()
    return min(max(math.sqrt(float(np.median(ratios)) / median), _LEAST), 1.0)


def known_or_measured(predictor: Predictor, data: DataConfig, reference: Mapping[str, Any]) -> dict[str, Any]:
    """What a bundle keeps of it, by key; nothing without `data.extra`, and what it kept before where a set is not at hand.

    `reference` is of `drift_reference.reference_histograms`.
    """
    if not data.extra:
        return {}
    if all(Path(root).is_dir() for root in data.extra):
        return {SURER: surer_off_set(predictor, data, reference["figures"][ERROR_RATIO][MEDIAN])}
    return {key: told for key, told in predictor.bundle.metrics.items() if key == SURER}
