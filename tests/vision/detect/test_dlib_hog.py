"""dlib behind the same interface."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fkp.errors import FkpError
from fkp.vision.detect import iou, open_detector
from fkp.vision.image import Image


def test_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(FkpError, match=r"the face detector dlib is not installed .*: install it with `pip install dlib-bin"):
        open_detector("dlib")


def test_real_faces_are_found_where_they_are(real: tuple[list[Image], np.ndarray]) -> None:
    pytest.importorskip("dlib", reason="needs dlib: pip install -r requirements-dev.txt")
    detector = open_detector("dlib")
    hits = 0
    for frame, box in zip(real[0][::5], real[1][::5], strict=True):
        found = detector.detect(frame)
        assert all(0.5 <= face.score < 1 for face in found)
        hits += bool(found) and float(iou(found[0].box_xyxy, box)) > 0.5
    assert hits >= 11  # of 12
