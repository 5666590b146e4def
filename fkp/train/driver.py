"""A training from start to finish: crops, workers, the best checkpoint as a bundle, its figures, the record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fkp import folder, storage
from fkp.config import Config
from fkp.data import catalog as catalogs
from fkp.errors import FkpError
from fkp.evaluate import LEVELS_PCT
from fkp.model.metrics import NORMALISER, TRUTHS
from fkp.train.run import REPORT_FILES, Run, open_run

if TYPE_CHECKING:
    from fkp.bundle import Bundle
    from fkp.data.dataset import CropCache
    from fkp.evaluate import Evaluation
    from fkp.track import Record


@dataclass(frozen=True)
class Outcome:
    """Where a finished training left its results, and how long this process trained, workers' start-up included.

    `place` is where they are kept; bundle and report are on this machine, too.
    """

    place: str
    bundle_path: Path
    report_path: Path
    mlflow_uri: str
    mlflow_run_id: str
    evaluations: list[Evaluation]
    minutes: float


def train(config: Config) -> Outcome:
    """Train a model as configured, or go on with the unfinished run of the same name.

    What can be wrong with the input is found before a worker starts: the architecture, every frame and label, the
    run's name, the record's address.

    Raises:
        FkpError: Anything the user can mend.
    """
    from fkp import track
    from fkp.data.dataset import open_cache
    from fkp.model.registry import Network

    Network(config)
    check_storage(config)
    make_synthetic(config)
    absolute = with_absolute_paths(config)
    cache = open_cache(absolute)
    with open_run(absolute) as run:
        tags = {"data_digest": cache.digest, "split": config.data.split, "config_digest": config.digest()}
        with track.recording(run.config, tags, run.mlflow_run_id) as record:
            run.mlflow_run_id = record.run_id
            run.save()
            faces = None if cache.train is None else len(cache.train.rows)
            record.log_dataset(config.data.source, cache.digest, str(absolute.data.root), faces)
            began = time.monotonic()
            best = _fit(run, record)
            minutes = (time.monotonic() - began) / 60
            # The bundle keeps the settings as they were given: it may travel to where our folders do not exist.
            given = config.updated({"track": {"run_name": run.name}})
            outcome = _publish(run, best, given, cache, record, minutes)
        run.finish()
    return outcome


def check_storage(config: Config) -> None:
    """Refuse at once what could not keep the run.

    Raises:
        FkpError: The bucket cannot be written, or it is asked of a training that has no Ray to write there.
    """
    if storage.is_uri(config.track.storage) and not config.scale.num_workers:
        raise FkpError(f"track.storage={config.track.storage} needs Ray workers: set scale.num_workers to 1 or more, or name a folder")
    storage.check_writable(config.track.storage)


def with_absolute_paths(config: Config) -> Config:
    """The same run for processes that start in another folder."""
    changes = {
        "data.root": storage.absolute(catalogs.place_of(config.data)),
        "data.cache_dir": str(Path(config.data.cache_dir).absolute()),
        "track.storage": storage.absolute(config.track.storage),
    }
    return config.updated(changes)


def make_synthetic(config: Config) -> None:
    """Make the synthetic set where a run asks for it and it is not there yet."""
    if config.data.source == "synthetic" and config.data.backend != "stream":
        from fkp.data.synthetic import write_set

        write_set(catalogs.root_of(config.data), config.data.synthetic_faces, config.data.synthetic_seed)


def _fit(run: Run, record: Record) -> Path:
    """Train and return the best checkpoint."""
    from fkp.train.progress import ProgressBar

    with ProgressBar(run.name) as bar:
        if run.config.scale.num_workers:
            from fkp.train.ray_backend import fit_on_ray

            return fit_on_ray(run, record.log_step, bar.update)
        from fkp.train import loop
        from fkp.train.figures import FiguresLogger

        return loop.fit_in_process(run.config, run.folder / "checkpoints", bar.update, FiguresLogger(record.log_step))


def _publish(run: Run, checkpoint: Path, given: Config, cache: CropCache, record: Record, minutes: float) -> Outcome:
    """Write the bundle, measure it on its validation part and on the test parts of both splits, and log it all."""
    from fkp import drift
    from fkp.bundle import update_bundle, write_bundle
    from fkp.data import face_boxes
    from fkp.data.dataset import plain_crops
    from fkp.evaluate import ERROR_RADII, SPLITS, evaluate, to_json
    from fkp.exposure import LABELS_DIGEST
    from fkp.model.calibrate import calibrate_scale
    from fkp.model.metrics import error_radii
    from fkp.model.net import Net
    from fkp.predict import Predictor
    from fkp.quantize import CALIBRATION_CROPS
    from fkp.reference import reference_histograms
    from fkp.report import ced_figure, prediction_grid, write_report
    from fkp.vision import image as images

    net = Net.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    catalog = catalogs.load(run.config.data)
    known: dict[str, Any] = {"data_digest": cache.digest, LABELS_DIGEST: catalog.digest, "training_minutes": round(minutes, 2)}
    boxes = face_boxes.calibrate(catalog, run.config.data)
    calibrate_scale(net.network, cache.val.crops_u8, cache.val.points_px)
    calibration_u8 = plain_crops(catalog, run.config, "train", CALIBRATION_CROPS)[0] if given.model.int8 else None
    bundle = write_bundle(run.bundle_path, net.network, given, known, "", boxes, calibration_u8)
    predictor = Predictor(bundle)
    validation = evaluate(predictor, catalog, run.config.data, bundle, part="val")
    known["validation"] = {
        "nme_interocular_pct": validation.metrics()["nme_interocular_pct"],
        "faces": len(validation),
        "split_digest": catalogs.split_digest(catalog, run.config.data),
    }
    known[ERROR_RADII] = error_radii(validation.error_px(), validation.expected_error_px)
    known[drift.REFERENCE] = reference_histograms(predictor, validation)
    bundle = replace(bundle, metrics=known)  # What is evaluated next states these radii.
    splits = [run.config.data.under_split(split) for split in SPLITS]
    # A set of one's own may have nothing in one of its CSV files, and so no test part of the split that is not trained for.
    evaluations = [evaluate(predictor, catalog, data, bundle) for data in splits if len(catalog.rows("test", data))]
    figures = to_json(evaluations, bundle)
    bundle = update_bundle(run.bundle_path, {**known, "test": figures["splits"]}, _card(given, cache.digest, validation, evaluations))
    report_path = write_report(run.folder / "report.html", evaluations, bundle)
    (own,) = (evaluation for evaluation in evaluations if evaluation.data.split == given.data.split)
    folder.write(run.folder / "ced.png", ced_figure(own))
    images.write(run.folder / "predictions.png", prediction_grid(own))
    _log(run, record, bundle, evaluations)
    return Outcome(run.place, run.bundle_path, report_path, record.uri, record.run_id, evaluations, minutes)


def _log(run: Run, record: Record, bundle: Bundle, evaluations: Sequence[Evaluation]) -> None:
    for evaluation in evaluations:
        for truth in TRUTHS:
            record.log_metrics({f"test_{evaluation.data.split}_{truth}_{key}": value for key, value in evaluation.metrics(truth).items()})
        record.log_tags({f"test_{evaluation.data.split}_exposure": evaluation.exposure.note})
    validation = bundle.metrics["validation"]
    record.log_metrics({"val_bundle_nme_interocular_pct": validation["nme_interocular_pct"]})
    record.log_tags({"bundle_digest": bundle.digest, "split_digest": validation["split_digest"]})
    record.log_artifacts(bundle.path, "bundle")
    for name in REPORT_FILES:
        record.log_artifacts(run.folder / name, "evaluation")


def _card(config: Config, data_digest: str, validation: Evaluation, evaluations: Sequence[Evaluation]) -> str:
    """What a reader of the bundle must know, with the figures as measured."""
    colour = "grey" if config.input.channels == 1 else "RGB"
    lines = [
        f"# {config.track.run_name}",
        "",
        "A 68-point face landmark model (iBUG order). Input: a square crop around a face; output: points in its pixels and",
        "a scale of the error per point.",
        "",
        f"- architecture: {config.model.arch}, width {config.model.width}, depth {config.model.depth}, {config.model.head} head",
        f"- crop: {config.input.size_px} px, {colour}, {config.input.crop_scale} x the box of the points",
        f"- trained on: {config.data.source}, {config.data.split} split, data digest {data_digest[:16]}",
        "- trained again by: `python -m fkp.train --config config.json --track.run_name NEW_NAME`",
        "",
        f"Validation NME, by which models of this split are compared: {validation.metrics()['nme_interocular_pct']:.3f} %",
        f"({len(validation)} faces, box from the labels, labels without their shift).",
        "",
        f"Test figures, NME in percent of the {NORMALISER}, box from the labels:",
        "",
        "| split | faces | NME, labels without their shift | NME, raw labels | failures at 8 %, without shift | what training saw |",
        "|---|---|---|---|---|---|",
    ]
    for found in evaluations:
        unshifted, raw = found.metrics("unshifted"), found.metrics("raw")
        lines.append(
            f"| {found.data.split} | {len(found)} | {unshifted['nme_interocular_pct']:.2f} | {raw['nme_interocular_pct']:.2f} "
            f"| {unshifted['failure_08_pct']:.1f} % | {found.exposure.note} |"
        )
    (own,) = (found for found in evaluations if found.data.split == config.data.split)
    lines += [
        "",
        f"Parts of the {own.data.split} split's test faces:",
        "",
        "| part | NME, labels without their shift | NME, raw labels |",
        "|---|---|---|",
    ]
    lines += [f"| {part} | {plain:.2f} | {raw:.2f} |" for part, raw, plain in own.part_rows()]
    told = own.metrics()
    lines += ["", "The stated error, calibrated on the validation faces:"]
    lines += [f"{told[f'coverage_{level}_pct']:.1f} % of these points lie inside the radius of {level} %." for level in LEVELS_PCT]
    return "\n".join(lines) + "\n"
