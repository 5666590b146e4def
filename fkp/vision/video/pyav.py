"""Videos with PyAV, that is, with FFmpeg's own libraries."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from fkp.errors import FkpError
from fkp.vision.image import Image
from fkp.vision.video.container import counts_itself, opened, origin_s, seconds
from fkp.vision.video.library import UPRIGHT, Turn, check_written, checked_aspect, displayed
from fkp.vision.video.sound import Sound
from fkp.vision.video.undecodable import undecodable

#: The first one that is there, and its settings. H.264 plays everywhere. At 1280 x 720 on one core a frame takes 3.3 ms (MPEG-4 part 2
#: of OpenCV 3.4) and differs from its source by 39.6 dB (38.0); slower presets gain 0.3 dB and take 1.5 times as long and more.
_ENCODERS = {
    "libx264": {"preset": "ultrafast", "crf": "20"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "crf": "30", "b": "0"},
}
#: Units a second of a written video: of every usual frame rate a whole number is a frame.
_CLOCK = 90_000
#: H.273: the matrix of BT.601, by which OpenCV turns RGB into YUV, in the narrow range; primaries and transfer of BT.709.
_MATRIX, _NARROW, _BT709 = 6, 1, 1
#: A frame that does not tell its matrix; of such ones players take those of so many lines for BT.709.
_UNTOLD, _HD_LINES = 2, 720


def account(path: Path) -> tuple[float, int, float]:
    """`fps`, `promised` and `shown_s` of a `Clip`.

    Raises:
        FkpError: See `open_clip`.
    """
    with _opened(path) as (container, stream):
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        promised, shown_s = stream.frames, 0.0
        if promised and counts_itself(container):  # Each frame is named, and whether the edits leave it out.
            promised = sum(not entry.is_discard for entry in stream.index_entries)
        elif not promised:
            shown_s = seconds(stream.duration, stream.time_base) or seconds(container.duration, Fraction(1, av.time_base)) or 0.0
            promised = round(shown_s * fps)
        if next(_decoded(container, stream), None) is None:
            raise FkpError(undecodable(path))
    if not fps:
        raise FkpError(f"video {path} says no frame rate: convert it to .mp4")
    return fps, promised, shown_s


def timed(path: Path, fps: float) -> Iterator[tuple[float, Image]]:
    """See `Clip.timed`."""
    with _opened(path) as (container, stream):
        sar, origin = stream.sample_aspect_ratio, origin_s(container)
        aspect = checked_aspect(sar.numerator, sar.denominator, path) if sar else 1.0
        shape: tuple[int, int, Turn] | None = None
        time_s = -1.0
        for frame in _decoded(container, stream):
            pts_s = seconds(frame.pts, stream.time_base)  # A frame that comes at the end knows no unit.
            told_s = None if pts_s is None else pts_s - origin
            time_s = told_s if told_s is not None and told_s > time_s else time_s + 1 / fps if time_s >= 0 else 0.0
            # Of the first frame alone: what is asked for its matrix is held until Python looks for cycles, some hundred frames later.
            shape = shape or (frame.width, frame.height, _turn(frame))
            width, height, turn = shape
            yield time_s, displayed(_rgb(frame, width, height), aspect, turn)


@contextlib.contextmanager
def written(draft: Path, path: Path, fps: float, sound_of: Path | None) -> Iterator[_Writer]:
    """See `written_clip`."""
    writer = _Writer(draft, path, fps, sound_of)
    try:
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()
    except av.error.FFmpegError as error:
        if isinstance(error, OSError) and error.errno and error.strerror:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise FkpError(f"video {path} cannot be written: {error.strerror}") from error
    if writer.frames:
        check_written(draft, path, writer.frames, account)


class _Writer:
    def __init__(self, draft: Path, path: Path, fps: float, sound_of: Path | None) -> None:
        self._draft, self._path, self._fps, self._sound_of = draft, path, fps, sound_of
        self._container: Any = None
        self._stream: Any = None
        self._sound: Sound | None = None
        self._size = (0, 0)
        self._pts = -1
        self.frames = 0
        self.told = "without sound"

    def __call__(self, frame: Image, time_s: float | None = None) -> None:
        even = frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]
        if self._container is None:
            self._start(even)
        if even.shape[1::-1] != self._size:
            raise ValueError(f"the first frame has {self._size} pixels, this one {even.shape[1::-1]}")
        time_s = self.frames / self._fps if time_s is None else time_s
        # OpenCV's conversion takes a ninth of the time of FFmpeg's.
        planes: Any = cv2.cvtColor(even, cv2.COLOR_RGB2YUV_I420)
        picture = VideoFrame.from_ndarray(planes, format="yuv420p")
        self._pts = picture.pts = max(round(time_s * _CLOCK), self._pts + 1)
        picture.time_base, picture.duration = Fraction(1, _CLOCK), round(_CLOCK / self._fps)
        self._container.mux(self._stream.encode(picture))
        self.frames += 1
        if self._sound:
            self._sound.write_until(time_s)

    def _start(self, frame: Image) -> None:
        height, width = frame.shape[:2]
        if not (height and width):
            raise FkpError(f"cannot write video {self._path} of frames of less than 2 x 2 px: convert the source")
        name = next((name for name in _ENCODERS if name in av.codecs_available), None)
        if name is None:
            raise FkpError(
                f"this build of PyAV encodes neither H.264 nor VP9: pip install --force-reinstall av, and write {self._path} again"
            )
        self._container = av.open(os.path.abspath(self._draft), "w", format="mp4", options={"movflags": "+faststart"})
        rate = Fraction(self._fps).limit_denominator(1001)
        self._stream = self._container.add_stream(name, rate=rate or 1, options=_ENCODERS[name])
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt, context.time_base = width, height, "yuv420p", Fraction(1, _CLOCK)
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = _MATRIX, _NARROW, _BT709, _BT709
        self._size = (width, height)
        if self._sound_of is not None:
            self._sound = Sound(self._sound_of, self._container)
        try:
            self._container.start_encoding()
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            raise FkpError(f"cannot write video {self._path}: {error.strerror}: make its folder, or choose another place") from error

    def finish(self) -> None:
        if self._container is None:
            return
        self._container.mux(self._stream.encode(None))
        if self._sound:
            self._sound.finish()
            self.told = self._sound.told
        self._container.close()

    def close(self) -> None:
        """Let go of the files; what is not finished is thrown away."""
        if self._sound:
            self._sound.close()
        if self._container is not None:
            with contextlib.suppress(av.error.FFmpegError):  # After `finish` it does nothing, and before that there is another error.
                self._container.close()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    with opened(path) as container:
        # The picture of a song is a video stream, too.
        streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
        if not streams or streams[0].codec_context is None:
            raise FkpError(undecodable(path))
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """The frames; what is broken between them is left out, as players do."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:  # The file is cut off.
            packet = None
        try:
            frames = stream.codec_context.decode(packet if packet is not None and packet.size else None)
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            frames = []
        yield from frames
        if packet is None or not packet.size:
            return


def _rgb(frame: VideoFrame, width: int, height: int) -> Image:
    """(height, width, 3) uint8; a video may change its size on the way, as a call does whose line gets worse."""
    usual = Colorspace.ITU709 if frame.height >= _HD_LINES else Colorspace.ITU601
    space = usual if frame.colorspace == _UNTOLD else frame.colorspace
    whole = frame.color_range if frame.color_range == ColorRange.JPEG else None
    return frame.to_ndarray(
        format="rgb24", width=width, height=height, src_colorspace=space, src_color_range=whole, dst_color_range=ColorRange.JPEG
    )


def _turn(frame: VideoFrame) -> Turn:
    """By the frame's own matrix, 3 x 3 numbers of 32 bits."""
    told: Any = frame.side_data
    matrix = next((entry for entry in told if entry.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return UPRIGHT
    a, b, _, c, d = (int(np.sign(value)) for value in struct.unpack("=5i", bytes(matrix)[:20]))
    return a, b, c, d
