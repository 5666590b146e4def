"""What else than its labels could teach the shipped network: each source alone, same budget, validation faces only.

python benchmarks/training_sources.py [--epochs 24] [--only NAME ...] [--with NAME=SET,SET ...] [--photographs FOLDER ...] [--root DIR]

The labels are machine-made and noisy, so a second opinion may be worth more than another epoch. It comes from networks of the
same recipe, one for each training fold, which has not seen that fold: an out-of-fold answer knows the face no better than a
validation answer does. Networks and answers are kept in `runs/training_sources`, so that the command goes on where it was ended,
and two of them may share the list by `--only`. The validation labels are never changed, and the test fold is not read.

`--with sfhq=data/sfhq` is a row of the labels and all faces of a label set, or of several, as `data.extra` trains them. Every row sees as
many faces: those with more of them make fewer epochs. `--photographs` are folders of photographs with `.pts` files; a row then tells the
error on those, too, raw and with the convention taken out (`benchmarks/convention.py`).
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from convention import fit
from pts import labelled

from fkp.common.files import check_same, write_json
from fkp.config import Config, DataConfig, build_config, read_yaml
from fkp.data.crop_cache import CropCache, CropSet, open_cache
from fkp.data.face_crop import crop_face, crop_size_px
from fkp.data.labels import fold_of, load_labels
from fkp.data.synthetic import render
from fkp.errors import FkpError, run_command
from fkp.evaluation.metrics import nme_pct
from fkp.model.lightning_module import Net
from fkp.scheme import IBUG68
from fkp.train.loop import fit_in_process
from fkp.vision.crop import Crop, box_of_points
from fkp.vision.detect import open_detector
from fkp.vision.image import read_image

CONFIG = Path("configs/champion.yaml")
#: Part of the second opinion in a blended label.
BLEND = 0.5
#: Labels that are furthest from the second opinion, which one variant leaves out.
WORST_PART = 0.05
SYNTHETIC_FACES = 1000
_BATCH = 64
#: Crops (N, C, S, S) and points (N, 68, 2) in them.
Crops = tuple[np.ndarray, np.ndarray]


class Material:
    """What the variants choose from.

    Args:
        config: The student's run.
        cache: Its crops.
        out: Where networks are kept.
        changed: Settings that are not the shipped recipe's, for their names.

    Attributes:
        labels: The training faces with their labels.
        fold: (N,) fold of each.
    """

    def __init__(self, config: Config, cache: CropCache, out: Path, changed: Sequence[str] = ()) -> None:
        assert cache.train is not None
        self.changed = changed
        self.config, self.cache, self.out, self.labels = config, cache, out, cache.train
        self.catalog = load_labels(config.data)
        self.fold = self.catalog.table["fold"].to_numpy()[self.labels.rows]

    @cached_property
    def teachers(self) -> dict[int, Net]:
        """For each training fold the network that has not seen it."""
        return {int(number): self.train(self.part(self.fold != number), f"without-{number}") for number in np.unique(self.fold)}

    @cached_property
    def opinion_px(self) -> np.ndarray:
        """(N, 68, 2) out-of-fold answers for the training faces, in pixels of their crops."""
        opinion_px = np.empty_like(self.labels.points_px)
        for number, teacher in self.teachers.items():
            held_out = self.fold == number
            opinion_px[held_out] = _of_wide(self.config, [teacher], self.labels.crops_u8[held_out])
        away = nme_pct(opinion_px, self.labels.points_px)
        print(f"(out-of-fold answers are {away.mean():.2f} % off the {len(away)} training labels)", flush=True)
        return opinion_px

    def train(self, faces: CropSet, name: str, scheme: str | None = None) -> Net:
        """The network of the least validation error after a training on some faces, kept under its name.

        With more faces than there are labels it makes fewer epochs, so that it sees as many. `scheme`: see `table`.
        """
        epochs = max(1, round(self.config.train.epochs * min(1.0, len(self.labels.rows) / len(faces.rows))))
        folder = self.out / f"{name.replace(' ', '-')}-{'-'.join([str(self.config.train.epochs), *self.changed])}"
        config, val = self.config.updated({"train.epochs": epochs}), self.cache.val
        if scheme is not None:
            config = config.updated({"data.scheme": scheme})
            nobody = np.full((len(val.rows), len(config.scheme) - len(IBUG68), 2), np.nan, np.float32)
            val = CropSet(val.crops_u8, np.concatenate([val.points_px, nobody], 1), val.rows)
        return _trained(config, CropCache(faces, val, self.cache.digest), folder)

    def part(self, chosen: np.ndarray) -> CropSet:
        """Some of the training faces, by a mask or by places."""
        return CropSet(self.labels.crops_u8[chosen], self.labels.points_px[chosen], self.labels.rows[chosen])

    def with_points(self, points_px: np.ndarray) -> CropSet:
        """The training faces with other points."""
        return CropSet(self.labels.crops_u8, points_px.astype(np.float32), self.labels.rows)


def with_more(labels: CropSet, crops_u8: np.ndarray, points_px: np.ndarray) -> CropSet:
    """Training faces and others, which stand in no catalog."""
    rows = np.concatenate([labels.rows, np.full(len(crops_u8), -1)])
    return CropSet(np.concatenate([labels.crops_u8, crops_u8]), np.concatenate([labels.points_px, points_px]).astype(np.float32), rows)


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


def with_sets(material: Material, places: Sequence[str]) -> CropSet:
    """The labels, and all faces of some label sets."""
    config, crops, points = material.config, [], []
    for place in places:
        extra = load_labels(DataConfig(source="folder", root=place, scheme=config.data.scheme))
        for row in range(len(extra)):
            crop, points_px = crop_face(config.input, extra.image(row), extra.points_px[row], extra.scheme, wide=True)
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


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every such table asks for."""
    parser.add_argument("--epochs", type=int, default=24, help="length of each training (default: %(default)s)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="changed", help="settings of all rows: train.seed=1")
    parser.add_argument("--photographs", type=Path, nargs="+", default=[], metavar="FOLDER", help="with .pts files, measured on as well")
    parser.add_argument("--root", default=None, help="the YouTube-Faces set (default: data/ytfaces)")
    parser.add_argument("--out", type=Path, default=Path("runs/training_sources"), help="for the networks (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=1, help="threads of a training (default: %(default)s)")


def material_of(arguments: argparse.Namespace) -> Material:
    """What the variants choose from, by the options that `add_options` added."""
    cv2.setNumThreads(1)
    run = {
        "train.epochs": arguments.epochs,
        "scale": {"num_workers": 0, "cpus_per_worker": arguments.cores},
        "export.int8": False,  # What is compared is the training.
        "data.val_share": 1.0,  # And the more faces judge it, the better.
        "data.extra": [],  # A row of its own, see --with.
        **({"data.root": arguments.root} if arguments.root else {}),
        **{key: yaml.safe_load(value) for key, _, value in (told.partition("=") for told in arguments.changed)},
    }
    config = build_config(read_yaml(CONFIG), run)
    return Material(config, open_cache(config), arguments.out, arguments.changed)


def table(material: Material, rows: Mapping[str, Callable[[Material], CropSet]], others: Crops | None, scheme: str | None = None) -> None:
    """Train what is missing of some rows, and print each.

    Args:
        material: What they choose from.
        rows: What trains, by its name.
        others: See `photographs`.
        scheme: File of the scheme of what trains, where it has more landmarks than the labels, after theirs; they are not measured.
    """
    more = ("other photographs, raw", "convention taken out", "failures % at 8 %, raw") if others else ()
    head = ("what teaches", "faces", "validation NME %", "51 inner points", "failures % at 8 %", *more)
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for name, variant in rows.items():
        faces = variant(material)
        net = material.train(faces, name, scheme)
        found_px, truth_px = _sample(net, np.asarray(material.cache.val.crops_u8)), material.cache.val.points_px
        error, inner = nme_pct(found_px, truth_px), nme_pct(found_px, truth_px, IBUG68.groups["inner51"])
        cells = [name, str(len(faces.rows)), f"{error.mean():.3f}", f"{inner.mean():.3f}", f"{100 * (error > 8).mean():.1f}"]
        if others:
            found_px = _sample(net, others[0])
            raw, mapped = nme_pct(found_px, others[1]), nme_pct(fit(found_px, others[1]).mapped_px, others[1])
            cells += [f"{raw.mean():.3f}", f"{mapped.mean():.3f}", f"{100 * (raw > 8).mean():.1f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def photographs(config: Config, folders: Sequence[Path]) -> Crops | None:
    """Crops (N, C, S, S) of labelled photographs and their points (N, 68, 2) in them; None where no folder is named."""
    faces = [
        crop_face(config.input, read_image(path), points, IBUG68, wide=False) for folder in folders for path, points in labelled(folder)
    ]
    return (np.stack([crop for crop, _ in faces]), np.stack([points for _, points in faces])) if faces else None


def _trained(config: Config, cache: CropCache, folder: Path) -> Net:
    """The network of the least validation error; trained if its folder has none yet."""
    result = folder / "result.json"
    if not result.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        best = fit_in_process(config, folder, lambda _: None, cache=cache)
        write_json(result, {"checkpoint": best.name, "config": config.model_dump(mode="json")})
    found = json.loads(result.read_text(encoding="utf-8"))
    check_same(config.model_dump(mode="json"), build_config(found["config"]).model_dump(mode="json"), f"network {folder.name}")
    return Net.load_from_checkpoint(folder / found["checkpoint"], map_location="cpu", weights_only=True)


def _sample(net: Net, crops_u8: np.ndarray) -> np.ndarray:
    """(N, 68, 2) answers of a network."""
    batches = (crops_u8[first : first + _BATCH] for first in range(0, len(crops_u8), _BATCH))
    return torch.cat([net.sample(torch.from_numpy(np.array(batch)))[:, : len(IBUG68)] for batch in batches]).numpy()


def _of_wide(config: Config, nets: Sequence[Net], wide_u8: np.ndarray) -> np.ndarray:
    """(N, 68, 2) mean answer of networks and of their mirrored selves, in pixels of wide crops."""
    size_px, wide_px = config.input.size_px, wide_u8.shape[-1]
    start = (wide_px - size_px) // 2
    crops_u8 = wide_u8[..., start : start + size_px, start : start + size_px]
    answers = []
    for net in nets:
        mirrored = _sample(net, crops_u8[..., ::-1])[:, IBUG68.mirror]
        mirrored[..., 0] = size_px - 1 - mirrored[..., 0]
        answers += [_sample(net, crops_u8), mirrored]
    mean: np.ndarray = np.mean(answers, axis=0)
    return mean + start


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
            points_px = _of_wide(config, teachers, crop.apply(frame, config.input.channels)[None])[0]
            # The second pass stands as a training crop does: upright in the frame.
            crops.append(Crop.of_box(box_of_points(crop.undo(points_px)), size_px, scale).apply(frame, config.input.channels))
    if not crops:
        raise FkpError(f"{material.catalog.root / 'test'} has no frame without a label: `fkp data fetch` brings them")
    wide_u8 = np.stack(crops)
    return wide_u8, _of_wide(config, teachers, wide_u8)


if __name__ == "__main__":
    run_command(main)
