"""Compute the affine from the face detector's box to the tight box of the 68 points, and what the detector then finds.

    python benchmarks/calibrate_detector.py --data.source ytfaces --data.root FOLDER

The constants come from the training part alone; put them into `TO_POINTS` of `fkp/vision/detect.py`.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from fkp import config
from fkp.data import catalog
from fkp.errors import FkpError, run_command
from fkp.vision import detect, image
from fkp.vision.crop import box_of_points


def main() -> None:
    """Print the constants and how well they do."""
    settings = config.from_args(sys.argv[1:], "benchmarks/calibrate_detector.py", "Calibrate the face detector on the training folds.")
    data = settings.data
    labels = catalog.load(data)
    detector = detect.FaceDetector(box_map=detect.AS_DETECTED)
    seen = {part: _look(detector, labels, labels.rows(part, data)) for part in ("train", "val")}
    box_map = fit(*seen["train"][:2])
    print("TO_POINTS = BoxMap(" + ", ".join(f"{name}={value:.4f}" for name, value in vars(box_map).items()) + ")\n")
    print("constants  part    faces  recall_pct  median_iou  p5_iou  extra_faces  ms_image")
    for name, used in (("computed", box_map), ("in code", detect.TO_POINTS)):
        for part, (found, truth, extra, ms) in seen.items():
            overlap = np.nan_to_num(detect.iou(used(found), truth))
            print(
                f"{name:10s} {part:6s} {len(truth):6d} {100 * (overlap > 0.5).mean():11.2f} {np.median(overlap):11.3f} "
                f"{np.percentile(overlap, 5):7.3f} {extra:12d} {ms:9.1f}"
            )


def fit(found_xyxy: np.ndarray, truth_xyxy: np.ndarray) -> detect.BoxMap:
    """Fit the affine by medians, which a missed or wrong face does not move.

    Args:
        found_xyxy: (N, 4) the detector's own boxes; rows of NaN where it found nothing.
        truth_xyxy: (N, 4) tight boxes of the labelled points.
    """
    hit = np.nan_to_num(detect.iou(found_xyxy, truth_xyxy)) > 0.3
    found, truth = found_xyxy[hit], truth_xyxy[hit]
    side = (found[:, 2:] - found[:, :2]).mean(axis=1, keepdims=True)
    shift = ((truth[:, :2] + truth[:, 2:]) - (found[:, :2] + found[:, 2:])) / 2 / side
    size = (truth[:, 2:] - truth[:, :2]) / side
    return detect.BoxMap(*(float(v) for v in np.median(np.concatenate([shift, size], axis=1), axis=0)))


def _look(detector: detect.FaceDetector, labels: catalog.Catalog, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, float]:
    """The best face of each frame (N, 4), its label's box (N, 4), the number of further faces, and ms an image."""
    if not len(rows):
        raise FkpError(f"{labels.root} has no frames in one of its parts: choose other folds")
    found = np.full((len(rows), 4), np.nan)
    extra, seconds = 0, 0.0
    for place, row in enumerate(rows):
        frame = image.read(labels.path(row))
        started = time.perf_counter()
        faces = detector.detect(frame)
        seconds += time.perf_counter() - started
        if faces:
            found[place] = faces[0].box_xyxy
        extra += max(len(faces) - 1, 0)
    return found, box_of_points(labels.points_px[rows]).astype(np.float64), extra, 1000 * seconds / len(rows)


if __name__ == "__main__":
    run_command(main)
