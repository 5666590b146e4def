"""Measure how fast training runs, beside what it is compared with, and print one table.

    python benchmarks/train_throughput.py [--repeats N] [--config FILE.yaml] [--section.key VALUE ...]

Without --config it takes configs/ytfaces.yaml; where that set is absent it makes the synthetic one and says so. What is
compared is measured in turns, and the figures are medians over the turns. See benchmarks/README.md for what each row is.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler
from training_step import fixed_step

from fkp.config import Config, DataConfig, config_from_args
from fkp.data.crop_cache import open_cache
from fkp.data.datamodule import FacesDataModule
from fkp.data.labels import CSV_FILES, load_labels, root_of
from fkp.errors import FkpError, run_command
from fkp.model import seed_recipe
from fkp.train import loop
from fkp.train.pipeline import with_absolute_paths
from fkp.train.precision import precision
from fkp.train.run_dir import open_run
from fkp.vision.image import read_image

_DEFAULT_CONFIG = Path(__file__).parent.parent / "configs" / "ytfaces.yaml"

#: Epochs of a fit; the first one warms up and is not counted.
_EPOCHS = 2
#: Steps of the loop, and then of the fixed batch, in one turn.
_STEPS_A_TURN = 4
#: Least number of such turns.
_TURNS = 9
#: Batches of the seed's loader that are ready or in work before the clock starts, and batches timed.
_SEED_HEAD, _SEED_BATCHES = 6, 20
#: On each side of the comparison of input paths.
_PROCESSES = 2


@dataclass(frozen=True)
class Row:
    """One line of the table; the ratio is `measured` over `reference`, and without a reference the value itself is judged."""

    name: str
    unit: str
    measured: list[float]
    reference: list[float] | None
    asked: str

    def cells(self) -> list[str]:
        """The line as it is printed."""
        value = statistics.median(self.measured)
        against = None if self.reference is None else statistics.median(self.reference)
        judged = value if against is None else value / against
        sign, limit = self.asked.split() if self.asked else ("", "")
        held = "" if not sign else "yes" if (judged >= float(limit) if sign == ">=" else judged < float(limit)) else "NO"
        ratio = "" if against is None else f"{judged:.3f}"
        return [self.name, self.unit, _spread(self.measured), _spread(self.reference or []), ratio, self.asked, held]


def main() -> None:
    """Measure everything and print the table."""
    repeats, config = _read_arguments(sys.argv[1:])
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fkp-benchmark-") as scratch:
        config = prepare(config, Path(scratch))
        loop_row = loop_against_step(config)
        input_rows = input_path(config, 2 * repeats + 1)
        fits = fit_in_turns(config, repeats)
        rows = [loop_row, *ray_rows(fits), *input_rows, *memory_rows(fits)]
    print_table(rows)
    print(f"\n{time.monotonic() - began:.0f} s in all. Values: median (least to most) over the turns.")


def _read_arguments(argv: list[str]) -> tuple[int, Config]:
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--repeats", type=int, default=2)
    known, rest = own.parse_known_args(argv)
    if not any(argument.split("=")[0] == "--config" for argument in rest):
        rest = ["--config", str(_DEFAULT_CONFIG), *rest]
    about = "Measure training speed. Also: --repeats N, how often Ray Train and the plain Trainer take turns (2)."
    return max(1, known.repeats), config_from_args(rest, "benchmarks/train_throughput.py", about)


def prepare(config: Config, scratch: Path) -> Config:
    """Fix what the comparison needs, find or make the faces, and decode them."""
    changes: dict[str, Any] = {
        "train": {"epochs": _EPOCHS, "keep_checkpoints": _EPOCHS, "max_minutes": None, "early_stop_epochs": None},
        "scale": {"num_workers": 1, "cpus_per_worker": 1, "use_gpu": "no"},
        "track": {"storage": str(scratch / "runs"), "run_name": None},
    }
    if config.data.cache_dir == DataConfig().cache_dir:
        changes["data"] = {"cache_dir": str(scratch / "cache")}
    config = with_absolute_paths(config.updated(changes))
    csv = root_of(config.data) / f"{CSV_FILES[0]}_frames_keypoints.csv"
    absent = config.data.source == "ytfaces" and not csv.is_file()
    if absent:
        print(f"The YouTube-Faces set is not at {config.data.root}: SYNTHETIC faces instead. Name its folder with --data.root.")
        config = config.updated({"data": {"source": "synthetic", "root": str(scratch / "synthetic")}})
    if config.data.source == "synthetic":
        from fkp.data.synthetic.render import write_set

        write_set(root_of(config.data), config.data.synthetic_faces, config.data.synthetic_seed)
    cache, train = open_cache(config), load_labels(config.data).rows("train", config.data)
    model = f"{config.model.arch} {config.model.width}x{config.model.depth}, {config.model.head} head"
    print(
        f"{config.data.source} faces: {len(train)} train, {len(cache.val.rows)} validate; {model}, {config.input.size_px} px, "
        f"{precision(config, False)}, batch {config.optim.global_batch_size}, one thread a worker"
    )
    return config


def _faces(config: Config) -> FacesDataModule:
    """Training data outside a fit: its loader asks a Trainer which share is its own."""
    data = FacesDataModule(config, config.optim.global_batch_size)
    data.trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    data.setup("fit")
    return data


# --- 1. The loop against its own step ---------------------------------------------------------------------------------


class _Turns(pl.Callback):
    """Lets a few steps of the loop and a few steps on one fixed batch take turns, and times both."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.step_fixed = fixed_step(config, _faces(config))
        self.loop_s: list[float] = []
        self.fixed_s: list[float] = []
        self._steps = 0
        self._began = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._steps, self._began = 0, time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._steps += 1
        if self._steps % _STEPS_A_TURN:
            return
        between = time.perf_counter()
        for _ in range(_STEPS_A_TURN):
            self.step_fixed()
        if trainer.global_step > _STEPS_A_TURN:  # The first turn warms both up.
            self.loop_s.append((between - self._began) / _STEPS_A_TURN)
            self.fixed_s.append((time.perf_counter() - between) / _STEPS_A_TURN)
        self._began = time.perf_counter()


