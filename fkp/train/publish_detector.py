"""The end of a detector's training: its best checkpoint as a bundle, measured on scenes of persons that it has not seen."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fkp.config import Config, DataConfig
from fkp.data.extra import about_extra
from fkp.data.labels import load_labels
from fkp.train.publish import Outcome
from fkp.train.run_dir import Run
from fkp.vision.detect.average_precision import HIT_IOU, average_precision
from fkp.vision.detect.candidates import Candidates, iou, merge

if TYPE_CHECKING:
    from pathlib import Path

    from fkp.data.scenes import Scenes
    from fkp.track import Record
    from fkp.vision.detect.own import OwnDetector

#: What a training of a detector leaves beside its bundle.
DETECTOR_REPORT = "report.md"
#: Training scenes that the ranges of 8-bit integers are taken from.
_CALIBRATION_SCENES = 256
#: Borders of the lengths of faces that recall is told for, pixels.
LENGTHS_PX = (7, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64, 96, 1000)
#: A face is surely found, or surely noticed, from the length on at which this part of faces is, that are alone in their scene.
_SURE, _ALONE = 0.9, 100
#: How many times as important a face that is found is as a detection that is one (the beta of an F-measure): the landmark network looks at
#: what is found, and leaves out what it does not believe.
_RECALL = 2.0
#: Of what is noticed with `doubt_score` all is looked at closely: so many times as many looks as faces.
_LOOKS = 2.0


@dataclass(frozen=True)
class Faces:
    """What a detector is trained on: faces of the set's own, `about_extra`, and a digest of all labels."""

    own: int
    extra: list[dict[str, Any]]
    digest: str


@dataclass(frozen=True)
class _Seen:
    """What a detector finds in scenes, beside their faces."""

    found: list[Candidates]
    shapes: list[np.ndarray]
    counted: list[np.ndarray]


def faces_of(data: DataConfig) -> Faces:
    """Count the faces that train.

    Raises:
        FkpError: A set is missing or broken.
    """
    catalog, extra = load_labels(data), about_extra(data)
    digest = hashlib.sha256("".join([catalog.digest, *(some["labels_sha256"] for some in extra)]).encode()).hexdigest()
    return Faces(len(catalog.rows("train", data)), extra, digest)


def publish_detector(run: Run, checkpoint: Path, given: Config, faces: Faces, record: Record, minutes: float) -> Outcome:
    """Write the bundle, choose its scores on the validation scenes, measure it on those of the test subset, and log it all."""
    from fkp.bundle import update_bundle, write_bundle
    from fkp.common.files import write
    from fkp.data.scenes import Scenes, open_pool
    from fkp.model.detection_module import DetectionNet
    from fkp.vision.detect.own import OwnDetector

    net = DetectionNet.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    calibration_u8 = None
    if given.export.int8:
        scenes = Scenes(open_pool(run.config, "train"), run.config)
        calibration_u8 = np.stack([scenes([*_PUBLISHED, number])[0] for number in range(_CALIBRATION_SCENES)])
    known: dict[str, Any] = {"data_digest": faces.digest, "training_minutes": round(minutes, 2), "detector": _OPEN}
    if given.data.extra:  # By the names that were given: the bundle may travel.
        known["extra"] = [{"root": root, **told} for root, told in zip(given.data.extra, faces.extra, strict=True)]
    bundle = write_bundle(run.bundle_path, net.network, given, known, "", calibration_u8=calibration_u8)
    detector, scenes = OwnDetector(bundle.path), Scenes(open_pool(run.config, "val"), run.config)
    validation = _look(detector, scenes, run.config.detect.val_scenes)
    known["detector"] = _scores(validation, _look_alone(detector, scenes))
    known["validation"] = _measured(validation, known["detector"]["min_score"])
    test = _look(OwnDetector(bundle.path), Scenes(open_pool(run.config, "test"), run.config), run.config.detect.val_scenes)
    known["test"] = _measured(test, known["detector"]["min_score"])
    told = _card(given, faces, known)
    bundle = update_bundle(run.bundle_path, known, told)
    report_path = run.folder / DETECTOR_REPORT
    write(report_path, told.encode())
    headline = {f"headline/{subset}_{key}": known[subset][key] for subset in ("validation", "test") for key in ("ap_pct", "recall_pct")}
    record.log_metrics(headline)
    record.log_tags({"bundle_digest": bundle.digest})
    record.log_artifacts(bundle.path, "bundle")
    return Outcome(run.place, run.bundle_path, report_path, record.uri, record.run_id, [], minutes)


#: Scores of a bundle that has yet to be measured: everything is told.
_OPEN = {"min_score": 0.05, "doubt_score": 0.05, "tile_score": 0.05, "sure_px": 16.0, "least_px": 8.0}
#: Seeds the scenes that publishing makes: neither those of training nor those of validation.
_PUBLISHED = (0, 1)


def _look(detector: OwnDetector, scenes: Scenes, count: int) -> _Seen:
    seen = _Seen([], [], [])
    for number in range(count):
        image, shapes, counted = scenes([*_PUBLISHED, 1, number])
        seen.found.append(merge(detector.look(image.transpose(1, 2, 0))))
        seen.shapes.append(shapes)
        seen.counted.append(counted)
    return seen


