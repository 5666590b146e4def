"""One GPU: images/s of training by batch and precision, how busy the card is, and its answers beside ONNX Runtime's.

    python benchmarks/gpu.py [--config FILE.yaml] [--batches 32 128 512] [--seconds 8]

It takes torch, Lightning and what `import fkp` and its labels need; neither Ray nor MLflow, no set and no network. The faces are six of
docs/images/sfhq, over and over, labelled by the shipped model: how fast a step is does not depend on them. Under eight minutes.

- the loop: steps of `fkp.train.loop.fit` with loader, transfer, augmentation on the card and callbacks, without validation
- the step: forward, backward, clipping, optimiser and averaging on one batch that lies on the card
- busy: the part of the time in which a kernel ran, by NVML, while the loop ran; memory: the most that torch held
- fp32 lets convolutions use TF32, as torch does unless told otherwise

The shipped model in torch (`predict.torch_session`) is compared with ONNX Runtime's answers to the same crops: its file model.onnx computes
in 8 bits. Without a GPU there is nothing to measure: it says so and ends well.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from training_step import fixed_step

from fkp.config import Config, build_config, read_yaml
from fkp.data.crop_cache import CropCache, CropSet
from fkp.data.datamodule import FacesDataModule
from fkp.data.face_crop import crop_face
from fkp.errors import run_command
from fkp.predict import Predictor
from fkp.predict.torch_session import TorchSession
from fkp.train import loop
from fkp.vision.crop import box_of_points
from fkp.vision.image import read_image

REPO = Path(__file__).resolve().parents[1]
FACES = sorted((REPO / "docs/images/sfhq").glob("*.jpg"))
#: Faces of an epoch, but at least so many batches.
_FACES, _LEAST_BATCHES = 4096, 8
#: Steps before the clock runs: the card's libraries choose their kernels.
_WARM = {"cuda": 10, "cpu": 1}
#: The most that the points of the two may differ on average, crop pixels of 128.
_MOST_PX = 0.25


def main(argv: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=str(REPO / "configs/champion.yaml"), metavar="FILE", help="whose training is measured")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 512], metavar="N", help="faces a step (default: 32 128 512)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each row and way (default: %(default)s)")
    parser.add_argument(
        "--crops", type=int, nargs="+", default=[1, 16, 128, 512], metavar="N", help="answered at once (default: 1 16 128 512)"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("torch finds no GPU here: nothing was measured.")
        return
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    began = time.monotonic()
    config = build_config(read_yaml(arguments.config), {"train.epochs": 100_000, "scale.num_workers": 0})
    model, name = config.model, torch.cuda.get_device_name() if arguments.device == "cuda" else "this processor"
    print(f"{name}, torch {torch.__version__}; {model.arch} {model.width}x{model.depth}, {config.input.size_px} px")
    print_training(config, arguments.batches, arguments.seconds, arguments.device)
    print_answers(arguments.crops, arguments.seconds / 4, arguments.device)
    print(f"{time.monotonic() - began:.0f} s in all")


# --- Training ---------------------------------------------------------------------------------------------------------


def print_training(config: Config, batches: Sequence[int], seconds: float, device: str) -> None:
    """A row for each batch and precision."""
    print(f"\n{'training, images/s':20}{'the loop':>10}{'the step':>10}{'ratio':>8}{'busy':>8}{'memory':>12}")
    for batch in batches:
        for precision in ("fp32", "bf16"):
            run = config.updated({"train.precision": precision, "optim.global_batch_size": batch})
            cache = faces_of(run, max(_FACES if device == "cuda" else 0, _LEAST_BATCHES * batch))
            with _Card(device) as card:
                looped = loop_rate(run, cache, seconds, device)
            stepped = step_rate(run, cache, seconds / 2, device)
            cells = f"{looped:>10.0f}{stepped:>10.0f}{looped / stepped:>8.2f}{card.busy:>8}{card.memory:>12}"
            print(f"{f'batch {batch}, {precision}':20}{cells}", flush=True)


def faces_of(config: Config, count: int) -> CropCache:
    """So many wide crops to train on, and a few to validate on."""
    predictor = Predictor()
    pairs = {True: list[tuple[np.ndarray, np.ndarray]](), False: list[tuple[np.ndarray, np.ndarray]]()}
    for path in FACES:
        image = read_image(path)
        points_px = predictor(image)[0].points_px
        for wide, found in pairs.items():
            found.append(crop_face(config.input, image, points_px, config.scheme, wide))

    def repeated(wide: bool, count: int) -> CropSet:
        crops, points = (np.stack(each) for each in zip(*pairs[wide], strict=True))
        rows = np.arange(count) % len(crops)
        return CropSet(crops[rows], points[rows].astype(np.float32), rows)

    return CropCache(repeated(True, count), repeated(False, len(FACES)), "")


class _Clock(pl.Callback):
    """Counts images and seconds of training steps, and ends the fit when it has enough of them."""

    def __init__(self, seconds: float, device: str) -> None:
        self.images, self.taken_s = 0, 0.0
        self._seconds, self._device = seconds, device
        self._steps, self._began = 0, 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._steps += 1
        if self._steps <= _WARM[self._device]:
            self._begin()
            return
        self.images += len(batch[0])
        enough = self.taken_s + time.perf_counter() - self._began >= self._seconds
        if enough or trainer.is_last_batch:
            _finish(self._device)
            self.taken_s += time.perf_counter() - self._began
            self._begin()
            trainer.should_stop = enough

    def _begin(self) -> None:
        _finish(self._device)
        self._began = time.perf_counter()


def loop_rate(config: Config, cache: CropCache, seconds: float, device: str) -> float:
    """Images/s of the steps of a fit."""
    clock = _Clock(seconds, device)
    on_gpu = device == "cuda"
    loop.fit(config, world_size=1, report=lambda _: None, callbacks=[clock], checkpoint=None, on_gpu=on_gpu, cache=cache)
    return clock.images / clock.taken_s


def step_rate(config: Config, cache: CropCache, seconds: float, device: str) -> float:
    """Images/s of the step alone."""
    data = FacesDataModule(config, config.optim.global_batch_size, cache)
    return config.optim.global_batch_size * _rate(fixed_step(config, data, device), seconds, device)


def _rate(work: Callable[[], object], seconds: float, device: str) -> float:
    """How often a second `work` can be done; by turns of about a tenth of the time, of which the median counts."""
    for _ in range(_WARM[device]):
        work()
    rates, ends = [], time.perf_counter() + seconds
    while not rates or time.perf_counter() < ends:
        _finish(device)
        began, count = time.perf_counter(), 0
        while not count or time.perf_counter() - began < seconds / 10:
            work()
            count += 1
        _finish(device)
        rates.append(count / (time.perf_counter() - began))
    return statistics.median(rates)


def _finish(device: str) -> None:
    """Wait for the card: what is launched there runs on beside this process."""
    if device == "cuda":
        torch.cuda.synchronize()


class _Card:
    """How busy the card is and what torch holds of its memory, while the block runs; on a processor neither is told."""

    EVERY_S = 0.1

    def __init__(self, device: str) -> None:
        self.busy, self.memory = "-", "-"
        self._on, self._over = device == "cuda", threading.Event()
        self._seen: list[int] = []
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Card:
        if self._on:
            torch.cuda.reset_peak_memory_stats()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._on:
            self._over.set()
            self._thread.join()
            self.busy = f"{statistics.median(self._seen)} %" if self._seen else "?"
            self.memory = f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB"

    def _look(self) -> None:
        while not self._over.wait(self.EVERY_S):
            try:
                self._seen.append(torch.cuda.utilization())
            except Exception as error:  # NVML has many, or its package (nvidia-ml-py) is not there: then the column stays "?".
                print(f"(NVML does not tell how busy the card is: {error})")
                return


# --- Answers ----------------------------------------------------------------------------------------------------------


def print_answers(at_once: Sequence[int], seconds: float, device: str) -> None:
    """How far the points of torch are from ONNX Runtime's, and how fast both are, so many crops at once."""
    predictor, where = Predictor(), torch.device(device)
    crops = shaken_crops(predictor, max(at_once))
    told = predictor.run(crops)[0]
    print(f"\n{f'points against ONNX, px of {len(crops)} crops':42}{'mean':>8}{'95 %':>8}{'most':>8}")
    for bf16 in (False, True):
        points = Predictor(predictor.bundle, session=TorchSession(predictor.bundle, where, bf16)).run(crops)[0]
        apart = np.linalg.norm(points - told, axis=-1)
        holds = f"   asked <= {_MOST_PX}: {'yes' if apart.mean() <= _MOST_PX else 'NO'}"
        cells = f"{apart.mean():>8.3f}{np.quantile(apart, 0.95):>8.3f}{apart.max():>8.3f}"
        print(f"{f'torch on {device}, {_name(bf16)}':42}{cells}{holds}", flush=True)
    print(f"\n{'images/s, crops at once':42}" + "".join(f"{count:>10}" for count in at_once))
    cores = torch.get_num_threads()
    rows: list[tuple[str, Callable[[np.ndarray], object], str]] = [
        *((f"torch on {device}, {_name(bf16)}", TorchSession(predictor.bundle, where, bf16).run, device) for bf16 in (False, True)),
        *((f"ONNX Runtime, {count} threads", Predictor(predictor.bundle, count).run, "cpu") for count in sorted({1, cores})),
    ]
    for name, run, waits in rows:
        rates = [count * _rate(lambda n=count, r=run: r(crops[:n]), seconds / len(at_once), waits) for count in at_once]  # type: ignore[misc]
        print(f"{name:42}" + "".join(f"{rate:>10.0f}" for rate in rates), flush=True)


def shaken_crops(predictor: Predictor, count: int) -> np.ndarray:
    """(N, C, S, S) uint8 crops of faces, as boxes have them that are 3 % of their side off; N is `count` or a few more."""
    random, crops = np.random.default_rng(0), []
    for path in FACES:
        image = read_image(path)
        box = box_of_points(predictor(image)[0].points_px)
        for _ in range(-(-count // len(FACES))):
            shaken = box + random.normal(0, 0.03 * float((box[2:] - box[:2]).max()), 4)
            crops.append(predictor.crop(shaken).apply(image, predictor.config.input.channels))
    return np.stack(crops)


def _name(bf16: bool) -> str:
    return "bf16" if bf16 else "fp32"


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
