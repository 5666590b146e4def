"""Videos: what was written can be read, and what is broken is told."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fkp.errors import FkpError
from fkp.vision.video import open_clip, written_clip


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


def test_a_clip_that_could_not_be_written_to_its_end(tmp_path: Path) -> None:
    """A frame of another size is not taken by the codec, as no frame is when the disk is full; OpenCV tells neither."""

    def fail() -> None:
        with written_clip(tmp_path / "clip.mp4", 25) as write:
            write(frame(0))
            write(frame(1, 32, 32))

    with pytest.raises(FkpError, match="could not be written to its end"):
        fail()
    assert list(tmp_path.iterdir()) == []


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
