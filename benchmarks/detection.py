"""What the face detectors find, how well the landmark network does with their boxes, on turned images, too, and what tiles bring.

    python benchmarks/detection.py --data.source ytfaces --data.root FOLDER [--detector NAME ...] [--frames N]
        [--calibrate] [--write] [--bundle DIR]

Everything is chosen and measured on the validation fold. `--calibrate` computes the affine from the detector's boxes to
those of the labels on the training folds, `--write` also puts it into the bundle.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fkp import config
from fkp.bundle import Bundle, open_bundle, update_bundle
from fkp.data.labels import load_labels
from fkp.errors import FkpError, run_command
from fkp.evaluation import detector_calibration, metrics
from fkp.evaluation.leakage import held_out
from fkp.predict import DEFAULT_BUNDLE, Face, Predictor
from fkp.predict.predictor import fuse
from fkp.vision.crop import Crop, box_of_points
from fkp.vision.detect import CHOICES, OWN, BoxMap, FaceDetector, iou, open_detector
from fkp.vision.image import Image, read_image

#: Asked: the median error from a detected box may be so much above that from the labelled box.
LIMIT_NME_POINTS = 0.2

#: Canvases of the last table: longer side, and lengths of the faces' boxes on them.
CANVAS_PX = 2400
FACE_PX = (30, 60, 120, 240, 360)
FACES, CANVASES = 12, 3
#: Turns of the third table.
TURNS_DEG = (0, 30, 60, 90, 135)
#: The longer side of the largest image that the endpoint takes (24 megapixels): its time is the bound.
LARGEST_PX = 6000


@dataclass(frozen=True)
class Frames:
    """Validation frames: (N, 68, 2) labels, and the error from the labelled box of each face."""

    images: list[Image]
    truth_px: np.ndarray
    nme_labelled_pct: np.ndarray

    @property
    def boxes_xyxy(self) -> np.ndarray:
        """(N, 4) boxes of the labels."""
        return box_of_points(self.truth_px).astype(np.float64)


def main() -> None:
    """Print the calibrations and the three tables."""
    arguments, rest = _parse(sys.argv[1:])
    data = config.config_from_args(rest, "benchmarks/detection.py", "Measure the face detectors.").data
    catalog = load_labels(data)
    predictor = Predictor(arguments.bundle)
    rows = held_out(catalog.rows("val", data), predictor.bundle, catalog, data)
    if not len(rows):
        raise FkpError(
            f"{catalog.root} has no frames in its validation subset that {arguments.bundle} was not trained on: choose other folds"
        )
    rows = rows[np.linspace(0, len(rows) - 1, min(arguments.frames or len(rows), len(rows))).astype(int)]
    images = [read_image(catalog.path(row)) for row in rows]
    truth_px = catalog.points_px[rows]
    frames = Frames(images, truth_px, _nme_pct(_in_boxes(predictor, images, box_of_points(truth_px)), truth_px))
    names = arguments.detector or [OWN]
    detectors = [open_detector(name) for name in names]
    maps = {}
    if arguments.calibrate or arguments.write:
        maps = {detector.backend.name: detector_calibration.fit(detector, catalog, data) for detector in detectors}
    for name, box_map in maps.items():
        print(f"{name}: {'too few faces found to calibrate' if box_map is None else box_map}")
    if arguments.write:
        bundle = open_bundle(arguments.bundle)
        found = {name: [list(row) for row in box_map.rows] for name, box_map in maps.items() if box_map is not None}
        print(f"written to {update_bundle(bundle.path, bundle.metrics, bundle.card, {**bundle.face_boxes, **found}).path}")
    _print_boxes(predictor, frames, detectors, maps)
    _print_turned(frames, predictor.bundle, names)
    _print_sizes(frames, detectors)


def _print_boxes(predictor: Predictor, frames: Frames, detectors: list[FaceDetector], maps: dict[str, BoxMap | None]) -> None:
    labelled = frames.nme_labelled_pct
    print(f"\n{len(labelled)} frames of the validation fold, of persons that the bundle was not trained on")
    print(f"From the labelled box: NME {labelled.mean():.3f}, median {np.median(labelled):.3f} %")
    print(f"Asked: median at most {LIMIT_NME_POINTS} above it. Differences are means over the same faces, +- two standard errors.")
    print("detector   calibration  second pass  recall  IoU median  p5     extra  ms    NME    median  above   difference to one pass")
    for detector in detectors:
        name = detector.backend.name
        shapes, extra, ms = _find(detector, frames.images)
        for calibration, box_map in (("built-in", detector.backend.box_map), ("computed", maps.get(name))):
            if box_map is None:
                continue
            boxes = box_map(shapes)
            overlap = np.nan_to_num(iou(boxes, frames.boxes_xyxy))
            hit = overlap > 0.5
            chosen = [image for image, good in zip(frames.images, hit, strict=True) if good]
            one, again = _two_passes(predictor, chosen, boxes[hit].astype(np.float32), frames.truth_px[hit])
            for passes, nme in (("no", one), ("yes", again)):
                above = np.median(nme) - np.median(labelled[hit])
                change = again - one
                told = f"{change.mean():+.3f} +- {2 * change.std() / np.sqrt(len(change)):.3f}" if passes == "yes" else ""
                print(
                    f"{name:10s} {calibration:12s} {passes:12s} {100 * hit.mean():6.2f}  {np.median(overlap):10.3f}  "
                    f"{np.percentile(overlap, 5):.3f}  {extra:5d}  {ms:4.1f}  {nme.mean():.3f}  {np.median(nme):6.3f}  {above:+.3f}  {told}"
                )


def _print_turned(frames: Frames, bundle: Bundle, names: list[str]) -> None:
    """Whole photographs that are turned: what is found of every eighth face, and its error."""
    images, truth_px = frames.images[::8], frames.truth_px[::8]
    print(f"\n{len(images)} frames turned clockwise: % found, median NME %, failures % at 8 %, by the Predictor")
    print("detector  " + "  ".join(f"{degrees:>17d} deg" for degrees in TURNS_DEG))
    for name in names:
        predictor, cells = Predictor(bundle, detector=name), []
        for degrees in TURNS_DEG:
            error = []
            for image, points_px in zip(images, truth_px, strict=True):
                turned, there_px = _turned(image, points_px, degrees)
                faces = predictor(turned)
                overlap = [float(iou(box_of_points(face.points_px), box_of_points(there_px))) for face in faces]
                if overlap and max(overlap) > 0.3:
                    error.append(float(_nme_pct([faces[int(np.argmax(overlap))]], there_px[None])[0]))
            failed = 100 * float((np.array(error) > 8).mean()) if error else np.nan
            cells.append(f"{100 * len(error) / len(images):5.1f}, {np.median(error) if error else np.nan:5.2f}, {failed:5.1f}")
        print(f"{name:10s}" + "  ".join(f"{cell:>21s}" for cell in cells))


def _turned(image: Image, points_px: np.ndarray, degrees: float) -> tuple[Image, np.ndarray]:
    """An image turned about its middle, with a border that keeps its corners, and its points there."""
    height, width = image.shape[:2]
    side = math.ceil(math.hypot(width, height))
    window = Crop(((width - 1) / 2, (height - 1) / 2), side, side, -degrees)
    return cv2.warpAffine(image, window.matrix, (side, side), borderMode=cv2.BORDER_REPLICATE), window.do(points_px)


def _print_sizes(frames: Frames, detectors: list[FaceDetector]) -> None:
    print(f"\n% found on canvases {CANVAS_PX} px long, {FACES * CANVASES} faces of each size")
    print("detector   tiles  " + "  ".join(f"{size:4d} px" for size in FACE_PX) + f"   extra/canvas  ms/canvas  ms at {LARGEST_PX} px long")
    random = np.random.default_rng(0)
    canvases = {size: [_canvas(frames, size, random) for _ in range(CANVASES)] for size in FACE_PX}
    largest = _canvas(frames, FACE_PX[0], random, LARGEST_PX)[0]
    for plain in detectors:
        for tiles in (False, True):
            detector = FaceDetector(plain.backend, tiles=tiles)
            recalls, extra, seconds = [], 0, 0.0
            for size in FACE_PX:
                hits = 0
                for canvas, truth in canvases[size]:
                    began = time.perf_counter()
                    boxes = np.array([face.box_xyxy for face in detector.detect(canvas)]).reshape(-1, 4)
                    seconds += time.perf_counter() - began
                    overlap = iou(truth[:, None], boxes[None])
                    hits += int((overlap > 0.4).any(axis=1).sum())
                    extra += int((overlap < 0.4).all(axis=0).sum())
                recalls.append(100 * hits / (FACES * CANVASES))
            began = time.perf_counter()
            detector.detect(largest)
            ms_largest, count = 1000 * (time.perf_counter() - began), CANVASES * len(FACE_PX)
            print(
                f"{plain.backend.name:10s} {'yes' if tiles else 'no':5s}  "
                + "  ".join(f"{recall:7.1f}" for recall in recalls)
                + f"   {extra / count:12.2f}  {1000 * seconds / count:9.0f}  {ms_largest:10.0f}"
            )


def _canvas(frames: Frames, size: int, random: np.random.Generator, length: int = CANVAS_PX) -> tuple[Image, np.ndarray]:
    """A large image of a frame without its face, with faces of `size` pixels in it; also their boxes (FACES, 4)."""
    number = int(random.integers(len(frames.images)))
    back = frames.images[number].copy()
    x0, y0, x1, y1 = (max(int(v), 0) for v in frames.boxes_xyxy[number] + np.array([-20, -40, 20, 20]))
    back[y0:y1, x0:x1] = back.mean(axis=(0, 1)).astype(np.uint8)
    height, width = back.shape[:2]
    crop = Crop(((width - 1) / 2, (height - 1) / 2), min(width, height), length)
    canvas = crop.apply(back, 3).transpose(1, 2, 0)[: length * 2 // 3].copy()
    # One face in each cell of a grid, or as many as there is room for side by side.
    columns, lines = 4, 3
    cell_w, cell_h = length // columns, canvas.shape[0] // lines
    window = min(2 * size, cell_w, cell_h)
    boxes = []
    for cell in range(FACES):
        face = int(random.integers(len(frames.images)))
        crop = Crop.of_box(frames.boxes_xyxy[face], window, window / size)
        x = cell % columns * cell_w + int(random.integers(cell_w - window + 1))
        y = cell // columns * cell_h + int(random.integers(cell_h - window + 1))
        canvas[y : y + window, x : x + window] = crop.apply(frames.images[face], 3).transpose(1, 2, 0)
        boxes.append(crop.do(frames.boxes_xyxy[face].reshape(2, 2)).ravel() + [x, y, x, y])
    return canvas, np.array(boxes)


def _find(detector: FaceDetector, images: list[Image]) -> tuple[np.ndarray, int, float]:
    """The best face's shape of each image (NaN where there is none), the number of further faces, ms an image."""
    shapes = np.full((len(images), 2 + detector.backend.facial_points, 2), np.nan)
    extra, began = 0, time.perf_counter()
    for place, image in enumerate(images):
        found = detector.find(image)
        if len(found):
            shapes[place] = found.shapes_px[0]
        extra += max(len(found) - 1, 0)
    return shapes, extra, 1000 * (time.perf_counter() - began) / len(images)