def _look_alone(detector: OwnDetector, scenes: Scenes) -> _Seen:
    """What it finds of faces that are alone, of each length that half a scene has room for."""
    seen = _Seen([], [], [])
    for length in (length for length in LENGTHS_PX if length < 0.6 * scenes.size_px):
        for number in range(_ALONE):
            image, shape = scenes.alone([*_PUBLISHED, 2, length, number], float(length))
            seen.found.append(merge(detector.look(image.transpose(1, 2, 0))))
            seen.shapes.append(shape[None])
            seen.counted.append(np.ones(1, bool))
    return seen


def _hits(seen: _Seen, min_score: float) -> tuple[np.ndarray, np.ndarray, int]:
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


#: A detection that overlaps no face so much is false; a face that no detection overlaps so much is missed.
_FALSE_IOU = 0.3


def _scores(seen: _Seen, alone: _Seen) -> dict[str, float]:
    """Choose the scores of a detector by whole scenes, and the lengths from which on it is sure by faces alone: see `DetectorBackend`."""
    levels = np.round(np.arange(0.1, 0.9, 0.02), 2)
    worth, looks = [], []
    for level in levels:
        lengths, overlaps, false = _hits(seen, level)
        right = (overlaps >= _FALSE_IOU).sum()
        worth.append((1 + _RECALL**2) * right / (_RECALL**2 * len(lengths) + right + false))
        looks.append((right + false) / max(len(lengths), 1))
    min_score = float(levels[np.flatnonzero(np.array(worth) >= max(worth))[-1]])
    doubt_score = float(min(levels[np.array(looks) <= _LOOKS].min(initial=min_score), min_score))
    sure_px = _from_length(*_hits(alone, min_score)[:2])
    return {
        "min_score": min_score,
        "doubt_score": doubt_score,
        "tile_score": round(min(min_score + 0.1, 0.95), 2),
        "sure_px": sure_px,
        "least_px": min(_from_length(*_hits(alone, doubt_score)[:2]), sure_px),
    }


def _from_length(lengths: np.ndarray, overlaps: np.ndarray) -> float:
    """The length from which on `_SURE` of the faces of each length are found; the largest border where none is."""
    sure = float(LENGTHS_PX[-2])
    for low, high in zip(LENGTHS_PX[-2::-1], LENGTHS_PX[:0:-1], strict=True):
        inside = (lengths >= low) & (lengths < high)
        if inside.any() and (overlaps[inside] >= _FALSE_IOU).mean() < _SURE:
            break
        sure = float(low)
    return sure


def _measured(seen: _Seen, min_score: float) -> dict[str, Any]:
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


def _card(config: Config, faces: Faces, known: dict[str, Any]) -> str:
    size, model = config.detect.size_px, config.model
    lines = [
        f"# {config.track.run_name}",
        "",
        "A face detector. Input: an RGB image whose sides are multiples of 32 pixels; output: for each cell of three grids a score,",
        "a box and five points (eyes, tip of the nose, corners of the mouth). The box is the tight box of the labelled landmarks.",
        "",
        f"- architecture: {model.arch}, width {model.width}, depth {model.depth}, a feature pyramid of strides 8, 16 and 32",
        f"- trained on: scenes of {size} x {size} pixels, of {faces.own} labelled faces ({config.data.source}, {config.data.split} split, "
        f"data digest {faces.digest[:16]}) and {config.detect.drawn} drawn ones",
        *(_extra(root, some) for root, some in zip(config.data.extra, faces.extra, strict=True)),
        f"- backgrounds: {_join(config.detect.backgrounds)}labelled images with their faces painted over",
        "- trained again by: `fkp train --config config.json --track.run_name NEW_NAME`",
        f"- a face needs the score {known['detector']['min_score']:g}; below {known['detector']['doubt_score']:g} there is no doubt",
        "",
        f"Average precision at an overlap of {HIT_IOU:g} and recall at 0.3, on scenes of persons that no training saw:",
        "",
        "| subset | faces | average precision | recall | false a scene |",
        "|---|---|---|---|---|",
    ]
    for subset in ("validation", "test"):
        of = known[subset]
        lines.append(f"| {subset} | {of['faces']} | {of['ap_pct']:.1f} % | {of['recall_pct']:.1f} % | {of['false_per_scene']:.2f} |")
    lines += ["", "Recall by the length of the face in the test scenes:", "", "| from pixels | faces | recall |", "|---|---|---|"]
    lines += [f"| {low} | {of['faces']} | {of['recall_pct']:.1f} % |" for low, of in known["test"]["by_length_px"].items()]
    return "\n".join(lines) + "\n"


def _extra(root: str, some: dict[str, Any]) -> str:
    told = [f"{some['faces']} faces", *(f"{key} {some[key]}" for key in ("license", "source") if key in some)]
    return f"- and on {root}: {', '.join(told)}, labels digest {some['labels_sha256'][:16]}"


def _join(folders: Sequence[str]) -> str:
    return "".join(f"{folder}, " for folder in folders)
