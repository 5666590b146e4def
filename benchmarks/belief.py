"""Which detections a network believes: right and wrong answers by the error that it states, and what looking again turned brings.

    python benchmarks/belief.py [--bundle DIR] [--root DIR] [--faces N]

The faces are those of the validation fold that did not train the bundle, as they are and changed; an answer is right where its
NME is below 12 %. False detections come from the same frames with their faces painted over. There the detector's floor is
lowered from 0.4 to 0.3: at its own it reports too few to count. Limits are multiples of the bundle's median, see
`fkp.predict.belief`, which holds the chosen ones.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from fkp.bundle.drift import error_ratio
from fkp.config import build_config
from fkp.data.labels import load_labels
from fkp.errors import FkpError, run_command
from fkp.evaluation.leakage import held_out
from fkp.evaluation.metrics import nme_pct
from fkp.predict import DEFAULT_BUNDLE, Face, Predictor
from fkp.predict.belief import Belief, Limits, belief_of, limits_of, median_ratio
from fkp.predict.predictor import fuse
from fkp.vision.crop import Crop, box_of_points
from fkp.vision.detect import Detection, open_detector
from fkp.vision.image import Image, read_image

RIGHT_NME_PCT = 12.0
FLOOR = 0.3
TURNS_DEG = (30, 60, 90, 105, 120, 135, 150, 165, 180, 195, 210, 225, 240, 255, 270)
GIVEN_DEG = (0, 30, 60, 75, 90, 120, 150, 180, 225, 270)
#: By which turns a doubted face is looked at again.
AGAIN: dict[str, tuple[int, ...]] = {"none": (), "180": (180,), "90, 270": (90, 270), "90, 180, 270": (90, 180, 270)}
#: That of `Predictor.search`.
RULE = "90, 180, 270"
LIMITS = (1.5, 1.7, 1.9, 2.1, 2.2, 2.4, 2.6, 2.8, 3.0, 3.3)

Labelled = tuple[Image, np.ndarray]


@dataclass(frozen=True)
class Answer:
    """What the network says of a detection.

    Attributes:
        multiple: Expected error as a multiple of the bundle's median.
        right: Whether the points are about those of the label.
    """

    multiple: float
    right: bool


#: Of one detection: as it is, and as the looks of `AGAIN` would leave it, whether doubted or not.
Answers = dict[str, Answer]


def main() -> None:
    """Print five tables."""
    arguments = _parse()
    cv2.setNumThreads(1)
    predictor = Predictor(arguments.bundle)
    data = build_config({"data": {"source": "ytfaces", "root": arguments.root}}).data
    catalog = load_labels(data)
    rows = held_out(catalog.rows("val", data), predictor.bundle, catalog, data)
    median = median_ratio(predictor.bundle)
    if not len(rows) or median is None:
        raise FkpError(f"{arguments.bundle} was trained on all validation faces, or has no histogram of them: `fkp reference` adds that")
    rows = rows[np.linspace(0, len(rows) - 1, min(arguments.faces or len(rows), len(rows))).astype(int)]
    print(f"{arguments.bundle}: {len(rows)} validation faces that did not train it; median expected error {median:.4f} of the box\n")
    measure = _Measure(predictor, median)
    found: dict[str, list[Answers]] = {name: [] for name in ("as they are", *CHANGES, "painted over")}
    for row in rows:
        image, truth_px = read_image(catalog.path(int(row))), catalog.points_px[row]
        for name, change in {"as they are": lambda *face: face, **CHANGES}.items():
            found[name] += measure(*change(image, truth_px))
        found["painted over"] += measure(_painted_over(image, truth_px), None)
    found |= {"all turned by 105 to 255": [one for name in CHANGES if name.startswith("turned") for one in found[name] if _far(name)]}
    limits = limits_of(predictor.bundle)
    _print_looks(found, limits)
    _print_limits(found, limits.doubt)
    _print_points(predictor, [(read_image(catalog.path(int(row))), catalog.points_px[row]) for row in rows])
    _print_given(predictor, [(read_image(catalog.path(int(row))), catalog.points_px[row]) for row in rows[::4]])
    _print_time(predictor, [read_image(catalog.path(int(row))) for row in rows[:50]])


class _Measure:
    """Looks at all that a detector finds in a frame in every way at once."""

    def __init__(self, predictor: Predictor, median: float) -> None:
        self.predictor, self.median = predictor, median
        predictor.belief, predictor.min_quality = Belief(0.0, 0.0), 0.0  # One plain search each: the rule is applied below.
        self.low = open_detector(box_maps=predictor.bundle.face_boxes)
        self.low.backend.min_score = FLOOR

    def __call__(self, image: Image, truth_px: np.ndarray | None) -> Iterator[Answers]:
        """Answers of each detection; without a truth none can be right."""
        for detection in (self.predictor.detector if truth_px is not None else self.low).detect(image):
            plain = self._look(image, detection)
            turned = {turn: self._look(image, detection, turn) for turn in AGAIN[RULE]}
            answers = {}
            for name, turns in AGAIN.items():
                best = max((turned[turn] for turn in turns), key=lambda face: face.quality, default=None)
                again = self._once_more(image, best) if best else plain
                answers[name] = self._answer(max(plain, again, key=lambda face: face.quality), truth_px)
            yield answers

    def _look(self, image: Image, detection: Detection, turn: float = 0) -> Face:
        (face,) = self.predictor.of_detections(image, [replace(detection, roll_deg=detection.roll_deg + turn)])
        assert face is not None
        return face

    def _once_more(self, image: Image, face: Face) -> Face:
        (upright,) = self.predictor.refine(image, [face])
        return fuse(upright, *self.predictor.refine(image, [upright], mirrored=True))

    def _answer(self, face: Face, truth_px: np.ndarray | None) -> Answer:
        multiple = error_ratio(face.expected_error_px, face.box_xyxy) / self.median
        right = truth_px is not None and float(nme_pct(face.points_px[None], truth_px[None])[0]) < RIGHT_NME_PCT
        return Answer(multiple, right)


def _print_looks(found: dict[str, list[Answers]], limits: Limits) -> None:
    told = f"a face is doubted, and looked at again by these turns, from {limits.doubt:.2f} on"
    print(f"Answers reported and left out, limit {limits.disbelief:.2f}; {told}")
    print(f"{'frames':26s} {'found':>6s} {'doubted':>8s}" + "".join(f" | {name:^25s}" for name in AGAIN))
    print(f"{'':42s}" + f" | {'right':>6s} {'wrong':>6s} {'left out':>11s}" * len(AGAIN))
    for frames, answers in found.items():
        cells = []
        for name in AGAIN:
            final = [_final(one, name, limits.doubt) for one in answers]
            kept = [answer for answer in final if answer.multiple <= limits.disbelief]
            right = sum(answer.right for answer in kept)
            lost = sum(answer.right for answer in final) - right
            out = f"{len(final) - len(kept)}" + (f" ({lost} right)" if lost else "")
            cells.append(f" | {right:6d} {len(kept) - right:6d} {out:>11s}")
        doubted = sum(one["none"].multiple > limits.doubt for one in answers)
        print(f"{frames:26s} {len(answers):6d} {doubted:8d}" + "".join(cells))


def _final(one: Answers, name: str, doubt: float) -> Answer:
    return one[name] if one["none"].multiple > doubt else one["none"]


def _print_limits(found: dict[str, list[Answers]], doubt: float) -> None:
    """For each limit: the part of right and of wrong answers that it leaves out, without and with the looks of the rule."""
    changed = [one for name in CHANGES if not name.startswith("turned") for one in found[name]]
    groups = {
        "true faces as they are": (found["as they are"], True),
        "true faces, changed": (changed, True),
        "true faces, turned up to 90": (
            [one for name in CHANGES if name.startswith("turned") and not _far(name) for one in found[name]],
            True,
        ),
        "wrong, upside down": (found["turned 180"], False),
        "wrong, painted over": (found["painted over"], False),
    }
    print("\n% left out by each limit; of right answers after all looks, of wrong ones without the turned ones / after all")
    print(f"{'':38s}" + "".join(f"{limit:>14g}" for limit in LIMITS))
    for group, (answers, right) in groups.items():
        cells = []
        sets = [[_final(one, name, doubt) for one in answers] for name in ((RULE,) if right else ("none", RULE))]
        sets = [[answer for answer in final if answer.right is right] for final in sets]
        for limit in LIMITS:
            parts = [100 * sum(answer.multiple > limit for answer in final) / max(len(final), 1) for final in sets]
            cells.append(f"{' / '.join(f'{part:.1f}' for part in parts):>14s}")
        count = " / ".join(str(len(final)) for final in sets)
        print(f"{group + ' (' + count + ')':38s}" + "".join(cells))


def _print_points(predictor: Predictor, faces: list[Labelled]) -> None:
    """What the limit of single points tells apart, in the boxes of the labels: the points of the covered half, and large errors."""
    unsure_from = limits_of(predictor.bundle).unsure
    print(f"\nPoints that are expected to be further off than {unsure_from:.2f} medians, and mean error, % of the box's longer side")
    print(f"{'frames':22s} {'% of all':>9s} {'covered':>8s} {'others':>8s} {'error, unsure':>14s} {'sure':>6s}")
    unsure_ratio = belief_of(predictor.bundle).unsure_ratio
    for frames, change in {"as they are": lambda *face: face, **CHANGES}.items():
        if frames.startswith("turned"):
            continue
        unsure, covered, error = [], [], []
        for image, truth_px in (change(*face) for face in faces):
            box_xyxy = box_of_points(truth_px)
            (face,), longer = predictor(image, [box_xyxy]), float((box_xyxy[2:] - box_xyxy[:2]).max())
            unsure.append(face.expected_error_px > unsure_ratio * longer)
            covered.append((truth_px[:, 1] > box_xyxy[[1, 3]].mean()) & (frames == "lower half covered"))
            error.append(100 * np.linalg.norm(face.points_px - truth_px, axis=-1) / longer)
        hollow, below, off = np.concatenate(unsure), np.concatenate(covered), np.concatenate(error)
        of_covered = f"{100 * hollow[below].mean():8.1f}" if below.any() else f"{'':8s}"
        errors = " ".join(f"{off[some].mean() if some.any() else math.nan:{width}.2f}" for some, width in ((hollow, 14), (~hollow, 6)))
        print(f"{frames:22s} {100 * hollow.mean():9.1f} {of_covered} {100 * hollow[~below].mean():8.1f} {errors}")


def _print_given(measured: Predictor, faces: list[Labelled]) -> None:
    """Faces in given boxes, which say nothing about how a face is turned: by the rule of `Predictor.search`, and without it."""
    print(f"\nRight of {len(faces)} faces in the boxes of their labels, and the median NME %, turned by so many degrees")
    print(f"{'':12s}" + "".join(f"{degrees:>12d}" for degrees in GIVEN_DEG))
    for name, predictor in (("one way", measured), ("by the rule", Predictor(measured.bundle))):
        cells = []
        for degrees in GIVEN_DEG:
            turned = [_turned(degrees)(*face) for face in faces]
            answers = [(predictor(image, [box_of_points(points_px)])[0], points_px) for image, points_px in turned]
            nme = np.array([float(nme_pct(face.points_px[None], points_px[None])[0]) for face, points_px in answers])
            cells.append(f"{(nme < RIGHT_NME_PCT).sum():5d} {np.median(nme):6.2f}")
        print(f"{name:12s}" + "".join(cells))


def _print_time(measured: Predictor, images: list[Image]) -> None:
    """Ordinary frames with the rule and without, in turns."""
    judged = Predictor(measured.bundle)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for image in images * 3:
        for rule, predictor in ((True, judged), (False, measured)):
            began = time.perf_counter()
            predictor(image)
            seconds[rule].append(time.perf_counter() - began)
    with_ms, without_ms = (1000 * float(np.median(seconds[rule])) for rule in (True, False))
    print(f"\nms a frame as it is: {with_ms:.2f} with the rule, {without_ms:.2f} without")


def _turned(degrees: float) -> Callable[[Image, np.ndarray], Labelled]:
    """Turn a frame clockwise about its middle, with a border that keeps its corners."""

    def turn(image: Image, points_px: np.ndarray) -> Labelled:
        height, width = image.shape[:2]
        side = math.ceil(math.hypot(width, height))
        window = Crop(((width - 1) / 2, (height - 1) / 2), side, side, -degrees)
        return cv2.warpAffine(image, window.matrix, (side, side), borderMode=cv2.BORDER_REPLICATE), window.do(points_px)

    return turn


def _coarse(image: Image, points_px: np.ndarray) -> Labelled:
    height, width = image.shape[:2]
    return cv2.resize(image, (width // 4, height // 4), interpolation=cv2.INTER_AREA), (points_px + 0.5) / 4 - 0.5


def _covered(image: Image, points_px: np.ndarray) -> Labelled:
    """The lower half of the face is grey."""
    x0, y0, x1, y1 = (max(int(v), 0) for v in box_of_points(points_px))
    covered = image.copy()
    covered[(y0 + y1) // 2 : y1 + 1, x0 : x1 + 1] = 90
    return covered, points_px


def _painted_over(image: Image, points_px: np.ndarray) -> Image:
    x0, y0, x1, y1 = (max(int(v), 0) for v in box_of_points(points_px) + np.array([-20, -40, 20, 20]))
    painted = image.copy()
    painted[y0:y1, x0:x1] = image.mean(axis=(0, 1)).astype(np.uint8)
    return painted


def _far(name: str) -> bool:
    """Whether a turn is one that detectors take for another."""
    return name.startswith("turned") and 90 < int(name.split()[1]) < 270


CHANGES: dict[str, Callable[[Image, np.ndarray], Labelled]] = {
    "a quarter of the size": _coarse,
    "a fifth of the light": lambda image, points_px: ((image * 0.2).astype(np.uint8), points_px),
    "blurred by 3 px": lambda image, points_px: (cv2.GaussianBlur(image, (0, 0), 3), points_px),
    "lower half covered": _covered,
    **{f"turned {degrees}": _turned(degrees) for degrees in TURNS_DEG},
}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="model (default: %(default)s)")
    parser.add_argument("--root", default=None, help="the YouTube-Faces set (default: data/ytfaces)")
    parser.add_argument("--faces", type=int, help="so many of the validation faces, evenly spread (default: all)")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
