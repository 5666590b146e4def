"""Whether a change of the images is seen, and chance is not taken for one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fkp.bundle import drift
from fkp.bundle.drift import ALARM, BOUNDS, BRIGHTNESS, ERROR_RATIO, LEAST_FACES, count, reference_counts, stability_index, tells


def test_a_value_on_a_bound_falls_below_it() -> None:
    counts = count(BRIGHTNESS, [0, 16, 16.5, 255])
    assert (counts[0], counts[1], counts[-1], len(counts)) == (2, 1, 1, 16)


def test_the_index_of_two_tenths() -> None:
    # (0.8 - 0.5) ln 1.6 + (0.2 - 0.5) ln 0.4
    assert stability_index([50, 50], [80, 20]) == pytest.approx(0.4159, abs=1e-4)
    assert stability_index([10, 20, 30], [100, 200, 300]) == pytest.approx(0, abs=1e-12)
    assert stability_index([50, 50], [100, 0]) < 20, "finite"


def test_buckets_that_are_nearly_empty_are_taken_together() -> None:
    assert stability_index([1, 1, 49, 49, 0], [2, 0, 49, 48, 1]) == pytest.approx(stability_index([51, 49], [51, 49]), abs=1e-12)
    assert stability_index([0, 0, 50, 50], [100, 0, 0, 0]) > ALARM, "what lies outside counts with the outermost part"


@pytest.mark.parametrize("name", BOUNDS)
def test_chance_alone_is_no_drift(name: str) -> None:
    rng = np.random.default_rng(0)
    mean, spread = {ERROR_RATIO: (0.0193, 0.0015), BRIGHTNESS: (100.0, 29.0)}[name]
    reference = count(name, rng.normal(mean, spread, 900))
    found = [stability_index(reference, count(name, rng.normal(mean, spread, LEAST_FACES))) for _ in range(200)]
    assert np.percentile(found, 95) < 0.1
    assert stability_index(reference, count(name, rng.normal(mean + spread, spread, LEAST_FACES))) > ALARM


def metrics(**figure: Any) -> dict[str, Any]:
    whole = {"bounds": list(BOUNDS[BRIGHTNESS]), "counts": [1] * 16}
    return {drift.REFERENCE: {"subset": "val", "faces": 16, "figures": {BRIGHTNESS: whole | figure}}}


def test_buckets_that_hold_nearly_all_faces_tell_no_drift() -> None:
    assert tells([1, 2, 0])
    assert not tells([0, 9, 1])
    assert not tells([0, 0, 7])


def test_histograms_of_other_buckets_are_left_out() -> None:
    assert reference_counts(metrics()) == {BRIGHTNESS: [1] * 16}
    assert reference_counts({}) == {}
    assert reference_counts(metrics(bounds=[1, 2])) == {}
    assert reference_counts(metrics(counts=[1, 2])) == {}
    assert reference_counts(metrics(counts=[0] * 16)) == {}
