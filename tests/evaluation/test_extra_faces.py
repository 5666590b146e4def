"""How much surer a network is of the faces of `data.extra`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fkp.bundle import Bundle
from fkp.bundle.drift import ERROR_RATIO, MEDIAN, error_ratio
from fkp.data.label_set import read
from fkp.data.labels import load_labels
from fkp.evaluation.drift_reference import reference_histograms
from fkp.evaluation.evaluate import evaluate
from fkp.evaluation.extra_faces import SURER, known_or_measured, surer_off_set
from fkp.predict import Predictor
from fkp.vision.crop import box_of_points
from fkp.vision.image import read_image
from tests.faces import write_label_set


@pytest.fixture
def predictor(tiny_bundle: Bundle) -> Predictor:
    return Predictor(tiny_bundle)


def test_it_is_the_root_of_what_is_expected_of_them_and_of_validation_faces(predictor: Predictor, tmp_path: Path) -> None:
    roots = [write_label_set(tmp_path / "one", 3), write_label_set(tmp_path / "two", 4)]
    data = predictor.config.data.updated({"extra": [str(root) for root in roots]})
    ratios = []
    for root in roots:
        labels = read(root)
        for name, points_px in zip(labels.images, labels.points_px, strict=True):
            crop_u8 = predictor.crop(box := box_of_points(points_px)).apply(read_image(root / name), predictor.config.input.channels)
            expected_px = predictor.run(crop_u8[None])[1][0] / predictor.config.input.size_px * predictor.config.input.crop_scale
            ratios.append(error_ratio(expected_px * (box[2:] - box[:2]).max(), box))
    for wanted, told in ((0.8, 0.8), (0.3, 0.5), (1.4, 1.0)):
        assert surer_off_set(predictor, data, float(np.median(ratios)) / wanted**2) == pytest.approx(told, rel=1e-3)


def test_a_set_that_is_elsewhere(predictor: Predictor, tmp_path: Path) -> None:
    data = predictor.config.data
    validation = evaluate(predictor, load_labels(data), data, predictor.bundle, subset="val")
    reference = reference_histograms(predictor, validation)
    median = reference["figures"][ERROR_RATIO][MEDIAN]
    assert surer_off_set(predictor, data, median) == 1.0 and known_or_measured(predictor, data, reference) == {}
    away = data.updated({"extra": [str(tmp_path / "away")]})
    assert known_or_measured(predictor, away, reference) == {}
    kept = Predictor(replace(predictor.bundle, metrics={**predictor.bundle.metrics, SURER: 0.9}))
    assert known_or_measured(kept, away, reference) == {SURER: 0.9}
    here = data.updated({"extra": [str(write_label_set(tmp_path / "here", 3))]})
    assert known_or_measured(kept, here, reference) == {SURER: surer_off_set(predictor, here, median)}
