"""Which faces count: the limits of a bundle, faces that are turned, and detections that are none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fkp.bundle import Bundle
from fkp.bundle.drift import BOUNDS, ERROR_RATIO, HIGH, MEDIAN, REFERENCE, count
from fkp.data.labels import DataConfig, load_labels
from fkp.data.synthetic import render
from fkp.evaluation import metrics
from fkp.predict import Predictor
from fkp.predict.belief import DISBELIEF, DOUBT, LOST, SPREAD, UNSURE, Belief, belief_of, limits_of, median_ratio, quality_of
from fkp.predict.predictor import advance, given_boxes
from fkp.scheme import IBUG68
from fkp.vision.crop import box_of_points
from fkp.vision.detect import Detection
from fkp.vision.image import Image, read_image

REPO = Path(__file__).resolve().parents[2]
GOLDEN = REPO / "fkp/serve/golden"
RIGHT_NME_PCT = 12.0


@pytest.fixture(scope="module", params=["champion", "tiny", "large"])
def predictor(request: pytest.FixtureRequest) -> Predictor:
    return Predictor(REPO / "saved_models" / request.param)


@pytest.fixture(scope="module")
def golden() -> tuple[Image, np.ndarray]:
    """An upright drawn face and its points."""
    return read_image(GOLDEN / "face.jpg"), np.asarray(json.loads((GOLDEN / "points.json").read_text()), np.float32)


def turned(image: Image, points_px: np.ndarray, quarters: int) -> tuple[Image, np.ndarray]:
    """Turned clockwise by so many right angles."""
    for _ in range(quarters):
        image, points_px = np.rot90(image, -1), np.stack([image.shape[0] - 1 - points_px[:, 1], points_px[:, 0]], axis=1)
    return np.ascontiguousarray(image), points_px.astype(np.float32)


def nme_pct(points_px: np.ndarray, truth_px: np.ndarray) -> float:
    return float(metrics.nme_pct(points_px[None], truth_px[None])[0])


def with_ratios(bundle: Bundle, ratios: np.ndarray) -> Bundle:
    figures = {ERROR_RATIO: {"bounds": list(BOUNDS[ERROR_RATIO]), "counts": count(ERROR_RATIO, ratios)}}
    return replace(bundle, metrics={REFERENCE: {"subset": "val", "faces": len(ratios), "figures": figures}})


# --- limits -----------------------------------------------------------------------------------------------------


def test_quality_falls_with_the_expected_error_and_is_never_no_number() -> None:
    box_xyxy = np.array([0, 0, 50, 100], np.float32)
    assert quality_of(np.full(68, 5, np.float32), box_xyxy) == pytest.approx(np.exp(-1))
    assert quality_of(np.full(68, 2, np.float32), box_xyxy) == pytest.approx(np.exp(-0.4))
    assert quality_of(np.full(68, np.nan, np.float32), box_xyxy) == quality_of(np.full(68, np.inf, np.float32), box_xyxy) == 0


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0, 4.0])
def test_the_limits_follow_the_errors_that_a_bundle_expects(tiny_bundle: Bundle, scale: float) -> None:
    ratios = scale * np.random.default_rng(0).normal(0.021, 0.002, 500)
    bundle = with_ratios(tiny_bundle, ratios)
    median = median_ratio(bundle)
    assert median == pytest.approx(np.median(ratios), rel=0.1)
    belief = belief_of(bundle)
    assert -0.05 * np.log(belief.doubt) == pytest.approx(DOUBT * median)
    assert -0.05 * np.log(belief.min_quality) == pytest.approx(DISBELIEF * median)
    assert 0 < belief.min_quality < belief.doubt < 1


def test_a_network_that_is_sure_of_nothing(tiny_bundle: Bundle) -> None:
    assert median_ratio(with_ratios(tiny_bundle, np.full(9, 0.7))) == BOUNDS[ERROR_RATIO][-1]


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_a_median_that_a_bundle_keeps_is_the_median(tiny_bundle: Bundle, scale: float) -> None:
    """The buckets are those of the shipped model: they do not tell it for networks that are far surer, or less sure."""
    ratios = scale * np.random.default_rng(0).normal(0.021, 0.002, 500)
    bundle = with_ratios(tiny_bundle, ratios)
    bundle.metrics[REFERENCE]["figures"][ERROR_RATIO][MEDIAN] = float(np.median(ratios))
    assert median_ratio(bundle) == np.median(ratios)
    assert -0.05 * np.log(belief_of(bundle).lost) == pytest.approx(LOST * np.median(ratios))


@pytest.mark.parametrize(("above", "scale"), [(None, 1), (0.1, 1), (SPREAD, 1), (0.45, 0.45 / SPREAD), (3.0, 2)])
def test_a_network_that_tells_faces_apart_by_more_has_wider_limits(tiny_bundle: Bundle, above: float | None, scale: float) -> None:
    bundle = with_ratios(tiny_bundle, np.full(100, 0.02))
    figure = bundle.metrics[REFERENCE]["figures"][ERROR_RATIO]
    figure[MEDIAN] = 0.02
    if above is not None:
        figure[HIGH] = 0.02 * (1 + above)
    limits = limits_of(bundle)
    told = (limits.doubt, limits.disbelief, limits.unsure, limits.lost)
    assert told == pytest.approx([1 + scale * (limit - 1) for limit in (DOUBT, DISBELIEF, UNSURE, LOST)])
    assert belief_of(bundle).min_quality == pytest.approx(np.exp(-0.02 * limits.disbelief / 0.05))


def test_a_bundle_without_a_histogram_doubts_nothing(tiny_bundle: Bundle) -> None:
    assert median_ratio(tiny_bundle) is None
    assert belief_of(tiny_bundle) == Belief(0.0, 0.0)
    assert belief_of(tiny_bundle).lost == pytest.approx(np.exp(-0.030 / 0.05)), "about the shipped model's"
    assert belief_of(Predictor().bundle).lost == pytest.approx(np.exp(-0.030 / 0.05), rel=0.1)
    assert Predictor(tiny_bundle).min_quality == 0
    assert Predictor(tiny_bundle, min_quality=0.3).min_quality == 0.3


def test_the_shipped_bundles_bring_their_limits(predictor: Predictor) -> None:
    assert predictor.min_quality == predictor.belief.min_quality
    assert 0.3 < predictor.belief.min_quality < 0.4 < predictor.belief.doubt < 0.55
    assert Predictor(predictor.bundle, min_quality=0).min_quality == 0


# --- faces that are turned --------------------------------------------------------------------------------------


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_face_that_is_turned_in_any_way_is_found_right(predictor: Predictor, golden: tuple[Image, np.ndarray], quarters: int) -> None:
    image, truth_px = turned(*golden, quarters)
    for boxes in (None, [box_of_points(truth_px)]):
        faces, left_out = predictor.find(image, boxes)
        (face,) = faces
        assert left_out == 0
        assert nme_pct(face.points_px, truth_px) < 6
        assert face.quality > predictor.belief.doubt
        if boxes:
            np.testing.assert_array_equal(face.box_xyxy, boxes[0])


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_turned_face_of_a_scheme_without_pairs(golden: tuple[Image, np.ndarray], quarters: int) -> None:
    """Nothing tells which points a mirror exchanges, nor how the face is turned but the look that found it."""
    predictor = Predictor()
    predictor.scheme = replace(IBUG68, pairs=())
    image, truth_px = turned(*golden, quarters)
    for boxes in (None, [box_of_points(truth_px)]):
        (face,) = predictor(image, boxes)
        assert nme_pct(face.points_px, truth_px) < 6
        assert abs((face.roll_deg - 90 * quarters + 180) % 360 - 180) < 25
    # A leaning face that is followed is looked at as it stands.
    assert nme_pct(predictor.refine(image, [face], mirrored=True)[0].points_px, truth_px) < 6


@pytest.mark.parametrize("frame", [94, 216, 321])
def test_a_doubted_face_that_stands_upright_is_not_turned_over(predictor: Predictor, frame: int) -> None:
    """Drawn heads that are turned far or covered: an answer upside down, which the network doubts hardly less, was taken."""
    _, _, image, truth_px = render.frame_of(frame, seed=0)
    (face,) = predictor(image, [box_of_points(truth_px)])
    assert nme_pct(face.points_px, truth_px) < 30


def test_real_faces_upside_down_are_right_or_left_out(predictor: Predictor, real_root: Path) -> None:
    catalog = load_labels(DataConfig(source="ytfaces", root=str(real_root)))
    rows = catalog.rows("val", predictor.config.data)[::12]
    plain = Predictor(predictor.bundle, min_quality=0)
    plain.belief = Belief(0.0, 0.0)
    right = wrong = wrong_before = 0
    for row in rows:
        image, truth_px = turned(read_image(catalog.path(row)), catalog.points_px[row], 2)
        errors_pct = [nme_pct(face.points_px, truth_px) for face in predictor(image)]
        right += sum(error < RIGHT_NME_PCT for error in errors_pct)
        wrong += sum(error >= RIGHT_NME_PCT for error in errors_pct)
        wrong_before += sum(nme_pct(face.points_px, truth_px) >= RIGHT_NME_PCT for face in plain(image))
    assert len(rows) >= 19
    assert right >= 0.9 * len(rows)
    assert wrong <= 0.1 * len(rows) < 0.2 * len(rows) < wrong_before


def test_true_faces_are_kept_and_cost_nothing_more(predictor: Predictor, real_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No validation face is left out, and they are exactly what they were; two in twenty may be doubted, which costs crops."""
    catalog = load_labels(DataConfig(source="ytfaces", root=str(real_root)))
    plain = Predictor(predictor.bundle, min_quality=0)
    plain.belief = Belief(0.0, 0.0)
    looked: dict[Predictor, int] = {predictor: 0, plain: 0}
    for one in looked:
        run = one.run
        monkeypatch.setattr(
            one, "run", lambda crops_u8, one=one, run=run: (looked.__setitem__(one, looked[one] + len(crops_u8)), run(crops_u8))[1]
        )
    rows = catalog.rows("val", predictor.config.data)[::12]
    for row in rows:
        image = read_image(catalog.path(row))
        faces, left_out = predictor.find(image)
        assert left_out == 0
        for face, before in zip(faces, plain(image), strict=True):
            np.testing.assert_array_equal(face.points_px, before.points_px)
    assert len(rows) < looked[plain] <= looked[predictor] <= 1.5 * looked[plain]


