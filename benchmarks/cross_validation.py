"""One configuration on every fold of persons: five trainings, each measured once on the fold that it never saw.

python benchmarks/cross_validation.py [--config configs/champion.yaml] [--folds 0 1 2 3 4] [--section.key VALUE ...]

Fold k tests, the next one (of it, `data.val_share` of the persons) chooses the checkpoint, all others train. The runs are kept as
`runs/folds-CONFIG-k`: the command goes on where it was ended, and prints what is there already. `--published` trains on the
published training file instead, where every person of the test file has been seen: that figure is contaminated, and stands here
for those who know it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from fkp.bundle import open_bundle
from fkp.common.files import check_same
from fkp.config import Config, config_from_args
from fkp.data.splits import NUM_FOLDS
from fkp.errors import FkpError, run_command

COLUMNS = {
    "nme_interocular_pct": "NME %",
    "nme_inner51_interocular_pct": "NME %, 51 inner points",
    "failure_08_pct": "failures % at 8 %",
    "coverage_68_pct": "in the 68 % radius",
    "coverage_95_pct": "in the 95 % radius",
    "auroc_worst5_pct": "AUROC of the worst 5 %",
}


def main() -> None:
    """Train what is missing, then print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="Other flags are those of `fkp train`."
    )
    parser.add_argument("--config", type=Path, default=Path("configs/champion.yaml"), help="default: %(default)s")
    parser.add_argument("--folds", type=int, nargs="+", choices=range(NUM_FOLDS), default=range(NUM_FOLDS), help="default: all five")
    parser.add_argument("--published", action="store_true", help="train on the published training file instead")
    arguments, rest = parser.parse_known_args()
    given = config_from_args(["--config", str(arguments.config), *rest], "cross_validation.py", "")
    name = arguments.config.stem
    print(f"{name}, {given.train.epochs} epochs; normaliser: {given.scheme.normaliser_text}; each pair: corrected labels / raw labels\n")
    print(f"| test faces | {' | '.join(COLUMNS.values())} |\n|---|{'---|' * len(COLUMNS)}")
    if arguments.published:
        found = _figures(given.updated({"data.split": "published", "track.run_name": f"published-{name}"}))
        print(_row(f"the published test file ({found['faces']})", found))
        return
    table = []
    for fold in arguments.folds:
        changes = {"data.split": "identity", "data.test_fold": fold, "data.val_fold": (fold + 1) % NUM_FOLDS}
        found = _figures(given.updated(changes, {"track.run_name": f"folds-{name}-{fold}"}))
        table.append(found)
        print(_row(f"fold {fold} ({found['faces']})", found), flush=True)
    known = [key for key in COLUMNS if all(key in found["raw"] for found in table)]
    mean = {truth: {key: float(np.mean([found[truth][key] for found in table])) for key in known} for truth in ("corrected", "raw")}
    print(_row(f"mean of {len(table)} folds", mean))


def _figures(config: Config) -> dict[str, Any]:
    """Test figures of a run on its own split; trains it if it is not finished."""
    if config.data.source == "synthetic":
        raise FkpError("this benchmark is about real faces: fetch them first, `fkp data fetch`")
    run = Path(config.track.storage) / str(config.track.run_name)
    if not _finished(run, config):
        from fkp.train.pipeline import train

        train(config)
    found: dict[str, Any] = open_bundle(run / "bundle").metrics["test"][config.data.split]
    return found


def _finished(run: Path, config: Config) -> bool:
    if not (run / "run.json").is_file() or not json.loads((run / "run.json").read_text(encoding="utf-8"))["finished"]:
        return False
    check_same(config.model_dump(mode="json"), open_bundle(run / "bundle").config.model_dump(mode="json"), f"run {run.name}")
    return True


def _row(name: str, found: dict[str, Any]) -> str:
    plain, raw = found["corrected"], found["raw"]
    cells = [f"{plain[key]:.2f} / {raw[key]:.2f}" if key in plain else "" for key in COLUMNS]  # Of few faces there is no AUROC.
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    run_command(main)
