"""Faces as `supervision.KeyPoints`: with the package where it is installed, and the sentence where it is not."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from fkp.bundle import Bundle
from fkp.errors import FkpError
from fkp.predict import Predictor, to_key_points


def test_without_supervision_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(FkpError, match=r"`pip install 'supervision>=0.29'` brings it"):
        to_key_points([])


def test_an_old_supervision_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    old = types.ModuleType("supervision")
    old.KeyPoints = type("KeyPoints", (), {"__init__": lambda self, xy, class_id=None, confidence=None, data=None: None})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", old)
    with pytest.raises(FkpError, match=r"older than 0\.29"):
        to_key_points([])


def test_with_supervision_the_numbers_are_those_of_the_faces(champion: Bundle, face: tuple[np.ndarray, np.ndarray]) -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed: `pip install supervision` brings it")
    faces = Predictor(champion)(face[0], [face[1], face[1] + 9])
    found = to_key_points(faces)
    assert isinstance(found, supervision.KeyPoints) and len(found) == 2
    for number, one in enumerate(faces):
        np.testing.assert_array_equal(found.xy[number], one.points_px)
        np.testing.assert_array_equal(found.visible[number], ~one.unsure)
        assert found.detection_confidence[number] == pytest.approx(one.quality)
    assert ((found.keypoint_confidence > 0) & (found.keypoint_confidence < 1)).all()
    # What it is for: one of its annotators draws them, and its boxes are about them.
    drawn = supervision.VertexAnnotator(radius=2).annotate(face[0].copy(), found)
    assert (drawn != face[0]).any()
    assert supervision.KeyPoints.as_detections(found).xyxy.shape == (2, 4)
    assert len(to_key_points([])) == 0
