"""fkp evaluate --bundle DIR --split identity|published|all --subset test|val [--endpoint URL]."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from fkp.config import DataConfig
from fkp.errors import FkpError, run_command
from fkp.evaluation.evaluate import SPLITS, SUBSETS, FacePredictor, evaluate, format_table, to_json

if TYPE_CHECKING:
    from fkp.bundle import Bundle

SOURCES: tuple[str, ...] = get_args(DataConfig.model_fields["source"].annotation)
DEFAULT_OUT = Path("out/evaluation")


def main(argv: list[str] | None = None) -> int:
    """Evaluate a bundle: print one table a split, write metrics.json and report.html."""
    arguments = _parse(argv)
    from fkp.common.files import write_json
    from fkp.data.labels import load_labels  # It brings pandas and pyarrow, and `--help` needs neither.
    from fkp.evaluation.report import write_report
    from fkp.predict import Predictor

    predictor = Predictor(arguments.bundle)
    finder = predictor if arguments.endpoint is None else _endpoint(arguments.endpoint, predictor.bundle)
    data = _data(predictor.config.data, arguments.source, arguments.root)
    catalog = load_labels(data)
    evaluations = []
    for split in SPLITS if arguments.split == "all" else (arguments.split,):
        evaluation = evaluate(finder, catalog, data.under_split(split), predictor.bundle, arguments.subset)
        print(format_table(evaluation), end="\n\n", flush=True)
        evaluations.append(evaluation)
    written = write_json(arguments.out / "metrics.json", to_json(evaluations, predictor.bundle))
    report = write_report(arguments.out / "report.html", evaluations, predictor.bundle)
    print(f"metrics: {written}\nreport:  {report}")
    return 0


def _endpoint(url: str, bundle: Bundle) -> FacePredictor:
    """A running endpoint, if it serves this very bundle: whose data and leakage the tables would tell otherwise?"""
    from fkp.predict.http_client import RemotePredictor

    remote = RemotePredictor(url)
    if remote.digest != bundle.digest:
        raise FkpError(
            f"{url} serves model {remote.digest[:12]} and not {bundle.path} ({bundle.digest[:12]}): name its bundle with --bundle"
        )
    return remote


def _parse(argv: list[str] | None) -> argparse.Namespace:
    from fkp.shipped import DEFAULT_BUNDLE

    about = "Measure a bundle on one subset of a labelled set; the set is the bundle's own unless a flag names another."
    parser = argparse.ArgumentParser(prog="fkp evaluate", description=about)
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, type=Path, metavar="DIR", help="model (default: %(default)s)")
    parser.add_argument(
        "--split",
        choices=(*SPLITS, "all"),
        default=SPLITS[0],
        help=f"{DataConfig.model_fields['split'].description} (default: %(default)s)",
    )
    parser.add_argument(
        "--subset",
        "--part",
        choices=SUBSETS,
        default=SUBSETS[0],
        help="test, or val: the subset the checkpoint was chosen by (default: %(default)s)",
    )
    parser.add_argument("--endpoint", metavar="URL", help="ask a running endpoint that serves this bundle, instead of the bundle itself")
    for name, options in (("source", {"choices": SOURCES}), ("root", {"metavar": "DIR"})):
        parser.add_argument(f"--{name}", f"--data.{name}", dest=name, help=DataConfig.model_fields[name].description, **options)
    parser.add_argument(
        "--out", default=DEFAULT_OUT, type=Path, metavar="DIR", help="for metrics.json and report.html (default: %(default)s)"
    )
    return parser.parse_args(argv)


def _data(trained: DataConfig, source: str | None, root: str | None) -> DataConfig:
    """The bundle's own data settings under the flags. Another source brings its own folder and label bias."""
    from fkp.data.label_set import is_label_set

    update: dict[str, Any] = {}
    if source is None and root is not None and is_label_set(root):  # It says itself what it is.
        source = "folder"
    if source is not None and source != trained.source:
        update = {"source": source, "root": None, "label_bias_px": None}
    if root is not None:
        update["root"] = root
    return trained.updated(update)


if __name__ == "__main__":
    run_command(main, "train")
