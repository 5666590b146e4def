"""How far few labels bring a model to another convention: error before, and by each way of `fkp adapt`, over three draws of the labels.

    .venv/bin/python benchmarks/adapt.py TRAIN_FOLDER TEST_FOLDER [--faces 25 50 100] [--seeds 3] [--ways map] [--chosen] [--nothing]
    .venv/bin/python benchmarks/adapt.py FOLDER FOLDER --pooled 400 [...]
    .venv/bin/python benchmarks/adapt.py TRAIN_FOLDER TEST_FOLDER --other-scheme 200
    .venv/bin/python benchmarks/adapt.py TRAIN_FOLDER TEST_FOLDER --large 2000

Both folders hold photographs, each beside a `.pts` file of 68 points counted from 1 (the 300-W family); each photograph is a group of
its own. The error is measured on all photographs of the second folder, from which nothing is learnt; with `--pooled N` on N photographs
drawn from both, and the labels are drawn from the others. Each line is printed as it is known.

`--nothing` adds a training that begins from random weights. `--other-scheme N` adapts to N faces of 20 points in another order, a tenth of
them not labelled, and prints each point's error beside that of the same faces with all 68. `--large N` adapts to N photographs that are
enlarged to 12 megapixels and prints the peak of the memory and the share of the time that follows the training.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from pts import Labelled, labelled

from fkp.adapt.faces import read_faces
from fkp.adapt.finetune import Recipe, finetune
from fkp.adapt.measure import predictor_of
from fkp.adapt.pipeline import adapt, config_of
from fkp.adapt.ways import TRIED, WAYS
from fkp.bundle import Bundle, open_bundle
from fkp.config import DataConfig
from fkp.data import label_set
from fkp.data.label_set import LabelSet
from fkp.data.labels import load_labels
from fkp.errors import run_command
from fkp.evaluation.metrics import nme_pct
from fkp.model.network import Network
from fkp.predict import Predictor
from fkp.scheme import IBUG68, Scheme, load_scheme
from fkp.shipped import DEFAULT_BUNDLE
from fkp.vision.crop import box_of_points
from fkp.vision.image import read_image

#: 20 landmarks of the 68, in an order of their own.
TWENTY = [66, 8, 30, 48, 36, 45, 54, 57, 51, 62, 33, 27, 17, 21, 22, 26, 39, 42, 4, 12]
_LARGE, _DIFFERENT = (4000, 3000), 100
#: From random weights: peak rate of the shipped models' recipe, and at least so many steps.
_FROM_NOTHING = Recipe(lr=0.01, least_steps=600, epochs=70)


def main() -> None:
    """Print one line a number of labels and a way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--faces", type=int, nargs="+", default=[25, 50, 100], help="0: all there are")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=["map"], help="that are measured alone (default: map)")
    parser.add_argument("--model", default=str(DEFAULT_BUNDLE))
    parser.add_argument("--most-test", type=int, help="measure on so many photographs only, evenly spread")
    parser.add_argument("--pooled", type=int, help="put both folders together and measure on so many photographs of them")
    parser.add_argument("--chosen", action="store_true", help="let the command choose among the ways, as it does for users")
    parser.add_argument("--nothing", action="store_true", help="also train from random weights")
    parser.add_argument("--other-scheme", type=int, metavar="N")
    parser.add_argument("--large", type=int, metavar="N")
    arguments = parser.parse_args()
    train, test = labelled(arguments.train), labelled(arguments.test)
    if arguments.pooled:
        every = [*train, *test]
        order = np.random.default_rng(123).permutation(len(every))
        train, test = ([every[place] for place in part] for part in (order[arguments.pooled :], order[: arguments.pooled]))
    if arguments.most_test:
        test = [test[i] for i in np.linspace(0, len(test) - 1, min(arguments.most_test, len(test))).astype(int)]
    base = open_bundle(arguments.model)
    if arguments.large:
        large(train, arguments.large, arguments.model, arguments.ways)
        return
    if arguments.other_scheme:
        other_scheme(drawn(train, arguments.other_scheme, arguments.first_seed), test, arguments.model, arguments.ways)
        return
    print(f"before: {error(Predictor(base), test):.3f} % on {len(test)} photographs", flush=True)
    tried: list[tuple[str, ...]] = [*((way,) for way in arguments.ways), *([TRIED] if arguments.chosen else [])]
    for faces in arguments.faces:
        if arguments.nothing:
            report(
                f"{faces or len(train)} labels, from nothing",
                arguments,
                lambda seed, faces=faces: from_nothing(drawn(train, faces, seed), test, base, seed),
            )
        for ways in tried:
            report(
                f"{faces or len(train)} labels, {'/'.join(ways)}",
                arguments,
                lambda seed, faces=faces, ways=ways: adapted_error(drawn(train, faces, seed), test, arguments.model, ways, seed),
            )


