"""Whether wrong labels come first where labels are ordered by how far a model disagrees: a twentieth are given errors that people make.

    .venv/bin/python benchmarks/wrong_labels.py [--data.root FOLDER] [--seeds 3]

The faces are the test persons of YouTube-Faces, which the shipped model was not trained on. Last, the strangest labels as they are.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from fkp.bundle import open_bundle
from fkp.data.labels import load_labels
from fkp.errors import run_command
from fkp.evaluation.evaluate import evaluate
from fkp.evaluation.metrics import nme_pct
from fkp.label.disagreement import HeldOut, disagreement
from fkp.label.posterior import Errors
from fkp.predict import Predictor
from fkp.scheme import IBUG68
from fkp.shipped import DEFAULT_BUNDLE

KINDS = ("a slip", "left and right exchanged", "one place too far", "a region off", "two points exchanged")


def main() -> None:
    """Print a line a kind of error, and the strangest labels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", "--data.root", dest="root", default="data/ytfaces")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    bundle = open_bundle(DEFAULT_BUNDLE)
    data = bundle.config.data.updated({"root": arguments.root})
    found = evaluate(Predictor(bundle), load_labels(data), data, bundle)
    given = HeldOut(found.truth_px(), found.points_px, found.expected_error_px / 2, np.array(found.identities), IBUG68)
    errors = Errors.of(bundle)
    ranks: dict[tuple[str, str], list[float]] = {}
    for seed in range(arguments.seeds):
        draw = np.random.default_rng(seed)
        wrong = draw.permutation(len(found))[: len(found) // 20]
        kinds = draw.integers(0, len(KINDS), len(wrong))
        labels = given.labels_px.copy()
        for face, kind in zip(wrong, kinds, strict=True):
            labels[face] = spoilt(labels[face], KINDS[kind], draw)
        by = {
            "disagreement": np.argsort(-disagreement(replace(given, labels_px=labels), errors).score),
            "mean error": np.argsort(-nme_pct(given.points_px, labels)),
        }
        for name, order in by.items():
            place = np.argsort(order)[wrong] / len(order)
            for kind, of in [*((KINDS[number], kinds == number) for number in range(len(KINDS))), ("all", kinds >= 0)]:
                ranks.setdefault((name, kind), []).extend(place[of].tolist())
    for (name, kind), places in ranks.items():
        print(
            f"{kind}, by {name}: {np.mean(np.array(places) < 0.05):.0%} in the first 5 % of the faces, "
            f"{np.mean(np.array(places) < 0.1):.0%} in the first 10 %"
        )
    told = disagreement(given, errors)
    error = nme_pct(given.points_px, given.labels_px)
    for face in told.order[:5]:
        names = ", ".join(IBUG68.landmarks[place] for place in told.where[face][:2])
        print(f"as they are: {found.files[face]}, {told.score[face]:.1f} times the median, at {names}; mean error {error[face]:.1f} %")


def spoilt(label_px: np.ndarray, kind: str, draw: np.random.Generator) -> np.ndarray:
    """A label with an error that people make."""
    label, size = label_px.copy(), float(IBUG68.size_px(label_px))
    region = list(list(IBUG68.regions.values())[draw.integers(len(IBUG68.regions))])
    if kind == "a slip":  # By 15 % of the eye distance on average.
        label[draw.integers(len(label))] += draw.normal(0, 0.12 * size, 2)
    elif kind == "left and right exchanged":
        label = label[list(IBUG68.mirror)]
    elif kind == "one place too far":
        label[region] = label[region[1:] + region[:1]]
    elif kind == "a region off":
        label[region] += (0.08 * size, 0.05 * size)
    else:
        pair = draw.choice(len(label), 2, replace=False)
        label[pair] = label[pair[::-1]]
    return label


if __name__ == "__main__":
    run_command(main, "train")
