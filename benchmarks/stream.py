"""Measure `data.backend=stream` beside the crops in memory, and train on a set that is ten times larger than the object store.

    python benchmarks/stream.py [--only speed|memory] [--repeats N] [--config FILE.yaml] [--section.key VALUE ...]

speed: the set of the configuration, packed; one Ray Train worker with either backend in turns, one core for the worker and
one that decodes. memory: images of noise, packed, an object store of 80 MB, two workers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import psutil
import ray
from train_throughput import Fit, Row, fit, prepare, print_table

from fkp.config import Config, DataConfig, build_config, config_from_args
from fkp.data.packed_set import PackedSet
from fkp.data.parquet.writer import pack
from fkp.errors import run_command

_DEFAULT_CONFIG = Path(__file__).parent.parent / "configs" / "ytfaces.yaml"

_STORE_BYTES = 80_000_000
#: Side of an image of noise in pixels; as a PNG it has 0.79 MB.
_NOISE_PX = 512
_NOISE_FRAMES = 1100


def main() -> None:
    """Print one table."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--only", choices=("speed", "memory"))
    own.add_argument("--repeats", type=int, default=2)
    known, rest = own.parse_known_args()
    if not any(argument.split("=")[0] == "--config" for argument in rest):
        rest = ["--config", str(_DEFAULT_CONFIG), *rest]
    config = config_from_args(rest, "benchmarks/stream.py", "Measure streamed data. Also: --only speed|memory, --repeats N (2).")
    rows = []
    with tempfile.TemporaryDirectory(prefix="fkp-benchmark-") as scratch:
        if known.only != "memory":
            rows += speed(config, Path(scratch), known.repeats)
        if known.only != "speed":
            rows += memory(Path(scratch))
    print_table(rows)


def speed(config: Config, scratch: Path, repeats: int) -> list[Row]:
    """Images/s of whole epochs and of their steps alone, streamed and in memory."""
    config = prepare(config, scratch)
    place = str(scratch / "packed")
    began = time.monotonic()
    packed = pack(DataConfig(source="folder", root=config.data.root), place, 64)
    mib = sum(shard.size_bytes for shard in packed.shards) / 2**20
    print(f"packed {len(packed)} frames, {mib:.0f} MiB, in {time.monotonic() - began:.1f} s")
    streamed = config.updated({"data": {"backend": "stream", "root": place}})
    seen: dict[str, list[Fit]] = {"memory": [], "stream": []}
    with cluster(num_cpus=2):
        for repeat in range(repeats):
            for name, settings in (("memory", config), ("stream", streamed)):
                print(f"  turn {repeat + 1} of {repeats}: {name}", file=sys.stderr)
                seen[name].append(fit(settings.updated({"track.run_name": f"{name}-{repeat}"})))
    whole, steps = ([[getattr(f, kind) for f in seen[n]] for n in ("stream", "memory")] for kind in ("images_per_s", "steps_images_per_s"))
    return [
        Row("streamed : crops in memory, 1 worker", "images/s", *whole, ">= 0.85"),
        Row("  the same, steps without validation and checkpoint", "images/s", *steps, ""),
        Row(
            "  peak resident memory of the worker, streamed : in memory",
            "GiB",
            *([f.memory.peak for f in seen[n]] for n in ("stream", "memory")),
            "",
        ),
    ]


def memory(scratch: Path) -> list[Row]:
    """Train two workers on much more than the object store holds, and watch what memory Ray takes."""
    packed = pack_noise(scratch)
    frames_gb = sum(shard.size_bytes for shard in packed.shards) / 1e9
    config = build_config(
        {
            "data": {"source": "folder", "root": packed.place, "backend": "stream", "cache_dir": str(scratch / "noise-cache")},
            "input": {"size_px": 128, "channels": 1},
            "model": {"width": 16, "depth": 1},
            "augment.strength": 0.0,
            "optim.global_batch_size": 16,
            "train": {"epochs": 2, "keep_checkpoints": 2},
            "scale": {"num_workers": 2, "use_gpu": "no"},
            "track": {"storage": str(scratch / "noise-runs"), "run_name": "noise"},
        }
    )
    with cluster(num_cpus=4, object_store_memory=_STORE_BYTES), watch() as peaks:
        fit(config)
    return [
        Row("set : object store", "GB", [frames_gb], [_STORE_BYTES / 1e9], ">= 10"),
        Row("  spilled from the object store to the disk", "GB", [peaks["spilled"]], None, "< 0.001"),
        Row("  most that all processes of Ray held at once, beside the store", "GB", [peaks["private"]], None, ""),
    ]


def pack_noise(scratch: Path) -> PackedSet:
    """A packed set of images that cannot be compressed."""
    rng = np.random.default_rng(0)
    for part in ("training", "test"):
        (scratch / "noise" / part).mkdir(parents=True)
    header = "," + ",".join(map(str, range(136))) + "\n"
    lines = {"training": [header], "test": [header]}
    for number in range(_NOISE_FRAMES):
        part = "test" if number % 10 == 0 else "training"
        name = f"Person{number // 5}_0{number % 5}.png"
        image = rng.integers(0, 256, (_NOISE_PX, _NOISE_PX, 3), np.uint8)
        cv2.imwrite(str(scratch / "noise" / part / name), image)
        points = rng.uniform(100, 400, 136).round(1)
        lines[part].append(",".join([name, *map(str, points)]) + "\n")
    for part, rows in lines.items():
        (scratch / "noise" / f"{part}_frames_keypoints.csv").write_text("".join(rows))
    return pack(DataConfig(source="folder", root=str(scratch / "noise")), str(scratch / "noise-packed"), 64)


@contextmanager
def cluster(**options: float) -> Iterator[None]:
    """A cluster of this machine for the block; `fit` joins it."""
    ray.init(address="local", dashboard_host="127.0.0.1", logging_level="WARNING", log_to_driver=False, **options)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def watch() -> Iterator[dict[str, float]]:
    """While the block runs: the most memory that this process and all below it held privately, and what was spilled, in GB."""
    peaks = {"private": 0.0, "spilled": 0.0}
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.5):
            peaks["private"] = max(peaks["private"], sum(private_bytes()) / 1e9)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()
        peaks["spilled"] = spilled_bytes() / 1e9


def private_bytes() -> Iterator[int]:
    """Of this process and all below it: resident memory without what is shared, as the object store is."""
    own = psutil.Process()
    for process in [own, *own.children(recursive=True)]:
        try:
            found = process.memory_info()
        except psutil.NoSuchProcess:
            continue
        yield found.rss - found.shared


def spilled_bytes() -> int:
    """What this cluster's object store has written to the disk since it began."""
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    reply = get_memory_info_reply(get_state_from_address(ray.get_runtime_context().gcs_address))
    return int(reply.store_stats.spilled_bytes_total)


if __name__ == "__main__":
    run_command(main)
