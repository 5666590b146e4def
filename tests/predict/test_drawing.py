"""What was found, drawn: hollow and dashed where the network is unsure."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fkp.bundle import Bundle
from fkp.predict import Face, Predictor
from fkp.predict.belief import NO_DOUBT, Belief
from fkp.predict.drawing import draw_faces, draw_found
from fkp.vision.draw import draw_box, draw_face


@pytest.fixture
def found(champion: Bundle, face: tuple[np.ndarray, np.ndarray]) -> Face:
    (found,) = Predictor(champion)(face[0], [face[1]])
    return found


def test_a_face_that_is_believed_is_drawn_as_it_always_was(found: Face, face: tuple[np.ndarray, np.ndarray]) -> None:
    found = replace(found, belief=NO_DOUBT)
    assert found.believed and not found.unsure.any()
    wanted = draw_box(draw_face(face[0], found.points_px, scheme=found.scheme), found.box_xyxy)
    np.testing.assert_array_equal(draw_faces(face[0], [found]), wanted)


def test_one_that_is_not_is_dashed_and_named_and_its_points_stay(found: Face, face: tuple[np.ndarray, np.ndarray]) -> None:
    doubted = replace(found, belief=Belief(1.0, 1.0))
    drawn = draw_found(face[0], doubted)
    dashed = draw_box(draw_face(face[0], found.points_px, scheme=found.scheme), found.box_xyxy, dashed=True)
    named = (drawn != dashed).any(-1)
    rows, columns = np.nonzero(named)
    assert len(rows) > 50 and rows.max() <= found.box_xyxy[1] and columns.min() >= found.box_xyxy[0] - 2, "the name stands above the box"
    # One that is left out has no points: inside its box the image is as it was.
    x0, y0, x1, y1 = (int(value) for value in np.clip(found.box_xyxy, 0, None))
    inside = np.s_[y0 + 4 : y1 - 3, x0 + 4 : x1 - 3]
    np.testing.assert_array_equal(draw_faces(face[0], [], [doubted])[inside], face[0][inside])


def test_points_beyond_the_limit_are_hollow(found: Face, face: tuple[np.ndarray, np.ndarray]) -> None:
    ratios = found.expected_error_px / float((found.box_xyxy[2:] - found.box_xyxy[:2]).max())
    limit = float(np.sort(ratios)[-6] + np.sort(ratios)[-5]) / 2
    unsure = replace(found, belief=Belief(0.0, 0.0, unsure_ratio=limit))
    assert unsure.unsure.sum() == 5 and (unsure.unsure == (ratios > limit)).all()
    wanted = draw_face(face[0], found.points_px, scheme=found.scheme, hollow=ratios > limit)
    np.testing.assert_array_equal(draw_faces(face[0], [unsure]), draw_box(wanted, found.box_xyxy))
    assert not replace(found, belief=Belief(0.0, 0.0, unsure_ratio=math.inf)).unsure.any()