def report(about: str, arguments: argparse.Namespace, measured: Callable[[int], tuple[float, str]]) -> None:
    """Print the error of each draw, their mean and their spread."""
    found, minutes, processor = [], [], []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        began, spent = time.monotonic(), time.process_time()
        nme, note = measured(seed)
        found.append(nme)
        minutes.append((time.monotonic() - began) / 60)
        processor.append((time.process_time() - spent) / 60)
        print(f"  {about}, seed {seed}: {nme:.3f} % in {minutes[-1]:.1f} minutes{note}", flush=True)
    spread = f" +- {np.std(found, ddof=1):.3f}" if len(found) > 1 else ""
    times = f"{np.mean(minutes):.1f} minutes, {np.mean(processor):.1f} of processor time"
    print(f"{about}: {np.mean(found):.3f} %{spread} in {times}", flush=True)


def drawn(faces: Labelled, count: int, seed: int) -> Labelled:
    """So many of the faces, 0 for all; the same for the same seed."""
    return [faces[place] for place in np.random.default_rng(seed).permutation(len(faces))[: count or None]]


def adapted_error(faces: Labelled, test: Labelled, model: str, ways: Sequence[str], seed: int) -> tuple[float, str]:
    """The whole command, as a user runs it; its time is with the measuring on `test`."""
    with tempfile.TemporaryDirectory() as folder:
        data = DataConfig(source="folder", root=str(write_set(Path(folder) / "set", faces)))
        adapted = adapt(data, model, Path(folder) / "model", ways, seed=seed, force=True)
        assert adapted.bundle is not None
        summary = adapted.summary
        ways_nme = {way: round(nme, 3) for way, nme in summary["ways"].items()}
        chosen = f"penalty {summary['penalty']:g}, blend {summary['blend']}"
        note = f", {summary['minutes']:.1f} of them the command; cross-validated {ways_nme}, {chosen}"
        return error(Predictor(adapted.bundle), test), note


def from_nothing(faces: Labelled, test: Labelled, base: Bundle, seed: int) -> tuple[float, str]:
    """The same network, loss and augmentation from random weights."""
    with tempfile.TemporaryDirectory() as folder:
        data = DataConfig(source="folder", root=str(write_set(Path(folder) / "set", faces)))
        catalog = load_labels(data)
        config = config_of(base, data, str(base.path), Path(folder) / "model").updated({"model.base_scheme": None, "train.init": None})
        crops = read_faces(catalog, config, np.arange(len(catalog)))
        network = finetune(Network(config), config, crops, _FROM_NOTHING, seed, "from nothing")
        return error(predictor_of(base, network, config), test), f", {_FROM_NOTHING.steps(len(crops))} steps"


