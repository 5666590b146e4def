"""Faces cut for the teachers, and labels from what they say; the teachers themselves are not installed here."""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fkp.data.mosaics import UPSTREAMS, fetch_faces, read_manifest
from fkp.errors import FkpError
from fkp.evaluation.metrics import nme_pct
from fkp.predict import Predictor
from fkp.scheme import IBUG68
from fkp.vision.image import read_image, write_image
from tests.faces import face

FACES = Path(__file__).resolve().parents[2] / "docs/images/sfhq"


def run(monkeypatch: pytest.MonkeyPatch, script: str, *words: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
    importlib.import_module(script).main()


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_faces_of_a_mosaic_are_cut_once_each_where_their_points_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pages").mkdir()
    tiles = [cv2.resize(read_image(path), (200, 200), interpolation=cv2.INTER_AREA) for path in sorted(FACES.glob("*.jpg"))[:3]]
    write_image(tmp_path / "pages/a.png", np.hstack(tiles))
    write_image(tmp_path / "pages/b.png", cv2.resize(tiles[1], (240, 240), interpolation=cv2.INTER_CUBIC))
    run(monkeypatch, "faces", "mosaics", tmp_path / "pages", tmp_path / "out")
    rows = rows_of(tmp_path / "out/faces.csv")
    assert sorted(row["image"] for row in rows) == ["a.png", "a.png", "b.png"], "the face that is there twice is the larger one"
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [row["crop"] for row in rows]
    predictor = Predictor()
    for row in rows:
        crop = read_image(tmp_path / "out" / row["crop"])
        assert crop.shape == (384, 384, 3)
        x, y, side = (int(row[name]) for name in ("x", "y", "side"))
        (face,) = predictor(crop)
        told = np.array([[float(row[f"{axis}{point}"]) for axis in "xy"] for point in range(68)])
        found = (face.points_px + 0.5) * side / 384 - 0.5 + [x, y]
        assert np.linalg.norm(found - told, axis=1).mean() < 0.03 * side / 2, "the square and the points are of one place"
    label = importlib.import_module("label")
    told = np.array([[[float(row[f"{axis}{point}"]) for axis in "xy"] for point in range(68)] for row in rows])
    own = label.asked(predictor, tmp_path / "out", label.Folder(rows, told, {"anybody": told}), told)
    assert nme_pct(own, told).max() < 6, "in another box, of other pixels"
    with pytest.raises(FkpError, match="is there already"):
        run(monkeypatch, "faces", "mosaics", tmp_path / "pages", tmp_path / "out")


def made(folder: Path, seed: int) -> np.ndarray:
    """A folder as the scripts leave it: (80, 68, 2) labels, and teachers who see the same shapes, each in points of its own."""
    rng, same = np.random.default_rng(seed), np.random.default_rng(9)
    base, modes = same.normal(0, 1, (478, 2)), same.normal(0, 1, (6, 478, 2))
    base[[33, 263]] = [[-1, 0], [1, 0]]
    shapes = base + np.einsum("nk,kij->nij", rng.normal(0, 0.1, (80, 6)), modes)
    angle, size = rng.uniform(-0.5, 0.5, 80), rng.uniform(40, 90, 80)
    turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], -2)
    mesh = np.einsum("nij,nkj->nki", turn, shapes) * size[:, None, None] + rng.uniform(200, 300, (80, 1, 2))
    labels = 0.9 * mesh[:, :68] + 0.1 * mesh[:, 68:136]
    points = mesh[:, 200:268].copy()
    points[5] += rng.normal(0, 40, (68, 2))
    mesh[7] = np.nan
    folder.mkdir()
    names = [f"{number}.png" for number in range(80)]
    with (folder / "faces.csv").open("w", newline="") as file:
        head = ["crop", "name", "image", "x", "y", "side", *(f"{axis}{point}" for point in range(68) for axis in "xy")]
        rows = [[name, name, "page, 1.jpg", -3, 20, 400, *face.ravel()] for name, face in zip(names, labels, strict=True)]
        csv.writer(file).writerows([head, *rows])
    np.savez(folder / "mediapipe.npz", names=names, points_px=mesh, scheme="mediapipe478")
    np.savez(folder / "face_api.npz", names=names, points_px=points, scheme="ibug68")
    return labels


