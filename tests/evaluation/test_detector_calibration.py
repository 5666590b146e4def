"""The calibration that a bundle keeps of the face detector."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fkp.config import DataConfig
from fkp.data.labels import load_labels
from fkp.evaluation import detector_calibration
from fkp.scheme import IBUG68, load_scheme
from fkp.vision.detect import BoxMap, FaceDetector, iou, open_detector, own


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return open_detector()


def test_it_is_computed_on_the_training_folds(detector: FaceDetector, real_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataConfig(source="ytfaces", root=str(real_root))
    catalog = load_labels(data)
    looked_at: list[np.ndarray] = []
    look = detector_calibration.look

    def watched(*given: object) -> object:
        looked_at.append(given[2])  # type: ignore[arg-type]
        return look(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(detector_calibration, "_FRAMES", 120)
    monkeypatch.setattr(detector_calibration, "look", watched)
    kept = detector_calibration.calibrate(catalog, data)
    assert set(looked_at[0]) <= set(catalog.rows("train", data))
    assert len(looked_at[0]) == 120
    monkeypatch.undo()
    shapes, truth = detector_calibration.look(detector, catalog, catalog.rows("val", data)[::30])
    box_map = BoxMap.from_json(kept["fkp"], "fkp", detector.backend.facial_points)
    # 120 frames are few for 36 numbers; without the facial points it is 0.855.
    assert np.median(iou(box_map(shapes), truth)) > 0.86


def test_too_few_faces_are_a_warning(synthetic_root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataConfig(source="synthetic", root=str(synthetic_root))
    monkeypatch.setattr(detector_calibration, "_FRAMES", 5)
    with caplog.at_level(logging.WARNING):
        assert detector_calibration.calibrate(load_labels(data), data) == {}
    assert "finds too few of the training faces" in caplog.text


@pytest.mark.parametrize("name", ["five", "ibug51"])
def test_few_faces_of_another_scheme_give_a_shift_and_a_size(
    detector: FaceDetector, synthetic_root: Path, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The built-in calibration is for the box of 68 points, which is far larger."""
    data = DataConfig(source="synthetic", root=str(synthetic_root))
    catalog = load_labels(data)
    points_px, scheme = catalog.points_px, load_scheme(name)
    if name == "five":
        eyes_px = [points_px[:, first : first + 6].mean(1) for first in (36, 42)]
        points_px = np.stack([*eyes_px, points_px[:, 30], points_px[:, 48], points_px[:, 54]], 1)
    else:
        points_px = scheme.convert(points_px, IBUG68)
    catalog = replace(catalog, scheme=scheme)
    catalog.__dict__["points_px"] = points_px
    monkeypatch.setattr(detector_calibration, "_FRAMES", 30)
    with caplog.at_level(logging.INFO):
        kept = detector_calibration.calibrate(catalog, data)
    assert "a shift and a size alone" in caplog.text
    shapes, truth = detector_calibration.look(detector, catalog, catalog.rows("val", data)[:20])
    ours, built_in = (
        np.nanmedian(iou(box_map(shapes), truth))
        for box_map in (BoxMap.from_json(kept["fkp"], "fkp", detector.backend.facial_points), detector.backend.box_map)
    )
    assert ours > 0.6
    assert ours > built_in + 0.1


def test_a_training_is_not_lost_to_a_missing_detector(
    synthetic_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "SHIPPED", str(tmp_path / "none"))
    data = DataConfig(source="synthetic", root=str(synthetic_root))
    with caplog.at_level(logging.WARNING):
        assert detector_calibration.calibrate(load_labels(data), data) == {}
    assert re.search(r"keeps no calibration of the face detector: .*none", caplog.text)
