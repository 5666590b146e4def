"""Faces followed from frame to frame: the last points give the next crop, and the detector looks where that is not enough."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from fkp.predict.face import Face
from fkp.predict.predictor import Predictor, drive
from fkp.vision.crop import box_of_points
from fkp.vision.detect import Detection, iou
from fkp.vision.image import Image
from fkp.vision.smooth import OneEuro, OneEuroSettings

#: Seconds between two looks for new faces.
DETECT_EVERY_S = 0.5
#: The same where no face has been seen for longer than `FORGET_AFTER_S`: looking at every frame would be most of the work.
DETECT_EMPTY_S = 0.1
#: A face that is not seen for so long is another one when it comes again.
FORGET_AFTER_S = 1.0
#: Looks in a row that must miss a face which the network still finds well: the detector is worse at faces from the side.
_MISSES = 2
_SAME_FACE_IOU = 0.3
#: Two faces that overlap more are one that is followed twice.
_TWICE_IOU = 0.7
_MIN_SIDE_PX = 8.0


@dataclass(frozen=True)
class Sighting:
    """A face in one frame.

    Attributes:
        track: Number of the face, from 0; the same in all frames.
        detected: Whether its box came from the detector and not from the points of the frame before.
        face: As the network answers; `score` is the detector's when it last looked.
        smooth_px: (K, 2) float32, the smoothed points.
    """

    track: int
    detected: bool
    face: Face
    smooth_px: np.ndarray


@dataclass
class _Track:
    number: int
    smoother: OneEuro
    face: Face
    score: float
    detected: bool = True
    lost_frames: int = 0
    lost_s: float = 0.0
    misses: int = 0

    @property
    def box_xyxy(self) -> np.ndarray:
        """Where the face was when it was last seen."""
        return box_of_points(self.face.points_px)


class FaceTracker:
    """Follows any number of faces through the frames of one video.

    Args:
        predictor: Finds the points.
        smoothing: Of the points.

    Attributes:
        left_out: Detections and followed faces so far, frame by frame, that the network does not believe.
        left_out_faces: The detections among them when the detector last looked.
    """

    def __init__(self, predictor: Predictor, smoothing: OneEuroSettings) -> None:
        self._predictor = predictor
        self._time_s: float | None = None
        self._seconds = 0.0
        self._smoothing = smoothing
        self._tracks: list[_Track] = []
        self._since_look_s = math.inf
        self._next_number = 0
        self.left_out = 0
        self.left_out_faces: list[Face] = []

    def __call__(self, frame: Image, time_s: float) -> list[Sighting]:
        """Take the next frame, (H, W, 3) uint8 RGB, and when it is shown; its faces come back in the order in which they first appeared."""
        self._seconds = 0.0 if self._time_s is None else time_s - self._time_s
        self._time_s = time_s
        unbelieved: set[int] = set()  # Faces that are still there; the detector's look may better them.
        before = [track for track in self._tracks if not track.lost_frames]
        for track, face in zip(before, self._predictor.refine(frame, [track.face for track in before]), strict=True):
            track.detected = False
            if _is_lost(face, frame, self._predictor.belief.lost):
                track.lost_frames = 1
            elif face.quality < self._predictor.min_quality:
                track.lost_frames = 1
                unbelieved.add(track.number)
            else:
                track.face = face
        self._since_look_s += self._seconds
        lost_now = any(track.lost_frames for track in before)
        pause_s = DETECT_EVERY_S if before else 0.0 if self._tracks else DETECT_EMPTY_S
        if lost_now or self._since_look_s >= pause_s - self._seconds / 2:
            self._look(frame, unbelieved)
            self._since_look_s = 0.0
        self._tidy()
        return [self._sighting(track) for track in self._tracks if not track.lost_frames]

    def _look(self, frame: Image, unbelieved: set[int]) -> None:
        """Detect: find lost faces again, take up new ones, and let go of those that are not there any more."""
        found = self._predictor.detector.detect(frame)
        pairs = _match([track.box_xyxy for track in self._tracks], [detection.box_xyxy for detection in found])
        again: list[tuple[_Track | None, Detection]] = []
        for place, track in enumerate(self._tracks):
            if place not in pairs:
                self.left_out += track.number in unbelieved
                track.misses += 1
                if track.misses >= _MISSES:
                    track.lost_frames = max(track.lost_frames, 1)
                continue
            detection = found[pairs[place]]
            track.misses, track.score = 0, detection.score
            if track.lost_frames:
                again.append((track, detection))
        again += [(None, detection) for place, detection in enumerate(found) if place not in pairs.values()]
        judged = drive(self._predictor.judge(frame, [detection for _, detection in again]), self._predictor.run)
        self.left_out_faces = [face for face, kept in judged if not kept]
        self.left_out += len(self.left_out_faces)
        for (old, detection), (face, kept) in zip(again, judged, strict=True):
            if not kept:
                continue
            if old is None:
                self._tracks.append(_Track(self._next_number, OneEuro(self._smoothing), face, detection.score))
                self._next_number += 1
            else:
                if old.lost_frames > 1:  # It was away: what was before must not pull at it.
                    old.smoother = OneEuro(self._smoothing)
                old.face, old.detected, old.lost_frames = face, True, 0

    def _tidy(self) -> None:
        """Forget faces that are away too long, and the younger of two that follow the same face."""
        kept: list[_Track] = []
        for track in self._tracks:
            twice = any(iou(track.box_xyxy, other.box_xyxy) > _TWICE_IOU for other in kept if not other.lost_frames)
            track.lost_s = track.lost_s + self._seconds if track.lost_frames else 0.0
            if not twice and track.lost_s <= FORGET_AFTER_S:
                kept.append(track)
            if track.lost_frames:
                track.lost_frames += 1
        self._tracks = kept

    def _sighting(self, track: _Track) -> Sighting:
        face = replace(track.face, score=track.score)
        side_px = float((face.box_xyxy[2:] - face.box_xyxy[:2]).max())
        return Sighting(track.number, track.detected, face, track.smoother(face.points_px, side_px, self._seconds))


def _is_lost(face: Face, frame: Image, least_quality: float) -> bool:
    """Whether the network says that it does not see a face, or sees it where the next box would be none."""
    low, high = np.split(box_of_points(face.points_px).astype(np.float64), 2)
    center, (height, width) = (low + high) / 2, frame.shape[:2]
    inside = 0 <= center[0] < width and 0 <= center[1] < height
    small = float((high - low).min()) < _MIN_SIDE_PX
    # Written so that numbers that are not finite are lost, too.
    return not (inside and not small and face.quality >= least_quality)


def _match(tracks_xyxy: list[np.ndarray], found_xyxy: list[np.ndarray]) -> dict[int, int]:
    """Which detection is which track's: the pairing with the most overlap in all (linear assignment)."""
    if not tracks_xyxy or not found_xyxy:
        return {}
    overlap = iou(np.stack(tracks_xyxy)[:, None], np.stack(found_xyxy)[None])
    # What cannot be the same face must count nothing: two such pairs would outweigh a good one.
    overlap = np.where(overlap > _SAME_FACE_IOU, overlap, 0)
    pairs = zip(*linear_sum_assignment(-overlap), strict=True)
    return {int(track): int(found) for track, found in pairs if overlap[track, found]}