def test_labels_are_what_the_teachers_say_in_our_convention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path / "train", 1)
    labels = made(tmp_path / "faces", 2)
    run(monkeypatch, "label", tmp_path / "train", tmp_path / "faces", tmp_path / "out.csv", "--check", tmp_path / "faces")
    told = capsys.readouterr().out
    assert "78 faces; 1 without an answer, 1 by the spread left out" in told
    assert re.search(r"another convention, % of the eye distance: jaw [\d.]+, .*mouth [\d.]+$", told, re.M)
    assert "both: NME" in told and "on 79 faces" in told
    rows = rows_of(tmp_path / "out.csv")
    assert [row["name"] for row in rows] == [f"{number}.png" for number in range(80) if number not in (5, 7)]
    for row in rows:
        found = np.array([[float(row[f"{axis}{point}"]) for axis in "xy"] for point in range(68)]) + [int(row["x"]), int(row["y"])]
        assert np.linalg.norm(found - labels[int(row["name"][:-4])], axis=1).mean() < 5
        assert (row["mosaic"], row["side"]) == ("page, 1.jpg", "400") and float(row["spread_pct"]) < 8
    with np.load(tmp_path / "faces/face_api.npz") as answers:
        np.savez(tmp_path / "faces/face_api.npz", **{**answers, "names": answers["names"][::-1]})
    with pytest.raises(FkpError, match="is about other faces"):
        run(monkeypatch, "label", tmp_path / "train", tmp_path / "faces", tmp_path / "out.csv")
    (tmp_path / "faces/mediapipe.npz").unlink()
    with pytest.raises(FkpError, match=r"holds no mediapipe\.npz"):
        run(monkeypatch, "label", tmp_path / "train", tmp_path / "faces", tmp_path / "out.csv")


