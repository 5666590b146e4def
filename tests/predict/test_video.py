"""The command on a video: the drawn clip, its table, the jitter, and what goes wrong."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from fkp.bundle import Bundle
from fkp.data.synthetic.clip import Motion, frames
from fkp.errors import FkpError
from fkp.predict import Face, Predictor
from fkp.predict.__main__ import main
from fkp.predict.measures import COLUMNS, measures
from fkp.predict.tracker import Sighting
from fkp.predict.video import SCHEMA, Jitter
from fkp.scheme import IBUG68, load_scheme
from fkp.vision.crop import box_of_points
from fkp.vision.smooth import OneEuro, OneEuroSettings
from fkp.vision.video import open_clip, written_clip
from tests.vision import movies

FPS = 10.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A still face that is gone in its last two frames."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    with written_clip(path, FPS) as write:
        for image, _ in frames(0, 7, 12, FPS, Motion()):
            write(image)
        for _ in range(2):
            write(np.full_like(image, 127))
    return path


def command(bundle: Bundle, source: object, out: Path, *more: str) -> int:
    return main([str(source), "--out", str(out), "--bundle", str(bundle.path), *more])


def test_a_video(clip: Path, champion: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "clip.annotated.mp4"
    assert command(champion, clip, out) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.annotated.mp4", "clip.annotated.parquet"]
    drawn, source = list(open_clip(out)), list(open_clip(clip))
    assert len(drawn) == 14
    rows = pq.read_table(tmp_path / "clip.annotated.parquet")
    assert rows.schema.equals(SCHEMA)
    rows = rows.to_pylist()
    assert [(row["frame"], row["track"]) for row in rows] == [*((number, 0) for number in range(12)), (12, None), (13, None)]
    assert [row["time_s"] for row in rows] == pytest.approx([number / FPS for number in range(14)])
    assert {row["model"] for row in rows} == {champion.digest}
    for row in rows[:12]:
        points_px = np.array(row["points_px"])
        assert points_px.shape == np.array(row["raw_points_px"]).shape == (68, 2)
        assert len(row["expected_error_px"]) == 68
        assert {name: row[name] for name in COLUMNS} == pytest.approx(measures(points_px, IBUG68), abs=0.01)
        x, y = points_px[30].round().astype(int)
        nose = slice(y - 2, y + 3), slice(x - 2, x + 3)
        assert np.abs(drawn[row["frame"]][nose].astype(int) - source[row["frame"]][nose]).mean() > 10
    assert np.abs(drawn[13].astype(int) - source[13]).mean() < 5
    said = capsys.readouterr().out
    assert "14 frames, 1 faces, 2 frames without a face" in said
    raw, smooth = map(float, re.findall(r"jitter: raw ([\d.]+) %, smoothed ([\d.]+) % of the distance of the outer eye corners", said)[0])
    assert 0 < smooth < raw / 2
    # The same from the table, by the definition: the median over frames of the points' mean second difference.
    for column, told in (("raw_points_px", raw), ("points_px", smooth)):
        points = np.array([row[column] for row in rows[:12]])
        second = np.linalg.norm(np.diff(points, 2, axis=0), axis=-1).mean(axis=-1)
        eyes = np.linalg.norm(points[1:-1, 36] - points[1:-1, 45], axis=-1)
        assert told == pytest.approx(np.median(100 * second / eyes), abs=6e-4)


def test_what_opencv_cannot_do_is_said(
    clip: Path, champion: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert command(champion, clip, tmp_path / "out.mp4") == 0
    said = capsys.readouterr().out
    assert "frames/s, without sound\n" in said
    assert "without PyAV the video is MPEG-4 part 2, which browsers do not play, and has no sound: pip install 'fkp[video]'" in said


def test_frames_of_a_changing_rate(champion: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their own times stand in the rows, in the filter and in what is written."""
    times_s = [0.25, 0.35, 0.45, 1.1, 1.15, 1.2, 1.9, 2.0]
    with written_clip(tmp_path / "phone.mp4", FPS) as write:
        for time_s, (image, _) in zip(times_s, frames(0, 7, len(times_s), FPS, Motion(sway_boxes=0.1)), strict=True):
            write(image, time_s)
    assert command(champion, tmp_path / "phone.mp4", tmp_path / "out.mp4") == 0
    assert capsys.readouterr().err.count("error") == 0
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["time_s"] for row in rows] == pytest.approx(times_s, abs=2e-3)
    assert [time_s for time_s, _ in open_clip(tmp_path / "out.mp4").timed()] == pytest.approx(times_s, abs=2e-3)
    smooth = OneEuro(OneEuroSettings())
    before_s = times_s[0]
    for row, time_s in zip(rows, times_s, strict=True):
        low, high = np.split(np.array(row["box_xyxy"]), 2)
        expected = smooth(np.array(row["raw_points_px"]), float((high - low).max()), max(time_s - before_s, 1e-9))
        np.testing.assert_allclose(row["points_px"], expected, atol=0.02)
        before_s = time_s


