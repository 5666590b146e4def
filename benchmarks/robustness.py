"""How much a model loses where a photograph differs from the set: bundles side by side on changed validation faces.

python benchmarks/robustness.py BUNDLE [BUNDLE ...] [--root DIR] [--faces 456]

Each row changes every frame, or the box it is cropped by, in one way; boxes are the labels' own but in rows of shaken ones.
The network looks once, but in the last rows, where the Predictor looks again at faces that do not fit their boxes, as it
always does. Of several bundles the last column is the mean of their answers: what an ensemble would bring. The faces are
those of the validation fold that trained none of the bundles.
Figures: NME in percent of the distance of the outer eye corners (corrected labels), and failures at 8 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from fkp.config import build_config
from fkp.data.labels import load_labels
from fkp.errors import FkpError, run_command
from fkp.evaluation.leakage import held_out
from fkp.evaluation.metrics import nme_pct
from fkp.predict import Predictor
from fkp.scheme import IBUG68
from fkp.vision.crop import box_of_points
from fkp.vision.image import Image, read_image

_SIZE, _SHIFT, _TURN_DEG = 0.10, 0.06, 15
_TURNS_DEG = (15, 30)
#: Of the last rows: turns, where zero are the frames as they are, and boxes wrong in size and place by up to so much of a face.
_AGAIN_TURNS_DEG = (0, 15, 30, 45)
_AGAIN_SHAKES = ((0.1, 0.06), (0.2, 0.15), (0.3, 0.2))
_BATCH = 32

Frames = list[Image]
#: A row: its name, the frames, the truth (N, 68, 2) in their pixels, the boxes (N, 4).
Row = tuple[str, Frames, np.ndarray, np.ndarray]


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE")
    parser.add_argument("--root", default=None, help="the YouTube-Faces set (default: data/ytfaces)")
    parser.add_argument("--faces", type=int, default=456, help="of the validation subset, evenly spread (default: %(default)s)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    data = build_config({"data": {"source": "ytfaces", "root": arguments.root}}).data
    catalog = load_labels(data)
    predictors = [Predictor(path) for path in arguments.bundles]
    rows = catalog.rows("val", data)
    for predictor in predictors:
        rows = held_out(rows, predictor.bundle, catalog, data)
    if not len(rows):
        raise FkpError("each validation face has trained one of these bundles: compare bundles that hold the same fold out")
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(arguments.faces, len(rows))).astype(int))]
    print(f"{len(rows)} validation faces of the identity split; NME %, failures % at 8 %\n")
    names = [Path(path).resolve().name for path in arguments.bundles] + ["their mean"] * (len(predictors) > 1)
    print(f"| change | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    plain, plain_px = [read_image(catalog.path(row)) for row in rows], catalog.points_px[rows]
    for name, frames, truth_px, boxes in changes(plain, plain_px):
        found = [points_of(predictor, frames, boxes) for predictor in predictors]
        _print(name, found, truth_px)
        if name == "none":
            mirrored = [points_of(predictor, frames, boxes, mirror=True) for predictor in predictors]
            both = [(one + other) / 2 for one, other in zip(found, mirrored, strict=True)]
            _print("none, averaged with the mirrored crop's answer: twice the time", both, truth_px)
    for name, frames, truth_px, boxes in _again(plain, plain_px):
        faces = list(zip(frames, boxes, strict=True))
        found = [np.stack([predictor(frame, [box])[0].points_px for frame, box in faces]) for predictor in predictors]
        _print(name, found, truth_px)


def _again(frames: Frames, truth_px: np.ndarray) -> Iterator[Row]:
    """The rows where the Predictor decides whether it looks again."""
    rng = np.random.default_rng(1)
    for degrees in _AGAIN_TURNS_DEG:
        turned, points_px = _turned_to_either_side(frames, truth_px, degrees)
        yield f"turned by {degrees} degrees to either side; twice where needed", turned, points_px, box_of_points(points_px)
    for size, shift in _AGAIN_SHAKES:
        boxes = _shaken(box_of_points(truth_px), rng, size, shift)
        yield f"box +-{size:.0%} in size, +-{shift:.0%} in place; twice where needed", frames, truth_px, boxes


def _print(name: str, found: list[np.ndarray], truth_px: np.ndarray) -> None:
    answers = [*found, np.mean(found, axis=0)] if len(found) > 1 else found
    errors = [nme_pct(points_px, truth_px) for points_px in answers]
    print(f"| {name} | {' | '.join(f'{error.mean():.2f}, {100 * (error > 8).mean():.1f}' for error in errors)} |", flush=True)


def changes(frames: Frames, truth_px: np.ndarray) -> Iterator[Row]:
    """Each change of all frames."""
    rng = np.random.default_rng(0)
    boxes = box_of_points(truth_px)
    side = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    yield "none", frames, truth_px, boxes
    yield f"box +-{_SIZE:.0%} in size, +-{_SHIFT:.0%} in place", frames, truth_px, _shaken(boxes, rng)
    turned, points_px = _turned(frames, truth_px, rng.uniform(-_TURN_DEG, _TURN_DEG, len(frames)))
    yield f"such a box, and turned by up to {_TURN_DEG} degrees", turned, points_px, _shaken(box_of_points(points_px), rng)
    for degrees in _TURNS_DEG:
        turned, points_px = _turned_to_either_side(frames, truth_px, degrees)
        yield f"turned by {degrees} degrees to either side", turned, points_px, box_of_points(points_px)
    covers = [_cover(rng, box, length) for box, length in zip(boxes, side, strict=True)]
    each: dict[str, Callable[[Image, int], Image]] = {
        "a third of the resolution": lambda frame, _: _coarse(frame, 3),
        "blurred by 2.5 % of the face": lambda frame, place: cv2.GaussianBlur(frame, (0, 0), side[place] / 40),
        "0.3 of the light": lambda frame, _: (frame * 0.3).astype(np.uint8),
        "noise of 20 of 255": lambda frame, _: np.clip(frame + rng.normal(0, 20, frame.shape), 0, 255).astype(np.uint8),
        "JPEG of quality 10": lambda frame, _: _as_jpeg(frame, 10),
        "a square of 0.3 of the face covered": lambda frame, place: covers[place](frame),
    }
    for name, change in each.items():
        yield name, [change(frame, place) for place, frame in enumerate(frames)], truth_px, boxes


def points_of(predictor: Predictor, frames: Frames, boxes: np.ndarray, mirror: bool = False) -> np.ndarray:
    """(N, 68, 2) points of the face in each box, looked at once, in pixels of its frame; with `mirror` from the mirrored crop."""
    crops = [predictor.crop(box) for box in boxes]
    pixels = np.stack([crop.apply(frame, predictor.config.input.channels) for crop, frame in zip(crops, frames, strict=True)])
    pixels = np.ascontiguousarray(pixels[..., ::-1]) if mirror else pixels
    found = np.concatenate([predictor.run(pixels[first : first + _BATCH])[0] for first in range(0, len(pixels), _BATCH)])
    if mirror:
        found = found[:, IBUG68.mirror]
        found[..., 0] = predictor.config.input.size_px - 1 - found[..., 0]
    return np.stack([crop.undo(points) for crop, points in zip(crops, found, strict=True)])


def _shaken(boxes: np.ndarray, rng: np.random.Generator, size: float = _SIZE, shift: float = _SHIFT) -> np.ndarray:
    side = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2 + rng.uniform(-shift, shift, (len(boxes), 2)) * side
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * (1 + rng.uniform(-size, size, (len(boxes), 1)))
    return np.concatenate([center - half, center + half], axis=1).astype(np.float32)


def _turned_to_either_side(frames: Frames, truth_px: np.ndarray, degrees: float) -> tuple[Frames, np.ndarray]:
    return _turned(frames, truth_px, degrees * (-1.0) ** np.arange(len(frames)))


def _turned(frames: Frames, truth_px: np.ndarray, degrees: np.ndarray) -> tuple[Frames, np.ndarray]:
    """Each frame turned about its middle by its own angle, and (N, 68, 2) points in them."""
    turned = [_turn(frame, points, angle) for frame, points, angle in zip(frames, truth_px, degrees.tolist(), strict=True)]
    return [frame for frame, _ in turned], np.stack([points for _, points in turned])


def _turn(frame: Image, points_px: np.ndarray, degrees: float) -> tuple[Image, np.ndarray]:
    height, width = frame.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cv2.warpAffine(frame, matrix, (width, height)), (points_px @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def _coarse(frame: Image, factor: int) -> Image:
    small = cv2.resize(frame, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, frame.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _as_jpeg(frame: Image, quality: int) -> Image:
    written = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(written, cv2.IMREAD_COLOR_RGB)


def _cover(rng: np.random.Generator, box: np.ndarray, side: float) -> Callable[[Image], Image]:
    x, y = np.maximum(box[:2] + rng.uniform(0, 0.7, 2) * (box[2:] - box[:2]), 0).astype(int)
    length, tone = int(0.3 * side), int(rng.integers(0, 255))

    def change(frame: Image) -> Image:
        covered = frame.copy()
        covered[y : y + length, x : x + length] = tone
        return covered

    return change


if __name__ == "__main__":
    run_command(main)
