"""Videos with OpenCV. Of MP4 and QuickTime files it passes on too little: `movie` reads the rest, and writes times that are not even."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

# Read by OpenCV when it opens its first video: what FFmpeg says of a broken one is said here, in one sentence.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np
from cv2.utils import logging as log

from fkp.errors import FkpError
from fkp.vision.image import Image
from fkp.vision.video.library import UPRIGHT, check_written, checked_aspect, displayed
from fkp.vision.video.movie import read_movie, write_times
from fkp.vision.video.undecodable import undecodable

#: MPEG-4 part 2, the one codec for .mp4 that OpenCV's own build of FFmpeg can always encode.
_CODEC = "mp4v"
#: Frame rates that it holds; with another one, of a file that counts milliseconds, the times are written frame by frame.
_RATES, _USUAL_RATE = (1.0, 240.0), 30.0
#: A written frame may be shown so much earlier or later than it should be, as the file's own units demand.
_EVEN_S = 0.0005


def account(path: Path) -> tuple[float, int, float]:
    """`fps`, `promised` and `shown_s` of a `Clip`.

    Raises:
        FkpError: See `open_clip`.
    """
    movie, capture = read_movie(path), _open(path)
    fps, promised = capture.get(cv2.CAP_PROP_FPS), max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    there = capture.grab()
    capture.release()
    if not there:
        raise FkpError(undecodable(path, ", or install fkp[video], which decodes more,"))
    if not (math.isfinite(fps) and fps > 0):
        raise FkpError(f"video {path} says no frame rate: convert it to .mp4")
    return fps, promised, movie.starts_s + movie.shown_s if movie and movie.shown_s else promised / fps


def timed(path: Path, fps: float) -> Iterator[tuple[float, Image]]:
    """See `Clip.timed`."""
    movie, capture = read_movie(path), _open(path)
    time_s = -1.0
    try:
        if movie is not None:  # OpenCV turns by an angle, which no mirror has.
            capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        aspect = checked_aspect(capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN), path)
        while capture.grab():
            # Of a frame without a time of its own OpenCV repeats the one before.
            told_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 + (movie.starts_s if movie else 0.0)
            there, frame = capture.retrieve()
            if not there:
                return
            time_s = told_s if told_s > time_s else time_s + 1 / fps
            # Without a movie's account OpenCV has turned the frame already.
            stands = movie is None and round(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 180 == 90
            yield time_s, displayed(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), aspect, movie.turn if movie else UPRIGHT, stands)
    finally:
        capture.release()


@contextlib.contextmanager
def written(draft: Path, path: Path, fps: float, sound_of: Path | None) -> Iterator[_Writer]:
    """See `written_clip`; the sound is left out."""
    writer = _Writer(draft, path, fps)
    try:
        yield writer
    finally:
        writer.close()
    if not writer.frames:
        return
    check_written(draft, path, writer.frames, account)  # OpenCV does not tell when a disk is full.
    if np.abs(np.array(writer.times_s) - np.arange(writer.frames) / writer.rate).max() > _EVEN_S:
        write_times(draft, writer.times_s, 1 / fps)


class _Writer:
    told = "without sound"

    def __init__(self, draft: Path, path: Path, fps: float) -> None:
        self._draft, self._path, self._fps = draft, path, fps
        self.rate = fps if _RATES[0] <= fps <= _RATES[1] else _USUAL_RATE
        self.times_s: list[float] = []
        self.frames = 0
        self._writer: cv2.VideoWriter | None = None

    def __call__(self, frame: Image, time_s: float | None = None) -> None:
        if self._writer is None:
            size = (frame.shape[1], frame.shape[0])
            code = cv2.VideoWriter.fourcc(*_CODEC)
            self._writer = cv2.VideoWriter(os.path.abspath(self._draft), cv2.CAP_FFMPEG, code, self.rate, size)
            if not self._writer.isOpened():
                told = f"{size[0]} x {size[1]} px at {self._fps:g} frames a second"
                raise FkpError(f"cannot write video {self._path} of {told}: make its folder, or convert the source")
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self.times_s.append(self.frames / self.rate if time_s is None else time_s)
        self.frames += 1

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()


def _open(path: Path) -> cv2.VideoCapture:
    level = log.setLogLevel(log.LOG_LEVEL_SILENT)  # It warns of what is raised here.
    # Whole, for of a relative name with a colon FFmpeg takes what stands before it for a protocol.
    capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
    log.setLogLevel(level)
    if not capture.isOpened():
        raise FkpError(undecodable(path, ", or install fkp[video], which decodes more,"))
    return capture