def test_pixels_that_are_not_square(clip: Path, champion: Bundle, tmp_path: Path) -> None:
    """The points are where they are in what a player shows, and so is what is drawn."""
    narrow = tmp_path / "narrow.mp4"
    images = list(open_clip(clip))[:4]
    height, width = images[0].shape[:2]
    movies.squeezed(movies.plain(narrow, [cv2.resize(image, (width // 2, height)) for image in images]), 2, 1)
    assert command(champion, narrow, tmp_path / "out.mp4") == command(champion, clip, tmp_path / "wide.mp4") == 0
    found, wide = (np.array(pq.read_table(tmp_path / f"{name}.parquet")["raw_points_px"][0].as_py()) for name in ("out", "wide"))
    assert next(iter(open_clip(tmp_path / "out.mp4"))).shape == (height, width, 3)
    eyes_px = np.linalg.norm(wide[36] - wide[45])
    assert np.linalg.norm(found - wide, axis=-1).mean() < 0.03 * eyes_px


def test_what_is_not_believed_is_counted(
    champion: Bundle, unbelieved: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    even = unbelieved[: len(unbelieved) // 2 * 2, : unbelieved.shape[1] // 2 * 2]
    with written_clip(tmp_path / "clip.mp4", FPS) as write:
        for _ in range(3):
            write(even)
    for flags, track, least in (((), None, Predictor(champion).min_quality), (("--min-quality=0",), 0, 0.0)):
        out = tmp_path / f"{len(flags)}.mp4"
        assert command(champion, tmp_path / "clip.mp4", out, *flags) == 0
        told = re.search(r"^(\d) detections below quality ([\d.]+) left out \(--min-quality 0 keeps them\)$", capsys.readouterr().out, re.M)
        assert (told.groups() if told else None) == (None if flags else ("3", f"{least:.2f}"))
        rows = pq.read_table(out.with_suffix(".parquet")).to_pylist()
        assert {row["track"] for row in rows} == {track}
        assert all((row["quality"] is None) == (track is None) for row in rows)


def test_what_exists_is_kept(clip: Path, champion: Bundle, tmp_path: Path) -> None:
    for name in ("clip.mp4", "clip.parquet"):
        place = tmp_path / name
        place.write_text("mine")
        with pytest.raises(FkpError, match=f"{name} exists: choose another name for --out or remove it"):
            command(champion, clip, tmp_path / "clip.mp4")
        assert place.read_text() == "mine"
        place.unlink()
    with pytest.raises(FkpError, match=r"there is no folder .*/absent: make it"):
        command(champion, clip, tmp_path / "absent/clip.mp4")


def test_no_video(champion: Bundle, tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(FkpError, match="is not a video that can be decoded"):
        command(champion, tmp_path / "notes.mp4", tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.mp4"]


def test_no_face(champion: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with written_clip(tmp_path / "wall.mp4", FPS) as write:
        for _ in range(3):
            write(np.full((96, 128, 3), 127, np.uint8))
    assert command(champion, tmp_path / "wall.mp4", tmp_path / "out.mp4") == 0
    said = capsys.readouterr().out
    assert f"no face was found in {tmp_path / 'wall.mp4'}: the video is as it was" in said
    assert pq.read_table(tmp_path / "out.parquet")["track"].to_pylist() == [None] * 3


def test_a_video_that_is_cut_off(champion: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What there is of it is used, and the status tells."""
    whole, cut = tmp_path / "whole.avi", tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(whole), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), FPS, (128, 96))
    rng = np.random.default_rng(0)
    for _ in range(20):
        writer.write(rng.integers(0, 255, (96, 128, 3), np.uint8))
    writer.release()
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert command(champion, cut, tmp_path / "out.mp4") == 1
    found = re.findall(r"error: .*cut.avi ends after (\d+) of 20 frames: it is broken there or cut off", capsys.readouterr().err)
    assert len(found) == 1
    assert len(list(open_clip(tmp_path / "out.mp4"))) == int(found[0]) < 20


@pytest.mark.parametrize("text", ["1", "0,1", "a,b", "1,-1", "nan,1", "inf,1"])
def test_bad_smoothing(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["a.mp4", "--out", "b.mp4", f"--smooth={text}"])
    assert "is not HZ,BETA" in capsys.readouterr().err


def test_jitter_is_in_units_of_the_face_s_scheme() -> None:
    """A square of 30 x 40 whose middle frame is 1 px aside: a second difference of 2 px, on a diagonal of 50."""
    scheme, jitter = load_scheme('{"name": "square", "landmarks": 4}'), Jitter()
    for number in range(3):
        points_px = np.array([[0, 0], [30, 0], [0, 40], [30, 40]], np.float32) + (number == 1)
        points_px[:, 1] -= number == 1
        face = Face(box_of_points(points_px), 1.0, points_px, np.ones(4, np.float32), scheme)
        jitter.add(number, number / FPS, [Sighting(0, False, face, points_px)])
    assert jitter.medians_pct() == pytest.approx((4.0, 4.0), rel=1e-4)
    assert "% of the diagonal of the box around the labelled points (median" in jitter.told()


def test_jitter_needs_three_frames_in_a_row() -> None:
    assert Jitter().medians_pct() is None
    assert "not measured" in Jitter().told()
