"""Frames decoded once into compact crops that all workers of a machine share.

The cache is a folder of .npy files, opened as memory maps: the pages are the kernel's, so a second worker costs
nothing. Training crops are `augment.WIDE` times wider than the network's; the others are the network's own, made by
the very `Crop` that the Predictor uses. With `data.backend=stream` only the validation crops are kept, and those for
training come from `fkp.data.parquet.stream`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from fkp.common.files import atomic_replace_dir
from fkp.config import Config
from fkp.data import splits
from fkp.data.extra import faces_that_train, load_extra
from fkp.data.face_crop import crop_face, crop_size_px
from fkp.data.labels import Catalog, label_bias, load_labels, place_of, read_frame
from fkp.data.packed_set import open_packed
from fkp.errors import FkpError
from fkp.scheme import DEFAULT
from fkp.vision.augment import WIDE

#: A set and some of its rows.
_Part: TypeAlias = tuple[Catalog, np.ndarray]

#: Part of the cache's name; raise it when the crops' content changes for the same Config.
_CACHE_VERSION = 3


@dataclass(frozen=True)
class CropSet:
    """Crops of one subset of a split.

    Attributes:
        crops_u8: (N, C, W, W) uint8, a read-only memory map.
        points_px: (N, K, 2) float32 in pixels of these crops, corrected labels.
        rows: (N,) rows in the catalog; -1 of a face of `data.extra`, which come last.
    """

    crops_u8: np.ndarray
    points_px: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class CropCache:
    """The crops a run trains and validates on; `digest` is the sha256 over the labels and the bytes of all frames, those of
    `data.extra` among them.

    `train` is None with `data.backend=stream`.
    """

    train: CropSet | None
    val: CropSet
    digest: str


def open_cache(config: Config) -> CropCache:
    """Open the run's crops; decode and check every frame first when no process has done so yet.

    The cache appears under its final name in one step, so two processes may build it at once: one of them wins.

    Raises:
        FkpError: The set or one of `data.extra` is missing or has a broken label or frame, an image of `data.extra` validates or
            tests, a subset of the split is empty, or the disk is full.
    """
    kept = ("val",) if config.data.backend == "stream" else ("train", "val")
    extra = load_extra(config.data)
    key, catalog = _cache_key(config, extra)
    folder = Path(config.data.cache_dir) / key
    if not folder.is_dir():
        _build(catalog or load_labels(config.data), extra, config, kept, folder)
    parts = {
        subset: CropSet(*(np.load(folder / f"{subset}_{name}.npy", mmap_mode="r") for name in ("crops", "points", "rows")))
        for subset in kept
    }
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    return CropCache(parts.get("train"), parts["val"], meta["data_digest"])


def _cache_key(config: Config, extra: Sequence[Catalog]) -> tuple[str, Catalog | None]:
    """Name of the cache, and the catalog where it was needed for that.

    The name changes with the labels, the split, the crop, and any frame's size or time on disk. A set that is streamed is
    known by its digest: no worker has to read all its labels.
    """
    data = splits.faces_of(config.data)
    crops = [config.input.model_dump(), WIDE, *([config.data.scheme] if config.data.scheme != DEFAULT else [])]
    if config.data.backend == "stream":
        packed = open_packed(place_of(config.data))
        parts = [_CACHE_VERSION, packed.digest, label_bias(config.data).tolist(), data, *crops, "without train"]
        return _name_of(parts), None
    catalog = load_labels(config.data)
    parts = [_CACHE_VERSION, catalog.digest, catalog.label_bias_px.tolist(), data, *crops, _stamps(catalog)]
    parts += [[some.digest, _stamps(some)] for some in extra]
    return _name_of(parts), catalog


def _name_of(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _stamps(catalog: Catalog) -> Any:
    if catalog.packed is not None:
        return catalog.packed.digest
    stamps = []
    for row in range(len(catalog)):
        try:
            status = catalog.path(row).stat()
        except OSError as error:
            raise FkpError(f"frame {catalog.path(row)} is missing: `fkp data verify` names all that are") from error
        stamps.append((status.st_size, status.st_mtime_ns))
    return stamps


def _build(catalog: Catalog, extra: Sequence[Catalog], config: Config, kept: Sequence[str], folder: Path) -> None:
    """Decode and crop every frame of the subsets that are kept into `folder`; those of extra sets train."""
    parts = {subset: [(catalog, _rows(catalog, config, subset))] for subset in ("train", "val", "test")}
    own = len(parts["train"][0][1])
    parts["train"] += [(some, faces_that_train(some, config.data)) for some in extra]
    try:
        # Another process may finish the same crops first: those are opened by then, and stay.
        with atomic_replace_dir(folder, keep=True) as unfinished:
            digest = hashlib.sha256("".join(some.digest for some in (catalog, *extra)).encode())
            sha256 = {
                subset: _build_subset(some, config, subset, unfinished) if subset in kept else _check_subset(some, config)
                for subset, some in parts.items()
            }
            digest.update(b"".join(itertools.chain(*sha256.values())))
            _refuse_measured(parts["train"][1:], sha256["train"][own:], {*sha256["val"], *sha256["test"]})
            meta = {"data_digest": digest.hexdigest(), "root": str(catalog.root)}
            (unfinished / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    except OSError as error:
        raise FkpError(f"cannot make the crop cache {folder}: {error.strerror}: free some space or set data.cache_dir") from error


def _refuse_measured(extra: Sequence[_Part], sha256: Sequence[bytes], measured: set[bytes]) -> None:
    """Refuse an extra set with an image that validates or tests."""
    faces = [(catalog, row) for catalog, rows in extra for row in rows.tolist()]
    for (catalog, row), found in zip(faces, sha256, strict=True):
        if found in measured:
            raise FkpError(f"{catalog.path(row)} of data.extra is an image of the validation or test subset: take it out of that set")


def _build_subset(parts: Sequence[_Part], config: Config, subset: str, folder: Path) -> list[bytes]:
    """Write the crops of a subset, one set after the other; return the sha256 of its frames."""
    wide = subset == "train"
    size_px = crop_size_px(config.input, wide)
    faces = sum(len(rows) for _, rows in parts)
    shape = (faces, config.input.channels, size_px, size_px)
    crops = np.lib.format.open_memmap(folder / f"{subset}_crops.npy", "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):  # Or a full disk would end the process in the middle of a page.
        with (folder / f"{subset}_crops.npy").open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    points = np.empty((faces, len(config.scheme), 2), np.float32)
    sha256 = [b""] * faces
    begin = 0
    for catalog, rows in parts:
        for index in catalog.reading_order(rows):
            place = begin + index
            crops[place], points[place], sha256[place] = _read_face(catalog, config, int(rows[index]), wide)
        begin += len(rows)
    crops.flush()
    own = parts[0][1]
    np.save(folder / f"{subset}_points.npy", points)
    np.save(folder / f"{subset}_rows.npy", np.concatenate([own, np.full(faces - len(own), -1, own.dtype)]))
    return sha256


def _rows(catalog: Catalog, config: Config, subset: str) -> np.ndarray:
    rows = catalog.rows(subset, config.data)
    if not len(rows):
        raise FkpError(
            f"the {subset} subset of the {config.data.split} split of {catalog.root} is empty: add persons or choose other folds"
        )
    return rows


def _check_subset(parts: Sequence[_Part], config: Config) -> list[bytes]:
    """The sha256 of the frames of a subset that is not kept: a broken test frame must show now and not after the training."""
    ((catalog, rows),) = parts  # Nothing streams beside extra sets, so these are the set's own.
    if catalog.sha256 is not None:  # They were looked at when they were packed.
        return list(catalog.sha256[rows])
    return [_read_face(catalog, config, int(row), wide=False)[2] for row in rows]


def _read_face(catalog: Catalog, config: Config, row: int, wide: bool) -> tuple[np.ndarray, np.ndarray, bytes]:
    frame, data = read_frame(catalog, row)
    crop, points = crop_face(config.input, frame, catalog.points_px[row], catalog.scheme, wide)
    return crop, points, hashlib.sha256(data).digest()


def plain_crops(catalog: Catalog, config: Config, subset: str, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Faces of one subset in the network's crop, unchanged, decoded now and not from the cache.

    Args:
        catalog: The labelled set.
        config: The run.
        subset: "train", "val" or "test".
        most: No more than so many, evenly spread over the subset.

    Returns:
        (N, C, S, S) uint8 crops and (N, K, 2) float32 points in their pixels.

    Raises:
        FkpError: A frame is missing or broken, or its label cannot be used.
    """
    rows = catalog.rows(subset, config.data)
    if most is not None:
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))]
    size_px = crop_size_px(config.input, wide=False)
    crops = np.empty((len(rows), config.input.channels, size_px, size_px), np.uint8)
    points = np.empty((len(rows), *catalog.points_raw_px.shape[1:]), np.float32)
    for index in catalog.reading_order(rows):
        crops[index], points[index], _ = _read_face(catalog, config, int(rows[index]), wide=False)
    return crops, points
