"""Our hand-set and our searched configuration beside the student project's network, on the same faces for the same minutes.

python benchmarks/accuracy.py [--minutes 15] [--data.root DIR] [--section.key VALUE ...]

Rows: the mean shape (the floor of doing nothing), `configs/ytfaces.yaml`, `configs/tuned.yaml`, `configs/seed_cnn.yaml`,
and the error that the labels' own grid costs a perfect model. Test subset of the identity split: no person of it is in
training. The time is that of training, the workers' start-up included; reading the frames and the evaluation are not.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from fkp.config import Config, DataConfig, config_from_args
from fkp.data.labels import Catalog, load_labels
from fkp.errors import FkpError, run_command
from fkp.evaluation import metrics
from fkp.evaluation.evaluate import Evaluation
from fkp.evaluation.leakage import Leakage
from fkp.vision.crop import Crop, box_of_points

#: The step of the grid on which the labels of the YouTube-Faces set lie, as a part of the face box's longer side.
GRID = 0.0302

NAMES = ("ytfaces", "tuned", "seed_cnn")

COLUMNS = ("nme_interocular_pct", "nme_inner51_interocular_pct", "failure_08_pct")


def main(argv: list[str] | None = None) -> None:
    """Train both and print the table."""
    parser = argparse.ArgumentParser(description="Other flags are those of `fkp train`.", allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=15.0, help="most minutes of training for each network (default: %(default)s)")
    parser.add_argument("--only", choices=NAMES, nargs="+", default=NAMES, help="train only these of configs/")
    arguments, rest = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
    settings = {name: _settings(name, arguments.minutes, rest) for name in arguments.only}
    rows = [_row(f"{name}: {_about(config)}", *_train(config)) for name, config in settings.items()]
    catalog = load_labels(next(iter(settings.values())).data)
    data = next(iter(settings.values())).data
    test = catalog.rows("test", data)
    print(f"\n{catalog.root}: identity split, test = persons of fold {data.test_fold}: {len(test)} faces")
    print(f"normaliser: {catalog.scheme.normaliser_text}")
    print("each pair: corrected labels / raw labels\n")
    print("| network | minutes | NME % | NME %, 51 inner points | failures % at 8 % |\n|---|---|---|---|---|")
    print(_row("mean shape in the label's box", _mean_shape(catalog, data), 0.0))
    print("\n".join(rows))
    print(f"| a perfect network: the grid of the labels alone | | {_grid_error(catalog.points_px[test]):.2f} | | |")


def _settings(name: str, minutes: float, rest: list[str]) -> Config:
    given = config_from_args(["--config", f"configs/{name}.yaml", *rest], "accuracy.py", "")
    # A name of its own, so that the benchmark never continues with somebody's run.
    name = f"accuracy-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return given.updated({"train.max_minutes": minutes, "track.run_name": name, "data.split": "identity"})


def _about(config: Config) -> str:
    return f"{config.model.arch}, {config.model.head}, {config.input.size_px} px, {config.scale.num_workers} workers"


def _train(config: Config) -> tuple[Evaluation, float]:
    from fkp.train.pipeline import train

    if config.data.source == "synthetic":
        raise FkpError("this benchmark is about real faces: fetch them first, `fkp data fetch`")
    outcome = train(config)
    (found,) = (evaluation for evaluation in outcome.evaluations if evaluation.data.split == "identity")
    return found, outcome.minutes


def _row(name: str, found: Evaluation, minutes: float) -> str:
    plain, raw = found.metrics("corrected"), found.metrics("raw")
    cells = [f"{plain[key]:.2f} / {raw[key]:.2f}" for key in COLUMNS]
    return f"| {name} | {minutes:.1f} | {' | '.join(cells)} |"


def _mean_shape(catalog: Catalog, data: DataConfig) -> Evaluation:
    """The mean of the training shapes, each put into its own box."""
    points = catalog.points_px
    train, test = catalog.rows("train", data), catalog.rows("test", data)
    crops = [Crop.of_box(box_of_points(shape), 100, 1.0) for shape in points]
    mean = np.mean([crops[row].do(points[row]) for row in train], axis=0)
    placed = np.stack([crops[row].undo(mean) for row in test])
    return Evaluation(catalog, data, test, placed, np.ones(placed.shape[:2], np.float32), Leakage("mean shape"))


def _grid_error(points_px: np.ndarray) -> float:
    """Mean NME of the true place when its label is rounded to the grid: uniform within a cell."""
    side = (box_of_points(points_px)[:, 2:] - box_of_points(points_px)[:, :2]).max(-1)
    within = np.random.default_rng(0).uniform(-0.5, 0.5, points_px.shape) * (GRID * side)[:, None, None]
    return float(metrics.nme_pct(points_px + within, points_px).mean())


if __name__ == "__main__":
    if not Path("configs").is_dir():
        sys.exit("error: run this from the project's folder")
    run_command(main)
