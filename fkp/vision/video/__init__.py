"""Videos: the only place that reads or writes them; with PyAV where it is installed, and otherwise with OpenCV.

PyAV (`fkp[video]`) decodes AV1 and H.266 as well, writes H.264, which browsers play, and keeps the sound. It is an extra, for its wheels
carry codecs under the GPL. OpenCV's own build of FFmpeg has neither those decoders nor an encoder that browsers like, and no sound.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fkp.common.files import atomic_replace
from fkp.errors import FkpError
from fkp.vision.image import Image
from fkp.vision.video.library import Library, Writer

#: What OpenCV cannot do.
WITHOUT_PYAV = "without PyAV the video is MPEG-4 part 2, which browsers do not play, and has no sound: pip install 'fkp[video]'"


@dataclass(frozen=True)
class Clip:
    """A video that can be read.

    Attributes:
        path: The file.
        fps: Frames a second on the whole; a frame of a video of changing rate may be shown earlier or later.
        promised: Frames by the file's own account, 0 where it gives none. For some formats an estimate.
        shown_s: Seconds by the file's own account, 0 where it gives none, or `promised` is exact.
    """

    path: Path
    fps: float
    promised: int
    shown_s: float

    def __iter__(self) -> Iterator[Image]:
        """The frames alone, see `timed`."""
        return (frame for _, frame in self.timed())

    def timed(self) -> Iterator[tuple[float, Image]]:
        """When each frame is shown, in seconds, rising, and the frame as it is shown, until there are no more that can be decoded.

        Frames are (H, W, 3) uint8 RGB, all of one size, turned and mirrored as the file says, with square pixels.
        """
        return _library().timed(self.path, self.fps)

    def is_whole(self, frames: int, ended_s: float) -> bool:
        """Whether so many frames, the last of which is shown until `ended_s`, are what the file promises; by 95 %, for some estimate."""
        return frames >= 0.95 * self.promised or (self.shown_s > 0 and ended_s >= 0.95 * self.shown_s)


def open_clip(path: str | Path) -> Clip:
    """Open a video of any format that the library's FFmpeg reads.

    Raises:
        FkpError: The file is missing, not a video, in a codec that cannot be decoded, or says no frame rate.
    """
    if not Path(path).is_file():  # And never an address: the libraries would fetch it.
        raise FkpError(f"there is no video {path}: name a file")
    return Clip(Path(path), *_library().account(Path(path)))


@contextlib.contextmanager
def written_clip(path: Path, fps: float, sound_of: Path | None = None) -> Iterator[Writer]:
    """Write a video, which appears whole when the block ends well, and otherwise not at all.

    The block gets a function that takes the next frame, (H, W, 3) uint8 RGB, all of the first one's size, and when it is shown, in
    seconds and rising; by default frames are even. The last row or column of an odd size is lost, which the codecs cannot hold.

    Args:
        path: `NAME.mp4`.
        fps: Frames a second on the whole.
        sound_of: The video whose sound it gets, at the times that it has there; PyAV alone can.

    Raises:
        FkpError: It cannot be written to its end.
    """
    with atomic_replace(path) as draft, _library().written(draft, path, fps, sound_of) as writer:
        yield writer


def has_pyav() -> bool:
    """Whether videos are read and written with PyAV."""
    return find_spec("av") is not None


def _library() -> Library:
    if has_pyav():
        from fkp.vision.video import pyav

        return pyav
    from fkp.vision.video import opencv

    return opencv
