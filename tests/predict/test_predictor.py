"""Images to faces: the numbers in the image's pixels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import fkp
from fkp.bundle import Bundle
from fkp.data.labels import DataConfig, load_labels
from fkp.errors import FkpError
from fkp.evaluation.metrics import nme_pct
from fkp.predict import Face, Predictor
from fkp.predict.predictor import advance, drive, fuse, given_boxes
from fkp.scheme import IBUG68, load_scheme
from fkp.vision.crop import Crop, box_of_points
from fkp.vision.detect import iou
from fkp.vision.encoded import EncodedImage
from fkp.vision.image import decode_image, encode_image, read_image

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def predictor(champion: Bundle) -> Predictor:
    return Predictor(champion)


def test_points_are_in_the_pixels_of_the_image(predictor: Predictor, face: tuple[np.ndarray, np.ndarray]) -> None:
    image, box_xyxy = face
    (found,) = predictor(image, [box_xyxy])
    assert isinstance(found, Face)
    assert (found.points_px.shape, found.points_px.dtype) == ((68, 2), np.float32)
    assert (found.expected_error_px.shape, found.expected_error_px.dtype) == ((68,), np.float32)
    assert (found.expected_error_px > 0).all()
    assert found.score == 1.0
    np.testing.assert_array_equal(found.box_xyxy, box_xyxy)
    crop = predictor.crop(box_xyxy)
    points_crop_px, error_crop_px = predictor.run(crop.apply(image, 1)[None])
    np.testing.assert_allclose(crop.do(found.points_px), points_crop_px[0], atol=1e-3)
    np.testing.assert_allclose(found.expected_error_px, error_crop_px[0] * crop.px_per_crop_px, rtol=1e-5)


def test_expected_error_is_twice_the_scale(tiny_bundle: Bundle, face: tuple[np.ndarray, np.ndarray]) -> None:
    import torch

    from fkp.bundle import load_network

    predictor = Predictor(tiny_bundle)
    pixels = predictor.crop(face[1]).apply(face[0], 1)[None]
    with torch.no_grad():
        scale_px = load_network(tiny_bundle)(torch.from_numpy(pixels))[1].numpy()
    np.testing.assert_allclose(predictor.run(pixels)[1], 2 * scale_px, rtol=1e-2)


@pytest.mark.parametrize("offset", [(40, 25), (3, 90)], ids=str)
def test_points_move_with_the_face(predictor: Predictor, face: tuple[np.ndarray, np.ndarray], offset: tuple[int, int]) -> None:
    image, box_xyxy = face
    x, y = offset
    height, width = image.shape[:2]
    # The same surroundings on all sides, so that the crops show the same where they reach over the border.
    bordered = np.pad(image, ((100, 100), (100, 100), (0, 0)), mode="edge")
    larger = np.full((height + 400, width + 400, 3), 128, np.uint8)
    larger[y : y + height + 200, x : x + width + 200] = bordered
    (here,) = predictor(bordered, [box_xyxy + 100])
    (there,) = predictor(larger, [box_xyxy + 100 + np.array([x, y, x, y])])
    assert np.abs(there.points_px - here.points_px - offset).max() < 0.5


def test_faces_keep_the_order_of_their_boxes(predictor: Predictor, face: tuple[np.ndarray, np.ndarray]) -> None:
    image, box_xyxy = face
    boxes = [box_xyxy, box_xyxy + 9, box_xyxy - 7]
    together = predictor(image, boxes)
    for box, found in zip(boxes, together, strict=True):
        np.testing.assert_array_equal(found.box_xyxy, box)
        np.testing.assert_allclose(found.points_px, predictor(image, [box])[0].points_px, atol=0.05)


@pytest.mark.parametrize("beside", [False, True])
def test_a_large_file_is_decoded_as_finely_as_its_faces_need(predictor: Predictor, beside: bool) -> None:
    image = np.full((2000, 3000, 3), 120, np.uint8)
    faces = [read_image(path) for path in sorted((REPO / "docs/images/sfhq").glob("*.jpg"))[:2]]
    image[300:1700, 300:1700] = cv2.resize(faces[0], (1400, 1400))
    if beside:
        image[900:1100, 2300:2500] = cv2.resize(faces[1], (200, 200), interpolation=cv2.INTER_AREA)
    data = encode_image(image, ".jpg")
    file = EncodedImage(data)
    found, expected = predictor(file), predictor(decode_image(data))
    assert len(found) == len(expected) == 1 + beside
    for face, other in zip(found, expected, strict=True):
        assert np.linalg.norm(face.points_px - other.points_px, axis=-1).mean() < 0.01 * np.ptp(other.points_px, axis=0).max()
    assert ("full" in vars(file)) == beside, "the large face needs no more than half of its pixels"


def test_no_box_is_no_face(predictor: Predictor, face: tuple[np.ndarray, np.ndarray]) -> None:
    assert predictor(face[0], []) == []


def test_no_face_is_an_empty_list(predictor: Predictor) -> None:
    assert predictor(np.full((180, 240, 3), 127, np.uint8)) == []


def test_detected_faces(predictor: Predictor, real_root: Path) -> None:
    catalog = load_labels(DataConfig(source="ytfaces", root=str(real_root)))
    found = predictor(read_image(catalog.path(0)))
    assert found
    assert 0.5 < found[0].score <= 1
    assert found[0].points_px.shape == (68, 2)


def test_a_detected_face_is_the_mean_of_two_predictions(predictor: Predictor, real_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = load_labels(DataConfig(source="ytfaces", root=str(real_root)))
    image = read_image(catalog.path(0))
    both = predictor(image)[0]
    monkeypatch.setattr("fkp.predict.predictor.fuse", lambda first, refined: first)
    first = predictor(image)[0]
    (second,) = predictor.refine(image, [first], mirrored=True)
    np.testing.assert_array_equal(both.box_xyxy, box_of_points(first.points_px))
    assert both.score == first.score
    np.testing.assert_allclose(both.points_px, (first.points_px + second.points_px) / 2)
    np.testing.assert_allclose(both.expected_error_px, (first.expected_error_px + second.expected_error_px) / 2)
    assert (second.points_px != first.points_px).any()


def test_predictions_that_do_not_agree_are_not_averaged(predictor: Predictor, face: tuple[np.ndarray, np.ndarray]) -> None:
    (second,) = predictor(face[0], [face[1]])
    length_px = np.ptp(second.points_px, axis=0).max()
    for fraction, mean in ((0.01, True), (0.02, False), (np.nan, False)):
        first = replace(
            second, points_px=second.points_px + np.float32([fraction * length_px, 0]), expected_error_px=second.expected_error_px + 2
        )
        both = fuse(first, second)
        expected = second.points_px + (np.float32([fraction * length_px / 2, 0]) if mean else 0)
        np.testing.assert_allclose(both.points_px, expected, rtol=1e-5)
        np.testing.assert_allclose(both.expected_error_px, second.expected_error_px + (1 if mean else 0), rtol=1e-5)


def test_the_mirrored_face_has_its_points_where_the_image_has_them(predictor: Predictor, real_root: Path) -> None:
    catalog = load_labels(DataConfig(source="ytfaces", root=str(real_root)))
    for row in (3, 400, 900):
        image, truth_px = read_image(catalog.path(row)), catalog.points_px[row]
        plain, mirrored = (predictor.refine(image, predictor(image, [box_of_points(truth_px)]), mirrored=way)[0] for way in (False, True))
        assert nme_pct(mirrored.points_px[None], plain.points_px[None])[0] < 4
        assert (mirrored.points_px != plain.points_px).any()
        np.testing.assert_allclose(mirrored.expected_error_px, plain.expected_error_px, rtol=0.8)


@pytest.mark.parametrize(("degrees", "runs"), [(5, 1), (-30, 2), (40, 2)])
def test_a_turned_face_in_a_box_is_refined_upright(
    predictor: Predictor, face: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, degrees: float, runs: int
) -> None:
    image, box_xyxy = face
    middle = (float(box_xyxy[::2].mean()), float(box_xyxy[1::2].mean()))
    leaning = cv2.warpAffine(image, cv2.getRotationMatrix2D(middle, degrees, 1.0), image.shape[1::-1])
    expected_px = predictor(image, [box_xyxy])[0].points_px
    run, seen = predictor.run, list[np.ndarray]()
    monkeypatch.setattr(predictor, "run", lambda crops_u8: seen.append(crops_u8) or run(crops_u8))
    (found,) = predictor(leaning, [box_xyxy])
    assert len(seen) == runs
    np.testing.assert_array_equal(found.box_xyxy, box_xyxy)
    if runs == 2:  # What the network sees then is nearly the upright face.
        size_px, scale = predictor.config.input.size_px, predictor.config.input.crop_scale
        upright = Crop.of_points(expected_px, IBUG68, size_px, scale, mirrored=True).apply(image, 1)
        first, second = (float(np.abs(crops_u8[0].astype(float) - upright).mean()) for crops_u8 in seen)
        assert second < first / 2


@pytest.mark.parametrize(("grow", "shift", "runs"), [(1.0, 0.02, 1), (1.05, 0.0, 1), (1.4, 0.0, 2), (0.8, 0.0, 2), (1.0, 0.15, 2)])
def test_a_face_that_does_not_fill_its_box_is_refined(
    predictor: Predictor,
    face: tuple[np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    grow: float,
    shift: float,
    runs: int,
) -> None:
    image, box_xyxy = face
    exact = box_of_points(predictor(image, [box_xyxy])[0].points_px)
    center, half = (exact[:2] + exact[2:]) / 2 + shift * (exact[2:] - exact[:2]), grow * (exact[2:] - exact[:2]) / 2
    given = np.concatenate([center - half, center + half])
    run, seen = predictor.run, list[np.ndarray]()
    monkeypatch.setattr(predictor, "run", lambda crops_u8: seen.append(crops_u8) or run(crops_u8))
    (found,) = predictor(image, [given])
    assert len(seen) == runs
    np.testing.assert_array_equal(found.box_xyxy, given)
    assert iou(box_of_points(found.points_px), exact) > 0.8


def test_whoever_drives_a_search_gets_what_the_predictor_gives(predictor: Predictor, face: tuple[np.ndarray, np.ndarray]) -> None:
    """One box fits and one does not, so the second batch holds one crop; answers may come from a batch with strangers in it."""
    image, box_xyxy = face
    wide = box_xyxy + np.float32([-30, -30, 30, 30])
    search, sizes = predictor.search(image, given_boxes([box_xyxy, wide]), given=True), []
    step = advance(search)
    while isinstance(step, np.ndarray):
        sizes.append(len(step))
        beside = predictor.run(np.concatenate([255 - step, step]))
        step = advance(search, (beside[0][len(step) :], beside[1][len(step) :]))
    assert sizes == [2, 1]
    for ours, theirs in zip(step, predictor(image, [box_xyxy, wide]), strict=True):
        np.testing.assert_array_equal(ours.box_xyxy, theirs.box_xyxy)
        np.testing.assert_allclose(ours.points_px, theirs.points_px, atol=1e-2)
    assert advance(predictor.search(image, [])) == []


def test_more_crops_than_the_network_takes_at_once(predictor: Predictor, face: tuple[np.ndarray, np.ndarray]) -> None:
    crop_u8 = predictor.crop(face[1]).apply(face[0], 1)
    points_px, error_px = predictor.run(np.stack([crop_u8, 255 - crop_u8] * 20))
    assert (points_px.shape, error_px.shape) == ((40, 68, 2), (40, 68))
    alone_px, alone_error_px = predictor.run(crop_u8[None])
    np.testing.assert_allclose(points_px[::2], np.repeat(alone_px, 20, axis=0), atol=1e-2)
    np.testing.assert_allclose(error_px[::2], np.repeat(alone_error_px, 20, axis=0), rtol=1e-2)
    assert np.abs(points_px[1::2] - points_px[::2]).max() > 1


def test_turned_faces_are_found_nearly_as_well_as_upright_ones(predictor: Predictor, real_root: Path) -> None:
    catalog = load_labels(DataConfig(source="ytfaces", root=str(real_root)))
    rows = catalog.rows("val", predictor.config.data)[::20]
    error_pct: dict[int, list[float]] = {0: [], 40: []}
    for row, degrees in ((row, degrees) for row in rows for degrees in error_pct):
        image = read_image(catalog.path(row))
        matrix = cv2.getRotationMatrix2D((image.shape[1] / 2, image.shape[0] / 2), degrees, 1.0)
        truth_px = (catalog.points_px[row] @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        (found,) = predictor(cv2.warpAffine(image, matrix, image.shape[1::-1]), [box_of_points(truth_px)])
        error_pct[degrees].append(float(nme_pct(found.points_px[None], truth_px[None])[0]))
    # Without refinement they would be 2.5 points worse.
    assert np.mean(error_pct[40]) < np.mean(error_pct[0]) + 0.5


def test_refine_crops_around_the_points_of_before(predictor: Predictor, face: tuple[np.ndarray, np.ndarray]) -> None:
    first = replace(predictor(face[0], [face[1]])[0], score=0.7)
    (second,) = predictor.refine(face[0], [first])
    np.testing.assert_array_equal(second.box_xyxy, box_of_points(first.points_px))
    assert second.score == 0.7
    assert predictor.refine(face[0], []) == []
    # Points that are all one give no crop: the box does.
    (third,) = predictor.refine(face[0], [replace(first, points_px=np.zeros_like(first.points_px))])
    np.testing.assert_array_equal(third.box_xyxy, first.box_xyxy)


def test_faces_that_lie_on_their_side_are_found_in_an_image(predictor: Predictor, real_root: Path) -> None:
    catalog = load_labels(DataConfig(source="ytfaces", root=str(real_root)))
    error_pct = []
    rows = catalog.rows("val", predictor.config.data)[::10]
    for row in rows:
        image = read_image(catalog.path(row))
        found = predictor(np.ascontiguousarray(np.rot90(image)))  # To the left.
        if found:
            x, y = found[0].points_px.T
            points_px, truth_px = np.stack([image.shape[1] - 1 - y, x], axis=1), catalog.points_px[row]
            error_pct.append(float(nme_pct(points_px[None], truth_px[None])[0]))
    assert len(rows) > 20 and len(error_pct) >= len(rows) - 2
    assert np.median(error_pct) < 4.5


def test_the_calibration_of_the_bundle_is_used(tiny_bundle: Bundle, real_root: Path) -> None:
    catalog = load_labels(DataConfig(source="ytfaces", root=str(real_root)))
    image = read_image(catalog.path(0))
    own = replace(tiny_bundle, face_boxes={"fkp": [[1.0], [0.0], [0.5], [0.5]]})
    built_in, moved = (Predictor(bundle).detector.detect(image)[0].box_xyxy for bundle in (tiny_bundle, own))
    assert moved[0] > built_in[0] + 0.5 * (built_in[2] - built_in[0])
    with pytest.raises(FkpError, match="the calibration of fkp is not 4 rows of numbers"):
        Predictor(replace(tiny_bundle, face_boxes={"fkp": "wide"})).detector  # noqa: B018


@pytest.mark.parametrize("box", [[0, 0, 0, 5], [0, 0, np.nan, 5], [9, 9, 3, 3]], ids=str)
def test_bad_boxes(predictor: Predictor, face: tuple[np.ndarray, np.ndarray], box: list[float]) -> None:
    with pytest.raises(ValueError, match="a face box needs finite corners and some area"):
        predictor(face[0], [np.array(box)])


def test_a_box_outside_the_image_is_black(predictor: Predictor, face: tuple[np.ndarray, np.ndarray]) -> None:
    (found,) = predictor(face[0], [np.array([5000, 5000, 5100, 5100])])
    assert np.isfinite(found.points_px).all()


def test_opened_by_its_folder(tiny_bundle: Bundle) -> None:
    assert Predictor(tiny_bundle.path).bundle == tiny_bundle
    assert Predictor(str(tiny_bundle.path)).config == tiny_bundle.config
    assert fkp.Predictor is Predictor


def test_json_of_a_face() -> None:
    found = Face(np.array([1.234, 2, 3, 4], np.float32), 0.98765, np.full((68, 2), 7.119, np.float32), np.full(68, 0.5, np.float32))
    plain = found.to_json()
    assert plain["box"] == [1.23, 2.0, 3.0, 4.0]
    assert plain["score"] == 0.9877
    assert plain["keypoints"] == [[7.12, 7.12]] * 68
    assert plain["expected_error_px"] == [0.5] * 68
    assert json.loads(json.dumps(plain)) == plain


def test_a_face_of_two_landmarks(face: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand level once the face is turned upright, and often before."""
    image, box_xyxy = face
    eyes = Predictor()
    eyes.scheme = load_scheme('{"name": "eyes", "landmarks": ["left_eye", "right_eye"]}')
    for lean_px in (0.0, 30.0):
        there_px = np.array([[40, 60], [80, 60 + lean_px]], np.float32)
        monkeypatch.setattr(
            eyes, "run", lambda crops_u8, there_px=there_px: (np.stack([there_px] * len(crops_u8)), np.ones((len(crops_u8), 2)))
        )
        (found,) = eyes(image, [box_xyxy])
        assert np.isfinite(found.points_px).all()
        assert len(drive(eyes.search(image, given_boxes([box_xyxy])), eyes.run)) == 1
