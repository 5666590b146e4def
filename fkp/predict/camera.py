"""A camera: its faces followed until Ctrl-C, into a video and a table, or a line of JSON a frame.

No window: the OpenCV that this package needs is built without one, as servers want it, and a second build of it beside that breaks
both. JSON lines go into any program, and frames a second are told on stderr.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from fkp.errors import stopping
from fkp.predict import video
from fkp.predict.predictor import Predictor
from fkp.predict.tracker import FaceTracker, Sighting
from fkp.vision.image import Image
from fkp.vision.smooth import OneEuroSettings
from fkp.vision.video.camera import Camera


def follow(predictor: Predictor, name: str, out: Path | None, smoothing: OneEuroSettings) -> int:
    """Follow the faces before a camera until Ctrl-C or SIGTERM, at which what is written is finished, and the status is 0.

    Args:
        predictor: Finds the points.
        name: See `Camera`.
        out: `NAME.mp4`, see `video.annotate`; without it each frame is a line of JSON on stdout: `frame`, `time_s`, and `faces` as in
            `faces.json`, with `track` and `detected`, and smoothed `keypoints`.
        smoothing: Of the points.

    Returns:
        The exit status: 1 where the camera gave no more frames.

    Raises:
        FkpError: The camera cannot be read, or the results cannot be written.
    """
    if out is not None:
        video.check_places(out)
    stop = threading.Event()
    with Camera(name) as camera, stopping.instead(stop.set):
        timed = _until(stop, camera.timed())
        if out is None:
            frames = _print_lines(predictor, timed, name, smoothing)
        else:
            frames, _ = video.record(predictor, video.Source(f"camera {name}", camera.fps, None, None), timed, out, smoothing)
    if stop.is_set():
        return 0
    print(f"error: camera {name} gave no more frames after {frames}: connect it again", file=sys.stderr)
    return 1


def _until(stop: threading.Event, timed: Iterator[tuple[float, Image]]) -> Iterator[tuple[float, Image]]:
    for entry in timed:
        if stop.is_set():
            return
        yield entry


def _print_lines(predictor: Predictor, timed: Iterator[tuple[float, Image]], name: str, smoothing: OneEuroSettings) -> int:
    tracker, frames = FaceTracker(predictor, smoothing), 0
    with tqdm(timed, desc=f"camera {name}", unit="frame", mininterval=video.pause_s(), dynamic_ncols=True) as bar:
        for time_s, frame in bar:
            faces = [_to_json(sighting) for sighting in tracker(frame, time_s)]
            print(json.dumps({"frame": frames, "time_s": round(time_s, 4), "faces": faces}), flush=True)
            frames += 1
    return frames


def _to_json(sighting: Sighting) -> dict[str, object]:
    face = replace(sighting.face, points_px=sighting.smooth_px)
    return {"track": sighting.track, "detected": sighting.detected, **face.to_json()}
