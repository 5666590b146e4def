"""Batches of crops for Lightning, each worker's share in an order that a resumed run repeats."""

from __future__ import annotations

import hashlib
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from fkp.config import Config
from fkp.data.crop_cache import CropCache, CropSet, open_cache
from fkp.data.parquet.stream import DecodeAll, FaceStream
from fkp.vision.augment import Augment


class _Batches(Dataset[Any]):
    """Whole batches at once: indexing a memory map by a list copies each crop exactly once."""

    def __init__(self, crop_set: CropSet) -> None:
        self.crop_set = crop_set

    def __len__(self) -> int:
        return len(self.crop_set.points_px)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.crop_set.crops_u8[indices]), torch.from_numpy(self.crop_set.points_px[indices])


def _as_is(batch: Any) -> Any:
    return batch


class FacesDataModule(pl.LightningDataModule):
    """Batches of (crops_u8, points_px) for Lightning; training batches are augmented on the device.

    Args:
        config: The run.
        batch_size: Faces a step of this worker.
        cache: Crops that are decoded already; by default `open_cache` finds or makes them.
        decode_all: Who decodes what is streamed, see `fkp.data.parquet.stream`.
    """

    def __init__(self, config: Config, batch_size: int, cache: CropCache | None = None, decode_all: DecodeAll = map) -> None:
        super().__init__()
        self.config = config
        self.batch_size = batch_size
        self.augment = Augment(config.augment, config.input.size_px, config.scheme)
        self.cache = cache
        self.decode_all = decode_all
        self._stream: FaceStream | None = None

    def setup(self, stage: str) -> None:
        if self.cache is None:
            self.cache = open_cache(self.config)

    def close(self) -> None:
        """End what decodes ahead."""
        if self._stream is not None:
            self._stream.close()

    def train_dataloader(self) -> DataLoader[Any] | FaceStream:
        assert self.cache is not None
        workers, rank = self._place()
        if self.config.data.backend == "stream":
            self._stream = FaceStream(self.config, self.batch_size, workers, rank, self.decode_all)
            return self._stream
        assert self.cache.train is not None
        data = _Batches(self.cache.train)
        # The last, smaller batch is dropped only when there is another: batch statistics of a few faces are noise.
        drop = len(data) >= 2 * self.batch_size * workers
        return DataLoader(data, self.batch_size, sampler=self._sampler(data, shuffle=True, drop=drop), drop_last=drop, collate_fn=_as_is)

    def val_dataloader(self) -> DataLoader[Any]:
        assert self.cache is not None
        data = _Batches(self.cache.val)
        return DataLoader(data, 2 * self.batch_size, sampler=self._sampler(data, shuffle=False), collate_fn=_as_is)

    def _sampler(self, data: _Batches, shuffle: bool, drop: bool = False) -> DistributedSampler[Any]:
        """This worker's share. The order is seeded by the epoch, also with one worker, so that a resumed run goes on.

        With `drop` an epoch has the same number of steps for any number of workers: a face that is padded could make one more,
        and a run that continues with fewer workers would have more steps than its schedule.
        """
        workers, rank = self._place()
        return DistributedSampler(data, workers, rank, shuffle=shuffle, seed=self.config.train.seed, drop_last=drop)

    def _place(self) -> tuple[int, int]:
        """How many workers there are, and which one this is."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        if self.trainer is None or not self.trainer.training:
            return batch
        # Seeded by place in the run, so that a resumed run sees the batches that the unbroken one would have seen.
        place = (self.config.train.seed, self.trainer.global_step, self.trainer.global_rank)
        generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(str(place).encode()).digest()[:7]))
        return self.augment(*batch, generator)
