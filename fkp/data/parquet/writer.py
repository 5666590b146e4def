"""Write a set into the shards of `fkp.data.packed_set`: fkp data pack."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from fkp.common import storage
from fkp.config import DataConfig
from fkp.data.labels import Catalog, load_labels, read_frame
from fkp.data.packed_set import FRAMES_PER_GROUP, MANIFEST, PackedSet, Shard, is_packed, open_packed, schema, to_json
from fkp.errors import FkpError


def pack(data: DataConfig, place: str, shard_mib: float) -> PackedSet:
    """Pack a set. Every frame is decoded and its label checked, as training would.

    Args:
        data: Names the set; its split and folds do not matter.
        place: A folder or an address. It holds a set only once the last byte is written.
        shard_mib: A shard ends with the group of frames that makes it larger than this, in MiB.

    Raises:
        FkpError: A frame or label is broken, the place holds a packed set already, or it cannot be written.
    """
    if is_packed(place):
        raise FkpError(f"{place} holds a packed set already: choose another --out, or remove it first")
    catalog = load_labels(data)
    shards: list[Shard] = []
    with tqdm(total=len(catalog), desc="pack", unit="frame", disable=None) as bar, ThreadPoolExecutor() as pool:
        for part, fold, rows in _unrelated(catalog):
            groups = (_group(catalog, rows[start : start + FRAMES_PER_GROUP], pool) for start in range(0, len(rows), FRAMES_PER_GROUP))
            for number, (content, frames) in enumerate(_shards(groups, shard_mib * 2**20)):
                name = f"{part}-fold{fold}-{number:05d}.parquet"
                storage.write_bytes(storage.join(place, name), content)
                shards.append(Shard(name, part, fold, frames, len(content), hashlib.sha256(content).hexdigest()))
                bar.update(frames)
    storage.write_bytes(storage.join(place, MANIFEST), to_json(catalog.digest, shards, data.scheme))
    return open_packed(place)


def _unrelated(catalog: Catalog) -> Iterator[tuple[str, int, np.ndarray]]:
    """The rows of each CSV file and fold, in an order in which neighbours are of different persons, and always the same."""
    table = catalog.table
    order = np.argsort(
        [hashlib.sha256(f"{part}/{file}".encode()).digest() for part, file in zip(table["part"], table["file"], strict=True)]
    )
    for (part, fold), rows in table.iloc[order].groupby(["part", "fold"], sort=True).groups.items():
        yield part, int(fold), np.asarray(rows)


def _group(catalog: Catalog, rows: np.ndarray, pool: ThreadPoolExecutor) -> pa.Table:
    """Frames that are read at once."""
    # Decoding leaves the interpreter's lock.
    data = [content for _, content in pool.map(lambda row: read_frame(catalog, row), rows)]
    table = catalog.table.iloc[rows]
    columns = {
        "row": rows,
        **{name: table[name].tolist() for name in ("part", "file", "identity", "video", "frame", "fold")},
        "points_raw_px": list(catalog.points_raw_px[rows].reshape(len(rows), -1)),
        "sha256": [hashlib.sha256(content).digest() for content in data],
        "bytes": data,
    }
    return pa.table(columns, schema(catalog.scheme))


def _shards(groups: Iterator[pa.Table], limit_bytes: float) -> Iterator[tuple[bytes, int]]:
    """Files of whole groups, and how many frames each holds. One is in memory at a time."""
    for group in groups:
        sink, frames = io.BytesIO(), 0
        # Images are compressed already.
        with pq.ParquetWriter(sink, group.schema, compression="none", use_dictionary=False, write_statistics=False) as writer:
            while True:
                writer.write_table(group, row_group_size=FRAMES_PER_GROUP)
                frames += len(group)
                if sink.tell() >= limit_bytes:
                    break
                following = next(groups, None)
                if following is None:
                    break
                group = following
        yield sink.getvalue(), frames
