"""The command on single photographs: what it writes, and what one broken image costs."""

from __future__ import annotations

import csv
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fkp.bundle import Bundle
from fkp.errors import FkpError
from fkp.predict import Predictor
from fkp.predict.__main__ import main
from fkp.predict.belief import belief_of
from fkp.scheme import IBUG68
from fkp.vision.align import ARCFACE_PX, aligned_crop, five_points
from fkp.vision.crop import box_of_points
from fkp.vision.image import read_image, write_image


@pytest.fixture
def photo(tmp_path: Path, face: tuple[np.ndarray, np.ndarray]) -> Path:
    write_image(tmp_path / "ada.png", face[0])
    return tmp_path / "ada.png"


def command(bundle: Bundle, out: Path, *arguments: object) -> int:
    return main([*map(str, arguments), "--out", str(out), "--bundle", str(bundle.path)])


def flag(box_xyxy: np.ndarray) -> str:
    return "--box=" + ",".join(f"{value:.2f}" for value in box_xyxy)


def test_json_csv_and_image_agree(
    tmp_path: Path, tiny_bundle: Bundle, photo: Path, face: tuple[np.ndarray, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    assert command(tiny_bundle, out, photo, flag(face[1]), flag(face[1] - 20)) == 0
    printed = capsys.readouterr()
    assert "2 faces in 1 images" in printed.out
    assert printed.err == ""
    assert sorted(path.name for path in out.iterdir()) == ["ada.annotated.png", "faces.csv", "faces.json"]
    told = json.loads((out / "faces.json").read_text())
    assert told["model"] == tiny_bundle.digest
    (image,) = told["pictures"]
    assert image["picture"] == str(photo)
    assert image["size"] == [face[0].shape[1], face[0].shape[0]]
    np.testing.assert_allclose(image["faces"][0]["box"], face[1], atol=0.01)
    with (out / "faces.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["picture"], row["face"]) for row in rows] == [(str(photo), "0"), (str(photo), "1")]
    for row, found in zip(rows, image["faces"], strict=True):
        assert float(row["score"]) == found["score"] == 1.0
        assert [[float(row[f"x{i}"]), float(row[f"y{i}"])] for i in range(68)] == found["keypoints"]
    drawn = read_image(out / "ada.annotated.png")
    assert drawn.shape == face[0].shape
    assert (drawn != face[0]).any()


def test_what_is_not_believed_is_left_out_and_counted(
    tmp_path: Path, champion: Bundle, unbelieved: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "doubtful.png", unbelieved)
    assert command(champion, tmp_path / "out", tmp_path / "doubtful.png") == 0
    limit = belief_of(champion).min_quality
    assert f"0 faces in 1 images, 1 detections below quality {limit:.2f} left out (--min-quality 0 keeps them):" in capsys.readouterr().out
    (image,) = json.loads((tmp_path / "out/faces.json").read_text())["pictures"]
    assert (image["faces"], image["left_out"]) == ([], 1)
    # The image says so, too: a dashed box with a name, and no point.
    ((outline,), drawn) = image["left_out_faces"], read_image(tmp_path / "out/doubtful.annotated.png")
    assert outline["quality"] < 0.45 and set(outline) == {"box", "score", "quality"}
    x0, y0, x1, y1 = np.clip(np.round(outline["box"]).astype(int), 2, np.array(unbelieved.shape[1::-1] * 2) - 3)
    side = (drawn[y0:y1, x0 - 1 : x0 + 2] != unbelieved[y0:y1, x0 - 1 : x0 + 2]).any((1, 2))
    assert 0.3 < side.mean() < 0.9 and np.count_nonzero(np.diff(side.astype(int))) >= 6
    middle = np.s_[y0 + 4 : y1 - 3, x0 + 4 : x1 - 3]
    np.testing.assert_array_equal(drawn[middle], unbelieved[middle])
    assert command(champion, tmp_path / "all", tmp_path / "doubtful.png", "--min-quality=0") == 0
    assert "1 faces in 1 images: " in capsys.readouterr().out
    (image,) = json.loads((tmp_path / "all/faces.json").read_text())["pictures"]
    assert image["left_out"] == 0
    assert image["faces"][0]["quality"] < 0.45
    with (tmp_path / "all/faces.csv").open(newline="") as handle:
        assert [float(row["quality"]) for row in csv.DictReader(handle)] == [image["faces"][0]["quality"]]


def test_aligned_crops_and_what_is_computed_from_the_points(
    tmp_path: Path, champion: Bundle, photo: Path, face: tuple[np.ndarray, np.ndarray]
) -> None:
    out = tmp_path / "out"
    assert command(champion, out, photo, flag(face[1]), "--aligned=112") == 0
    (found,) = json.loads((out / "faces.json").read_text())["pictures"][0]["faces"]
    crop = read_image(out / found["aligned"])
    assert found["aligned"] == "ada.aligned-0.png"
    (again,) = Predictor(champion)(read_image(photo), [face[1]])
    np.testing.assert_array_equal(crop, again.aligned(face[0]))
    assert crop.shape == (112, 112, 3)
    # The same network finds the five points of the crop where they should be.
    (upright,) = Predictor(champion, min_quality=0)(crop, [box_of_points(aligned_crop(again.points_px, IBUG68).do(again.points_px))])
    assert np.abs(five_points(upright.points_px, IBUG68) - ARCFACE_PX).mean() < 5
    assert found["pose"] == {name: round(value, 1) for name, value in vars(again.pose).items()}
    assert found["openness"] == {name: round(value, 3) for name, value in again.openness.items()}
    with (out / "faces.csv").open(newline="") as handle:
        (row,) = csv.DictReader(handle)
    assert [float(row[name]) for name in ("yaw_deg", "pitch_deg", "roll_deg")] == list(found["pose"].values())
    assert {name: float(row[f"{name}_openness"]) for name in ("left_eye", "right_eye", "mouth")} == found["openness"]


@pytest.mark.parametrize(
    ("flags", "said"), [(["--aligned=112", "--out=a.mp4"], "--aligned is for images"), (["--out=a", "--aligned=8"], "")]
)
def test_an_aligned_crop_that_is_not_possible(flags: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((FkpError, SystemExit), match=said or "2"):
        main(["a.png", *flags])
    assert said or "'8' is not a number of pixels from 16 to 1024" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["-0.1", "1.01", "nan", "much"])
def test_a_quality_that_is_none(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["a.png", "--out", "out", f"--min-quality={value}"])
    assert end.value.code == 2
    assert f"{value!r} is not a number from 0 to 1" in capsys.readouterr().err


def test_images_of_the_same_name(tmp_path: Path, tiny_bundle: Bundle, face: tuple[np.ndarray, np.ndarray]) -> None:
    image, box_xyxy = face
    names = ["a/face.png", "b/face.png", "c/face-2.png", "c/face.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(tmp_path / name, image)
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
    broken.write_bytes(b"this is no image")
    write_image(last, face[0])
    out = tmp_path / "out"
    assert command(tiny_bundle, out, photo, broken, absent, last, flag(face[1])) == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        f"error: {broken} is not an image that can be decoded: replace it with a whole JPEG, PNG or WebP file",
        f"error: cannot read image {absent}: No such file or directory",
    ]
    assert "2 faces in 2 images" in printed.out
    told = json.loads((out / "faces.json").read_text())
    assert [entry["picture"] for entry in told["pictures"]] == [str(photo), str(last)]
    assert sorted(path.name for path in out.glob("*.png")) == ["ada.annotated.png", "last.annotated.png"]


def test_a_name_that_is_not_utf_8(tmp_path: Path, tiny_bundle: Bundle, photo: Path) -> None:
    """As old archives have them."""
    name = os.fsdecode(b"caf\xe9.png")
    photo.rename(tmp_path / name)
    assert command(tiny_bundle, tmp_path / "out", tmp_path / name) == 0
    assert json.loads((tmp_path / "out/faces.json").read_text())["pictures"][0]["picture"].endswith(r"caf\xe9.png")
    assert command(tiny_bundle, tmp_path / "faces.parquet", tmp_path / name) == 0
    assert pq.read_table(tmp_path / "faces.parquet")["path"][0].as_py().endswith(r"caf\xe9.png")


def test_a_name_that_is_too_long(tmp_path: Path, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tiny_bundle, tmp_path / "out", 300 * "a") == 1
    assert "error: cannot read image aaa" in capsys.readouterr().err


def test_an_image_without_a_face_is_written_as_it_is(tmp_path: Path, tiny_bundle: Bundle) -> None:
    image = np.full((120, 160, 3), 90, np.uint8)
    write_image(tmp_path / "wall.png", image)
    assert command(tiny_bundle, tmp_path / "out", tmp_path / "wall.png") == 0
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "wall.annotated.png"), image)
    assert json.loads((tmp_path / "out" / "faces.json").read_text())["pictures"][0]["faces"] == []
    assert len((tmp_path / "out" / "faces.csv").read_text().splitlines()) == 1


def test_missing_bundle_in_a_process(tmp_path: Path, photo: Path, run_process: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run_process("fkp.predict", photo, "--out", tmp_path / "out", "--bundle", tmp_path / "absent")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"error: {tmp_path / 'absent'} is not a bundle (no SHA256SUMS in it): name the folder that training printed\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "5,5,1,1", "0,0,nan,4", "1,2,3,4,5", "", "0,0,1e20,1e20"], ids=str)
def test_bad_box_flag(tmp_path: Path, tiny_bundle: Bundle, photo: Path, box: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command(tiny_bundle, tmp_path / "out", photo, f"--box={box}")
    assert caught.value.code == 2
    assert f"argument --box: {box!r} is not x0,y0,x1,y1 in pixels with x0 < x1 and y0 < y1" in capsys.readouterr().err


def test_a_detector_that_is_missing_is_told_once(tmp_path: Path, tiny_bundle: Bundle, photo: Path) -> None:
    with pytest.raises(FkpError, match=r"there is no face detector 'yunet': write fkp, blazeface, dlib, or the path of a YuNet file"):
        command(tiny_bundle, tmp_path / "out", photo, photo, "--detector=yunet")
    assert not (tmp_path / "out").exists()
    # With a box nothing is to be detected.
    assert command(tiny_bundle, tmp_path / "out", photo, "--detector=yunet", "--box=10,10,60,60") == 0


def test_out_that_cannot_be_made(tmp_path: Path, tiny_bundle: Bundle, photo: Path) -> None:
    with pytest.raises(FkpError, match=rf"cannot make {photo}/out: Not a directory"):
        command(tiny_bundle, photo / "out", photo)
