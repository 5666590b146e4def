"""How far few labels bring a model to another convention: error before, and by each way of `fkp adapt`, over three draws of the labels.

    .venv/bin/python benchmarks/adapt.py TRAIN_FOLDER TEST_FOLDER [--faces 25 50 100] [--seeds 3] [--ways map tune both]

Both folders hold photographs, each beside a `.pts` file of 68 points counted from 1 (the 300-W family); each photograph is a group of
its own. The error is measured on all photographs of the second folder, from which nothing is learnt. Each line is printed as it is known.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from fkp.adapt.finetune import Recipe
from fkp.adapt.pipeline import adapt
from fkp.adapt.ways import WAYS
from fkp.bundle import open_bundle
from fkp.common.files import write
from fkp.config import DataConfig
from fkp.data.labels import CSV_FILES
from fkp.errors import run_command
from fkp.evaluation.metrics import nme_pct
from fkp.predict import Predictor
from fkp.scheme import IBUG68
from fkp.shipped import DEFAULT_BUNDLE
from fkp.vision.crop import box_of_points
from fkp.vision.image import read_image

Labelled = list[tuple[Path, np.ndarray]]


def main() -> None:
    """Print one line a number of labels and a way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--faces", type=int, nargs="+", default=[25, 50, 100])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="that are measured alone; then the chosen one")
    parser.add_argument("--model", default=str(DEFAULT_BUNDLE))
    parser.add_argument("--most-test", type=int, help="measure on so many photographs only, evenly spread")
    parser.add_argument("--chosen", action="store_true", help="also let the command choose among the ways")
    arguments = parser.parse_args()
    train, test = labelled(arguments.train), labelled(arguments.test)
    if arguments.most_test:
        test = [test[i] for i in np.linspace(0, len(test) - 1, min(arguments.most_test, len(test))).astype(int)]
    base = open_bundle(arguments.model)
    print(f"before: {error(Predictor(base), test):.3f} % on {len(test)} photographs", flush=True)
    for faces in arguments.faces:
        for ways in [*((way,) for way in arguments.ways), *([tuple(arguments.ways)] if arguments.chosen else [])]:
            found, minutes = [], []
            for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
                chosen = np.random.default_rng(seed).permutation(len(train))[:faces]
                with tempfile.TemporaryDirectory() as folder:
                    root = write_set(Path(folder) / "set", [train[place] for place in chosen])
                    began = time.monotonic()
                    data = DataConfig(source="folder", root=str(root))
                    adapted = adapt(data, arguments.model, Path(folder) / "model", ways, Recipe(), seed, force=True)
                    minutes.append((time.monotonic() - began) / 60)
                    assert adapted.bundle is not None
                    found.append(error(Predictor(adapted.bundle), test))
                print(
                    f"{faces} labels, {'/'.join(ways)}, seed {seed}: {found[-1]:.3f} % in {minutes[-1]:.1f} minutes; "
                    f"cross-validated {adapted.summary['ways']}, penalty {adapted.summary['penalty']:g}",
                    flush=True,
                )
            spread = f" +- {np.std(found, ddof=1):.3f}" if len(found) > 1 else ""
            print(f"{faces} labels, {'/'.join(ways)}: {np.mean(found):.3f} %{spread} in {np.mean(minutes):.1f} minutes", flush=True)


def labelled(folder: Path) -> Labelled:
    """Photographs of a folder with their (68, 2) points, counted from 0."""
    found = []
    for path in sorted(folder.glob("*.pts")):
        text = path.read_text()
        numbers = [float(word) for word in (text.split("{")[1].split("}")[0] if "{" in text else text).split()]
        images = [path.with_suffix(suffix) for suffix in (".jpg", ".png") if path.with_suffix(suffix).is_file()]
        if images and len(numbers) == 2 * len(IBUG68):
            found.append((images[0], np.array(numbers, np.float32).reshape(-1, 2) - 1))
    return found


def write_set(root: Path, faces: Labelled) -> Path:
    """Write a set in the layout of `fkp.data.labels`; the photographs are links."""
    header = ["file", *(f"{axis}{point}" for point in range(len(IBUG68)) for axis in "xy")]
    for part in CSV_FILES:
        (root / part).mkdir(parents=True)
        lines = [",".join(header)]
        for number, (path, points) in enumerate(faces if part == CSV_FILES[0] else []):
            name = f"photo{number}_00{path.suffix}"
            (root / part / name).symlink_to(path.resolve())
            lines.append(",".join([name, *(f"{value:.3f}" for value in points.ravel())]))
        write(root / f"{part}_frames_keypoints.csv", "\n".join(lines) + "\n")
    return root


def error(predictor: Predictor, faces: Labelled) -> float:
    """Mean error in percent of the distance between the outer corners of the eyes, box from the labels."""
    answers = [predictor(read_image(path), [box_of_points(points)])[0].points_px for path, points in faces]
    return float(nme_pct(np.stack(answers), np.stack([points for _, points in faces])).mean())


if __name__ == "__main__":
    run_command(main, "train")
