"""A table of trainings at the same number of faces seen: what the benchmarks `training_sources.py` and `training_teachers.py` share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
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
from fkp.data.face_crop import crop_face
from fkp.data.labels import load_labels
from fkp.evaluation.metrics import nme_pct
from fkp.model.lightning_module import Net
from fkp.scheme import IBUG68
from fkp.train.loop import fit_in_process
from fkp.vision.image import read_image

CONFIG = Path("configs/champion.yaml")
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
            opinion_px[held_out] = of_wide(self.config, [teacher], self.labels.crops_u8[held_out])
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
        found_px, truth_px = sample(net, np.asarray(material.cache.val.crops_u8)), material.cache.val.points_px
        error, inner = nme_pct(found_px, truth_px), nme_pct(found_px, truth_px, IBUG68.groups["inner51"])
        cells = [name, str(len(faces.rows)), f"{error.mean():.3f}", f"{inner.mean():.3f}", f"{100 * (error > 8).mean():.1f}"]
        if others:
            found_px = sample(net, others[0])
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


def sample(net: Net, crops_u8: np.ndarray) -> np.ndarray:
    """(N, 68, 2) answers of a network."""
    batches = (crops_u8[first : first + _BATCH] for first in range(0, len(crops_u8), _BATCH))
    return torch.cat([net.sample(torch.from_numpy(np.array(batch)))[:, : len(IBUG68)] for batch in batches]).numpy()


def of_wide(config: Config, nets: Sequence[Net], wide_u8: np.ndarray) -> np.ndarray:
    """(N, 68, 2) mean answer of networks and of their mirrored selves, in pixels of wide crops."""
    size_px, wide_px = config.input.size_px, wide_u8.shape[-1]
    start = (wide_px - size_px) // 2
    crops_u8 = wide_u8[..., start : start + size_px, start : start + size_px]
    answers = []
    for net in nets:
        mirrored = sample(net, crops_u8[..., ::-1])[:, IBUG68.mirror]
        mirrored[..., 0] = size_px - 1 - mirrored[..., 0]
        answers += [sample(net, crops_u8), mirrored]
    mean: np.ndarray = np.mean(answers, axis=0)
    return mean + start
