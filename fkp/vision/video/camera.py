"""A camera's frames, with OpenCV whatever else is installed: it knows the cameras of Linux, macOS and Windows by their number."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
from cv2.utils import logging as log

from fkp.errors import FkpError
from fkp.vision.image import Image

_USUAL_FPS = 30.0
#: Between two frames, that each may have a time of its own.
_LEAST_S = 0.001


class Camera:
    """A camera that is open; close it with `with`.

    Args:
        name: Its number, from 0; or a path, such as `/dev/video2`, from which OpenCV can read frames.

    Attributes:
        fps: Frames a second by its own account, and 30 where it gives none.

    Raises:
        FkpError: There is no such camera, or it gives no frames.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        level = log.setLogLevel(log.LOG_LEVEL_SILENT)  # It warns of what is raised here.
        try:
            if not name.isdigit() and not Path(name).exists():  # And never an address.
                raise FkpError(f"there is no camera {name}: {_there()}")
            self._capture = cv2.VideoCapture(int(name) if name.isdigit() else str(Path(name).absolute()))
        finally:
            log.setLogLevel(level)
        if not self._capture.isOpened():
            raise FkpError(f"camera {name} cannot be opened: {_there()}, and close other programs that use it")
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # What waits is older than what is seen; some cameras do not know this.
        there, self._first = self._capture.read()
        if not there:
            self._capture.release()
            raise FkpError(f"camera {name} gives no frames: close other programs that use it, or connect it again")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 1 <= fps <= 240 else _USUAL_FPS

    def timed(self) -> Iterator[tuple[float, Image]]:
        """Seconds since the first frame by the clock, rising, and the frame, (H, W, 3) uint8 RGB; until the camera gives no more.

        Frames that come while one is looked at are dropped by the camera's driver.
        """
        began, time_s, frame, there = time.monotonic(), 0.0, self._first, True
        while there:
            yield time_s, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            there, frame = self._capture.read()
            time_s = max(time.monotonic() - began, time_s + _LEAST_S)

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()


def _there() -> str:
    devices = sorted(str(path) for path in Path("/dev").glob("video*"))
    return f"connect one, or name another (here: {', '.join(devices) or 'none'})"
