"""Frames decoded once into compact crops that all workers of a machine share.

The cache is a folder of .npy files, opened as memory maps: the pages are the kernel's, so a second worker costs
nothing. Training crops are `augment.WIDE` times wider than the network's; the others are the network's own, made by
the very `Crop` that the Predictor uses. With `data.backend=stream` only the validation crops are kept, and those for
training come from `fkp.data.parquet.stream`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fkp.config import Config
from fkp.data import labels as catalogs
from fkp.data import splits
from fkp.data.face_crop import crop_face, crop_size_px
from fkp.data.labels import Catalog
from fkp.data.packed_set import open_packed
from fkp.errors import FkpError
from fkp.vision.augment import WIDE

#: Part of the cache's name; raise it when the crops' content changes for the same Config.
_CACHE_VERSION = 2


@dataclass(frozen=True)
class CropSet:
    """Crops of one part of a split.

    Attributes:
        crops_u8: (N, C, W, W) uint8, a read-only memory map.
        points_px: (N, 68, 2) float32 in pixels of these crops, labels without their shift.
        rows: (N,) rows in the catalog.
    """

    crops_u8: np.ndarray
    points_px: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class CropCache:
    """The crops a run trains and validates on; `digest` is the sha256 over the labels and the bytes of all its frames.

    `train` is None with `data.backend=stream`.
    """

    train: CropSet | None
    val: CropSet
    digest: str


def open_cache(config: Config) -> CropCache:
    """Open the run's crops; decode and check every frame first when no process has done so yet.

    The cache appears under its final name in one step, so two processes may build it at once: one of them wins.

    Raises:
        FkpError: The set is missing or has a broken label or frame, a part of the split is empty, or the disk is full.
    """
    kept = ("val",) if config.data.backend == "stream" else ("train", "val")
    key, catalog = _cache_key(config)
    folder = Path(config.data.cache_dir) / key
    if not folder.is_dir():
        _build(catalog or catalogs.load(config.data), config, kept, folder)
    parts = {
        part: CropSet(*(np.load(folder / f"{part}_{name}.npy", mmap_mode="r") for name in ("crops", "points", "rows"))) for part in kept
    }
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    return CropCache(parts.get("train"), parts["val"], meta["data_digest"])


def _cache_key(config: Config) -> tuple[str, Catalog | None]:
    """Name of the cache, and the catalog where it was needed for that.

    The name changes with the labels, the split, the crop, and any frame's size or time on disk. A set that is streamed is
    known by its digest: no worker has to read all its labels.
    """
    data = splits.faces_of(config.data)
    crops = [config.input.model_dump(), WIDE]
    if config.data.backend == "stream":
        packed = open_packed(catalogs.place_of(config.data))
        parts = [_CACHE_VERSION, packed.digest, catalogs.label_bias(config.data).tolist(), data, *crops, "without train"]
        return _name_of(parts), None
    catalog = catalogs.load(config.data)
    parts = [_CACHE_VERSION, catalog.digest, catalog.label_bias_px.tolist(), data, *crops, _stamps(catalog)]
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


def _build(catalog: Catalog, config: Config, kept: Sequence[str], folder: Path) -> None:
    """Decode and crop every frame of the parts that are kept into `folder`."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".building-"))
    except OSError as error:
        raise FkpError(f"cannot make the crop cache {folder.parent}: {error.strerror}: set data.cache_dir") from error
    try:
        digest = hashlib.sha256(catalog.digest.encode())
        for part in ("train", "val", "test"):
            for sha256 in _build_part(catalog, config, part, unfinished) if part in kept else _check_part(catalog, config, part):
                digest.update(sha256)
        meta = {"data_digest": digest.hexdigest(), "root": str(catalog.root)}
        (unfinished / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        try:
            os.rename(unfinished, folder)
        except OSError:
            if not folder.is_dir():  # Otherwise another process has just finished the same crops.
                raise
    except OSError as error:
        raise FkpError(f"cannot write the crop cache {folder}: {error.strerror}: free some space or set data.cache_dir") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _build_part(catalog: Catalog, config: Config, part: str, folder: Path) -> list[bytes]:
    """Write the crops of a part; return the sha256 of its frames."""
    rows = _rows(catalog, config, part)
    wide = part == "train"
    size_px = crop_size_px(config.input, wide)
    shape = (len(rows), config.input.channels, size_px, size_px)
    crops = np.lib.format.open_memmap(folder / f"{part}_crops.npy", "w+", np.uint8, shape)
    points = np.empty((len(rows), *catalog.points_raw_px.shape[1:]), np.float32)
    sha256 = [b""] * len(rows)
    for index in catalog.reading_order(rows):
        crops[index], points[index], sha256[index] = _read_face(catalog, config, int(rows[index]), wide)
    crops.flush()
    np.save(folder / f"{part}_points.npy", points)
    np.save(folder / f"{part}_rows.npy", rows)
    return sha256


def _rows(catalog: Catalog, config: Config, part: str) -> np.ndarray:
    rows = catalog.rows(part, config.data)
    if not len(rows):
        raise FkpError(f"the {part} part of the {config.data.split} split of {catalog.root} is empty: add persons or choose other folds")
    return rows


def _check_part(catalog: Catalog, config: Config, part: str) -> list[bytes]:
    """The sha256 of the frames of a part that is not kept: a broken test frame must show now and not after the training."""
    rows = _rows(catalog, config, part)
    if catalog.sha256 is not None:  # They were looked at when they were packed.
        return list(catalog.sha256[rows])
    return [_read_face(catalog, config, int(row), wide=False)[2] for row in rows]


def _read_face(catalog: Catalog, config: Config, row: int, wide: bool) -> tuple[np.ndarray, np.ndarray, bytes]:
    frame, data = catalogs.read_frame(catalog, row)
    crop, points = crop_face(config.input, frame, catalog.points_px[row], wide)
    return crop, points, hashlib.sha256(data).digest()


def plain_crops(catalog: Catalog, config: Config, part: str, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Faces of one part in the network's crop, unchanged, decoded now and not from the cache.

    Args:
        catalog: The labelled set.
        config: The run.
        part: "train", "val" or "test".
        most: No more than so many, evenly spread over the part.

    Returns:
        (N, C, S, S) uint8 crops and (N, 68, 2) float32 points in their pixels.

    Raises:
        FkpError: A frame is missing or broken, or its label cannot be used.
    """
    rows = catalog.rows(part, config.data)
    if most is not None:
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))]
    size_px = crop_size_px(config.input, wide=False)
    crops = np.empty((len(rows), config.input.channels, size_px, size_px), np.uint8)
    points = np.empty((len(rows), *catalog.points_raw_px.shape[1:]), np.float32)
    for index in catalog.reading_order(rows):
        crops[index], points[index], _ = _read_face(catalog, config, int(rows[index]), wide=False)
    return crops, points
