"""Videos: the only place that reads or writes them. Sound is neither read nor written."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Read by OpenCV when it opens its first video: what FFmpeg says of a broken one is said here, in one sentence.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np
from cv2.utils import logging as log

from fkp.common.files import atomic_replace
from fkp.errors import FkpError
from fkp.vision.image import Image
from fkp.vision.movie import Movie, read_movie, write_times

#: MPEG-4 part 2, the one codec for .mp4 that OpenCV's own build of FFmpeg can always encode.
_CODEC = "mp4v"
#: Frame rates that it holds; with another one, of a file that counts milliseconds, the times are written frame by frame.
_RATES, _USUAL_RATE = (1.0, 240.0), 30.0
#: A written frame may be shown so much earlier or later than it should be, as the file's own units demand.
_EVEN_S = 0.0005
#: Wider or narrower pixels are a fault of the file.
_MOST_ASPECT = 4.0
_NAMES = {
    **{"av01": "AV1", "V_AV1": "AV1", "AV01": "AV1", "vvc1": "H.266", "vvi1": "H.266", "hvc1": "H.265", "hev1": "H.265"},
    **{"dvh1": "Dolby Vision", "dvhe": "Dolby Vision", "avc1": "H.264", "apv1": "APV", "evc1": "EVC", "V_MPEGH/ISO/HEVC": "H.265"},
}
#: How Matroska and WebM name a codec, near a file's beginning.
_MATROSKA = re.compile(rb"V_[A-Z0-9]+(?:/[A-Z0-9]+)*")


@dataclass(frozen=True)
class Clip:
    """A video that can be read.

    Attributes:
        path: The file.
        fps: Frames a second on the whole; a frame of a video of changing rate may be shown earlier or later.
        promised: Frames by the file's own account, 0 where it gives none. For some formats an estimate.
        shown_s: Seconds by the file's own account, 0 where it gives none.
    """

    path: Path
    fps: float
    promised: int
    shown_s: float

    def __iter__(self) -> Iterator[Image]:
        """The frames alone, see `timed`."""
        return (frame for _, frame in self.timed())

    def timed(self) -> Iterator[tuple[float, Image]]:
        """When each frame is shown, in seconds, rising, and the frame as it is shown, until one cannot be decoded or there are no more.

        Frames are (H, W, 3) uint8 RGB, turned and mirrored as the file says, with square pixels.
        """
        movie, capture = read_movie(self.path), _open(self.path)
        time_s = -1.0
        try:
            if movie is not None:  # OpenCV turns by an angle, which no mirror has.
                capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
            aspect = _aspect(capture, self.path)
            while capture.grab():
                # Of a frame without a time of its own OpenCV repeats the one before.
                told_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 + (movie.starts_s if movie else 0.0)
                there, frame = capture.retrieve()
                if not there:
                    return
                time_s = told_s if told_s > time_s else time_s + 1 / self.fps
                yield time_s, _displayed(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), aspect, movie, capture)
        finally:
            capture.release()

    def is_whole(self, frames: int, ended_s: float) -> bool:
        """Whether so many frames, the last of which is shown until `ended_s`, are what the file promises; by 95 %, for some estimate."""
        return frames >= 0.95 * self.promised or (self.shown_s > 0 and ended_s >= 0.95 * self.shown_s)


def open_clip(path: str | Path) -> Clip:
    """Open a video of any format that OpenCV's FFmpeg reads.

    Raises:
        FkpError: The file is missing, not a video, in a codec that cannot be decoded, or says no frame rate.
    """
    if not Path(path).is_file():  # And never an address: OpenCV would fetch it.
        raise FkpError(f"there is no video {path}: name a file")
    movie, capture = read_movie(Path(path)), _open(Path(path))
    fps, promised = capture.get(cv2.CAP_PROP_FPS), max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    there = capture.grab()
    capture.release()
    if not there:
        raise FkpError(_undecodable(Path(path)))
    if not (math.isfinite(fps) and fps > 0):
        raise FkpError(f"video {path} says no frame rate: convert it to .mp4")
    return Clip(Path(path), fps, promised, movie.starts_s + movie.shown_s if movie and movie.shown_s else promised / fps)


@contextlib.contextmanager
def written_clip(path: Path, fps: float) -> Iterator[Callable[..., None]]:
    """Write a video, which appears whole when the block ends well, and otherwise not at all.

    The block gets a function that takes the next frame, (H, W, 3) uint8 RGB, all of the first one's size, and when it is shown, in
    seconds and rising; by default frames are even. The last row or column of an odd size is lost, which the codec cannot hold.

    Raises:
        FkpError: It cannot be written to its end.
    """
    writers: list[cv2.VideoWriter] = []
    times_s: list[float] = []
    rate = fps if _RATES[0] <= fps <= _RATES[1] else _USUAL_RATE

    def write(frame: Image, time_s: float | None = None) -> None:
        if not writers:
            writers.append(
                cv2.VideoWriter(os.path.abspath(draft), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*_CODEC), rate, frame.shape[1::-1])
            )
            if not writers[0].isOpened():
                size = "{} x {}".format(*frame.shape[1::-1])
                raise FkpError(f"cannot write video {path} of {size} px at {fps:g} frames a second: make its folder, or convert the source")
        writers[0].write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        times_s.append(len(times_s) / rate if time_s is None else time_s)

    with atomic_replace(path) as draft:
        try:
            yield write
        finally:
            for writer in writers:
                writer.release()
        # OpenCV does not tell when a disk is full; the file's own account does.
        if times_s and (not draft.is_file() or open_clip(draft).promised != len(times_s)):
            raise FkpError(f"video {path} could not be written to its end: free some space")
        if times_s and np.abs(np.array(times_s) - np.arange(len(times_s)) / rate).max() > _EVEN_S:
            write_times(draft, times_s, 1 / fps)


def _displayed(frame: Image, aspect: float, movie: Movie | None, capture: cv2.VideoCapture) -> Image:
    """A frame as it is shown: first its pixels are made square, then it is turned."""
    if aspect != 1:
        height, width = frame.shape[:2]
        # Without a movie's account OpenCV has turned the frame already, and what lay across may stand now.
        stands = movie is None and round(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 180 == 90
        size = (width, max(round(height * aspect), 1)) if stands else (max(round(width * aspect), 1), height)
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR if aspect > 1 else cv2.INTER_AREA)
    if movie is not None:
        a, b, c, d = movie.turn
        right, down = (c, b) if b and c else (a, d)
        frame = frame.transpose(1, 0, 2) if b and c else frame
        frame = np.ascontiguousarray(frame[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])
    return frame


def _aspect(capture: cv2.VideoCapture, path: Path) -> float:
    """Width of a pixel as a multiple of its height."""
    across, down = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    aspect = across / down if across > 0 and down > 0 else 1.0
    if not 1 / _MOST_ASPECT <= aspect <= _MOST_ASPECT:
        raise FkpError(f"video {path} says that its pixels are {across:g} wide and {down:g} high: convert it to square ones")
    return aspect


def _open(path: Path) -> cv2.VideoCapture:
    level = log.setLogLevel(log.LOG_LEVEL_SILENT)  # It warns of what is raised here.
    # Whole, for of a relative name with a colon FFmpeg takes what stands before it for a protocol.
    capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
    log.setLogLevel(level)
    if not capture.isOpened():
        raise FkpError(_undecodable(path))
    return capture


def _undecodable(path: Path) -> str:
    """Why a file cannot be read, with its codec where it names one."""
    movie = read_movie(path)
    with path.open("rb") as file:
        head = file.read(1 << 16)
    named = _MATROSKA.search(head) if head[:4] == b"\x1aE\xdf\xa3" else None
    code = movie.codec if movie else named[0].decode() if named else ""
    if not code.strip("\0 "):
        return f"{path} is not a video that can be decoded: replace it with a whole .mp4, .mov, .mkv, .webm or .avi file"
    name = f"{_NAMES[code]} ({code})" if code in _NAMES else code
    return f"no frame of video {path} can be decoded here, its codec is {name}: convert it to H.264, or replace it if it is broken"
