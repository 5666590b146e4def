"""How good a face detector is, in scenes whose faces are known, and the scores that it is to be used with."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fkp.vision.detect.average_precision import average_precision
from fkp.vision.detect.candidates import Candidates, iou, merge

if TYPE_CHECKING:
    from fkp.data.scenes import Scenes
    from fkp.vision.detect.own import OwnDetector

#: Borders of the lengths of faces that recall is told for, pixels.
LENGTHS_PX = (7, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64, 96, 1000)
#: A face is surely found, or surely noticed, from the length on at which this part of faces is, that are alone in their scene.
_SURE, _ALONE = 0.9, 100
#: Faces shorter than this do not choose the score that a face needs: they are looked at closely, larger, before they count.
_LEAST_PX = 16.0
#: How many times as important a face that is found is as a detection that is one (the beta of an F-measure). The landmark network leaves
#: out what it does not believe, at the cost of a dozen looks: with the score of 2.0 and of all lengths, 280 photographs had three times as
#: many false ones, and not a face more.
_RECALL = 1.5
#: Of what is noticed with `doubt_score` all is looked at closely: so many times as many looks as faces.
_LOOKS = 1.5
#: A detection that overlaps no face so much is false; a face that no detection overlaps so much is missed.
_FALSE_IOU = 0.3
#: Seeds of the scenes that are measured here: neither those of training nor those of validation.
SEEDS = (0, 1)


@dataclass(frozen=True)
class Seen:
    """What a detector finds in scenes, beside their faces."""

    found: list[Candidates]
    shapes: list[np.ndarray]
    counted: list[np.ndarray]


def look(detector: OwnDetector, scenes: Scenes, count: int) -> Seen:
    """What a detector finds in so many scenes."""
    seen = Seen([], [], [])
    for number in range(count):
        image, shapes, counted = scenes([*SEEDS, 1, number])
        seen.found.append(merge(detector.look(image.transpose(1, 2, 0))))
        seen.shapes.append(shapes)
        seen.counted.append(counted)
    return seen


def look_alone(detector: OwnDetector, scenes: Scenes) -> Seen:
    """What it finds of faces that are alone, of each length that half a scene has room for."""
    seen = Seen([], [], [])
    for length in (length for length in LENGTHS_PX if length < 0.6 * scenes.size_px):
        for number in range(_ALONE):
            image, shape = scenes.alone([*SEEDS, 2, length, number], float(length))
            seen.found.append(merge(detector.look(image.transpose(1, 2, 0))))
            seen.shapes.append(shape[None])
            seen.counted.append(np.ones(1, bool))
    return seen


def _hits(seen: Seen, min_score: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Lengths (F,) of the faces that count, the best overlap (F,) of each with a detection of at least this score, and false ones."""
    lengths, overlaps, false = [np.zeros(0)], [np.zeros(0)], 0
    for found, shapes, counted in zip(seen.found, seen.shapes, seen.counted, strict=True):
        kept = found[found.scores >= min_score]
        table = (
            iou(shapes[:, None, :2].reshape(-1, 1, 4), kept.boxes_xyxy[None])
            if len(shapes) and len(kept)
            else np.zeros((len(shapes), len(kept)))
        )
        lengths.append((shapes[:, 1] - shapes[:, 0]).max(axis=-1)[counted])
        overlaps.append(table.max(axis=1, initial=0.0)[counted])
        false += int((table.max(axis=0, initial=0.0) < _FALSE_IOU).sum())
    return np.concatenate(lengths), np.concatenate(overlaps), false


def choose_scores(seen: Seen, alone: Seen) -> dict[str, float]:
    """Choose the scores of a detector by whole scenes, and the lengths from which on it is sure by faces alone.

    Returns:
        By the names of `fkp.vision.detect.own.SETTINGS`, see `DetectorBackend` there.
    """
    levels = np.round(np.arange(0.1, 0.9, 0.02), 2)
    worth, looks = [], []
    for level in levels:
        lengths, overlaps, false = _hits(seen, level)
        hits, seen_large = overlaps >= _FALSE_IOU, lengths >= _LEAST_PX
        right = (hits & seen_large).sum()
        worth.append((1 + _RECALL**2) * right / (_RECALL**2 * seen_large.sum() + right + false))
        looks.append((hits.sum() + false) / max(len(lengths), 1))
    min_score = float(levels[np.flatnonzero(np.array(worth) >= max(worth))[-1]])
    doubt_score = float(min(levels[np.array(looks) <= _LOOKS].min(initial=min_score), min_score))
    sure_px = from_length(*_hits(alone, min_score)[:2])
    return {
        "min_score": min_score,
        "doubt_score": doubt_score,
        "tile_score": round(min(min_score + 0.1, 0.95), 2),
        "sure_px": sure_px,
        "least_px": min(from_length(*_hits(alone, doubt_score)[:2]), sure_px),
    }


def from_length(lengths: np.ndarray, overlaps: np.ndarray) -> float:
    """The length from which on `_SURE` of the faces of each length are found; the largest border where none is."""
    sure = float(LENGTHS_PX[-2])
    for low, high in reversed(list(itertools.pairwise(LENGTHS_PX))):
        inside = (lengths >= low) & (lengths < high)
        if inside.any() and (overlaps[inside] >= _FALSE_IOU).mean() < _SURE:
            break
        sure = float(low)
    return sure


def measured(seen: Seen, min_score: float) -> dict[str, Any]:
    """Average precision, recall, false detections, and recall by length, as plain JSON."""
    lengths, overlaps, false = _hits(seen, min_score)
    by_length = {}
    for low, high in itertools.pairwise(LENGTHS_PX):
        inside = (lengths >= low) & (lengths < high)
        if inside.any():
            by_length[f"{low}"] = {"faces": int(inside.sum()), "recall_pct": round(100 * float((overlaps[inside] >= _FALSE_IOU).mean()), 1)}
    return {
        "scenes": len(seen.found),
        "faces": len(lengths),
        "ap_pct": round(100 * average_precision(seen.found, seen.shapes, seen.counted), 2),
        "recall_pct": round(100 * float((overlaps >= _FALSE_IOU).mean()), 2),
        "false_per_scene": round(false / len(seen.found), 3),
        "by_length_px": by_length,
    }
