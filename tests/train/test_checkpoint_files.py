"""Checkpoints appear whole, and a run resumes from the newest that can be read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fkp.config import Config
from fkp.errors import FkpError
from fkp.train import loop
from fkp.train.checkpoint_files import LAST_CHECKPOINT, WholeCheckpoints, newest


@pytest.fixture(scope="module")
def trained(small_run_in: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a run of three epochs. Read only: a test copies them."""
    folder = tmp_path_factory.mktemp("trained")
    loop.fit_in_process(small_run_in(folder), folder / "checkpoints", lambda progress: None)
    return folder / "checkpoints"


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def zeroed(content: bytes) -> bytes:
    """What is left of blocks that did not reach the disk before the power went."""
    return content[:4096] + bytes(len(content) - 4096)


def shifted(content: bytes) -> bytes:
    """A block in the middle is lost, and the file's end is there."""
    return content[:8192] + bytes(4096) + content[12288:]


DAMAGES = {"empty": lambda content: b"", "cut off": cut, "zeroed": zeroed, "a lost block": shifted, "no pickle": lambda content: b"text"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_newest_that_can_be_read(trained: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(trained, folder)
    last = folder / LAST_CHECKPOINT
    assert newest(folder) == last and capsys.readouterr().err == ""
    last.write_bytes(DAMAGES[damage](last.read_bytes()))
    found = newest(folder)
    bests = sorted(folder.glob("best-*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    assert len(bests) == 2 and found == bests[-1]
    assert capsys.readouterr().err == f"checkpoint {last} is not used: it is cut off or damaged\n"
    for path in bests:
        path.write_bytes(b"")
    assert newest(folder) is None


def test_another_file_is_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {}}, tmp_path / LAST_CHECKPOINT)
    assert newest(tmp_path) is None
    assert "it is no checkpoint of a training" in capsys.readouterr().err


def test_a_run_whose_last_and_best_checkpoints_are_cut_off_ends_well(
    small_run: Callable[..., Config], tmp_path: Path, break_off: Callable[..., None]
) -> None:
    config, folder = small_run(train__epochs=4), tmp_path / "checkpoints"
    break_off(config, folder)
    _, second = sorted(folder.glob("best-*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    for path in (folder / LAST_CHECKPOINT, second):
        path.write_bytes(cut(path.read_bytes()))
    epochs: list[float] = []
    best = loop.fit_in_process(config, folder, lambda told: epochs.append(told["epoch"]))
    assert sorted(set(epochs)) == [1, 2, 3], "it resumes from the first epoch, and not from nothing"
    for path in (best, folder / LAST_CHECKPOINT):
        assert torch.load(path, weights_only=True)["state_dict"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    trained: Path, tmp_path: Path, file_limit: Callable[[int], None]
) -> None:
    path = tmp_path / LAST_CHECKPOINT
    shutil.copyfile(trained / LAST_CHECKPOINT, path)
    before = path.read_bytes()
    checkpoint = torch.load(path, weights_only=True)
    file_limit(4096)
    with pytest.raises(FkpError, match=r"cannot write .*last\.ckpt: File too large: free some space"):
        WholeCheckpoints().save_checkpoint(checkpoint, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
