"""The end of a detector's training: its best checkpoint as a bundle, measured on scenes of persons that it has not seen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fkp.config import Config, DataConfig
from fkp.data.extra import about_extra
from fkp.data.labels import load_labels
from fkp.evaluation.detection import SEEDS, choose_scores, look, look_alone, measured
from fkp.train.publish import Outcome
from fkp.train.run_dir import Run
from fkp.vision.detect.average_precision import HIT_IOU

if TYPE_CHECKING:
    from pathlib import Path

    from fkp.track import Record

#: What a training of a detector leaves beside its bundle.
DETECTOR_REPORT = "report.md"
#: Training scenes that the ranges of 8-bit integers are taken from.
_CALIBRATION_SCENES = 256
#: Scores of a bundle that has yet to be measured: everything is told.
_OPEN = {"min_score": 0.05, "doubt_score": 0.05, "tile_score": 0.05, "sure_px": 16.0, "least_px": 8.0}


@dataclass(frozen=True)
class Faces:
    """What a detector is trained on: faces of the set's own, `about_extra`, and a digest of all labels."""

    own: int
    extra: list[dict[str, Any]]
    digest: str


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
    from fkp.data.scene_pool import open_pool
    from fkp.data.scenes import Scenes
    from fkp.model.detection_module import DetectionNet
    from fkp.vision.detect.own import OwnDetector

    net = DetectionNet.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    calibration_u8 = None
    if given.export.int8:
        scenes = Scenes(open_pool(run.config, "train"), run.config)
        calibration_u8 = np.stack([scenes([*SEEDS, number])[0] for number in range(_CALIBRATION_SCENES)])
    known: dict[str, Any] = {"data_digest": faces.digest, "training_minutes": round(minutes, 2), "detector": _OPEN}
    if given.data.extra:  # By the names that were given: the bundle may travel.
        known["extra"] = [{"root": root, **told} for root, told in zip(given.data.extra, faces.extra, strict=True)]
    bundle = write_bundle(run.bundle_path, net.network, given, known, "", calibration_u8=calibration_u8)
    detector, scenes = OwnDetector(bundle.path), Scenes(open_pool(run.config, "val"), run.config)
    validation = look(detector, scenes, run.config.detect.val_scenes)
    known["detector"] = choose_scores(validation, look_alone(detector, scenes))
    known["validation"] = measured(validation, known["detector"]["min_score"])
    test = look(detector, Scenes(open_pool(run.config, "test"), run.config), run.config.detect.val_scenes)
    known["test"] = measured(test, known["detector"]["min_score"])
    told = _card(given, faces, known)
    bundle = update_bundle(run.bundle_path, known, told)
    report_path = run.folder / DETECTOR_REPORT
    write(report_path, told.encode())
    headline = {f"headline/{subset}_{key}": known[subset][key] for subset in ("validation", "test") for key in ("ap_pct", "recall_pct")}
    record.log_metrics(headline)
    record.log_tags({"bundle_digest": bundle.digest})
    record.log_artifacts(bundle.path, "bundle")
    return Outcome(run.place, run.bundle_path, report_path, record.uri, record.run_id, [], minutes)


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
        f"- a face needs the score {known['detector']['min_score']:g}; from {known['detector']['doubt_score']:g} on a closer look decides",
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
