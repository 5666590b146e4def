"""Videos with sound and in many codecs, written by PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tests.needs import needed
from tests.vision import movies

RATE = 48_000
#: When the beep begins and how long it is.
BEEP_S, BEEP_LONG_S = 0.4, 0.2


def beep(length_s: float, rate: int = RATE) -> np.ndarray:
    """(1, N) float32: silence but for one tone."""
    times_s = np.arange(round(length_s * rate)) / rate
    heard = (times_s >= BEEP_S) & (times_s < BEEP_S + BEEP_LONG_S)
    return (0.5 * np.sin(2 * np.pi * 1000 * times_s) * heard).astype(np.float32)[None]


def film(
    path: Path,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    sound: str | None = None,
    images: Sequence[np.ndarray] = (),
    fps: float = movies.FPS,
    **options: str,
) -> Path:
    """The frames of `movies`, or others, in a codec, with a beep in another codec."""
    av = needed("av", "no PyAV for videos")
    images = images or [movies.frame(number) for number in range(20)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps), options={"x265-params": "log-level=none"} | options)
        stream.width, stream.height, stream.pix_fmt = images[0].shape[1], images[0].shape[0], pixels
        audio = container.add_stream(sound, rate=RATE, layout="mono") if sound else None
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = number, 1 / Fraction(fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            heard = av.AudioFrame.from_ndarray(beep(len(images) / fps), format="fltp", layout="mono")
            heard.sample_rate, heard.pts, heard.time_base = RATE, 0, Fraction(1, RATE)
            size = audio.codec_context.frame_size or 1024
            resampler = av.AudioResampler(audio.codec_context.format or "s16", "mono", RATE, size)
            for part in (*resampler.resample(heard), *resampler.resample(None)):
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
    return path


def heard_s(path: Path) -> tuple[float, float]:
    """From when to when the sound of a video is louder than silence."""
    av = needed("av", "no PyAV for videos")
    times_s, loud = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            samples: Any = frame.to_ndarray().astype(np.float64).reshape(-1)
            samples = samples / (1 if frame.format.name.startswith("flt") else 2**15)
            times_s.append(frame.time + np.arange(len(samples)) / frame.sample_rate)
            loud.append(np.abs(samples) > 0.1)
    found = np.concatenate(times_s)[np.concatenate(loud)]
    return float(found[0]), float(found[-1])


def packets(path: Path) -> list[bytes]:
    """Of its sound."""
    av = needed("av", "no PyAV for videos")
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]
