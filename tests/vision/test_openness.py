"""Openness of eyes and mouth: the formula, what a scheme has, and which way it goes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fkp.data.synthetic.face import Expression, Identity, points_of
from fkp.scheme import IBUG68, load_scheme
from fkp.vision.openness import OPENINGS, measured, openness

WHO = Identity.draw(np.random.default_rng(1))


def front(expression: Expression) -> np.ndarray:
    return points_of(WHO, expression)[:, :2] * 80


def test_it_is_the_eye_aspect_ratio() -> None:
    points_px = np.random.default_rng(0).uniform(0, 100, (68, 2))
    p1, p2, p3, p4, p5, p6 = points_px[36:42]  # As the paper numbers them.
    length = np.linalg.norm
    wanted = (length(p2 - p6) + length(p3 - p5)) / (2 * length(p1 - p4))
    found = openness(points_px, IBUG68)
    assert found["left_eye"] == pytest.approx(wanted)
    lips = np.mean([length(points_px[a] - points_px[b]) for a, b in ((61, 67), (62, 66), (63, 65))])
    assert found["mouth"] == pytest.approx(lips / length(points_px[60] - points_px[64]))
    # A mirrored face exchanges its eyes.
    mirrored = openness(points_px[list(IBUG68.mirror)] * (-1, 1), IBUG68)
    assert mirrored == pytest.approx({"left_eye": found["right_eye"], "right_eye": found["left_eye"], "mouth": found["mouth"]})


def test_drawn_eyes_and_mouths_open_and_close() -> None:
    rest, wink, gape = (openness(front(Expression(**how)), IBUG68) for how in ({}, {"blink_left": 1.0}, {"mouth_open": 1.0}))
    assert wink["left_eye"] < 0.4 * rest["left_eye"]
    assert wink["right_eye"] == rest["right_eye"]
    assert gape["mouth"] > rest["mouth"] + 0.4


@pytest.mark.parametrize("name", ["ibug51", "wflw98", "mediapipe478"])
def test_schemes_that_share_the_names_share_the_values(name: str) -> None:
    scheme = load_scheme(name)
    points_px = front(Expression(mouth_open=0.4))
    assert openness(scheme.convert(points_px, IBUG68), scheme) == pytest.approx(openness(points_px, IBUG68))


def test_what_a_scheme_has() -> None:
    assert measured(load_scheme("five")) == ()
    assert measured(load_scheme("cofw29")) == OPENINGS
    assert measured(replace(IBUG68, landmarks=IBUG68.landmarks[36:48])) == ("left_eye", "right_eye")
    assert openness(np.zeros((5, 2)), load_scheme("five")) == {}


@pytest.mark.parametrize("value", [np.nan, 7.0])
def test_corners_that_are_no_two_places_tell_nothing(value: float) -> None:
    assert openness(np.full((68, 2), value), IBUG68) == {}
