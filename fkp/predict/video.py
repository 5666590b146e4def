"""One video: its faces followed, smoothed and drawn, and a table of their points in every frame."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from fkp.common.files import atomic_replace
from fkp.errors import FkpError
from fkp.predict.belief import told_left_out
from fkp.predict.drawing import draw_faces, draw_found
from fkp.predict.face import Face
from fkp.predict.measures import measures
from fkp.predict.predictor import Predictor
from fkp.predict.rows import BOX, MEASURE_FIELDS, POINTS
from fkp.predict.tracker import FaceTracker, Sighting
from fkp.vision.image import Image
from fkp.vision.smooth import OneEuroSettings, shake_pct
from fkp.vision.video import WITHOUT_PYAV, has_pyav, open_clip, written_clip

#: One row a face a frame, and one without values for a frame without a face. `points_px` are smoothed, and pose and openness are theirs.
SCHEMA = pa.schema(
    [
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("time_s", pa.float64(), nullable=False),
        pa.field("track", pa.int32()),
        pa.field("detected", pa.bool_()),
        pa.field("box_xyxy", BOX),
        pa.field("score", pa.float32()),
        pa.field("points_px", POINTS),
        pa.field("raw_points_px", POINTS),
        pa.field("expected_error_px", pa.list_(pa.float32())),
        pa.field("quality", pa.float32()),
        pa.field("model", pa.string(), nullable=False),
        *MEASURE_FIELDS,
    ]
)
_GROUP_ROWS = 4096


@dataclass(frozen=True)
class Source:
    """Where frames come from.

    Attributes:
        name: For messages.
        fps: Frames a second on the whole.
        total: How many frames, about; None where nobody knows.
        sound_of: The file that has its sound, if one has.
    """

    name: str
    fps: float
    total: int | None
    sound_of: Path | None


def annotate(predictor: Predictor, source: str, out: Path, smoothing: OneEuroSettings) -> int:
    """Write a video with its faces drawn, and beside it a table of the same name that ends in `.parquet`.

    Both appear when all is done. Frames are read and written one by one: memory does not grow with the video.

    Args:
        predictor: Finds the points.
        source: The video.
        out: `NAME.mp4`, which must not exist yet; nor must `NAME.parquet`.
        smoothing: Of the points that are drawn.

    Returns:
        The exit status: 1 when the video ends before its own account, as one that was cut off does.

    Raises:
        FkpError: The video cannot be read, has no frames, or the results cannot be written.
    """
    check_places(out)
    clip = open_clip(source)
    total = min(clip.promised, math.ceil(clip.shown_s * clip.fps) if clip.shown_s else clip.promised) or None
    frames, time_s = record(predictor, Source(source, clip.fps, total, clip.path), clip.timed(), out, smoothing)
    if not clip.is_whole(frames, time_s + 1 / clip.fps):
        print(f"error: {source} ends after {frames} of {clip.promised} frames: it is broken there or cut off", file=sys.stderr)
        return 1
    return 0


def check_places(out: Path) -> None:
    """Refuse to write over a file, or where there is no folder.

    Raises:
        FkpError: Says which.
    """
    for place in (out, out.with_suffix(".parquet")):
        if place.exists():
            raise FkpError(f"{place} exists: choose another name for --out or remove it")
    if not out.parent.is_dir():
        raise FkpError(f"there is no folder {out.parent}: make it, or choose another place for --out")


def record(
    predictor: Predictor, source: Source, timed: Iterator[tuple[float, Image]], out: Path, smoothing: OneEuroSettings
) -> tuple[int, float]:
    """Follow the faces of frames, write the video and the table, and tell what was found; see `annotate`.

    Returns:
        How many frames there were, and when the last one is shown.
    """
    beside = out.with_suffix(".parquet")
    tracker, jitter = FaceTracker(predictor, smoothing), Jitter()
    tracks: set[int] = set()
    frames = empty = 0
    began, time_s = time.perf_counter(), 0.0
    try:
        with (
            _written_table(beside, {"model": predictor.bundle.digest, "smoothing": asdict(smoothing)}) as add,
            written_clip(out, source.fps, source.sound_of) as write,
            tqdm(timed, total=source.total, desc=out.name, unit="frame", mininterval=pause_s(), dynamic_ncols=True) as bar,
        ):
            for time_s, frame in bar:
                seen = tracker(frame, time_s)
                write(_drawn(frame, seen, tracker.left_out_faces), time_s)
                add(_rows(frames, time_s, seen, predictor.bundle.digest))
                jitter.add(frames, time_s, seen)
                tracks.update(sighting.track for sighting in seen)
                frames += 1
                empty += not seen
            if not frames:
                raise FkpError(f"{source.name} has no frame that can be decoded: replace it with a whole video")
    except OSError as error:
        raise FkpError(f"cannot write {out}: {error.strerror or error}: free some space or choose another place") from error
    rate = frames / (time.perf_counter() - began)
    counts = f"{frames} frames, {len(tracks)} faces, {empty} frames without a face"
    print(f"{out} and {beside.name}: {counts}, {rate:.1f} frames/s, {write.told}")
    if not has_pyav():
        print(WITHOUT_PYAV)
    if tracker.left_out:
        print(told_left_out(tracker.left_out, predictor.min_quality).removeprefix(", "))
    print(jitter.told() if tracks else f"no face was found in {source.name}: the video is as it was")
    return frames, time_s


def pause_s() -> float:
    """Between two accounts of the progress: a log is not to be filled with it."""
    return 0.5 if sys.stderr.isatty() else 30.0


def threads() -> int:
    """Cores that this process may use: a video is one frame after the other, so they share each frame's faces."""
    return len(os.sched_getaffinity(0))