def _two_passes(predictor: Predictor, images: list[Image], boxes: np.ndarray, truth_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """NME of each face in percent, of one look and of both."""
    first = _in_boxes(predictor, images, boxes)
    second = [predictor.refine(image, [face], mirrored=True)[0] for image, face in zip(images, first, strict=True)]
    both = [fuse(*looks) for looks in zip(first, second, strict=True)]
    return _nme_pct(first, truth_px), _nme_pct(both, truth_px)


def _in_boxes(predictor: Predictor, images: list[Image], boxes: np.ndarray) -> list[Face]:
    """One look at each face."""
    return [predictor.predict_once(image, [box])[0] for image, box in zip(images, boxes, strict=True)]


def _nme_pct(faces: list[Face], truth_px: np.ndarray) -> np.ndarray:
    return metrics.nme_pct(np.stack([face.points_px for face in faces]), truth_px)


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog="benchmarks/detection.py", add_help=False, allow_abbrev=False)
    parser.add_argument("--detector", action="append", help=f"{CHOICES}; may be repeated")
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="whose network finds the points")
    parser.add_argument("--frames", type=int, help="measure on so many frames of the validation fold, evenly spread")
    parser.add_argument("--calibrate", action="store_true", help="compute the calibrations from the training folds")
    parser.add_argument("--write", action="store_true", help="compute them and keep them in the bundle")
    return parser.parse_known_args(argv)


if __name__ == "__main__":
    run_command(main)
