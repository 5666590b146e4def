"""Videos with either library: what was written can be read, and what is broken is told."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from fkp.errors import FkpError
from fkp.vision import boxes
from fkp.vision.video import has_pyav, open_clip, written_clip
from fkp.vision.video.movie import read_movie
from tests.needs import needed
from tests.vision import movies


@pytest.fixture(params=["PyAV", "OpenCV"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "OpenCV":
        monkeypatch.setitem(sys.modules, "av", None)
    else:
        needed("av", "no PyAV for videos")
    assert has_pyav() == (request.param == "PyAV")
    return request.param


def frame(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Red on the left, and brighter from frame to frame."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 40 + 10 * number
    return image


def test_frames_come_back(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with written_clip(path, 25) as write:
        for number in range(12):
            write(frame(number))
    assert list(tmp_path.iterdir()) == [path]
    clip = open_clip(path)
    assert (clip.fps, clip.promised) == (25, 12)
    frames = list(clip)
    assert len(frames) == 12
    for number, image in enumerate(frames):
        assert image.shape == (48, 64, 3)
        np.testing.assert_allclose(image[8:40, 4:24, 0], 40 + 10 * number, atol=12)
        assert image[8:40, 4:24, 1:].max() < 40  # RGB, not BGR


def test_an_odd_size_loses_its_last_line(tmp_path: Path) -> None:
    with written_clip(tmp_path / "odd.mp4", 25) as write:
        write(frame(0, 65, 49))
    assert [image.shape for image in open_clip(tmp_path / "odd.mp4")] == [(48, 64, 3)]


def test_a_name_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg would take what stands before it for a protocol."""
    monkeypatch.chdir(tmp_path)
    with written_clip(Path("12:30.mp4"), 25) as write:
        write(frame(0))
    assert len(list(open_clip("12:30.mp4"))) == 1


