"""The faces of a labelled set as crops in memory, and their folds by group."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from fkp.config import Config
from fkp.data.face_crop import crop_face, crop_size_px
from fkp.data.labels import Catalog, read_frame
from fkp.errors import FkpError

#: Fewer tell nothing: with three folds a map would be measured on three faces.
LEAST_FACES = 10


@dataclass(frozen=True)
class Faces:
    """Crops of some labelled faces, all in the order of `rows`.

    Attributes:
        rows: (N,) rows of the catalog.
        groups: (N,) names of what must stay on one side of a split: persons, clips.
        wide_u8: (N, C, W, W) uint8, for augmentation.
        wide_px: (N, K, 2) float32 labels in their pixels, NaN where a point is not labelled.
        plain_u8: (N, C, S, S) uint8, as the network sees a face.
        plain_px: (N, K, 2) float32 labels in their pixels.
        weights: (N, K) float32, how much each label counts in training; what is measured counts all the same.
    """

    rows: np.ndarray
    groups: np.ndarray
    wide_u8: np.ndarray
    wide_px: np.ndarray
    plain_u8: np.ndarray
    plain_px: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: np.ndarray) -> Faces:
        return Faces(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def shown(steps: Iterable[Any], about: str, total: int | None = None) -> Iterable[Any]:
    """The same steps with a progress bar on stderr, once they take more than a second."""
    pause = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(steps, about, total, unit="step", mininterval=pause, delay=1.0, dynamic_ncols=True, leave=False)


def check_set(catalog: Catalog) -> None:
    """Refuse a set that cannot be split.

    Raises:
        FkpError: It has too few faces, or they are of one group.
    """
    if len(catalog) < LEAST_FACES:
        raise FkpError(f"{catalog.root} labels {len(catalog)} faces: at least {LEAST_FACES} are needed")
    if catalog.table["identity"].nunique() < 2:
        raise FkpError(
            f"all {len(catalog)} faces of {catalog.root} are of one group, {catalog.table['identity'].iat[0]}: "
            "at least two are needed, for what is measured must be on faces of others"
        )


def read_faces(catalog: Catalog, config: Config, rows: np.ndarray) -> Faces:
    """Decode and crop faces one by one: only their crops stay in memory.

    Raises:
        FkpError: A frame is missing or broken, or its label cannot be used.
    """
    crops = {
        wide: np.empty((len(rows), config.input.channels, *(crop_size_px(config.input, wide),) * 2), np.uint8) for wide in (True, False)
    }
    points = {wide: np.empty((len(rows), len(config.scheme), 2), np.float32) for wide in (True, False)}
    for place in shown(catalog.reading_order(rows), "reading faces"):
        row = int(rows[place])
        frame, _ = read_frame(catalog, row)
        for wide in (True, False):
            crops[wide][place], points[wide][place] = crop_face(config.input, frame, catalog.points_px[row], catalog.scheme, wide)
    groups = catalog.table["identity"].to_numpy()[rows]
    weights = np.ones(points[True].shape[:2], np.float32) if catalog.weights is None else catalog.weights[rows]
    return Faces(rows, groups, crops[True], points[True], crops[False], points[False], weights)


def folds_of(groups: np.ndarray, count: int) -> np.ndarray:
    """(N,) fold of each face, 0 to `count` - 1: whole groups, about as many faces in each fold; the same for the same names."""
    names, sizes = np.unique(groups.astype(str), return_counts=True)
    faces, fold = np.zeros(count, int), {}
    for place in np.argsort(-sizes, kind="stable"):
        smallest = int(faces.argmin())
        fold[names[place]] = smallest
        faces[smallest] += sizes[place]
    return np.array([fold[name] for name in groups.astype(str)])