def loop_against_step(config: Config) -> Row:
    """Images/s of the steps of a fit without Ray, with everything between them, and of the same step alone."""
    batch = config.optim.global_batch_size
    steps = len(load_labels(config.data).rows("train", config.data)) // batch
    if steps < _STEPS_A_TURN:
        raise FkpError(f"{steps} steps an epoch are too few to time: it takes {_STEPS_A_TURN * batch} training faces or a smaller batch")
    epochs = math.ceil(_TURNS / (steps // _STEPS_A_TURN))
    loop_config = config.updated({"train": {"epochs": epochs}})
    turns = _Turns(loop_config)
    loop.fit(loop_config, world_size=1, report=lambda _: None, callbacks=[turns], checkpoint=None, on_gpu=False)
    loop_rate, fixed_rate = ([batch / s for s in seconds] for seconds in (turns.loop_s, turns.fixed_s))
    return Row("1 full loop : same step on one fixed batch", "images/s", loop_rate, fixed_rate, ">= 0.90")


# --- 2, 3, 5. Ray Train -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Memory:
    """Of one process, in GiB: highest resident size ever, and its two parts when last seen."""

    peak: float = 0.0
    anonymous: float = 0.0
    file_backed: float = 0.0


@dataclass(frozen=True)
class Fit:
    """What a fit was seen to do from outside.

    Attributes:
        images_per_s: Training images over the time of whole epochs after the first: steps, validation, checkpoint.
        steps_images_per_s: The same over the steps alone, as the training reports it.
        startup_s: From the call to the first report of a step (Ray's is polled once a second).
        memory: The fullest worker's.
    """

    images_per_s: float
    steps_images_per_s: float
    startup_s: float
    memory: Memory


def fit_in_turns(config: Config, repeats: int) -> dict[str, list[Fit]]:
    """Fit with a plain Trainer in this process and with Ray Train's one and two workers, in turns."""
    import ray

    batch = config.optim.global_batch_size
    layouts = {"plain": (0, batch), "one": (1, batch), "two": (2, batch), "two full": (2, 2 * batch)}
    seen: dict[str, list[Fit]] = {name: [] for name in layouts}
    began = time.monotonic()
    # One cluster for all fits, as wide as the widest needs; fit_on_ray joins it.
    ray.init(address="local", num_cpus=2, dashboard_host="127.0.0.1", logging_level="WARNING", log_to_driver=False)
    cluster_s = time.monotonic() - began
    try:
        for repeat, (name, (workers, size)) in itertools.product(range(repeats), layouts.items()):
            if name == "two full" and repeat:  # Shown, not judged: once is enough.
                continue
            print(f"  turn {repeat + 1} of {repeats}: {name}", file=sys.stderr)
            changes = {
                "scale": {"num_workers": workers},
                "optim": {"global_batch_size": size},
                "track": {"run_name": f"{name[:3]}{size}-{repeat}"},
            }
            seen[name].append(fit(config.updated(changes)))
    finally:
        ray.shutdown()
    startup = {name: statistics.median(f.startup_s for f in fits) for name, fits in seen.items()}
    print(
        f"Start-up, not part of any rate: cluster {cluster_s:.0f} s, then until the first step plain {startup['plain']:.1f} s, "
        f"Ray Train {startup['one']:.0f} s with 1 worker and {startup['two']:.0f} s with 2"
    )
    return seen


def ray_rows(seen: Mapping[str, list[Fit]]) -> list[Row]:
    """Ray Train against the plain Trainer, and two workers against one."""
    whole = {name: [f.images_per_s for f in fits] for name, fits in seen.items()}
    steps = {name: [f.steps_images_per_s for f in fits] for name, fits in seen.items()}
    return [
        Row("2 Ray Train 1 worker : plain Trainer", "images/s", whole["one"], whole["plain"], ">= 0.95"),
        Row("  the same, steps without validation and checkpoint", "images/s", steps["one"], steps["plain"], ""),
        Row("3 Ray Train 2 workers : 1 worker, same global batch", "images/s", whole["two"], whole["one"], ">= 1.70"),
        Row("  the same, steps without validation and checkpoint", "images/s", steps["two"], steps["one"], ""),
        Row("  2 workers : 1 worker, same batch per worker", "images/s", whole["two full"], whole["one"], ""),
    ]


def memory_rows(seen: Mapping[str, list[Fit]]) -> list[Row]:
    """The fullest of the Ray Train workers."""
    memory = max((found.memory for name in ("one", "two") for found in seen[name]), key=lambda memory: memory.peak)
    return [
        Row("5 peak resident memory of a Ray Train worker", "GiB", [memory.peak], None, "< 1.50"),
        Row("  of it anonymous", "GiB", [memory.anonymous], None, ""),
        Row("  of it file-backed: libraries, shared crops", "GiB", [memory.file_backed], None, ""),
    ]


def fit(config: Config) -> Fit:
    """Train with the project's own code and watch from outside."""
    reports: dict[int, float] = {}
    memory = Memory()
    startup_s = 0.0
    began = time.monotonic()

    def show(progress: Mapping[str, float]) -> None:
        nonlocal memory, startup_s
        startup_s = startup_s or time.monotonic() - began
        reports[int(progress["epoch"])] = progress["images_per_s"]  # The last of an epoch covers most of its steps.
        memory = max([memory, *worker_memory()], key=lambda found: found.peak)

    with open_run(config) as run:
        if config.scale.num_workers:
            from fkp.train.ray_backend import fit_on_ray

            fit_on_ray(run, lambda *figures: None, show)
            saved = run.folder.glob("checkpoint_*/*.ckpt")
        else:
            loop.fit_in_process(config, run.folder / "checkpoints", show)
            saved = run.folder.glob("checkpoints/best-*.ckpt")
        ends = sorted(path.stat().st_mtime for path in saved)
    if len(ends) != _EPOCHS:
        raise RuntimeError(f"expected a checkpoint of each of {_EPOCHS} epochs, found {len(ends)}")
    faces = len(load_labels(config.data).rows("train", config.data))
    if config.data.backend == "memory":  # It leaves out what does not fill a batch.
        faces -= faces % config.optim.global_batch_size
    later = [rate for epoch, rate in reports.items() if epoch > 0]
    return Fit(faces * (_EPOCHS - 1) / (ends[-1] - ends[0]), statistics.median(later), startup_s, memory)


def worker_memory() -> list[Memory]:
    """Memory of the Ray Train workers below this process, from /proc; an empty list where there is none."""
    parents: dict[int, int] = {}
    workers = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if b"RayTrainWorker" in (folder / "cmdline").read_bytes():
                workers.append(int(folder.name))
        except OSError:  # It ended meanwhile.
            continue
    return [found for pid in workers if os.getpid() in _ancestors(pid, parents) for found in _memory(pid)]


def _ancestors(pid: int, parents: Mapping[int, int]) -> Iterator[int]:
    while pid in parents:
        pid = parents[pid]
        yield pid


def _memory(pid: int) -> Iterator[Memory]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return
    kib = {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines) if rest.endswith(" kB")}
    yield Memory(kib["VmHWM"] / 2**20, kib["RssAnon"] / 2**20, (kib["RssFile"] + kib["RssShmem"]) / 2**20)


# --- 4. The input path ------------------------------------------------------------------------------------------------


class _SeedFrames(Dataset[Any]):
    """The student project's input: decode the frame, rescale, crop, make it grey, one face at a time."""

    def __init__(self, config: Config) -> None:
        self.catalog = load_labels(config.data)
        self.rows = self.catalog.rows("train", config.data)
        self.recipe = seed_recipe.Compose(
            [seed_recipe.Rescale(250), seed_recipe.RandomCrop(224), seed_recipe.Normalize(), seed_recipe.ToTensor()]
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> seed_recipe.Sample:
        row = int(self.rows[index])
        return self.recipe({"image": read_image(self.catalog.path(row)), "keypoints": self.catalog.points_raw_px[row]})


def input_path(config: Config, turns: int) -> list[Row]:
    """Samples/s without a model: ours and the seed's, each in two processes of one thread."""
    plain = {"rotate_deg": 0.0, "scale": 0.0, "light": 0.0, "noise": 0.0, "blur": 0.0, "downscale": 0.0, "jpeg": 0.0, "occlude": 0.0}
    shifted = config.updated({"augment": {**plain, "flip": 0.0}})
    shift_rate, full_rate, load_rate, seed_rate = [], [], [], []
    with multiprocessing.get_context("spawn").Pool(_PROCESSES) as pool:
        for _ in range(turns):
            for rates, asked, augmented in ((shift_rate, shifted, True), (full_rate, config, True), (load_rate, config, False)):
                rates.append(sum(pool.starmap(_our_rate, [(asked, augmented)] * _PROCESSES, chunksize=1)))
            seed_rate.append(_seed_rate(config))
    return [
        Row("4 load + random shift, the seed's own work : seed's decode, rescale, crop", "samples/s", shift_rate, seed_rate, ">= 10.0"),
        Row("  load + all augmentation, much more work", "samples/s", full_rate, seed_rate, ""),
        Row("  load only", "samples/s", load_rate, seed_rate, ""),
    ]


def _our_rate(config: Config, augmented: bool) -> float:
    """Of one process, as a training worker prepares its batches."""
    torch.set_num_threads(1)
    data = _faces(config)
    generator = torch.Generator().manual_seed(0)
    batches = (
        data.augment(*batch, generator) if augmented else batch for batch in itertools.chain(*(data.train_dataloader() for _ in range(3)))
    )
    next(batches)
    return _rate(batches)


def _seed_rate(config: Config) -> float:
    frames, batch_size = _SeedFrames(config), config.optim.global_batch_size
    order = RandomSampler(frames, replacement=True, num_samples=(_SEED_HEAD + _SEED_BATCHES) * batch_size)
    loader = DataLoader(frames, batch_size, sampler=order, num_workers=_PROCESSES)
    batches = (tuple(batch.values()) for batch in loader)
    # The processes start, and what they fetched ahead is taken, before the clock runs.
    for _ in itertools.islice(batches, _SEED_HEAD):
        pass
    return _rate(itertools.islice(batches, _SEED_BATCHES))


def _rate(batches: Iterable[Any]) -> float:
    began = time.perf_counter()
    samples = sum(len(batch[0]) for batch in batches)
    return samples / (time.perf_counter() - began)


# --- The table --------------------------------------------------------------------------------------------------------


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    middle, least, most = (f"{v:.2f}" if v < 100 else f"{v:.0f}" for v in (float(np.median(values)), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({least} to {most})"


def print_table(rows: list[Row]) -> None:
    """Print rows as one table."""
    table = [["row", "unit", "measured", "reference", "ratio", "asked", "holds"]]
    table += [row.cells() for row in rows]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    print()
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    run_command(main)
