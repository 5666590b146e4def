"""What PyAV alone can: more codecs, every frame's time, colours as they are told."""

from __future__ import annotations

import gc
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from fkp.errors import FkpError
from fkp.vision.video import open_clip, written_clip
from tests.needs import needed
from tests.vision import movies
from tests.vision.video.films import film

pytestmark = pytest.mark.usefixtures("pyav")


@pytest.fixture
def pyav() -> None:
    needed("av", "no PyAV for videos")


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("av1.mp4", "libsvtav1", "yuv420p"),
        ("hevc.mp4", "libx265", "yuv420p10le"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("reordered.mkv", "libx264", "yuv444p"),
        ("broadcast.ts", "libx264", "yuv420p"),
        ("camera.avi", "mjpeg", "yuvj420p"),
    ],
)
def test_what_people_have(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    images = [cv2.resize(movies.frame(number), (128, 96), interpolation=cv2.INTER_NEAREST) for number in range(20)]
    clip = open_clip(film(tmp_path / name, codec, pixels, images=images))
    assert clip.fps == pytest.approx(25) and clip.promised == pytest.approx(20, abs=1)
    timed = list(clip.timed())
    assert [movies.number_of(image) for _, image in timed] == list(range(20))
    assert [time_s for time_s, _ in timed] == pytest.approx(np.arange(20) / 25, abs=2e-3)
    assert clip.is_whole(20, 0.8)
    for corner, place in (((8, 8), 0), ((8, 120), 1), ((88, 64), 2)):
        assert timed[19][1][corner].argmax() == place


@pytest.mark.parametrize("lines", [96, 720])
def test_colours_go_there_and_back(tmp_path: Path, lines: int) -> None:
    colours = np.array([[200, 30, 30], [30, 160, 40], [40, 40, 220], [240, 240, 240], [8, 8, 8], [220, 200, 40]], np.uint8)
    image = np.repeat(np.repeat(colours[None], lines, axis=0), 32, axis=1)
    with written_clip(tmp_path / "clip.mp4", 25) as write:
        for _ in range(2):
            write(image)
    for found in open_clip(tmp_path / "clip.mp4"):
        assert np.abs(found[lines // 2, 16::32].astype(int) - colours).max() <= 5


def test_a_video_whose_size_changes_keeps_the_first(tmp_path: Path) -> None:
    parts = [
        film(tmp_path / f"{size}.ts", images=[cv2.resize(movies.frame(n), (size, size * 3 // 4)) for n in range(10)]) for size in (64, 128)
    ]
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    images = list(open_clip(both))
    assert {image.shape for image in images} == {(48, 64, 3)}
    assert [movies.number_of(image) for image in images] == [*range(10), *range(10)]


def test_frames_of_another_size_are_no_video(tmp_path: Path) -> None:
    def fail() -> None:
        with written_clip(tmp_path / "clip.mp4", 25) as write:
            write(movies.frame(0))
            write(np.zeros((32, 32, 3), np.uint8))

    with pytest.raises(ValueError, match="the first frame has"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_frame_is_passed_over(tmp_path: Path) -> None:
    path = film(tmp_path / "camera.avi", "mjpeg", "yuvj420p")
    data = bytearray(path.read_bytes())
    starts = [place for place in range(len(data)) if data[place : place + 4] == b"00dc" and data[place + 8 : place + 10] == b"\xff\xd8"]
    assert len(starts) == 20
    data[starts[5] + 8 : starts[6] - 8] = bytes(starts[6] - starts[5] - 16)
    path.write_bytes(data)
    clip = open_clip(path)
    timed = list(clip.timed())
    assert [movies.number_of(image) for _, image in timed] == [*range(5), *range(6, 20)]
    assert timed[5][0] == pytest.approx(6 / 25, abs=2e-3)


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    """Without Python's search for cycles, which comes late for few large objects."""
    path = film(tmp_path / "clip.mp4", images=[np.full((480, 640, 3), 2 * number, np.uint8) for number in range(120)], preset="ultrafast")
    process, used = psutil.Process(), []
    gc.disable()
    try:
        with written_clip(tmp_path / "out.mp4", 25, path) as write:
            for time_s, image in open_clip(path).timed():
                write(image, time_s)
                used.append(process.memory_info().rss)
    finally:
        gc.enable()
    assert len(used) == 120 and used[-1] - used[30] < 20e6, "90 frames are 41 MB"


def test_a_playlist_reaches_no_address(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(FkpError, match="is not a video that can be decoded"):
        open_clip(tmp_path / "clip.mp4")
