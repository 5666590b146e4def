"""A full disk is one sentence, whatever is written: each writer runs under a limit of the size of a file."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fkp.bundle import Bundle, load_network, write_bundle
from fkp.common import storage
from fkp.config import Config, DataConfig
from fkp.data.crop_cache import open_cache
from fkp.data.fetch import adopt
from fkp.data.parquet.writer import pack
from fkp.data.synthetic.render import write_set
from fkp.errors import FkpError, full_disk, run_command
from fkp.predict import Predictor, photos, table, video
from fkp.shipped import shipped
from fkp.vision.image import write_image
from fkp.vision.smooth import OneEuroSettings
from fkp.vision.video import written_clip

Writers = dict[str, Callable[[], object]]

BOX = [np.array([10, 10, 50, 50], np.float32)]


@pytest.fixture
def image(tmp_path: Path) -> str:
    write_image(tmp_path / "photo.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    return str(tmp_path / "photo.png")


@pytest.fixture
def clip(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    with written_clip(tmp_path / "clip.mp4", 10) as write:
        for _ in range(3):
            write(rng.integers(0, 256, (96, 128, 3), np.uint8))
    return str(tmp_path / "clip.mp4")


@pytest.fixture
def writers(
    tmp_path: Path, image: str, clip: str, tiny_bundle: Bundle, tiny_config: Config, synthetic_root: Path
) -> dict[str, Callable[[], object]]:
    predictor, data = Predictor(tiny_bundle), DataConfig(source="folder", root=str(synthetic_root))
    network = load_network(tiny_bundle)
    place = tmp_path / "place"
    return {
        "crop cache": lambda: open_cache(tiny_config.updated({"data.cache_dir": str(place)})),
        "synthetic set": lambda: write_set(place, 10, 0),
        "packed set": lambda: pack(data, str(place), 0.2),
        "copied set": lambda: adopt(synthetic_root, place, shipped("data/manifest.csv")),
        "bundle": lambda: write_bundle(place, network, tiny_config, {}, "# card\n"),
        "photographs": lambda: photos.annotate(predictor, [image], place, BOX),
        "table": lambda: table.annotate(tiny_bundle, [image], tmp_path / "place.parquet"),
        "video": lambda: video.annotate(predictor, clip, tmp_path / "place.mp4", OneEuroSettings()),
        "a file": lambda: storage.write_bytes(str(place / "file"), bytes(9999)),
    }


NAMES = ("crop cache", "synthetic set", "packed set", "copied set", "bundle", "photographs", "table", "video", "a file")


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half(
    writers: dict[str, Callable[[], object]],
    name: str,
    tmp_path: Path,
    file_limit: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file_limit(4096 if name == "photographs" else 700)
    if name == "photographs":  # Each image is an error of its own, and the table that says so has room: it holds the scheme's names.
        assert writers[name]() == 1
        said = capsys.readouterr().err
    else:
        with pytest.raises(FkpError) as caught:
            writers[name]()
        said = str(caught.value)
    assert "File too large" in said or "free some space" in said
    assert "\n" not in said.strip()
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in ("photo.png", "clip.mp4", ".lock", "job.json")]
    assert [path for path in left if path.stat().st_size and path.suffix not in (".json", ".csv")] == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/data/x"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        sqlite3.OperationalError("database or disk is full"),
        RuntimeError("unexpected pos 64 vs 0; [enforce fail at inline_container.cc] No space left on device"),
        pa.ArrowException("IOError: [Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),
    ],
)
def test_a_full_disk_that_nobody_expected_is_a_sentence_too(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("a library's own words") from cause

    with pytest.raises(SystemExit) as caught:
        run_command(command)
    said = capsys.readouterr().err
    assert caught.value.code == 1
    assert said.startswith("error: cannot write") and said.endswith(": free some space and try again\n") and said.count("\n") == 1


def test_other_errors_are_no_full_disk() -> None:
    assert full_disk(OSError(errno.EACCES, "Permission denied")) is None and full_disk(ValueError("no")) is None
