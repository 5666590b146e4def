"""How sure a mean is."""

from __future__ import annotations

import numpy as np

from fkp.adapt.measure import interval


def test_an_interval_draws_whole_groups() -> None:
    rng = np.random.default_rng(0)
    of_group = rng.normal(5, 1, 20)
    groups = np.repeat(np.arange(20), 50)
    values = of_group[groups] + rng.normal(0, 0.1, 1000)
    mean, low, high = interval(values, groups)
    assert low < mean < high
    spread = of_group.std() / 20**0.5
    assert 0.7 * 3.92 * spread < high - low < 1.3 * 3.92 * spread
    assert interval(values, np.arange(1000))[2] - interval(values, np.arange(1000))[1] < 0.3 * (high - low)


def test_faces_without_a_value_do_not_count() -> None:
    assert interval(np.array([1.0, np.nan, 3.0]), np.array(["a", "b", "c"]))[0] == 2.0