def test_nothing_is_left_of_a_clip_that_failed(tmp_path: Path) -> None:
    def fail() -> None:
        with written_clip(tmp_path / "clip.mp4", 25) as write:
            write(frame(0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FkpError, match=r"cannot write video .*absent/clip.mp4"), written_clip(tmp_path / "absent/clip.mp4", 25) as write:
        write(frame(0))


@pytest.mark.parametrize("content", [b"", b"this is no video" * 99], ids=["empty", "text"])
def test_what_is_no_video(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(FkpError, match=r"clip.mp4 is not a video that can be decoded: replace it"):
        open_clip(tmp_path / "clip.mp4")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("path", ["absent.mp4", "http://127.0.0.1:9/clip.mp4", "."])
def test_only_files_are_opened(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: pytest.fail("OpenCV was asked"))
    with pytest.raises(FkpError, match="there is no video"):
        open_clip(path)


# --- as phones and cameras write them ---------------------------------------------------------------------------


def seen(path: Path) -> tuple[list[float], list[int], bool]:
    """Times and numbers of the frames, and whether the video counts as whole."""
    clip = open_clip(path)
    timed = list(clip.timed())
    return [time_s for time_s, _ in timed], [movies.number_of(image) for _, image in timed], clip.is_whole(len(timed), timed[-1][0] + 0.04)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return movies.plain(tmp_path / "clip.mp4", map(movies.frame, range(20)))


def test_each_frame_has_its_own_time(clip: Path) -> None:
    movies.rewritten(clip, movies.spans((10, 0.04), (1, 0.65), (9, 0.1)), movies.edits((2, 0)))
    times_s, numbers, whole = seen(clip)
    assert times_s == pytest.approx([*np.arange(11) * 0.04, *(0.4 + 0.65 + np.arange(9) * 0.1)], abs=1e-4)
    assert numbers == list(range(20)) and whole


@pytest.mark.parametrize(
    ("edits", "numbers", "first_s"),
    [
        ([(0.3, 0.2)], range(5, 13), 0.0),
        ([(0.5, 0.3)], range(8, 20), 0.0),
        ([(0.5, -1), (0.8, 0)], range(20), 0.5),
        ([(0.2, -1), (0.4, 0.4)], range(10, 20), 0.2),
        ([(0.2, 0), (0.2, 0.4)], [*range(5), *range(10, 15)], 0.0),
    ],
    ids=["middle", "end", "late", "late, and its end", "two pieces"],
)
def test_an_edit_list_is_no_fault(clip: Path, edits: list[tuple[float, float]], numbers: Sequence[int], first_s: float) -> None:
    movies.rewritten(clip, movies.edits(*edits))
    times_s, found, whole = seen(clip)
    assert found == list(numbers)
    assert times_s == pytest.approx(first_s + 0.04 * np.arange(len(numbers)), abs=2e-3)
    assert whole


def test_a_cut_off_video_is_not_whole(tmp_path: Path) -> None:
    """Its account stands at its beginning, as a streamed one's."""
    rng = np.random.default_rng(0)
    clip = movies.plain(tmp_path / "noise.mp4", (rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(20)))
    before, moov = movies.account(clip)
    place = before.index(b"mdat") - 4
    size = len(boxes.box(b"moov", moov))
    start = int.from_bytes(bytes(boxes.inner(memoryview(moov), *movies.TABLES, b"stco")[8:12]), "big")
    moov = boxes.changed(memoryview(moov), (*movies.TABLES, b"stco"), lambda was: bytes(was[:8]) + (start + size).to_bytes(4, "big"))
    whole = before[:place] + boxes.box(b"moov", moov) + before[place:]
    clip.write_bytes(whole)
    assert len(list(open_clip(clip))) == 20
    clip.write_bytes(whole[: len(whole) // 2])
    found = open_clip(clip)
    timed = list(found.timed())
    assert 5 < len(timed) < 15 and not found.is_whole(len(timed), timed[-1][0] + 0.04)


@pytest.mark.parametrize(("across", "down", "width"), [(4, 3, 85), (2, 1, 128), (8, 9, 57), (16, 15, 68)])
def test_pixels_that_are_not_square_are_made_so(clip: Path, across: int, down: int, width: int) -> None:
    movies.squeezed(clip, across, down)
    image = next(iter(open_clip(clip)))
    assert image.shape == (48, width, 3)
    assert np.abs(np.flatnonzero(image[10, :, 1] > 20)[0] - width / 2) <= 1.5, "red ends and green begins in the middle"


def test_pixels_of_no_sane_shape_are_refused(clip: Path) -> None:
    movies.squeezed(clip, 1000, 1)
    with pytest.raises(FkpError, match="its pixels are 1000 wide and 1 high: convert it"):
        next(iter(open_clip(clip)))


TURNS = {
    (1, 0, 0, 1): lambda image: image,
    (0, 1, -1, 0): lambda image: np.rot90(image, -1),
    (-1, 0, 0, -1): lambda image: np.rot90(image, 2),
    (0, -1, 1, 0): np.rot90,
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (0, 1, 1, 0): lambda image: image.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda image: np.rot90(image.transpose(1, 0, 2), 2),
}


@pytest.mark.parametrize("squeeze", [False, True], ids=["square", "4:3"])
@pytest.mark.parametrize("matrix", TURNS)
def test_frames_are_turned_and_mirrored(clip: Path, matrix: tuple[int, int, int, int], squeeze: bool) -> None:
    if squeeze:
        movies.squeezed(clip, 4, 3)
    upright = next(iter(open_clip(clip)))
    movies.turned(clip, *matrix)
    image = next(iter(open_clip(clip)))
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, TURNS[matrix](upright))


def test_a_sound_track_stands_before_the_images(clip: Path) -> None:
    movies.turned(movies.squeezed(clip, 4, 3), 0, 1, -1, 0)
    movies.rewritten(clip, movies.spans((19, 0.04), (1, 0.2)), movies.edits((0.5, -1), (2, 0)))
    silent = seen(clip), next(iter(open_clip(clip)))
    movies.sounding(clip)
    assert seen(clip) == silent[0] and silent[0][0][0] == pytest.approx(0.5, abs=2e-3)
    np.testing.assert_array_equal(next(iter(open_clip(clip))), silent[1])


@pytest.mark.parametrize(("codec", "named"), [(b"av01", r"AV1 \(av01\)"), (b"vvc1", r"H.266 \(vvc1\)"), (b"zzz9", "zzz9")])
def test_a_codec_that_cannot_be_decoded_is_named(clip: Path, codec: bytes, named: str, capfd: pytest.CaptureFixture[str]) -> None:
    movies.recoded(clip, codec)
    with pytest.raises(FkpError, match=rf"clip\.mp4 can be decoded here, its codec is {named}: convert it to H\.264"):
        open_clip(clip)
    assert capfd.readouterr().err == ""


def test_a_codec_of_matroska_is_named(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 48))
    for number in range(3):
        writer.write(movies.frame(number))
    writer.release()
    assert len(list(open_clip(path))) == 3
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/ASP", b"V_NOSUCH/CODEC1"))
    with pytest.raises(FkpError, match=r"clip\.mkv can be decoded here, its codec is V_NOSUCH/CODEC1: convert it"):
        open_clip(path)


@pytest.mark.parametrize("fps", [25.0, 1000.0, 0.2])
@pytest.mark.parametrize("first_s", [0.0, 0.5])
def test_times_that_are_written_come_back(tmp_path: Path, library: str, fps: float, first_s: float) -> None:
    times_s = first_s + np.array([0, 0.04, 0.08, 0.31, 0.4, 1.2])
    with written_clip(tmp_path / "clip.mp4", fps) as write:
        for number, time_s in enumerate(times_s):
            write(movies.frame(number), time_s)
    found_s, numbers, _ = seen(tmp_path / "clip.mp4")
    assert found_s == pytest.approx(times_s, abs=2e-3)
    assert numbers == list(range(6))
    movie = read_movie(tmp_path / "clip.mp4")
    assert movie is not None and movie.codec == {"PyAV": "avc1", "OpenCV": "mp4v"}[library]
    assert movie.starts_s == pytest.approx(first_s, abs=1e-3)
    assert list(tmp_path.iterdir()) == [tmp_path / "clip.mp4"]
