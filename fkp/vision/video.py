"""Videos: the only place that reads or writes them. Sound is neither read nor written."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Read by OpenCV when it opens its first video: what FFmpeg says of a broken one is said here, in one sentence.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
from cv2.utils import logging as log

from fkp.common.files import replacing
from fkp.errors import FkpError
from fkp.vision.image import Image

#: MPEG-4 part 2, the one codec for .mp4 that OpenCV's own build of FFmpeg can always encode.
_CODEC = "mp4v"


@dataclass(frozen=True)
class Clip:
    """A video that can be read.

    Attributes:
        path: The file.
        fps: Frames a second on the whole; a frame of a video of changing rate may be shown earlier or later.
        promised: Frames by the file's own account, 0 where it gives none. For some formats an estimate.
    """

    path: Path
    fps: float
    promised: int

    def __iter__(self) -> Iterator[Image]:
        """The frames as (H, W, 3) uint8 RGB, turned as the file says, until one cannot be decoded or there are no more."""
        capture = _open(self.path)
        try:
            while True:
                there, frame = capture.read()
                if not there:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            capture.release()


def open_clip(path: str | Path) -> Clip:
    """Open a video of any format that OpenCV's FFmpeg reads.

    Raises:
        FkpError: The file is missing, not a video, or says no frame rate.
    """
    if not Path(path).is_file():  # And never an address: OpenCV would fetch it.
        raise FkpError(f"there is no video {path}: name a file")
    capture = _open(Path(path))
    fps, promised = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    if not (math.isfinite(fps) and fps > 0):
        raise FkpError(f"video {path} says no frame rate: convert it to .mp4")
    return Clip(Path(path), fps, max(int(promised), 0))


@contextlib.contextmanager
def written_clip(path: Path, fps: float) -> Iterator[Callable[[Image], None]]:
    """Write a video, which appears whole when the block ends well, and otherwise not at all.

    The block gets a function that takes the next frame, (H, W, 3) uint8 RGB, all of the first one's size; the last row or
    column of an odd size is lost, which the codec cannot hold.

    Raises:
        FkpError: It cannot be written to its end.
    """
    writers: list[cv2.VideoWriter] = []
    count = 0

    def write(frame: Image) -> None:
        nonlocal count
        if not writers:
            writers.append(
                cv2.VideoWriter(os.path.abspath(draft), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*_CODEC), fps, frame.shape[1::-1])
            )
            if not writers[0].isOpened():
                size = "{} x {}".format(*frame.shape[1::-1])
                raise FkpError(f"cannot write video {path} of {size} px at {fps:g} frames a second: make its folder, or convert the source")
        writers[0].write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        count += 1

    with replacing(path) as draft:
        try:
            yield write
        finally:
            for writer in writers:
                writer.release()
        # OpenCV does not tell when a disk is full; the file's own account does.
        if count and (not draft.is_file() or open_clip(draft).promised != count):
            raise FkpError(f"video {path} could not be written to its end: free some space")


def _open(path: Path) -> cv2.VideoCapture:
    level = log.setLogLevel(log.LOG_LEVEL_SILENT)  # It warns of what is raised here.
    # Whole, for of a relative name with a colon FFmpeg takes what stands before it for a protocol.
    capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
    log.setLogLevel(level)
    if not capture.isOpened():
        raise FkpError(f"{path} is not a video that can be decoded: replace it with a whole .mp4, .mov, .mkv, .webm or .avi file")
    return capture