def test_a_manifest_of_labels_can_be_fetched_by_and_moved_half_of_the_way_to_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = sorted(FACES.glob("*.jpg"))[:4]
    predictor, folder = Predictor(), tmp_path / "faces"
    made(tmp_path / "train", 1)
    made(folder, 2)
    run(monkeypatch, "label", tmp_path / "train", folder, tmp_path / "out.csv")
    with pytest.raises(FkpError, match=r"has no page, 1\.jpg"):
        run(monkeypatch, "label", tmp_path / "train", folder, tmp_path / "out.csv", "--mosaics", FACES)
    (tmp_path / "page, 1.jpg").write_bytes(b"pixels")
    run(monkeypatch, "label", tmp_path / "train", folder, tmp_path / "out.csv", "--mosaics", tmp_path)
    told, head = (tmp_path / "out.csv").read_text().splitlines()[:2]
    assert told == f"# {hashlib.sha256(b'pixels').hexdigest()}  page, 1.jpg"

    lines, found = [], []
    for number, path in enumerate(faces):
        image = read_image(path)
        (face,) = predictor(image)
        found.append(face.points_px)
        off = [60.0, 0.0] if number == 3 else [1.0, -2.0]
        place = f"{number}.png,{path.name},0,0,{min(image.shape[:2])},1.5,"
        lines.append(place + ",".join(f"{value:.1f}" for value in (face.points_px + off).ravel()))
    sums = [f"# {hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in faces]
    (tmp_path / "manifest.csv").write_text("\n".join([*sums, head, *lines]) + "\n")
    fetch_faces(tmp_path / "set", tmp_path / "manifest.csv", UPSTREAMS["sfhq"], FACES)
    capsys.readouterr()
    run(monkeypatch, "halfway", tmp_path / "manifest.csv", tmp_path / "set", tmp_path / "half.csv.gz")
    told = capsys.readouterr().out
    assert "3 faces" in told and "1 left out" in told
    moved = read_manifest(tmp_path / "half.csv.gz")
    assert list(moved.faces["name"]) == ["0.png", "1.png", "2.png"] and list(moved.mosaics) == [path.name for path in faces[:3]]
    for points, seen in zip(moved.points_px, found, strict=False):
        assert np.abs(points - seen - [0.5, -1.0]).mean() < 1, "the box of the labels is another one than the detector's"
    with pytest.raises(FkpError, match="holds other faces"):
        run(monkeypatch, "halfway", tmp_path / "half.csv.gz", tmp_path / "set", tmp_path / "again.csv")


def test_portraits_in_the_public_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images/bio_guide").mkdir(parents=True)
    (tmp_path / "config").mkdir()
    with pytest.raises(FkpError, match="name a checkout"):
        run(monkeypatch, "congress", tmp_path, tmp_path / "out")
    sat = {1: [30, 40], 2: [39, 41], 3: [70], 4: [70, 71], 5: [104], 6: [90, 105], 7: [118]}
    members = [{"icpsr": member, "congress": congress} for member, all_ in sat.items() for congress in all_]
    (tmp_path / "config/database-raw.json").write_text(json.dumps(members))
    for member in [*sat, 8]:
        (tmp_path / f"images/bio_guide/{member:06d}.jpg").write_bytes(b"pixels")
    run(monkeypatch, "congress", tmp_path, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000002.jpg", "000003.jpg", "000006.jpg", "000007.jpg"]
    assert (tmp_path / "out/000002.jpg").read_bytes() == b"pixels" and "4 portraits" in capsys.readouterr().out
    with pytest.raises(FkpError, match="is there already"):
        run(monkeypatch, "congress", tmp_path, tmp_path / "out")


def test_what_face_api_answers_comes_back_from_its_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In place of the network: whoever finds the brightest pixel of each crop finds the one point that the crop shows."""
    script = importlib.import_module("face_api_points")
    crop = np.zeros((384, 384, 3), np.uint8)
    cv2.circle(crop, (200, 150), 5, (255, 255, 255), -1)
    write_image(tmp_path / "0.png", crop)
    points = np.random.default_rng(0).uniform(120, 280, (68, 2))
    in_file = (points + 0.5) * 900 / 384 - 0.5 + [40, -7]
    row = {"crop": "0.png", "x": "40", "y": "-7", "side": "900"}
    row |= {f"{axis}{point}": str(value) for point, place in enumerate(in_file) for axis, value in zip("xy", place, strict=True)}

    def brightest(words: list[str], input: bytes, **_: object) -> object:
        looks = np.frombuffer(input, np.uint8).reshape(-1, 112, 112, 3)[..., 0].astype(float)
        y, x = np.mgrid[:112, :112]
        weight = looks / looks.sum((1, 2), keepdims=True)
        middles = np.stack([(weight * x).sum((1, 2)), (weight * y).sum((1, 2))], -1) + 0.5
        told = np.repeat(middles[:, None], 68, 1).astype(np.float32)
        return type("Done", (), {"returncode": 0, "stdout": told.tobytes()})

    monkeypatch.setattr(script.subprocess, "run", brightest)
    found = script.answer(tmp_path, tmp_path, [row], 0)
    wanted = (np.array([200, 150]) + 0.5) * 900 / 384 - 0.5 + [40, -7]
    np.testing.assert_allclose(found[0], np.tile(wanted, (68, 1)), atol=1)


def test_two_conventions_lie_apart_by_what_is_left_of_a_constant() -> None:
    rng = np.random.default_rng(0)
    ours = np.stack([face(100, 100, 60, seed) for seed in range(50)]).astype(float)
    ways = rng.normal(0, 1, ours.shape) * 3 + rng.normal(0, 9, (1, 68, 2))
    ways[:, :17] = 5
    found = importlib.import_module("label").apart_pct(ours + ways, ours)
    size = IBUG68.size_px(ours)
    assert found["jaw"] < 0.6, "a constant but for how the faces are turned and how large they are"
    assert found["mouth"] == pytest.approx(300 * np.sqrt(2 / size**2).mean(), rel=0.15)
