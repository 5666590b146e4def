"""The best of a search: trained for the full budget, evaluated, registered, and promoted if it is better."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fkp.tune.results import Trial

if TYPE_CHECKING:
    from fkp.tune.study import Study


@dataclass(frozen=True)
class Winner:
    """Where the trained winner lies, and what became of its promotion."""

    bundle_path: Path
    report_path: Path
    verdict: str


def refit(study: Study, best: Trial) -> Winner:
    """Train the best sample on the training folds for `train.epochs`, as `fkp train` does, and register it.

    The validation fold chose it and stays out of training; the test fold is reported and decides nothing. One that is trained
    already, by a command that then lost the registry, is only registered.

    Raises:
        FkpError: See `fkp.train.pipeline.train` and `fkp.track.registry.Registry.register`.
    """
    from fkp.track.registry import ALIAS, NotBetter, Registry
    from fkp.train.pipeline import train
    from fkp.train.publish_detector import DETECTOR_REPORT
    from fkp.train.run_dir import finished_run

    detects = study.config.task == "detect"
    registry = None if detects else Registry()  # What is wrong with the store shows before the training.
    config = study.config.updated(best.sample, {"track.run_name": f"{study.name}-winner"})
    run = finished_run(config)
    if run is None and study.earlier:  # The name may be that of the best of fewer trials.
        config = config.updated({"track.run_name": f"{study.name}-winner-{best.number:03d}"})
        run = finished_run(config)
    if run is None or run.mlflow_run_id is None:
        outcome = train(config)
        if outcome.undelivered:
            print(f"warning: {outcome.undelivered}", file=sys.stderr)
        bundle_path, report_path, run_id = outcome.bundle_path, outcome.report_path, outcome.mlflow_run_id
    else:
        report_path = run.folder / (DETECTOR_REPORT if detects else "report.html")
        bundle_path, run_id = run.bundle_path, run.mlflow_run_id
    if registry is None:
        return Winner(bundle_path, report_path, f"a face detector, which the registry does not keep: use it with --detector {bundle_path}")
    version = registry.register(bundle_path, run_id)
    try:
        champion = registry.promote(version.number)
    except NotBetter as error:
        verdict = f"version {version.number} of {registry.name}, not promoted: {error}"
    else:
        verdict = f"version {version.number} of {registry.name}; version {champion.number} is the {ALIAS}"
    return Winner(bundle_path, report_path, verdict)
