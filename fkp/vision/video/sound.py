"""The sound of one video for another: its packets as they are where browsers play them, and otherwise as AAC."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from fkp.vision.video.container import opened, origin_s

#: What browsers play in an MP4 file.
_PLAYED = ("aac", "mp3", "opus", "flac")
_FRAME_SAMPLES = 1024


class Sound:
    """The first sound of a file, written into another one beside its images, packet by packet.

    Each packet is decoded before it is kept: one that cannot be would end the video where a browser meets it.

    Args:
        source: A file that was read as a video.
        out: Not yet written to.

    Attributes:
        told: What became of it, for a person; complete after `finish`.
    """

    def __init__(self, source: Path, out: OutputContainer) -> None:
        self._files = contextlib.ExitStack()
        container = self._files.enter_context(opened(source))
        self._origin_s = origin_s(container)
        self._out = out
        self._to: Any = None
        self._resampler: AudioResampler | None = None
        self._broken, self._last_dts = 0, -(1 << 62)
        self._next: tuple[Packet, list[AudioFrame]] | None = None
        stream = next(iter(container.streams.audio), None)
        if stream is None:
            self.told = "without sound, as its source is"
            return
        self._packets = self._whole(container, stream)
        self._next = next(self._packets, None)
        if self._next is None or stream.codec_context.sample_rate <= 0:
            self._next, self.told = None, "without its sound, which is broken"
            return
        name = stream.codec_context.codec.canonical_name
        if name in _PLAYED:
            self._to = out.add_stream_from_template(stream)
            self.told = f"with its sound ({name})"
        else:
            layout, rate = "mono" if stream.channels == 1 else "stereo", stream.codec_context.sample_rate
            self._to = out.add_stream("aac", rate=rate, layout=layout)
            self._resampler = AudioResampler("fltp", layout, rate, _FRAME_SAMPLES)
            self.told = f"with its sound (as AAC, for browsers do not play {name})"

    def write_until(self, time_s: float) -> None:
        """Write what is heard before a time, so that images and sound lie beside each other in the file."""
        while self._next is not None:
            packet, frames = self._next
            ticks = packet.dts if packet.pts is None else packet.pts
            if ticks is not None and ticks * float(packet.time_base) - self._origin_s >= time_s:
                return
            self._write(packet, frames)
            self._next = next(self._packets, None)

    def finish(self) -> None:
        """Write the rest."""
        self.write_until(float("inf"))
        if self._resampler is not None:
            self._encode([None])
            self._out.mux(self._to.encode(None))
        if self._to is not None and self._broken:
            self.told += f", of which {self._broken} broken packets are left out"

    def close(self) -> None:
        """Let go of the source."""
        self._files.close()

    def _write(self, packet: Packet, frames: list[AudioFrame]) -> None:
        shift = round(Fraction(self._origin_s) / packet.time_base)
        if self._resampler is not None:
            for frame in frames:
                if frame.pts is not None and frame.time_base:
                    frame.pts -= round(Fraction(self._origin_s) / frame.time_base)
            self._encode(frames)
            return
        if packet.dts is None or packet.dts - shift <= self._last_dts:  # Without an order of its own no file can hold it.
            self._broken += 1
            return
        packet.dts -= shift
        packet.pts = packet.dts if packet.pts is None else packet.pts - shift
        self._last_dts = packet.dts
        if not packet.duration:  # Without it the last one would not be heard.
            packet.duration = round(sum(Fraction(frame.samples, frame.sample_rate) for frame in frames) / packet.time_base)
        packet.stream = self._to
        self._out.mux_one(packet)

    def _encode(self, frames: list[AudioFrame] | list[None]) -> None:
        if self._resampler is not None:
            for frame in frames:
                for even in self._resampler.resample(frame):
                    self._out.mux(self._to.encode(even))

    def _whole(self, container: InputContainer, stream: AudioStream) -> Iterator[tuple[Packet, list[AudioFrame]]]:
        """Each packet that can be decoded, with what it holds; of broken ones the number is kept."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None or not packet.size:
                    return
            except av.error.FFmpegError:  # The file is cut off.
                return
            try:
                yield packet, list(packet.decode())
            except av.error.FFmpegError:
                self._broken += 1
