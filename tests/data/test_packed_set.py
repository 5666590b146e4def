"""Packed sets: the same set in other files, and what may be wrong with those."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fkp.config import Config, DataConfig
from fkp.data import __main__ as cli
from fkp.data import splits
from fkp.data.crop_cache import open_cache, plain_crops
from fkp.data.labels import load_labels
from fkp.data.packed_set import FRAMES_PER_GROUP, MANIFEST, PackedSet, faults, is_packed, open_packed
from fkp.data.parquet.writer import pack
from fkp.errors import FkpError


def folder_of(root: Path) -> DataConfig:
    return DataConfig(source="folder", root=str(root))


@pytest.fixture
def copy(packed_root: Path, tmp_path: Path) -> Path:
    """The packed set, to be spoilt."""
    return Path(shutil.copytree(packed_root, tmp_path / "copy"))


def test_a_packed_set_is_the_set_that_was_packed(synthetic_root: Path, packed_root: Path) -> None:
    files, packed = (load_labels(folder_of(root)) for root in (synthetic_root, packed_root))
    assert packed.table.equals(files.table)
    np.testing.assert_array_equal(packed.points_raw_px, files.points_raw_px)
    assert packed.digest == files.digest
    for split in ("identity", "published"):
        data = DataConfig(split=split, limit=20)
        for part in ("train", "val", "test"):
            np.testing.assert_array_equal(packed.rows(part, data), files.rows(part, data))
    for row in range(len(files)):
        assert packed.read_bytes(row) == files.path(row).read_bytes()


def test_training_says_the_same_of_the_data_whatever_it_reads(tiny_config: Config, packed_root: Path, tmp_path: Path) -> None:
    packed = {"root": str(packed_root), "cache_dir": str(tmp_path)}
    files, kept, streamed = (open_cache(tiny_config.updated({"data": data})) for data in ({}, packed, {**packed, "backend": "stream"}))
    assert files.digest == kept.digest == streamed.digest
    assert streamed.train is None
    for cache in (kept, streamed):
        np.testing.assert_array_equal(cache.val.crops_u8, files.val.crops_u8)
        np.testing.assert_array_equal(cache.val.points_px, files.val.points_px)
        np.testing.assert_array_equal(cache.val.rows, files.val.rows)


def test_plain_crops_are_read_group_by_group(tiny_config: Config, packed_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read_group = PackedSet.read_group
    monkeypatch.setattr("fkp.data.packed_set._KEPT_GROUPS", 1)  # As if the set were much larger.
    monkeypatch.setattr(PackedSet, "read_group", lambda self, *group: (reads.append(group), read_group(self, *group))[1])
    config = tiny_config.updated({"data.root": str(packed_root)})
    catalog = load_labels(config.data)
    crops, points = plain_crops(catalog, config, "train")
    assert len(reads) == len(set(reads)) > 1
    files = plain_crops(load_labels(tiny_config.data), tiny_config, "train")
    np.testing.assert_array_equal(crops, files[0])
    np.testing.assert_array_equal(points, files[1])


def test_packing_twice_gives_the_same_bytes(synthetic_root: Path, packed_root: Path, tmp_path: Path) -> None:
    again = pack(folder_of(synthetic_root), str(tmp_path / "again"), 0.2)
    assert again.digest == open_packed(str(packed_root)).digest
    assert list(faults(again)) == []


def test_shards_are_of_one_fold_and_of_a_bounded_size(packed_root: Path) -> None:
    packed = open_packed(str(packed_root))
    assert len(packed) == 160
    assert max(shard.frames for shard in packed.shards) == FRAMES_PER_GROUP, "0.2 MiB is less than a group"
    for shard in packed.shards:
        file = pq.ParquetFile(packed_root / shard.file)
        labels = file.read(["part", "fold", "identity"])
        assert set(labels.column("part").to_pylist()) == {shard.part}
        assert set(labels.column("fold").to_pylist()) == {shard.fold}
        assert {splits.fold_of(name) for name in labels.column("identity").to_pylist()} == {shard.fold}
        assert file.metadata.row_group(0).num_rows <= FRAMES_PER_GROUP


def test_an_interrupted_packing_leaves_no_set(synthetic_root: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(synthetic_root, tmp_path / "set"))
    victim = sorted((broken / "training").iterdir())[-1]
    victim.write_bytes(victim.read_bytes()[:50])
    with pytest.raises(FkpError, match=f"{victim.name} is not an image"):
        pack(folder_of(broken), str(tmp_path / "out"), 0.2)
    assert not is_packed(str(tmp_path / "out"))
    with pytest.raises(FkpError, match=r"there is no packed set at .*`fkp data pack` makes one"):
        open_packed(str(tmp_path / "out"))


def test_a_set_is_not_packed_over_another(synthetic_root: Path, packed_root: Path) -> None:
    with pytest.raises(FkpError, match="holds a packed set already"):
        pack(folder_of(synthetic_root), str(packed_root), 1)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), r"shard .*\.parquet is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), r"shard .*\.parquet has \d+ bytes and not \d+"),
        (
            lambda path: (path.parent / MANIFEST).write_text('{"kind": "fkp packed set 9"}'),
            "its kind is 'fkp packed set 9'",
        ),
        (lambda path: (path.parent / MANIFEST).write_text("{"), r"packed\.json cannot be used"),
    ],
)
def test_a_shard_that_is_not_there_shows_when_the_set_is_opened(copy: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(next(copy.glob("*.parquet")))
    with pytest.raises(FkpError, match=says):
        open_packed(str(copy))


def test_a_changed_frame_is_never_read(copy: Path) -> None:
    packed = open_packed(str(copy))
    data = packed.read_frame(3, 1)
    path = copy / packed.shards[3].file
    content = path.read_bytes()
    path.write_bytes(content.replace(data, data[:-1] + bytes([data[-1] ^ 1])))
    assert len(path.read_bytes()) == len(content)
    with pytest.raises(FkpError, match=r"frame .* is not what was packed"):
        open_packed(str(copy)).read_frame(3, 1)
    assert list(faults(packed)) == [f"{packed.shards[3].file}: differs"]


def test_a_garbled_shard_is_one_sentence(copy: Path) -> None:
    packed = open_packed(str(copy))
    path = copy / packed.shards[0].file
    path.write_bytes(bytes(packed.shards[0].size_bytes))
    with pytest.raises(FkpError, match=r"cannot read shard .*: copy it again"):
        load_labels(folder_of(copy))


def test_the_command(synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = str(tmp_path / "out")
    cli.main(["pack", "--root", str(synthetic_root), "--out", place])
    told = capsys.readouterr().out
    assert f"{place}: 160 frames in " in told
    assert f"--data.source SOURCE --data.backend stream --data.root {place}" in told, "without its source a set has no label bias"
    cli.main(["verify", "--root", place])
    digest = hashlib.sha256((tmp_path / "out" / MANIFEST).read_bytes()).hexdigest()
    assert f"are as packed: 160 frames, digest {digest}" in capsys.readouterr().out
    shard = next((tmp_path / "out").glob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with pytest.raises(FkpError, match=r"is not what was packed \(1 of \d+ shards\)"):
        cli.main(["verify", "--root", place])
    assert capsys.readouterr().out == f"{shard.name}: differs\n"


def test_streaming_a_set_that_is_not_packed_is_one_sentence(synthetic_root: Path) -> None:
    with pytest.raises(FkpError, match="there is no packed set at"):
        load_labels(DataConfig(backend="stream", root=str(synthetic_root)))
