"""Training batches out of a packed set, decoded as they are needed: memory holds a few of them, however large the set is.

Which face comes when follows from seed, epoch and number of workers alone. An epoch takes the groups of frames of the shards
in a new order, throws some hundreds of neighbouring frames together and shuffles them; then every worker has its share of
that sequence, cut into the same number of batches whose sizes differ by one face at most. So each face comes exactly once
in an epoch, over all workers, and a run that resumes from a checkpoint sees what the unbroken one would have seen. Ray Data's
own way to split a dataset among workers cannot promise the two together: it gives a block to whoever has the fewest rows,
and to make the shares equal it leaves rows out.

Nothing here knows of Ray: who decodes, and where, is handed in (`DecodeAll`).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fkp.config import Config, DataConfig, InputConfig
from fkp.data import splits
from fkp.data.face_crop import crop_face, crop_size_px
from fkp.data.labels import decode_frame, label_bias, place_of, remove_label_bias
from fkp.data.packed_set import FRAMES_PER_GROUP, PackedSet, open_packed
from fkp.errors import FkpError
from fkp.scheme import load_scheme

#: Bytes of crops that are shuffled together, and decoded at once: 227 grey faces for a network of 128 px. More would mix
#: better and hold more memory; the order in a shard is random already.
_POOL_BYTES = 8 << 20

#: Batches that are ready before they are asked for.
_AHEAD = 4

Faces = tuple[np.ndarray, np.ndarray]
"""(N, C, W, W) uint8 crops and (N, K, 2) float32 points in their pixels."""


class Decode:
    """Reads and crops faces of a packed set; travels to whoever does it."""

    def __init__(self, packed: PackedSet, data: DataConfig, config: InputConfig) -> None:
        self.packed = packed
        self.shift_px = label_bias(data)
        self.config, self.scheme = config, load_scheme(data.scheme)

    def __call__(self, places: np.ndarray) -> Faces:
        """Read the faces at (N, 2) places (shard, index in the shard), in this order.

        Raises:
            FkpError: A shard cannot be read or has changed, or a label is broken.
        """
        size_px = crop_size_px(self.config, wide=True)
        crops = np.empty((len(places), self.config.channels, size_px, size_px), np.uint8)
        points = np.empty((len(places), len(self.scheme), 2), np.float32)
        groups = _groups(places)
        for group in np.unique(groups, axis=0):
            targets = np.flatnonzero((groups == group).all(axis=1))
            faces = self._read(int(group[0]), int(group[1]), places[targets, 1] % FRAMES_PER_GROUP)
            for target, (crop, points_px) in zip(targets, faces, strict=True):
                crops[target], points[target] = crop, points_px
        return crops, points

    def _read(self, shard: int, group: int, chosen: np.ndarray) -> Iterator[Faces]:
        """Some faces of what is read at once."""
        table = self.packed.read_group(shard, group)
        part, file, raw, data = (table.column(name) for name in ("part", "file", "points_raw_px", "bytes"))
        stored_px = raw.combine_chunks().flatten().to_numpy().reshape(-1, len(self.packed.scheme), 2)
        raw_px = self.scheme.convert(stored_px, self.packed.scheme)
        for place in chosen.tolist():
            name = f"{self.packed.place}: {part[place]}/{file[place]}"
            frame = decode_frame(data[place].as_buffer(), raw_px[place], name, self.scheme)
            yield crop_face(self.config, frame, remove_label_bias(raw_px[place], self.shift_px), self.scheme, wide=True)


DecodeAll = Callable[[Decode, Sequence[np.ndarray]], Iterator[Faces]]
"""Decodes pieces, each some places of faces, and yields them in their order."""


class FaceStream:
    """Training batches of one worker, for Lightning: an iterable of a known length that is told the epoch.

    Args:
        config: The run.
        batch_size: Most faces in a batch of this worker.
        workers: How many workers share the faces.
        rank: Which of them this is.
        decode_all: Who decodes; by default a thread of this process.

    Raises:
        FkpError: There is no packed set, it cannot be read, or its faces do not go round.
    """

    def __init__(self, config: Config, batch_size: int, workers: int, rank: int, decode_all: DecodeAll = map) -> None:
        packed = open_packed(place_of(config.data))
        self.places = train_places(packed, config.data)
        if len(self.places) < workers:
            raise FkpError(f"{packed.place} has {len(self.places)} training faces for {workers} workers: lower scale.num_workers")
        self._decode = Decode(packed, config.data, config.input)
        self._decode_all = decode_all
        self._seed, self._epochs = config.train.seed, config.train.epochs
        self._workers, self._rank = workers, rank
        self._steps = -(-len(self.places) // (batch_size * workers))
        if len(self.places) // workers < self._steps:  # Only with a face a batch; the others would wait for ever.
            raise FkpError(f"{workers} workers of one face a step do not share {len(self.places)} faces: raise optim.global_batch_size")
        crop_bytes = config.input.channels * crop_size_px(config.input, wide=True) ** 2
        self._pool = max(1, _POOL_BYTES // (crop_bytes * FRAMES_PER_GROUP))
        self._ahead = _Ahead(self.batches)
        self._epoch = 0
        #: Lightning tells the epoch to what has this name.
        self.sampler = self

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # Only with the first batch: a run that goes on is told its epoch after this was called.
        yield from self._ahead.epoch(self._epoch, self._epochs)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is."""
        self._epoch = epoch

    def close(self) -> None:
        """End what decodes ahead."""
        self._ahead.close()

    def pieces(self, epoch: int) -> list[np.ndarray]:
        """This worker's places in the order of an epoch, cut where the groups that were thrown together end."""
        pools, order = epoch_order(_groups(self.places), self._pool, self._seed, epoch)
        share = np.array_split(order, self._workers)[self._rank]
        return np.split(self.places[share], np.flatnonzero(np.diff(pools[share])) + 1)

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch: (n, C, W, W) uint8 crops and (n, K, 2) float32 points.

        Raises:
            FkpError: See `Decode`.
        """
        pieces = self.pieces(epoch)
        share = sum(len(piece) for piece in pieces)
        ends = iter([len(part) for part in np.array_split(np.empty(share), self._steps)])
        for faces in _regroup(self._decode_all(self._decode, pieces), ends):
            crops, points = (np.concatenate(arrays) for arrays in zip(*faces, strict=True))
            yield torch.from_numpy(crops), torch.from_numpy(points)


def train_places(packed: PackedSet, data: DataConfig) -> np.ndarray:
    """(N, 2) shard and index in it of the training faces, in the set's own order: those of `Catalog.rows("train", data)`.

    Raises:
        FkpError: A shard cannot be read, or there is no training face.
    """
    fold, part = (np.array([getattr(shard, name) for shard in packed.shards]) for name in ("fold", "part"))
    rows, places = [np.empty(0, int)], [np.empty((0, 2), int)]
    for shard in np.flatnonzero(splits.belongs("train", data, fold, part)).tolist():
        table = packed.read_columns(shard, ["row", "identity"])
        row, identity = (table.column(name).to_numpy() for name in ("row", "identity"))
        chosen = np.flatnonzero(splits.belongs("train", data, fold[[shard]], part[[shard]], splits.draws_of(identity)))
        rows.append(row[chosen])
        places.append(np.stack([np.full(len(chosen), shard), chosen], axis=1))
    order = np.argsort(np.concatenate(rows))
    if not len(order):
        raise FkpError(f"the train subset of the {data.split} split of {packed.place} is empty: add persons or choose other folds")
    return np.concatenate(places)[order][: data.limit]


def epoch_order(groups: np.ndarray, pool: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """An order of N faces for an epoch.

    Args:
        groups: (N, 2) what is read at once, for each face.
        pool: How many groups are shuffled together.
        seed: Of the run.
        epoch: Its number.

    Returns:
        For each face the number of its pool, and the N faces in the order of the epoch, pool after pool.
    """
    rng = np.random.default_rng([seed, epoch])
    _, group = np.unique(groups, axis=0, return_inverse=True)
    pools = rng.permutation(group.max() + 1)[group] // pool
    return pools, np.lexsort([rng.random(len(groups)), pools])


def _groups(places: np.ndarray) -> np.ndarray:
    """(N, 2) shard and group in it."""
    return places // (1, FRAMES_PER_GROUP)


def _regroup(pieces: Iterator[Faces], sizes: Iterator[int]) -> Iterator[list[Faces]]:
    """The same faces in the same order, in lists of so many."""
    wanted, found = next(sizes), list[Faces]()
    for crops, points in pieces:
        start = 0
        while start < len(points):
            stop = min(start + wanted, len(points))
            found.append((crops[start:stop], points[start:stop]))
            wanted -= stop - start
            start = stop
            if not wanted:
                yield found
                wanted, found = next(sizes, 0), []


class _Ahead:
    """Makes batches in a thread before they are asked for, across the end of an epoch: no worker waits while it validates.

    Args:
        batches: Makes those of an epoch.
    """

    def __init__(self, batches: Callable[[int], Iterator[Any]]) -> None:
        self._batches = batches
        self._ready: queue.Queue[Any] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._next = 0

    def epoch(self, epoch: int, epochs: int) -> Iterator[Any]:
        """The batches of an epoch; then those of the next are made, up to `epochs`."""
        if self._thread is None or self._next != epoch:
            self.close()
            self._thread = threading.Thread(target=self._work, args=(epoch, max(epochs, epoch + 1)), daemon=True)
            self._thread.start()
        self._next = -1  # Whoever breaks off an epoch begins anew.
        while (batch := self._ready.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield batch
        self._next = epoch + 1

    def close(self) -> None:
        """End the thread and forget what is ready."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = None
        self._ready = queue.Queue(_AHEAD)
        self._stop.clear()

    def _work(self, first: int, end: int) -> None:
        try:
            for epoch in range(first, end):
                for batch in self._batches(epoch):
                    if not self._put(batch):
                        return
                self._put(None)
        except BaseException as error:  # It is raised where the batches are taken.
            self._put(error)

    def _put(self, item: Any) -> bool:
        while not self._stop.is_set():
            try:
                self._ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