class Jitter:
    """Measures how much faces shake from frame to frame, raw and smoothed; see `fkp.vision.smooth.shake_pct`."""

    def __init__(self) -> None:
        self._last: dict[int, list[tuple[int, float, np.ndarray, np.ndarray]]] = {}
        self._raw: list[float] = []
        self._smooth: list[float] = []
        self._about = ""

    def add(self, frame: int, time_s: float, seen: list[Sighting]) -> None:
        """Take the faces of a frame, and when it is shown; only three frames that follow each other count."""
        for sighting in seen:
            last = [*self._last.get(sighting.track, []), (frame, time_s, sighting.face.points_px, sighting.smooth_px)][-3:]
            self._last[sighting.track] = last
            scheme = sighting.face.scheme
            if len(last) == 3 and last[0][0] == frame - 2:
                _, times_s, raw, smooth = zip(*last, strict=True)
                self._raw.append(shake_pct(np.stack(raw), times_s, scheme))
                self._smooth.append(shake_pct(np.stack(smooth), times_s, scheme))
                self._about = scheme.normaliser_about

    def medians_pct(self) -> tuple[float, float] | None:
        """Raw and smoothed, percent of the scheme's normaliser; None where no face is in three frames that follow each other."""
        return (float(np.median(self._raw)), float(np.median(self._smooth))) if self._raw else None

    def told(self) -> str:
        """One sentence."""
        medians = self.medians_pct()
        if medians is None:
            return "jitter: not measured, for no face is in three frames that follow each other"
        raw, smooth = medians
        return f"jitter: raw {raw:.3f} %, smoothed {smooth:.3f} % of the {self._about} (median second difference, frame to frame)"


def _drawn(frame: Image, seen: list[Sighting], left_out: list[Face]) -> Image:
    for sighting in seen:
        frame = draw_found(frame, sighting.face, sighting.smooth_px, str(sighting.track))
    return draw_faces(frame, (), left_out)


def _rows(frame: int, time_s: float, seen: list[Sighting], digest: str) -> list[dict[str, Any]]:
    own = {"frame": frame, "time_s": time_s, "model": digest}
    return [
        {
            **own,
            "track": sighting.track,
            "detected": sighting.detected,
            "box_xyxy": sighting.face.box_xyxy,
            "score": sighting.face.score,
            "points_px": list(sighting.smooth_px),
            "raw_points_px": list(sighting.face.points_px),
            "expected_error_px": sighting.face.expected_error_px,
            "quality": sighting.face.quality,
            **measures(sighting.smooth_px, sighting.face.scheme),
        }
        for sighting in seen
    ] or [own]


@contextmanager
def _written_table(path: Path, metadata: dict[str, Any]) -> Iterator[Any]:
    """Write a table of `SCHEMA` that appears whole when the block ends well; the block gets a function that adds rows."""
    waiting: list[dict[str, Any]] = []
    schema = SCHEMA.with_metadata({b"fkp.video": json.dumps(metadata)})
    with atomic_replace(path) as draft, pq.ParquetWriter(draft, schema, compression="zstd") as writer:

        def add(rows: list[dict[str, Any]]) -> None:
            waiting.extend(rows)
            if len(waiting) >= _GROUP_ROWS:
                flush()

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(waiting, schema=schema))
            waiting.clear()

        yield add
        flush()
