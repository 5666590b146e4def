"""The end of a training: its best checkpoint as a bundle, measured, with a report, in the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fkp.common.files import write
from fkp.config import Config
from fkp.data.extra import about_extra
from fkp.data.labels import load_labels, split_digest
from fkp.train.run_dir import REPORT_FILES, Run

if TYPE_CHECKING:
    from fkp.bundle import Bundle
    from fkp.data.crop_cache import CropCache
    from fkp.evaluation.evaluate import Evaluation
    from fkp.track import Record
    from fkp.train.ancestor import Ancestor

#: Of the test subset, beside the validation NME: the error, how much of it is small or too large, whether the stated error holds.
_HEADLINES = ("auc_08_pct", "failure_08_pct", "coverage_68_pct")


@dataclass(frozen=True)
class Outcome:
    """Where a finished training left its results, and how long this process trained, workers' start-up included.

    `place` is where they are kept; bundle and report are on this machine, too. `undelivered` says in one sentence what MLflow has
    not got of them, and what to do; empty where it has everything.
    """

    place: str
    bundle_path: Path
    report_path: Path
    mlflow_uri: str
    mlflow_run_id: str
    evaluations: list[Evaluation]
    minutes: float
    undelivered: str = ""


def publish(
    run: Run, checkpoint: Path, given: Config, cache: CropCache, record: Record, minutes: float, ancestor: Ancestor | None = None
) -> Outcome:
    """Write the bundle, measure it on its validation subset and on the test subsets of both splits, and log it all."""
    from fkp.bundle import drift, update_bundle, write_bundle
    from fkp.bundle.quantize import CALIBRATION_CROPS
    from fkp.data.crop_cache import plain_crops
    from fkp.evaluation import detector_calibration
    from fkp.evaluation.card import card
    from fkp.evaluation.drift_reference import reference_histograms
    from fkp.evaluation.evaluate import SPLITS, evaluate, to_json
    from fkp.evaluation.extra_faces import SURER, known_or_measured
    from fkp.evaluation.joint_errors import of_evaluation
    from fkp.evaluation.leakage import DESCENT, EXTRA, LABELS_DIGEST
    from fkp.evaluation.radii import stated_radii
    from fkp.evaluation.report import ced_plot, prediction_grid, write_report
    from fkp.model.calibrate import calibrate_scale
    from fkp.model.lightning_module import Net
    from fkp.predict import Predictor
    from fkp.vision.image import write_image

    net = Net.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    catalog = load_labels(run.config.data)
    known: dict[str, Any] = {"data_digest": cache.digest, LABELS_DIGEST: catalog.digest, "training_minutes": round(minutes, 2)}
    if ancestor is not None:
        known[DESCENT] = ancestor.descent
    if given.data.extra:  # By the names that were given: the bundle may travel.
        known[EXTRA] = [{"root": root, **told} for root, told in zip(given.data.extra, about_extra(run.config.data), strict=True)]
    boxes = detector_calibration.calibrate(catalog, run.config.data)
    calibrate_scale(net.network, cache.val.crops_u8, cache.val.points_px)
    calibration_u8 = plain_crops(catalog, run.config, "train", CALIBRATION_CROPS)[0] if given.export.int8 else None
    bundle = write_bundle(run.bundle_path, net.network, given, known, "", boxes, calibration_u8)
    predictor = Predictor(bundle)
    key = given.scheme.nme_key
    validation = evaluate(predictor, catalog, run.config.data, bundle, subset="val")
    known["validation"] = {
        key: validation.metrics()[key],
        "faces": len(validation),
        "split_digest": split_digest(catalog, run.config.data),
    }
    known[drift.REFERENCE] = reference_histograms(predictor, validation)
    known |= known_or_measured(predictor, run.config.data, known[drift.REFERENCE])
    radii = stated_radii(validation, known.get(SURER, 1.0))
    known |= radii
    bundle = replace(bundle, metrics=known)  # What is evaluated next states these radii.
    splits = [run.config.data.under_split(split) for split in SPLITS]
    # A set of one's own may have nothing in one of its CSV files, and so no test subset of the split that is not trained for.
    evaluations = [evaluate(predictor, catalog, data, bundle) for data in splits if len(catalog.rows("test", data))]
    measured = to_json(evaluations, bundle)
    told = card(given, cache.digest, validation, evaluations, radii, known.get(EXTRA, []))
    joint = of_evaluation(validation).to_json()
    bundle = update_bundle(run.bundle_path, {**known, "test": measured["splits"]}, told, joint_errors=joint)
    report_path = write_report(run.folder / "report.html", evaluations, bundle)
    (own,) = (evaluation for evaluation in evaluations if evaluation.data.split == given.data.split)
    write(run.folder / "ced.png", ced_plot(own))
    write_image(run.folder / "predictions.png", prediction_grid(own))
    _log(run, record, bundle, run_metrics(validation, own, evaluations), evaluations)
    return Outcome(run.place, run.bundle_path, report_path, record.uri, record.run_id, evaluations, minutes)


def run_metrics(validation: Evaluation, own: Evaluation, evaluations: Sequence[Evaluation]) -> dict[str, float]:
    """What is measured of a finished run, by the keys of the record, whose page makes a group of each prefix, in the alphabet's order.

    Args:
        validation: Of the faces by which models are compared.
        own: The test subset of the split that was trained for.
        evaluations: All test subsets.

    Returns:
        `headline/`: the five to look at first. `test_<split>/`: all metrics against labels without their bias, and where there is
        a bias `test_<split>_raw/`: those against the labels as they are.
    """
    of_own = own.metrics()
    nme = own.scheme.nme_key
    found = {f"headline/val_{nme}": validation.metrics()[nme]}
    found |= {f"headline/test_{key}": of_own[key] for key in (nme, *_HEADLINES)}
    for evaluation in evaluations:
        found |= {f"test_{evaluation.data.split}/{key}": value for key, value in evaluation.metrics().items()}
        if evaluation.catalog.label_bias_px.any():
            found |= {f"test_{evaluation.data.split}_raw/{key}": value for key, value in evaluation.metrics("raw").items()}
    return found


def _log(run: Run, record: Record, bundle: Bundle, metrics: Mapping[str, float], evaluations: Sequence[Evaluation]) -> None:
    record.log_metrics(metrics)
    record.log_tags({f"test_{evaluation.data.split}_leakage": evaluation.leakage.note for evaluation in evaluations})
    validation = bundle.metrics["validation"]
    record.log_tags({"bundle_digest": bundle.digest, "split_digest": validation["split_digest"]})
    record.log_artifacts(bundle.path, "bundle")
    for name in REPORT_FILES:
        record.log_artifacts(run.folder / name, "evaluation")
