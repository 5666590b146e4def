"""The order of a streamed set: each face once an epoch, over all workers, and always the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fkp.config import Config
from fkp.data.crop_cache import CropCache, open_cache
from fkp.data.datamodule import FacesDataModule
from fkp.data.labels import load_labels
from fkp.data.packed_set import open_packed
from fkp.data.parquet.stream import FaceStream, _Ahead, epoch_order, train_places
from fkp.errors import FkpError


@pytest.fixture(scope="module")
def config(tiny_config: Config, packed_root: Path) -> Config:
    return tiny_config.updated({"data": {"root": str(packed_root), "backend": "stream"}, "train.epochs": 3})


@pytest.fixture(scope="module")
def in_memory(tiny_config: Config) -> CropCache:
    return open_cache(tiny_config)


def faces(batches: Iterator[tuple[torch.Tensor, torch.Tensor]], cache: CropCache) -> list[list[int]]:
    """Places in the crop cache of the faces of each batch; their crops must be those of the cache, bit for bit."""
    assert cache.train is not None
    found = []
    for crops, points in batches:
        places = [int(np.flatnonzero((cache.train.points_px == one.numpy()).all(axis=(1, 2)))[0]) for one in points]
        np.testing.assert_array_equal(crops, cache.train.crops_u8[places])
        found.append(places)
    return found


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_each_face_comes_exactly_once_over_all_workers(config: Config, in_memory: CropCache, workers: int) -> None:
    assert in_memory.train is not None
    shares = [faces(FaceStream(config, 8, workers, rank).batches(0), in_memory) for rank in range(workers)]
    assert sorted(face for share in shares for batch in share for face in batch) == list(range(len(in_memory.train.rows)))
    assert {len(share) for share in shares} == {len(FaceStream(config, 8, workers, 0))}, "workers that wait for each other take equal steps"
    sizes = {len(batch) for share in shares for batch in share}
    assert max(sizes) <= 8
    assert max(sizes) - min(sizes) <= 1


def test_the_order_follows_from_seed_and_epoch(config: Config, in_memory: CropCache) -> None:
    other_seed = config.updated({"train.seed": 1})
    first, again, later, seeded = (
        faces(FaceStream(settings, 16, 1, 0).batches(epoch), in_memory)
        for settings, epoch in ((config, 0), (config, 0), (config, 1), (other_seed, 0))
    )
    assert first == again
    assert sorted(first[0]) != first[0]
    assert first != later
    assert first != seeded


def test_a_pool_mixes_its_groups_and_no_others() -> None:
    groups = np.repeat(np.arange(20), 10)[:, None] * (1, 1)
    pools, order = epoch_order(groups, 4, seed=0, epoch=0)
    by_pool = order.reshape(5, 40)
    assert [len(set(groups[some, 0])) for some in by_pool] == [4] * 5
    assert (np.diff(pools[order]) >= 0).all()
    inside = groups[by_pool[0], 0]
    assert (inside[:-1] != inside[1:]).mean() > 0.5, "faces of one group do not come one after the other"


def test_the_training_faces_are_those_of_the_catalog(config: Config, packed_root: Path) -> None:
    packed = open_packed(str(packed_root))
    faces = {}
    for name, change in {"all": {}, "few": {"limit": 7}, "files": {"split": "published"}, "share": {"val_share": 0.5}}.items():
        data = config.data.updated(change)
        catalog = load_labels(data)
        assert catalog.shard_index is not None
        places = train_places(packed, data)
        np.testing.assert_array_equal(places, catalog.shard_index[catalog.rows("train", data)])
        faces[name] = len(places)
    assert faces["share"] > faces["all"], "persons of the validation fold train, and others of the same shards do not"


def test_more_workers_than_faces_are_refused(config: Config) -> None:
    few = config.updated({"data.limit": 3})
    with pytest.raises(FkpError, match="3 training faces for 4 workers"):
        FaceStream(few, 8, 4, 0)


def test_lightning_is_given_the_epoch_it_tells(config: Config, in_memory: CropCache) -> None:
    module = FacesDataModule(config, 16)
    module.setup("fit")
    loader: Any = module.train_dataloader()
    try:
        for epoch in (0, 1, 2, 1):  # The last one: a run that resumes from an earlier checkpoint.
            loader.sampler.set_epoch(epoch)
            assert faces(iter(loader), in_memory) == faces(FaceStream(config, 16, 1, 0).batches(epoch), in_memory)
    finally:
        module.close()


# --- ahead ------------------------------------------------------------------------------------------------------


def numbered(epoch: int) -> Iterator[tuple[int, int]]:
    yield from ((epoch, batch) for batch in range(10))


def test_an_epoch_that_was_broken_off_is_not_mixed_into_the_next() -> None:
    ahead = _Ahead(numbered)
    assert next(iter(ahead.epoch(0, 3))) == (0, 0)
    for epoch in (1, 2, 0):
        assert list(ahead.epoch(epoch, 3)) == list(numbered(epoch))
    ahead.close()


def test_the_next_epoch_is_begun_before_it_is_asked_for() -> None:
    begun = []

    def noted(epoch: int) -> Iterator[int]:
        begun.append(epoch)
        yield epoch

    ahead = _Ahead(noted)
    assert list(ahead.epoch(0, 2)) == [0]
    assert ahead._thread is not None
    ahead._thread.join(5)
    assert begun == [0, 1]
    assert list(ahead.epoch(1, 2)) == [1]
    ahead.close()


def test_what_goes_wrong_ahead_is_raised_where_the_batches_are_taken() -> None:
    def broken(epoch: int) -> Iterator[int]:
        yield 1
        raise FkpError("a shard is gone")

    ahead = _Ahead(broken)
    taken = ahead.epoch(0, 1)
    assert next(taken) == 1
    with pytest.raises(FkpError, match="a shard is gone"):
        next(taken)
    ahead.close()
