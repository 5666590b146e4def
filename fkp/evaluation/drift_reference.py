"""What a bundle brings along of its validation faces: the histograms for `fkp.bundle.drift`, the joint errors for `fkp label`, and radii.

Training writes them; `fkp reference --bundle DIR` adds them to a bundle that has none, or none in today's form.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from fkp.bundle import drift, update_bundle
from fkp.config import DataConfig
from fkp.data.face_shape import box_of_label
from fkp.errors import FkpError, run_command
from fkp.evaluation.evaluate import Evaluation, evaluate
from fkp.evaluation.joint_errors import of_evaluation
from fkp.evaluation.radii import stated_radii
from fkp.predict import DEFAULT_BUNDLE, Predictor


def reference_histograms(predictor: Predictor, validation: Evaluation) -> dict[str, Any]:
    """Measure the validation faces as the endpoint measures those it serves.

    Args:
        predictor: The model; it only crops.
        validation: What it answered for them.

    Returns:
        The subset, the number of faces, and for each figure of `drift.BOUNDS` its bounds, counts, median and 95th percentile.

    Raises:
        FkpError: A frame is missing or broken.
    """
    from fkp.data.labels import read_frame

    catalog = validation.catalog
    values: dict[str, list[float]] = {drift.ERROR_RATIO: [], drift.BRIGHTNESS: []}
    for row, expected_error_px in zip(validation.rows, validation.expected_error_px, strict=True):
        frame, _ = read_frame(catalog, row)
        box_xyxy = box_of_label(catalog.points_px[row], catalog.scheme)
        crop_u8 = predictor.crop(box_xyxy).apply(frame, predictor.config.input.channels)
        values[drift.ERROR_RATIO].append(drift.error_ratio(expected_error_px, box_xyxy))
        values[drift.BRIGHTNESS].append(drift.brightness(crop_u8))
    figures = {
        name: {
            "bounds": list(drift.BOUNDS[name]),
            "counts": drift.count(name, found),
            drift.MEDIAN: float(np.median(found)),
            drift.HIGH: float(np.percentile(found, 95)),
        }
        for name, found in values.items()
    }
    return {"subset": "val", "faces": len(validation), "figures": figures}


def main(argv: list[str] | None = None) -> None:
    """Add all of it to a bundle: its weights stay, its digest becomes another."""
    parser = argparse.ArgumentParser(prog="fkp reference", description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, type=Path, metavar="DIR", help="model (default: %(default)s)")
    parser.add_argument("--root", "--data.root", dest="root", metavar="DIR", help=DataConfig.model_fields["root"].description)
    arguments = parser.parse_args(argv)
    from fkp.data.labels import load_labels
    from fkp.evaluation.extra_faces import SURER, known_or_measured

    predictor = Predictor(arguments.bundle)
    data = predictor.config.data
    if arguments.root is not None:
        data = data.updated({"root": arguments.root})
    catalog = load_labels(data)
    trained_on = predictor.bundle.metrics.get("labels_sha256")
    if trained_on is not None and trained_on != catalog.digest:
        raise FkpError(f"{catalog.root} is not the set that {arguments.bundle} was trained on: name that one with --root")
    validation = evaluate(predictor, catalog, data, predictor.bundle, subset="val")
    histograms = reference_histograms(predictor, validation)
    off_set = known_or_measured(predictor, data, histograms)
    radii = stated_radii(validation, off_set.get(SURER, 1.0))
    metrics = {**predictor.bundle.metrics, **off_set, **radii, drift.REFERENCE: histograms}
    bundle = update_bundle(arguments.bundle, metrics, predictor.bundle.card, joint_errors=of_evaluation(validation).to_json())
    added = "histograms, radii" + (" and joint errors" if bundle.joint_errors else "")
    print(f"{bundle.path}: {added} of {histograms['faces']} validation faces added; its digest is now {bundle.digest}")


if __name__ == "__main__":
    run_command(main)
