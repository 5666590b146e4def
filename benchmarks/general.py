"""Bundles, and what people would take instead, on photographs of other sources than the training set's.

    python benchmarks/general.py FOLDER ... [--bundle DIR ...] [--peers FILE.npz ...] [--without-path] [--limit N]

Each FOLDER holds photographs with a `.pts` file of 68 points beside each (the 300-W family). A file of peers is what a script of
`benchmarks/teachers` answered for them. Five tables in Markdown:

- the error, raw and with the convention taken out by a linear map of the whole shape, fitted to other faces of the same folders: what a
  model sees, whatever it was taught to call the jaw
- the same by the yaw that the labels tell, and by how far the mouth is open
- by region
- which part of the points lies in the radii that a bundle states for 68 and 95 %
- the whole path, from the image without a box to the landmarks, by the detector

NME: mean distance from the label, in percent of the label's outer eye corners. In all but the last table the box is the label's and the
network looks once. What these labels do not tell (what is covered, how old somebody is) has no table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from convention import Fitted, fit
from pts import labelled

from fkp.bundle import open_bundle
from fkp.errors import FkpError, run_command
from fkp.evaluation.evaluate import ERROR_RADII
from fkp.evaluation.metrics import coverage, failure_pct, nme_pct, point_error_px
from fkp.evaluation.radii import OFF_SET_RADII
from fkp.predict import Predictor
from fkp.scheme import IBUG68, load_scheme
from fkp.vision.crop import box_of_points
from fkp.vision.detect import iou
from fkp.vision.image import Image, read_image
from fkp.vision.openness import openness
from fkp.vision.pose import head_pose

SHIPPED = Path(__file__).resolve().parents[1] / "saved_models"
LEVELS = (0.68, 0.95)
FAILURE_PCT = 8.0
YAWS = ("yaw below 10 degrees", "10 to 20", "20 to 30", "30 to 40", "over 40"), (10, 20, 30, 40)
#: By `openness` of the labels: the inner lips' distance, as a part of that of their corners.
MOUTHS = ("mouth closed (below 0.1)", "0.1 to 0.3", "0.3 to 0.5", "wide open (over 0.5)"), (0.1, 0.3, 0.5)
#: A found face whose box overlaps the label's less (intersection over union) is another one.
HIT_IOU = 0.3


@dataclass(frozen=True)
class Photographs:
    """Labelled photographs: `folder/file` of each, where it lies, its label (N, 68, 2), and what the labels tell of the faces, (N,)."""

    names: list[str]
    paths: list[Path]
    truth_px: np.ndarray
    yaw_deg: np.ndarray
    mouth: np.ndarray


@dataclass
class Answers:
    """What one model answered.

    Attributes:
        name: In the tables.
        points_px: (N, 68, 2), NaN where it found no face.
        shape_px: (N, M, 2) all that it answered: what the map of the shape is of.
        expected_px: (N, 68) error that a bundle states; None for a peer.
        radii: By title, which multiple of the expected error should hold which part of the points.
        hits: NME of each face that the whole path found.
        others: Faces it found that overlap no label.
    """

    name: str
    points_px: np.ndarray
    shape_px: np.ndarray
    expected_px: np.ndarray | None = None
    radii: dict[str, dict[str, list[float]] | None] = field(default_factory=dict)
    hits: list[float] = field(default_factory=list)
    others: int = 0


@dataclass(frozen=True)
class Row:
    """A model's answers where it has some: `seen` (N,) bool, and of those the errors in percent and what was fitted."""

    answers: Answers
    seen: np.ndarray
    truth_px: np.ndarray
    fitted: Fitted
    raw: np.ndarray
    mapped: np.ndarray


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="labelled photographs")
    parser.add_argument("--bundle", type=Path, nargs="+", metavar="DIR", help="models; ratios are to the first (default: the shipped ones)")
    parser.add_argument("--peers", type=Path, nargs="+", default=[], metavar="FILE", help="answers of others, see benchmarks/teachers")
    parser.add_argument("--without-path", action="store_true", help="without the detector: a third of the time")
    parser.add_argument("--limit", type=int, metavar="N", help="photographs of each folder, the first")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    photographs = read(arguments.folders, arguments.limit)
    shipped = (open_bundle(path.parent, task=None) for path in sorted(SHIPPED.glob("*/SHA256SUMS")))
    bundles = [open_bundle(path) for path in arguments.bundle or ()] or [bundle for bundle in shipped if bundle.config.task == "landmarks"]
    models = ask([Predictor(bundle) for bundle in bundles], photographs, not arguments.without_path)
    rows = [measured(answers, photographs) for answers in [*models, *(peer(path, photographs) for path in arguments.peers)]]
    print(f"{len(photographs.names)} faces of {', '.join(folder.name for folder in arguments.folders)}\n")
    for table in (errors, by_face(photographs.yaw_deg, *YAWS), by_face(photographs.mouth, *MOUTHS), by_region, stated):
        print("\n".join(table(rows)) + "\n")
    if not arguments.without_path:
        print("\n".join(whole_path(models, len(photographs.names))))


