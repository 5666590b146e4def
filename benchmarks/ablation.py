"""What each choice of the shipped model's recipe is worth: one change at a time, same folds, same budget, validation faces only.

python benchmarks/ablation.py [--epochs 12] [--only NAME ...] [--root DIR] [--cores 1]

`benchmarks/ablation.yaml` names the base and its changes. Each network is trained in this process and kept in
`runs/ablation/NAME-EPOCHS`, so that the command goes on where it was ended, and two of them may share the list by `--only`.
Beside the validation NME stands the mean over the changed photographs of `benchmarks/robustness.py`: a network for faces in
general is one that keeps its points on them. The test fold is not read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from robustness import changes, points_of

from fkp.common.files import check_same, write_json
from fkp.config import Config, build_config, read_yaml
from fkp.data.labels import load_labels
from fkp.errors import FkpError, run_command
from fkp.evaluation.evaluate import evaluate
from fkp.evaluation.metrics import nme_pct
from fkp.predict import Predictor
from fkp.vision.image import read_image

LIST = Path("benchmarks/ablation.yaml")
#: Of so many validation faces one is taken for the changed photographs.
_EVERY = 3

#: Rows of the robustness table with a column of their own.
_COLUMNS = {
    "box +-10% in size, +-6% in place": "shaken box",
    "turned by 30 degrees to either side": "turned by 30",
    "a third of the resolution": "third of resolution",
    "a square of 0.3 of the face covered": "covered",
}


def main() -> None:
    """Train what is missing of the list, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12, help="length of each training (default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the list; by default all")
    parser.add_argument("--root", default=None, help="the YouTube-Faces set (default: data/ytfaces)")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="where the networks are kept (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=1, help="threads of a training (default: %(default)s)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    wanted = read_yaml(LIST)
    unknown = set(arguments.only or ()) - wanted["variants"].keys()
    if unknown:
        raise FkpError(f"{LIST} has no variant {', '.join(sorted(unknown))}: it has {', '.join(wanted['variants'])}")
    print(
        "| variant | images/s | validation NME % | on changed photographs | "
        + " | ".join(_COLUMNS.values())
        + " |\n|---|---|---|---|---|---|---|---|"
    )
    for name, change in wanted["variants"].items():
        if arguments.only and name not in arguments.only:
            continue
        settings = read_yaml(wanted["base"])
        run = {
            "train.epochs": arguments.epochs,
            "scale": {"num_workers": 0, "cpus_per_worker": arguments.cores},
            "export.int8": False,  # What is compared is the training.
            **({"data.root": arguments.root} if arguments.root else {}),
        }
        found = _measured(build_config(settings, change or {}, run), arguments.out / f"{name}-{arguments.epochs}")
        columns = " | ".join(f"{found['changed'][key]:.2f}" for key in _COLUMNS)
        mean = np.mean([value for key, value in found["changed"].items() if key != "none"])
        print(f"| {name} | {found['images_per_s']:.0f} | {found['nme']:.2f} | {mean:.2f} | {columns} |", flush=True)


def _measured(config: Config, folder: Path) -> dict[str, Any]:
    """Figures of one variant; trains it if its folder has none yet."""
    result = folder / "result.json"
    if not result.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(result, {**_train(config, folder), "config": config.model_dump(mode="json")})
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    check_same(config.model_dump(mode="json"), build_config(found["config"]).model_dump(mode="json"), f"variant {folder.name}")
    return found


def _train(config: Config, folder: Path) -> dict[str, Any]:
    from fkp.bundle import write_bundle
    from fkp.model.lightning_module import Net
    from fkp.train.loop import fit_in_process

    speeds = list[float]()
    checkpoint = fit_in_process(config, folder / "checkpoints", lambda told: speeds.append(told["images_per_s"]))
    network = Net.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).network
    predictor = Predictor(write_bundle(folder / "bundle", network, config, {}, ""))
    catalog = load_labels(config.data)
    rows = catalog.rows("val", config.data)[::_EVERY]
    errors = {
        name: nme_pct(points_of(predictor, frames, boxes), truth_px)
        for name, frames, truth_px, boxes in changes([read_image(catalog.path(row)) for row in rows], catalog.points_px[rows])
    }
    return {
        "images_per_s": float(np.median(speeds)),
        "nme": evaluate(predictor, catalog, config.data, subset="val").metrics()["nme_interocular_pct"],
        "changed": {name: float(error.mean()) for name, error in errors.items()},
    }


if __name__ == "__main__":
    run_command(main)
