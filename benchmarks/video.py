"""Follow synthetic faces through clips with known points: frames/s, and what smoothing costs and brings.

    python benchmarks/video.py [--bundle DIR] [--smooth HZ,BETA]

A still face has only the network's jitter. A moving one has its own second difference, too (row "truth"); its lag is the
time by which the points trail the truth, by least squares against the truth's velocity.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from fkp.data.synthetic.clip import Motion, frames
from fkp.errors import FkpError, run_command
from fkp.predict import DEFAULT_BUNDLE, Predictor
from fkp.predict.tracker import FaceTracker
from fkp.predict.video import annotate, threads
from fkp.vision.smooth import OneEuroSettings, shake_pct
from fkp.vision.video import has_pyav, open_clip, written_clip

FPS = 30.0
FRAMES = 90
FACES = (0, 3, 6)
MOTIONS = {
    "still": Motion(),
    "slow (0.3 boxes/s at most)": Motion(sway_boxes=0.15, period_s=3),
    "fast (1.7 boxes/s at most)": Motion(sway_boxes=0.4, period_s=1.5),
}
#: Asked: a still face shakes at most this part of what it does without smoothing, and a moving one trails by less.
STILL_PART, LAG_FRAMES = 0.25, 1.0
#: Asked: frames/s of following one face on one core, without reading and writing.
SPEED_FRAMES, FOLLOWING = 120, 250.0


def main() -> None:
    """Print one table and, below it, what was asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--smooth", metavar="HZ,BETA", help="default: the command's own")
    arguments = parser.parse_args()
    smoothing = OneEuroSettings(*map(float, arguments.smooth.split(","))) if arguments.smooth else OneEuroSettings()
    predictor = Predictor(arguments.bundle, threads())
    print(f"{smoothing}, {FRAMES} frames of each of {len(FACES)} synthetic faces at {FPS:g} frames/s, 240 px; {threads()} cores\n")
    print(f"{'motion':28s} {'points':9s} {'jitter %':>9s} {'lag frames':>11s} {'NME %':>7s} {'frames/s':>9s}")
    asked = []
    for name, motion in MOTIONS.items():
        runs = [_follow(predictor, smoothing, face, motion) for face in FACES]
        rate = len(FACES) * FRAMES / sum(seconds for *_, seconds in runs)
        jitter, lag = {}, {}
        for row, place in (("raw", 1), ("smoothed", 2)):
            jitter[row] = float(np.median([_jitter(run[place]) for run in runs]))
            lag[row] = float(np.median([_lag_frames(run[place], run[0]) for run in runs])) if motion.sway_boxes else float("nan")
            error = float(np.mean([_nme(run[place], run[0]) for run in runs]))
            print(f"{name:28s} {row:9s} {jitter[row]:9.3f} {lag[row]:11.2f} {error:7.2f} {rate:9.1f}")
        print(f"{name:28s} {'truth':9s} {np.median([_jitter(run[0]) for run in runs]):9.3f}")
        if motion.sway_boxes:
            asked.append(f"{name}: smoothing lags {lag['smoothed'] - lag['raw']:.2f} frames more than none, asked below {LAG_FRAMES:g}")
        else:
            asked.append(f"{name}: smoothed jitter is {jitter['smoothed'] / jitter['raw']:.2f} of raw, asked at most {STILL_PART:g}")
    print("\n" + "\n".join(asked))
    _speed(Predictor(arguments.bundle, 1), smoothing)


def _speed(predictor: Predictor, smoothing: OneEuroSettings) -> None:
    """Frames/s of processor time on one core, 1280 x 720 with one face that sways, by either library."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # PyAV's threads go by it.
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    around = cv2.resize(rng.integers(0, 256, (9, 16, 3), np.uint8), (1280, 720), interpolation=cv2.INTER_CUBIC)
    images = []
    for face, _ in frames(0, 7, SPEED_FRAMES, FPS, Motion(sway_boxes=0.15, period_s=3), size_px=480, noise=2):
        images.append(around.copy())
        images[-1][120:600, 400:880] = face
    tracker = FaceTracker(predictor, smoothing)
    seconds = _timed(lambda: [tracker(image, number / FPS) for number, image in enumerate(images)])
    print(f"\n1280 x 720, one face, {SPEED_FRAMES} frames, one core, frames/s of processor time")
    print(f"following alone {SPEED_FRAMES / seconds:.0f}, asked {FOLLOWING:g}")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("PyAV", "OpenCV") if has_pyav() else ("OpenCV",):
            if name == "OpenCV":
                sys.modules["av"] = None  # type: ignore[assignment]
            source = Path(folder) / f"{name}.mp4"
            writing = _timed(lambda source=source: _write(source, images))
            reading = _timed(lambda source=source: [None for _ in open_clip(source)])
            place = source.with_name(f"{name}.drawn.mp4")
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                whole = _timed(lambda source=source, place=place: annotate(predictor, str(source), place, smoothing))
            parts = {"reading": reading, "writing": writing, "the command": whole}
            rates = (f"{what} {SPEED_FRAMES / part:.0f}" for what, part in parts.items())
            print(f"{name}: {', '.join(rates)}; {source.stat().st_size / 1e6:.2f} MB")


def _write(place: Path, images: list[np.ndarray]) -> None:
    with written_clip(place, FPS) as write:
        for image in images:
            write(image)


def _timed(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def _follow(
    predictor: Predictor, smoothing: OneEuroSettings, face: int, motion: Motion
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Truth, raw and smoothed points, each (FRAMES, 68, 2), and the seconds of following alone."""
    tracker = FaceTracker(predictor, smoothing)
    truth, raw, smooth, seconds = [], [], [], 0.0
    for number, (image, points_px) in enumerate(frames(face, 7, FRAMES, FPS, motion)):
        began = time.perf_counter()
        seen = tracker(image, number / FPS)
        seconds += time.perf_counter() - began
        if [sighting.track for sighting in seen] != [0]:
            raise FkpError(f"face {face} is not followed as one face: this model or its clip cannot be measured here")
        truth.append(points_px)
        raw.append(seen[0].face.points_px)
        smooth.append(seen[0].smooth_px)
    return np.array(truth), np.array(raw), np.array(smooth), seconds


def _jitter(points_px: np.ndarray) -> float:
    return float(np.median([shake_pct(points_px[place : place + 3]) for place in range(len(points_px) - 2)]))


def _lag_frames(points_px: np.ndarray, truth_px: np.ndarray) -> float:
    velocity = np.gradient(truth_px, axis=0)
    error = points_px - truth_px
    return -float(((error - error.mean(axis=0)) * velocity).sum() / (velocity * velocity).sum())


def _nme(points_px: np.ndarray, truth_px: np.ndarray) -> float:
    eyes_px = np.linalg.norm(truth_px[:, 36] - truth_px[:, 45], axis=-1)
    return float(100 * (np.linalg.norm(points_px - truth_px, axis=-1).mean(axis=-1) / eyes_px).mean())


if __name__ == "__main__":
    run_command(main)
