"""Ray Data as what decodes: the same batches as without it, in the same order, and one sentence when a shard is gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from fkp.config import Config
from fkp.data.parquet.stream import FaceStream
from fkp.errors import FkpError
from fkp.train.run_dir import open_run


@pytest.fixture
def streamed(small_run: Callable[..., Config], packed_root: Path) -> Callable[..., Config]:
    return lambda **changes: small_run(**{"data__backend": "stream", "data__root": str(packed_root), "scale__num_workers": 2, **changes})


@pytest.mark.usefixtures("ray_cluster")
def test_workers_get_what_they_would_decode_themselves(streamed: Callable[..., Config]) -> None:
    from fkp.data.parquet.ray_decode import on_ray

    def batches(rank: int, **how: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
        # Some pieces an epoch, so that they can come in a wrong order.
        stream = FaceStream(streamed(data__split="published"), 8, 2, rank, **how)
        stream._pool = 1
        return [batch for epoch in (0, 1) for batch in stream.batches(epoch)]

    with ThreadPoolExecutor(2) as pool:  # At once, as they train.
        by_ray = list(pool.map(lambda rank: batches(rank, decode_all=on_ray(1, 2)), (0, 1)))
    for rank in (0, 1):
        here = batches(rank)
        assert len(by_ray[rank]) == len(here)
        for found, wanted in zip(by_ray[rank], here, strict=True):
            assert torch.equal(found[0], wanted[0])
            assert torch.equal(found[1], wanted[1])


@pytest.mark.slow("two Ray Train workers and their decoders start")
@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_train_on_a_stream(streamed: Callable[..., Config]) -> None:
    from fkp.train.ray_backend import fit_on_ray

    with open_run(streamed(train__epochs=2)) as run:
        best = fit_on_ray(run, lambda *figures: None, lambda progress: None)
    saved = torch.load(best, weights_only=True)
    assert saved["global_step"] % 2 == 0
    assert saved["global_step"] / (saved["epoch"] + 1) == len(FaceStream(run.config, 8, 2, 0)), "no step of an epoch was left out"


@pytest.mark.usefixtures("ray_cluster")
def test_a_shard_that_goes_away_is_one_sentence(streamed: Callable[..., Config], packed_root: Path, tmp_path: Path) -> None:
    from fkp.data.parquet.ray_decode import on_ray

    place = Path(shutil.copytree(packed_root, tmp_path / "copy"))
    stream = FaceStream(streamed(data__root=str(place)), 8, 1, 0, on_ray(1, 1))
    for shard in place.glob("training-fold[234]*"):
        shard.unlink()
    with pytest.raises(FkpError, match=r"cannot read shard .*training-fold"):
        next(stream.batches(0))


@pytest.mark.usefixtures("ray_cluster")
def test_cores_that_decode_are_asked_for(streamed: Callable[..., Config]) -> None:
    from fkp.cluster.capacity import check_resources

    check_resources(streamed())
    with pytest.raises(FkpError, match=r"2 workers of 1 \+ 2 decoding cores need 6 cores and the cluster has 4"):
        check_resources(streamed(scale__decoders_per_worker=2))
