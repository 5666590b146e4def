"""Batches of scenes for Lightning, see `fkp.data.scenes`."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from fkp.config import Config
from fkp.data.scene_pool import open_pool
from fkp.data.scenes import Scenes

#: Images (N, 3, S, S) uint8, and for each one (M, 7, 2) shapes and (M,) whether they count, see `Scenes`.
Batch = tuple[Tensor, list[Tensor], list[Tensor]]


class SceneBatches(Dataset[Any]):
    """Scenes by their number.

    Args:
        scenes: Makes them.
        count: In an epoch; there is no last scene, an epoch's numbers follow those of the one before.
        name: Those of another name differ.
    """

    def __init__(self, scenes: Scenes, count: int, name: str) -> None:
        self._scenes, self._count, self._seed = scenes, count, [scenes.seed, zlib.crc32(name.encode())]

    def __len__(self) -> int:
        return self._count

    def __getitems__(self, numbers: list[int]) -> Batch:
        made = [self._scenes([*self._seed, number]) for number in numbers]
        images, shapes, counted = zip(*made, strict=True)
        told = [[torch.from_numpy(one) for one in some] for some in (shapes, counted)]
        return torch.stack([torch.from_numpy(image) for image in images]), told[0], told[1]


class _NewInEachEpoch(DistributedSampler[Any]):
    """This worker's share of the numbers of an epoch's scenes."""

    def __iter__(self) -> Iterator[int]:
        return (self.epoch * len(self.dataset) + int(number) for number in super().__iter__())  # type: ignore[arg-type]


class SceneDataModule(pl.LightningDataModule):
    """Batches of scenes, each worker's share in an order that a resumed run repeats.

    Args:
        config: The run; `scale.decoders_per_worker` processes make the training scenes.
        batch_size: Scenes a step of this worker.
    """

    def __init__(self, config: Config, batch_size: int) -> None:
        super().__init__()
        self.config, self.batch_size = config, batch_size
        self._sets: dict[str, SceneBatches] = {}

    def setup(self, stage: str) -> None:
        counts = {"train": self.config.detect.scenes, "val": self.config.detect.val_scenes}
        for name in counts.keys() - self._sets.keys():
            self._sets[name] = SceneBatches(Scenes(open_pool(self.config, name), self.config), counts[name], name)

    def close(self) -> None:
        """Nothing is left open: the processes that make scenes end with their epoch."""

    def train_dataloader(self) -> DataLoader[Any]:
        data, (workers, rank) = self._sets["train"], self._place()
        drop = len(data) >= self.batch_size * workers
        sampler = _NewInEachEpoch(data, workers, rank, seed=self.config.train.seed, drop_last=drop)
        makers = self.config.scale.decoders_per_worker
        return DataLoader(data, self.batch_size, sampler=sampler, drop_last=drop, collate_fn=_as_is, num_workers=makers, prefetch_factor=4)

    def val_dataloader(self) -> DataLoader[Any]:
        data, (workers, rank) = self._sets["val"], self._place()
        return DataLoader(data, self.batch_size, sampler=DistributedSampler(data, workers, rank, shuffle=False), collate_fn=_as_is)

    def _place(self) -> tuple[int, int]:
        """How many workers there are, and which one this is."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)


def _as_is(batch: Any) -> Any:
    return batch
