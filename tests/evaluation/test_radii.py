"""The radii that a bundle states, on faces like the set's and off it."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fkp.config import Config, DataConfig
from fkp.evaluation.card import card
from fkp.evaluation.evaluate import ERROR_RADII, Evaluation
from fkp.evaluation.metrics import coverage
from fkp.evaluation.radii import OFF_SET_RADII, OTHER_CONVENTION_PCT, convention_pct, multiple, stated_radii
from fkp.scheme import IBUG68, load_scheme
from tests.faces import face


def evaluation(scheme: str = "ibug68", seed: int = 0, convention: bool = False) -> Evaluation:
    """200 faces whose points are off by what is stated, and, if asked, labelled by another convention."""
    rng = np.random.default_rng(seed)
    shapes = np.stack([face(100, 100, 60, seed=int(number)) for number in rng.integers(0, 9, 200)]).astype(np.float64)
    expected = rng.uniform(1, 3, (200, 68))
    points = shapes + rng.normal(0, 1, shapes.shape) * expected[..., None] / np.sqrt(np.pi / 2)
    if convention:
        apart = np.array([OTHER_CONVENTION_PCT[name.split("_")[-1]] for name, points in IBUG68.regions.items() for _ in points])
        shapes = shapes + rng.normal(0, 1, shapes.shape) * (apart / 100 / np.sqrt(2) * IBUG68.size_px(shapes)[:, None])[..., None]
    other = load_scheme(scheme)
    shapes, points = (other.convert(found, IBUG68) for found in (shapes, points))
    points = np.where(np.isnan(points), 0, points)
    expected = np.where(np.isnan(shapes[..., 0]), 1, np.resize(expected, shapes.shape[:2]))
    catalog = cast(Any, SimpleNamespace(points_px=shapes, points_raw_px=shapes))
    return Evaluation(catalog, DataConfig(scheme=scheme), np.arange(200), points, expected, cast(Any, None))


def test_each_radius_holds_its_part_of_the_faces_it_is_stated_for() -> None:
    found, levels = stated_radii(evaluation()), [0.5, 0.68, 0.95]
    here, there = evaluation(seed=1), evaluation(seed=1, convention=True)
    for of, key in ((here, ERROR_RADII), (there, OFF_SET_RADII)):
        assert coverage(of.error_px(), of.expected_error_px, levels, found[key]) == pytest.approx(levels, abs=0.02)
    assert coverage(there.error_px(), there.expected_error_px, levels, found[ERROR_RADII])[2] < 0.92
    assert multiple(found[OFF_SET_RADII], 0.68) > 1.05 * multiple(found[ERROR_RADII], 0.68)
    assert found == stated_radii(evaluation()), "the same faces give the same radii"


def test_what_is_expected_less_off_the_set_makes_these_radii_wider() -> None:
    as_it_is, surer = stated_radii(evaluation()), stated_radii(evaluation(), 0.8)
    assert surer[ERROR_RADII] == as_it_is[ERROR_RADII]
    assert multiple(surer[OFF_SET_RADII], 0.68) == pytest.approx(multiple(as_it_is[OFF_SET_RADII], 0.68) / 0.8, rel=1e-4)


def test_landmarks_that_no_region_names_have_no_radius_off_the_set() -> None:
    apart = convention_pct(evaluation("cofw29"))
    assert apart is not None
    known = [name in IBUG68.landmarks for name in load_scheme("cofw29").landmarks]
    np.testing.assert_array_equal(np.isfinite(apart), known)
    assert 0 < sum(known) < len(known)
    assert set(stated_radii(evaluation())) == {ERROR_RADII, OFF_SET_RADII}


def test_a_scheme_without_the_eyes_distance_has_none_off_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = evaluation()
    boxed = replace(IBUG68, normaliser="box", between=None)
    monkeypatch.setattr(Evaluation, "scheme", property(lambda _: boxed))
    assert set(stated_radii(asked)) == {ERROR_RADII}


def test_the_card_states_both() -> None:
    own = replace(evaluation(), leakage=cast(Any, SimpleNamespace(note="held out")))
    text = card(Config(), "0" * 64, evaluation(), [own], stated_radii(evaluation()))
    found = [
        re.search(rf"^- {start}.*: ([\d.]+) for 68 %, ([\d.]+) for 95 %$", text, re.M)
        for start in ("faces like the set's", "other sources")
    ]
    assert all(found)
    here, there = ([float(value) for value in match.groups()] for match in found if match)
    assert here[0] < here[1] and here[0] < there[0] and here[1] < there[1]
