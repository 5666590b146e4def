"""What else than its labels could teach the shipped network: each source alone, same budget, validation faces only.

python benchmarks/training_sources.py [--epochs 24] [--only NAME ...] [--with NAME=SET,SET ...] [--photographs FOLDER ...] [--root DIR]

The labels are machine-made and noisy, so a second opinion may be worth more than another epoch. It comes from networks of the
same recipe, one for each training fold, which has not seen that fold: an out-of-fold answer knows the face no better than a
validation answer does. Networks and answers are kept in `runs/training_sources`, so that the command goes on where it was ended,
and two of them may share the list by `--only`. The validation labels are never changed, and the test fold is not read.

`--with sfhq=data/sfhq` is a row of the labels and all faces of a label set, or of several, as `data.extra` trains them. Every row sees as
many faces: those with more of them make fewer epochs. `--photographs` are folders of photographs with `.pts` files; a row then tells the
error on those, too, raw and with the convention taken out (`benchmarks/convention.py`). `--set train.seed=1` and the like change the recipe
of all rows.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from training_rows import Material, add_options, material_of, of_wide, photographs, table, with_more, with_sets

from fkp.config import DataConfig
from fkp.data.crop_cache import CropSet
from fkp.data.face_crop import crop_face, crop_size_px
from fkp.data.labels import fold_of, load_labels
from fkp.data.synthetic import render
from fkp.errors import FkpError, run_command
from fkp.evaluation.metrics import nme_pct
from fkp.vision.crop import Crop, box_of_points
from fkp.vision.detect import open_detector
from fkp.vision.image import read_image

#: Part of the second opinion in a blended label.
BLEND = 0.5
#: Labels that are furthest from the second opinion, which one variant leaves out.
WORST_PART = 0.05
SYNTHETIC_FACES = 1000


def only_labels(material: Material) -> CropSet:
    """The shipped recipe."""
    return material.labels


def blended(material: Material) -> CropSet:
    """Each label moved half of the way to the out-of-fold answer."""
    return material.with_points((1 - BLEND) * material.labels.points_px + BLEND * material.opinion_px)


def only_opinion(material: Material) -> CropSet:
    """The out-of-fold answers instead of the labels: plain distillation."""
    return material.with_points(material.opinion_px)


def without_worst(material: Material) -> CropSet:
    """The labels, but for the faces whose label is furthest from the out-of-fold answer."""
    away = nme_pct(material.opinion_px, material.labels.points_px)
    kept = np.sort(np.argsort(away)[: round(len(away) * (1 - WORST_PART))])
    return material.part(kept)


def with_unlabelled(material: Material) -> CropSet:
    """Blended labels, and the set's frames without labels with the teachers' mean answer."""
    return with_more(blended(material), *_unlabelled(material))


def with_synthetic(material: Material) -> CropSet:
    """The labels, and drawn faces."""
    crops, points = [], []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "drawn"
        render.write_set(root, faces=SYNTHETIC_FACES, seed=1)
        drawn = load_labels(DataConfig(source="synthetic", root=str(root)))
        for row in range(len(drawn)):
            crop, points_px = crop_face(material.config.input, drawn.image(row), drawn.points_px[row], drawn.scheme, wide=True)
            crops.append(crop)
            points.append(points_px)
    return with_more(material.labels, np.stack(crops), np.stack(points))


VARIANTS: dict[str, Callable[[Material], CropSet]] = {
    "labels": only_labels,
    "blended": blended,
    "opinion": only_opinion,
    "without worst": without_worst,
    "unlabelled": with_unlabelled,
    "synthetic": with_synthetic,
}


def main() -> None:
    """Train what is missing of the list, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=VARIANTS, metavar="NAME", help="by default all, or with --with only the labels")
    parser.add_argument("--with", nargs="+", default=[], metavar="NAME=SET,SET", dest="sets", help="rows with label sets beside the labels")
    add_options(parser)
    arguments = parser.parse_args()
    material = material_of(arguments)
    rows = {name: VARIANTS[name] for name in (arguments.only if arguments.only is not None else ["labels"] if arguments.sets else VARIANTS)}
    for told in arguments.sets:
        name, _, places = told.partition("=")
        if not places:
            raise FkpError(f"--with {told}: write NAME=SET, or NAME=SET,SET")
        rows[name] = partial(with_sets, places=places.split(","))
    table(material, rows, photographs(material.config, arguments.photographs))


def _unlabelled(material: Material) -> tuple[np.ndarray, np.ndarray]:
    """Wide crops of the frames without labels, of the persons of the training folds, and the teachers' answers in them."""
    config, detector, teachers = material.config, open_detector(), list(material.teachers.values())
    size_px = crop_size_px(config.input, wide=True)
    scale = config.input.crop_scale * size_px / config.input.size_px
    table = material.catalog.table
    labelled = set(table["file"][table["part"] == "test"])  # Training frames of the same name are other frames.
    crops = []
    for path in sorted((material.catalog.root / "test").iterdir()):
        name = re.fullmatch(r"(.+)_\d+\.\w+", path.name)
        if path.name in labelled or name is None or fold_of(name[1]) in (config.data.test_fold, config.data.val_fold):
            continue
        frame = read_image(path)
        for face in detector.detect(frame)[:1]:
            crop = Crop.of_box(face.box_xyxy, size_px, scale, face.roll_deg)
            points_px = of_wide(config, teachers, crop.apply(frame, config.input.channels)[None])[0]
            # The second pass stands as a training crop does: upright in the frame.
            crops.append(Crop.of_box(box_of_points(crop.undo(points_px)), size_px, scale).apply(frame, config.input.channels))
    if not crops:
        raise FkpError(f"{material.catalog.root / 'test'} has no frame without a label: `fkp data fetch` brings them")
    wide_u8 = np.stack(crops)
    return wide_u8, of_wide(config, teachers, wide_u8)


if __name__ == "__main__":
    run_command(main)
