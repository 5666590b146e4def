"""Folds of whole groups."""

from __future__ import annotations

import numpy as np

from fkp.adapt.faces import folds_of


def test_a_group_is_in_one_fold_and_folds_are_about_equal() -> None:
    groups = np.repeat([f"person{number}" for number in range(12)], [30, 1, 1, 8, 8, 8, 5, 5, 5, 5, 10, 4])
    folds = folds_of(groups, 3)
    assert all(len(set(folds[groups == name])) == 1 for name in set(groups))
    assert np.bincount(folds).tolist() == [30, 30, 30]
    order = np.random.default_rng(0).permutation(len(groups))
    np.testing.assert_array_equal(folds_of(groups[order], 3), folds[order])