def read(folders: Sequence[Path], limit: int | None = None) -> Photographs:
    """Find the labelled photographs of folders.

    Raises:
        FkpError: A folder has none, or there are too few faces to fit a map to.
    """
    found = []
    for folder in folders:
        here = labelled(folder)[:limit]
        if not here:
            raise FkpError(f"{folder} holds no photograph with a .pts file beside it: name another folder")
        found += here
    if len(found) < 20:
        raise FkpError(f"{len(found)} photographs are too few: a map of the shape needs at least 20, and says little below 500")
    truth_px = np.stack([points for _, points in found]).astype(np.float64)
    poses = [head_pose(points, IBUG68) for points in truth_px]
    yaw = np.array([np.nan if pose is None else abs(pose.yaw_deg) for pose in poses])
    mouth = np.array([openness(points, IBUG68).get("mouth", np.nan) for points in truth_px])
    names = [f"{path.parent.name}/{path.name}" for path, _ in found]
    if len(set(names)) < len(names):
        raise FkpError("two photographs have one name, that of folder and file: name the folders differently")
    return Photographs(names, [path for path, _ in found], truth_px, yaw, mouth)


def ask(predictors: Sequence[Predictor], photographs: Photographs, path: bool) -> list[Answers]:
    """What bundles answer, in the labels' boxes and, if `path` is set, by the detector.

    Raises:
        FkpError: A bundle has another scheme than the labels.
    """
    shape = photographs.truth_px.shape
    models = []
    for predictor in predictors:
        points = np.full(shape, np.nan)
        metrics = predictor.bundle.metrics
        radii = {"": metrics.get(ERROR_RADII), **({", off the set": metrics[OFF_SET_RADII]} if OFF_SET_RADII in metrics else {})}
        place = predictor.bundle.path.resolve()
        if predictor.scheme.landmarks != IBUG68.landmarks:
            raise FkpError(f"{place} answers with scheme {predictor.scheme.name}, and the labels are of {IBUG68.name}: leave it out")
        models.append(
            Answers(place.parent.name if place.name == "bundle" else place.name, points, points, np.full(shape[:2], np.nan), radii)
        )
    for place, image in _shown(photographs):
        truth = photographs.truth_px[place].astype(np.float32)
        for predictor, answers in zip(predictors, models, strict=True):
            (face,) = predictor.predict_once(image, [box_of_points(truth)])
            assert answers.expected_px is not None
            answers.points_px[place], answers.expected_px[place] = face.points_px, face.expected_error_px
            if path:
                _find(predictor, image, truth, answers)
    return models


def _find(predictor: Predictor, image: Image, truth_px: np.ndarray, answers: Answers) -> None:
    faces = predictor(image)
    overlap = [float(iou(box_of_points(face.points_px), box_of_points(truth_px))) for face in faces]
    hit = [face for face, part in zip(faces, overlap, strict=True) if part > HIT_IOU]
    answers.others += len(faces) - len(hit)
    if hit:
        best = faces[int(np.argmax(overlap))]
        answers.hits.append(float(nme_pct(best.points_px[None], truth_px[None])[0]))


def _shown(photographs: Photographs) -> Iterator[tuple[int, Image]]:
    for place, path in enumerate(photographs.paths):
        if place % 100 == 0:
            print(f"{place} of {len(photographs.paths)} photographs", file=sys.stderr, flush=True)
        yield place, read_image(path)


def peer(path: Path, photographs: Photographs) -> Answers:
    """Read what a peer answered: `names`, `points_px` (N, K, 2) and `scheme` of an .npz.

    Raises:
        FkpError: It cannot be read, or lacks one of the photographs.
    """
    try:
        with np.load(path) as file:
            names, points, scheme = file["names"].tolist(), file["points_px"].astype(np.float64), load_scheme(str(file["scheme"]))
    except (OSError, KeyError, ValueError) as error:
        raise FkpError(f"{path} cannot be read ({error}): it is to be what a script of benchmarks/teachers wrote") from error
    places = {name: place for place, name in enumerate(names)}
    if missing := [name for name in photographs.names if name not in places]:
        raise FkpError(f"{path} has no answer for {missing[0]} and {len(missing) - 1} others: ask that peer about these folders")
    every = points[[places[name] for name in photographs.names]]
    return Answers(path.stem, IBUG68.convert(every, scheme).astype(np.float64), every)


