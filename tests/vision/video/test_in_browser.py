"""A written video plays in chromium, with its sound."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fkp.vision.video import open_clip, written_clip
from tests.needs import needed
from tests.vision import movies
from tests.vision.video import films

if TYPE_CHECKING:
    from selenium import webdriver

#: Plays a video to its end and says what it was; then shows one of its moments and says three colours of it.
PLAY = """
const [sent, moment_s, places, done] = arguments;
const bytes = Uint8Array.from(atob(sent), (letter) => letter.charCodeAt(0));
const video = document.createElement("video");
video.muted = true;
video.onerror = () => done({ error: video.error.message });
video.onended = () => {
  const played = { width: video.videoWidth, height: video.videoHeight, seconds: video.duration,
                   sound: video.webkitAudioDecodedByteCount, images: video.webkitDecodedFrameCount };
  video.onended = null;
  video.onseeked = () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    done({ ...played, colours: places.map(([x, y]) => [...context.getImageData(x, y, 1, 1).data].slice(0, 3)) });
  };
  video.currentTime = moment_s;
};
video.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
video.play();
"""
PLACES = ((16, 12), (112, 12), (64, 84))


@pytest.mark.parametrize("encoder", ["libx264", "libvpx-vp9"])
def test_a_written_video_plays_with_its_sound(
    driver: webdriver.Chrome, tmp_path: Path, encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed("av", "no PyAV for videos")
    from fkp.vision.video import pyav

    monkeypatch.setattr(pyav, "_ENCODERS", {encoder: pyav._ENCODERS[encoder]})
    images = [cv2.resize(movies.frame(number), (128, 96), interpolation=cv2.INTER_NEAREST) for number in range(20)]
    source = films.film(tmp_path / "clip.mkv", sound="aac", images=images)
    with written_clip(tmp_path / "out.mp4", 25, source) as write:
        for time_s, image in open_clip(source).timed():
            write(image, time_s)
    sent = base64.b64encode((tmp_path / "out.mp4").read_bytes()).decode()
    driver.get("about:blank")
    seen = driver.execute_async_script(PLAY, sent, 15.5 / 25, PLACES)
    assert "error" not in seen, seen
    assert (seen["width"], seen["height"]) == (128, 96) and seen["seconds"] == pytest.approx(0.8, abs=0.1)
    assert seen["sound"] > 0 and seen["images"] > 0
    expected = [images[15][y, x].astype(int) for x, y in PLACES]
    assert np.abs(np.array(seen["colours"]) - expected).max() <= 14  # A step from frame to frame is 10, and one to a wrong matrix 25.
