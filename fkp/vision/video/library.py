"""What a library must do with videos, and what is the same for all: the shape of a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from fkp.errors import FkpError
from fkp.vision.image import Image

#: Wider or narrower pixels are a fault of the file.
_MOST_ASPECT = 4.0
#: (a, b, c, d): a pixel (x, y) is displayed at (a x + c y, b x + d y). Each -1, 0 or 1.
Turn = tuple[int, int, int, int]
UPRIGHT: Turn = (1, 0, 0, 1)


class Writer(Protocol):
    """Takes frames.

    Attributes:
        frames: How many so far.
        told: What became of the sound, for a person; complete when the video is closed.
    """

    frames: int
    told: str

    def __call__(self, frame: Image, time_s: float | None = None) -> None:
        """Take the next frame, (H, W, 3) uint8 RGB, and when it is shown."""
        ...


class Library(Protocol):
    """A module that reads and writes videos."""

    def account(self, path: Path) -> tuple[float, int, float]:
        """`fps`, `promised` and `shown_s` of a `Clip`."""
        ...

    def timed(self, path: Path, fps: float) -> Iterator[tuple[float, Image]]:
        """See `Clip.timed`."""
        ...

    def written(self, draft: Path, path: Path, fps: float, sound_of: Path | None) -> AbstractContextManager[Writer]:
        """See `written_clip`; the file is `draft`, and messages name `path`."""
        ...


def check_written(draft: Path, path: Path, frames: int, account: Callable[[Path], tuple[float, int, float]]) -> None:
    """Compare what a file says of itself with the frames that were written.

    Raises:
        FkpError: Not all of them are there.
    """
    if not draft.is_file() or account(draft)[1] != frames:
        raise FkpError(f"video {path} could not be written to its end: free some space")


def checked_aspect(across: float, down: float, path: Path) -> float:
    """Width of a pixel as a multiple of its height; 1 where the file does not say.

    Raises:
        FkpError: No camera has such pixels.
    """
    aspect = across / down if across > 0 and down > 0 else 1.0
    if not 1 / _MOST_ASPECT <= aspect <= _MOST_ASPECT:
        raise FkpError(f"video {path} says that its pixels are {across:g} wide and {down:g} high: convert it to square ones")
    return aspect


def displayed(frame: Image, aspect: float, turn: Turn, stands: bool = False) -> Image:
    """A frame as it is shown: first its pixels are made square, then it is turned.

    Args:
        frame: (H, W, 3) uint8.
        aspect: See `checked_aspect`.
        turn: By which it is displayed.
        stands: Whether it was turned already, so that what lay across stands now.
    """
    if aspect != 1:
        height, width = frame.shape[:2]
        size = (width, max(round(height * aspect), 1)) if stands else (max(round(width * aspect), 1), height)
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR if aspect > 1 else cv2.INTER_AREA)
    if turn == UPRIGHT:
        return frame
    a, b, c, d = turn
    right, down = (c, b) if b and c else (a, d)
    frame = frame.transpose(1, 0, 2) if b and c else frame
    return np.ascontiguousarray(frame[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])