# --- detections that are none -----------------------------------------------------------------------------------


def test_what_is_not_believed_is_left_out_and_counted(predictor: Predictor, unbelieved: Image, golden: tuple[Image, np.ndarray]) -> None:
    assert predictor.find(unbelieved) == ([], 1)
    (left_out,) = predictor.find_all(unbelieved)[1]
    assert not left_out.believed
    every = Predictor(predictor.bundle, min_quality=0)
    (face,), left_out = every.find(unbelieved)
    assert left_out == 0
    assert face.quality < predictor.min_quality
    strict = Predictor(predictor.bundle, min_quality=0.99)
    assert strict.find(golden[0]) == ([], 1)
    # Where somebody says that there is a face, the answer stays, and its quality tells what to think of it.
    (given,), left_out = strict.find(unbelieved, [face.box_xyxy])
    assert left_out == 0
    assert given.quality < 0.99
    assert not face.believed and predictor(golden[0])[0].believed


def test_what_is_left_out_costs_the_others_nothing(
    predictor: Predictor, unbelieved: Image, golden: tuple[Image, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both in one image, in whose middle the detector sees no more of the one: its box stands there all the same."""
    alone = predictor.detector.detect(unbelieved) + predictor.detector.detect(golden[0])
    shift = np.float32([0, len(golden[0]), 0, len(golden[0])])
    pair = [replace(alone[0], box_xyxy=alone[0].box_xyxy + shift), alone[1]]
    width = max(unbelieved.shape[1], golden[0].shape[1])
    both = np.concatenate([np.pad(image, ((0, 0), (0, width - image.shape[1]), (0, 0))) for image in (golden[0], unbelieved)])
    monkeypatch.setattr(predictor.detector, "detect", lambda image: pair)
    (face,), left_out = predictor.find(both)
    assert left_out == 1
    assert nme_pct(face.points_px, golden[1]) < 6
    assert [found is None for found in predictor.of_detections(both, pair)] == [True, False]


def test_answers_that_are_no_numbers_are_left_out(
    predictor: Predictor, golden: tuple[Image, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = lambda crops_u8: tuple(np.full((len(crops_u8), *shape), np.nan, np.float32) for shape in ((68, 2), (68,)))  # noqa: E731
    monkeypatch.setattr(predictor, "run", nowhere)
    assert predictor.find(golden[0]) == ([], 1)


def test_a_batch_with_strangers_gives_the_same(predictor: Predictor, unbelieved: Image, golden: tuple[Image, np.ndarray]) -> None:
    """As the endpoint's batches do: crops of others stand before and behind those of this search."""
    image, truth_px = turned(*golden, 2)
    asked: list[int] = []

    def drive(search: Any) -> Any:
        step = advance(search)
        while isinstance(step, np.ndarray):
            asked.append(len(step))
            points_px, error_px = predictor.run(np.concatenate([255 - step, step, step]))
            step = advance(search, (points_px[len(step) : 2 * len(step)], error_px[len(step) : 2 * len(step)]))
        return step

    upright = [Detection(box_of_points(truth_px), 0.9)]
    (alone,) = predictor.of_detections(image, upright)
    assert alone is not None
    (face,) = drive(predictor.search(image, upright))
    np.testing.assert_allclose(face.points_px, alone.points_px, atol=0.05)
    assert asked == [1, 1, 3, 3, 1, 1], "a crop, refined; turned, refined; the best of these once more, refined"
    assert drive(predictor.search(unbelieved, predictor.detector.detect(unbelieved))) == [None]
    (kept,) = drive(predictor.search(unbelieved, predictor.detector.detect(unbelieved), min_quality=0))
    assert kept.quality < predictor.min_quality
    asked.clear()
    boxes = given_boxes([box_of_points(truth_px)])
    assert drive(predictor.search(image, boxes, given=True))[0].quality > predictor.belief.doubt
    assert asked[-4:] == [3, 3, 1, 1]