def measured(answers: Answers, photographs: Photographs) -> Row:
    """Errors of a model on the faces it answered."""
    seen = np.isfinite(answers.points_px).all((1, 2))
    truth, points = photographs.truth_px[seen], answers.points_px[seen]
    fitted = fit(points, truth, answers.shape_px[seen])
    return Row(answers, seen, truth, fitted, nme_pct(points, truth), nme_pct(fitted.mapped_px, truth))


def errors(rows: Sequence[Row]) -> list[str]:
    """The first table."""
    lines = _head("NME %", "ratio", "median", "FR@8 %", "map: NME %", "ratio", "median", "FR@8 %", "no answer")
    for row in rows:
        cells = []
        for found, first in ((row.raw, rows[0].raw), (row.mapped, rows[0].mapped)):
            mean = float(found.mean())
            cells += [f"{mean:.2f}", f"{mean / first.mean():.2f}", f"{np.median(found):.2f}", f"{failure_pct(found, FAILURE_PCT):.1f}"]
        lines.append(_line(row.answers.name, *cells, str(int((~row.seen).sum()))))
    return lines


def by_face(values: np.ndarray, names: Sequence[str], bounds: Sequence[float]) -> Callable[[Sequence[Row]], list[str]]:
    """A table by a value of each face: NME with the convention taken out, and failures of the raw answer."""
    of = np.digitize(values, bounds)

    def table(rows: Sequence[Row]) -> list[str]:
        chosen = [(np.isfinite(values) & (of == place), name) for place, name in enumerate(names)]
        lines = _head(*(f"{name}: {int(part.sum())} faces" for part, name in chosen), first="map: NME %, raw: FR@8 %")
        for row in rows:
            parts = [part[row.seen] for part, _ in chosen]
            cells = (
                f"{row.mapped[part].mean():.2f}, {failure_pct(row.raw[part], FAILURE_PCT):.1f}" if part.any() else "" for part in parts
            )
            lines.append(_line(row.answers.name, *cells))
        return lines

    return table


def by_region(rows: Sequence[Row]) -> list[str]:
    """A table by region, raw and with the convention taken out."""
    regions = {"51 inner points": IBUG68.groups["inner51"], **{name.replace("_", " "): points for name, points in IBUG68.regions.items()}}
    lines = _head(*regions, first="NME %: raw, map")
    for row in rows:
        both = (row.answers.points_px[row.seen], row.fitted.mapped_px)
        cells = (", ".join(f"{nme_pct(found, row.truth_px, points).mean():.2f}" for found in both) for points in regions.values())
        lines.append(_line(row.answers.name, *cells))
    return lines


def stated(rows: Sequence[Row]) -> list[str]:
    """Which part of the points lies in the stated radii."""
    lines = _head("raw", "after a constant a point", "after the map", first="% of points in the radii of 68 and 95 %")
    for row in rows:
        if row.answers.expected_px is None:
            continue
        expected = row.answers.expected_px[row.seen]
        answers = (row.answers.points_px[row.seen], row.fitted.constant_px, row.fitted.mapped_px)
        for title, radii in row.answers.radii.items():
            found = (100 * coverage(point_error_px(points, row.truth_px), expected, LEVELS, radii) for points in answers)
            lines.append(_line(row.answers.name + title, *(f"{first:.1f}, {second:.1f}" for first, second in found)))
    return lines


def whole_path(models: Sequence[Answers], photographs: int) -> list[str]:
    """From the image to the landmarks; a face that is missed counts as a failure."""
    lines = _head("faces found", "missed", "NME %", "median", "FR@8 %, missed ones too", "others, which may be faces", first="whole path")
    for model in models:
        nme = np.array(model.hits)
        failed = 100 * (photographs - int((nme <= FAILURE_PCT).sum())) / photographs
        missed = photographs - len(nme)
        mean = (f"{nme.mean():.2f}", f"{np.median(nme):.2f}") if len(nme) else ("", "")
        lines.append(_line(model.name, f"{len(nme)} of {photographs}", str(missed), *mean, f"{failed:.1f}", str(model.others)))
    return lines


def _head(*columns: str, first: str = "") -> list[str]:
    return [_line(first, *columns), "|" + "---|" * (1 + len(columns))]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    run_command(main)
