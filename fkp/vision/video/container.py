"""A file that FFmpeg has opened, and its clock."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer

from fkp.errors import FkpError
from fkp.vision.video.undecodable import undecodable

#: Only files: a playlist may name an address.
_FILES_ONLY = {"protocol_whitelist": "file"}


@contextlib.contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a file to read.

    Raises:
        FkpError: It is none of video or sound.
    """
    try:
        # Whole, for of a relative name with a colon FFmpeg takes what stands before it for a protocol.
        container = av.open(os.path.abspath(path), options=_FILES_ONLY, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise FkpError(undecodable(path)) from error
    with container:
        yield container


def origin_s(container: InputContainer) -> float:
    """When a player begins. MP4 and QuickTime count from there themselves, and may leave a beginning empty."""
    start_s = seconds(container.start_time, Fraction(1, av.time_base)) or 0.0
    return min(start_s, 0.0) if counts_itself(container) else start_s


def counts_itself(container: InputContainer) -> bool:
    """Whether the file is MP4 or QuickTime, whose account names each frame."""
    return "mp4" in container.format.name.split(",")


def seconds(ticks: int | None, unit: Fraction | None) -> float | None:
    """None where the file does not say."""
    return None if ticks is None or unit is None else float(ticks * unit)
