"""What `fkp label` saves a person: points to touch, the order of the faces, the forecast, on photographs whose labeller is simulated.

    .venv/bin/python benchmarks/labelling.py POOL_FOLDER TEST_FOLDER [--faces 25 50 100] [--seeds 3] [--ways map]

Both folders hold photographs, each beside a `.pts` file of 68 points, see `benchmarks/adapt.py`. A draw of half of the first folder is
labelled in the queue's order and in a random one; after each number of faces the model is adapted (`fkp adapt`) and the queue ordered
anew. Error and points to touch are measured on photographs of the second folder, the forecast against the photographs of the draw that are
not labelled. The labeller corrects what is off by more than 3 % of the eye distance, the farthest point first, or in the order in which
points are offered. `--accepted` says what the adaptation is given of the points that were not touched: the `truth` (a labeller who sets
each point), or where they were left: with `full` weight (as `fkp label` does), by their `error`, or `none`, masked. Each line is printed as
it is known.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from adapt import write_set
from pts import Labelled, labelled

from fkp.adapt.pipeline import adapt
from fkp.adapt.ways import WAYS
from fkp.bundle import Bundle, open_bundle
from fkp.config import DataConfig
from fkp.errors import run_command
from fkp.evaluation.metrics import nme_pct
from fkp.label.forecast import forecast
from fkp.label.order import Guess, expected_pct, rank
from fkp.label.posterior import PERSON_PCT, Errors
from fkp.predict import Predictor
from fkp.scheme import IBUG68
from fkp.shipped import DEFAULT_BUNDLE
from fkp.vision.crop import box_of_points
from fkp.vision.image import read_image

#: Of the distance of the outer corners of the eyes: what is farther off is corrected.
TOLERANCE = 0.03


def main() -> None:
    """Print one line a seed and number of labels, and the means at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--faces", type=int, nargs="+", default=[25, 50, 100])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["map"], help="of the adaptations between the steps")
    parser.add_argument("--orders", nargs="+", choices=("queue", "random", "unsure"), default=["queue", "random"])
    parser.add_argument("--most-test", type=int, default=400, help="measure on so many photographs, evenly spread")
    parser.add_argument("--most-touched", type=int, default=60, help="correct so many of these")
    parser.add_argument("--accepted", nargs="+", choices=("truth", "full", "error", "none"), default=["truth"], help="points not touched")
    parser.add_argument("--model", default=str(DEFAULT_BUNDLE))
    arguments = parser.parse_args()
    every, test = labelled(arguments.pool), labelled(arguments.test)
    test = [test[i] for i in np.linspace(0, len(test) - 1, min(arguments.most_test, len(test))).astype(int)]
    base = open_bundle(arguments.model)
    before = guesses(Predictor(base), test)
    print(f"0 labels: error {nmes(before, test).mean():.2f} %; {touched(base, before, test, arguments.most_touched)}", flush=True)
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        drawn = np.random.default_rng(seed).permutation(len(every))[: len(every) // 2]
        pool = [every[place] for place in drawn]
        for order in arguments.orders:
            for accepted in arguments.accepted:
                one_draw(base, pool, test, order, accepted, seed, arguments)


def one_draw(base: Bundle, pool: Labelled, test: Labelled, order: str, accepted: str, seed: int, arguments: argparse.Namespace) -> None:
    """Label a pool step by step."""
    given, weights = list[tuple[Path, np.ndarray]](), list[np.ndarray]()
    bundle, done, history, foretold = base, np.zeros(0, int), list[tuple[int, float]](), float("nan")
    found = guesses(Predictor(base), pool)
    for count in arguments.faces:
        left = np.setdiff1d(np.arange(len(pool)), done)
        ordered = np.arange(len(left))  # The draw is in no order.
        if order != "random":
            known = [found[i] for i in left]
            ordered = rank(known, IBUG68, [found[i] for i in done]) if order == "queue" else np.argsort(-expected_pct(known))
        new = left[ordered[: count - len(done)]]
        rest = np.setdiff1d(left, new)
        if order == "queue":
            # Foretold when these faces are labelled, for the adaptation to them; and the error of the model of before.
            pairs = np.column_stack([expected_pct([found[i] for i in new]), nmes([found[i] for i in new], [pool[i] for i in new])])
            told = forecast(expected_pct([found[i] for i in rest]), [(pair[0], pair[1]) for pair in pairs.tolist()], history, more=(0,))
            came = nmes([found[i] for i in rest], [pool[i] for i in rest]).mean()
            foretold = told.after[0][1]
            print(f"  forecast after {count} faces, seed {seed}: now {told.now_pct:.2f} % ({came:.2f} came)", flush=True)
        done = np.concatenate([done, new])
        errors = Errors.of(bundle)
        for i in new:
            points, weight = labels_of(errors, found[i], pool[i][1], accepted)
            given.append((pool[i][0], points))
            weights.append(weight)
        with tempfile.TemporaryDirectory() as folder:
            root = write_set(Path(folder) / "set", given, weights=np.stack(weights))
            out = Path(folder) / "model"
            adapted = adapt(DataConfig(source="folder", root=str(root)), arguments.model, out, arguments.ways, seed=seed, force=True)
            assert adapted.bundle is not None
            bundle = adapted.bundle
            predictor = Predictor(bundle)
            found = guesses(predictor, pool)
            after = guesses(predictor, test)
        if not history:
            history.append((0, adapted.summary["before"]["nme_pct"]))
        history.append((len(done), adapted.summary["after"]["nme_pct"]))
        said = f"{count} labels, {order}, untouched: {accepted}, seed {seed}: error {nmes(after, test).mean():.3f} %"
        if order == "queue":
            came = nmes([found[i] for i in rest], [pool[i] for i in rest]).mean()
            stated = expected_pct([found[i] for i in rest]).mean()
            said += f"; of the rest {foretold:.2f} % foretold, {came:.2f} came, {stated:.2f} stated"
            said += f"; {touched(bundle, after, test, arguments.most_touched)}"
        print(said, flush=True)


def guesses(predictor: Predictor, faces: Labelled) -> list[Guess]:
    """What a model says of photographs, box from the labels; each is a group of its own."""
    boxes = [box_of_points(points) for _, points in faces]
    found = [predictor(read_image(path), [box])[0] for (path, _), box in zip(faces, boxes, strict=True)]
    return [Guess.of_face(face, path.name, path.name) for face, (path, _) in zip(found, faces, strict=True)]


def nmes(found: Sequence[Guess], faces: Labelled) -> np.ndarray:
    """(N,) errors in percent of the eye distance."""
    return nme_pct(np.stack([guess.points_px for guess in found]), np.stack([points for _, points in faces]))


def touched(bundle: Bundle, found: Sequence[Guess], faces: Labelled, most: int) -> str:
    """How many points of a face are touched until none is off, in words."""
    errors = Errors.of(bundle)
    chosen = np.linspace(0, len(faces) - 1, min(most, len(faces))).astype(int)
    pairs = [(found[i], np.asarray(faces[i][1], np.float64)) for i in chosen]
    alone = np.mean([off(guess.points_px, truth).sum() for guess, truth in pairs])
    farthest, offered = (np.mean([len(corrected(errors, *pair, by_offer)[0]) for pair in pairs]) for by_offer in (False, True))
    return (
        f"points to touch {alone:.1f}; where one fix informs the rest {farthest:.1f} ({100 * farthest / alone - 100:+.0f} %), "
        f"in the order of the offers {offered:.1f}"
    )


def labels_of(errors: Errors, guess: Guess, truth_px: np.ndarray, accepted: str) -> tuple[np.ndarray, np.ndarray]:
    """(K, 2) points and (K,) weights that a person leaves."""
    if accepted == "truth":
        return truth_px, np.ones(len(truth_px))
    touched, points = corrected(errors, guess, np.asarray(truth_px, np.float64), by_offer=False)
    points = points.copy()
    points[[*touched]] = truth_px[[*touched]]
    left = np.setdiff1d(np.arange(len(points)), [*touched])
    weights = np.ones(len(points))
    if accepted == "none" and len(touched):
        points[left] = np.nan
        corners = list(IBUG68.between or ())  # Without them the face has no size, and no set takes it.
        points[corners] = truth_px[corners]
    if accepted == "error":
        expected = 100 * guess.expected_error_px[left] / float(IBUG68.size_px(points))
        weights[left] = PERSON_PCT**2 / (PERSON_PCT**2 + expected**2)
    return points.astype(np.float32), weights


def corrected(errors: Errors, guess: Guess, truth_px: np.ndarray, by_offer: bool) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """The points that a person sets, and (K, 2) where all are then.

    Offers that are not off are accepted, which tells something of the others, too.
    """
    set_px: dict[int, np.ndarray] = {}
    accepted: dict[int, np.ndarray] = {}
    size, points = float(IBUG68.size_px(guess.points_px)), guess.points_px
    while True:
        wrong = [place for place in np.flatnonzero(off(points, truth_px)) if place not in set_px]
        if not wrong:
            return set_px, points
        if by_offer:
            place = errors.next_point(guess.scale_px, {**accepted, **set_px}, guess.points_px, size)
            if place is None:  # All were seen, and some accepted ones were moved since.
                place = int(wrong[0])
        else:
            place = int(max(wrong, key=lambda place: np.linalg.norm(points[place] - truth_px[place])))
        if place in wrong:
            accepted.pop(place, None)
            set_px[place] = truth_px[place]
        else:
            accepted[place] = points[place]
        points, _ = errors.condition(guess.points_px, guess.scale_px, {**accepted, **set_px}, size)


def off(points_px: np.ndarray, truth_px: np.ndarray) -> np.ndarray:
    """(K,) which points a person corrects."""
    return np.linalg.norm(points_px - truth_px, axis=-1) > TOLERANCE * float(IBUG68.size_px(truth_px))


if __name__ == "__main__":
    run_command(main, "train")