def other_scheme(faces: Labelled, test: Labelled, model: str, ways: Sequence[str]) -> None:
    """Print each point's error under a scheme of 20 points beside that under ibug68."""
    names = [IBUG68.landmarks[place] for place in TWENTY]
    pairs = [(a, b) for a, place in enumerate(TWENTY) for b, other in enumerate(TWENTY) if (place, other) in set(IBUG68.pairs)]
    ends = [TWENTY.index(place) for place in IBUG68.between or ()]
    plain = {"name": "twenty", "landmarks": names, "pairs": pairs, "regions": {"face": list(range(len(names)))}, "edges": []}
    plain["normaliser"] = {"name": IBUG68.normaliser, "between": ends, "about": IBUG68.normaliser_about}
    errors = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "twenty.yaml"
        path.write_text(json.dumps(plain))
        twenty = load_scheme(str(path))
        kept = [(image, points[list(TWENTY)]) for image, points in faces]
        missing = np.random.default_rng(0).random((len(kept), len(TWENTY))) < 0.1
        missing[:, ends] = False  # Without them an error has no unit.
        for name, scheme, own in (("ibug68", IBUG68, faces), ("twenty", twenty, kept)):
            root = write_set(Path(folder) / name, own, scheme, missing if scheme is twenty else None)
            data = DataConfig(source="folder", root=str(root), scheme=label_set.scheme_setting(root))
            adapted = adapt(data, model, Path(folder) / f"{name}_model", ways, force=True)
            assert adapted.bundle is not None
            predictor = Predictor(adapted.bundle)
            ours = range(len(IBUG68)) if scheme is IBUG68 else TWENTY
            found = np.stack([predictor(read_image(image), [box_of_points(points[list(ours)])])[0].points_px for image, points in test])
            found = found[:, TWENTY] if scheme is IBUG68 else found
            truth = np.stack([points for _, points in test])
            errors[name] = 100 * (np.linalg.norm(found - truth[:, TWENTY], axis=-1) / IBUG68.size_px(truth)[:, None]).mean(0)
            print(f"{name}: the 20 points {errors[name].mean():.3f} %, {adapted.summary['way']}", flush=True)
    ratio = errors["twenty"] / errors["ibug68"]
    for name, *row in sorted(zip(names, errors["ibug68"], errors["twenty"], ratio, strict=True), key=lambda row: row[-1]):
        print(f"  {name:24} {row[0]:.2f} % {row[1]:.2f} %  x {row[2]:.2f}")
    print(f"{len(faces)} labels, 20 points, a tenth not labelled: the worst is {ratio.max():.2f} of the same point's error under ibug68")


def large(faces: Labelled, count: int, model: str, ways: Sequence[str]) -> None:
    """Print memory and time of the command on photographs of 12 megapixels; the same enlarged ones stand under many names."""
    with tempfile.TemporaryDirectory() as folder:
        made: Labelled = []
        for number in range(count):
            image, points = faces[number % min(len(faces), _DIFFERENT)]
            source = Path(folder) / f"{image.stem}_large.jpg"
            pixels = cv2.imread(str(image))
            scale = np.array(_LARGE) / pixels.shape[1::-1]
            if not source.exists():
                cv2.imwrite(str(source), cv2.resize(pixels, _LARGE, interpolation=cv2.INTER_LINEAR))
            made.append((source, points * scale.astype(np.float32)))
        root = write_set(Path(folder) / "set", made)
        command = [sys.executable, "-m", "fkp", "adapt", str(root), "--out", f"{folder}/model", "--model", model, "--force"]
        subprocess.run([*command, "--ways", *ways], check=True)
        peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        summary = json.loads(Path(f"{folder}/model-report.json").read_text())
        print(f"{count} photographs of 12 megapixels, {'/'.join(ways)}: {peak_gib:.2f} GiB at most, {summary['minutes']:.1f} minutes")
        print("  " + ", ".join(f"{step} {minutes:.2f}" for step, minutes in summary["minutes_of"].items()))


def write_set(
    root: Path, faces: Labelled, scheme: Scheme = IBUG68, missing: np.ndarray | None = None, weights: np.ndarray | None = None
) -> Path:
    """Write a set as `fkp data import` does, each photograph a group of its own; the photographs are links. `weights`: see `LabelSet`."""
    (root / label_set.IMAGES).mkdir(parents=True)
    images = []
    for number, (path, _) in enumerate(faces):
        images.append(f"{label_set.IMAGES}/photo{number}{path.suffix}")
        (root / images[-1]).symlink_to(path.resolve())
    points = np.stack([points for _, points in faces])
    if missing is not None:
        points[missing] = np.nan
    groups = [f"photo{number}" for number in range(len(faces))]
    boxes = np.full((len(faces), 4), np.nan, np.float32)
    labels = LabelSet(root, scheme, images, groups, [None] * len(faces), boxes, points, np.isfinite(points).all(-1), weights=weights)
    label_set.write(root, labels, {})
    return root


def error(predictor: Predictor, faces: Labelled) -> float:
    """Mean error in percent of the distance between the outer corners of the eyes, box from the labels."""
    answers = [predictor(read_image(path), [box_of_points(points)])[0].points_px for path, points in faces]
    return float(nme_pct(np.stack(answers), np.stack([points for _, points in faces])).mean())


if __name__ == "__main__":
    run_command(main, "train")
