"""What more workers bring: images/s measured, a model of a step's time fitted to them, and what it predicts for many GPUs.

python benchmarks/scaling.py [--workers 1 2 4] [--batches 32 128] [--gpu-images-per-s N] [--section.key VALUE ...]

Trains `configs/champion.yaml` on synthetic faces with Ray Train: as many workers of one core as each number says, at each global
batch. RAY_ADDRESS names a cluster of several hosts; otherwise one is started here, with as many declared cores as the most
workers want, so that more workers than cores are measured oversubscribed. The model of a step of n workers at global batch B:

    t(n, B) = B / (rate * min(n, cores)) + a + [n > 1] * (b + c * 2 (n - 1) / n * bytes)

a: what a step costs whatever its batch; b: latency of an all-reduce; c: seconds a byte; bytes: those of all gradients in float32,
of which a ring all-reduce sends 2 (n - 1) / n from each worker (Patarasuk and Yuan, 2009). Non-negative least squares.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from fkp.config import Config, config_from_args
from fkp.errors import FkpError, run_command
from fkp.model.network import Network
from fkp.train.pipeline import make_synthetic, with_absolute_paths
from fkp.train.run_dir import open_run

_DEFAULT_CONFIG = Path(__file__).parent.parent / "configs" / "champion.yaml"
_PREDICTED = (8, 32, 128)


@dataclass(frozen=True)
class Point:
    """One measurement: workers, faces a step over all of them, faces a second."""

    workers: int
    batch: int
    images_per_s: float


@dataclass(frozen=True)
class StepTime:
    """The fitted model.

    Attributes:
        rate: Faces/s of one core, a step's own cost left out.
        step_s, latency_s, byte_s: a, b and c.
    """

    rate: float
    step_s: float
    latency_s: float
    byte_s: float

    def seconds(self, workers: int, batch: int, cores: int, gradient_bytes: float) -> float:
        """t(n, B)."""
        sent = 2 * (workers - 1) / workers * gradient_bytes
        return batch / (self.rate * min(workers, cores)) + self.step_s + (workers > 1) * (self.latency_s + self.byte_s * sent)


def main() -> None:
    """Print what was measured, what was fitted, and what follows from it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="Other flags are those of `fkp train`."
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128], help="global batches")
    parser.add_argument("--gpu-images-per-s", type=float, default=8000.0, help="of one GPU: an assumption (default: %(default)s)")
    parser.add_argument("--gpu-batch", type=int, default=128, help="faces a step of one GPU (default: %(default)s)")
    parser.add_argument("--network-gbit", type=float, default=50.0, help="between machines: an assumption (default: %(default)s)")
    parser.add_argument("--latency-us", type=float, default=30.0, help="of one hop between machines: an assumption (default: %(default)s)")
    arguments, rest = parser.parse_known_args()
    if min(arguments.workers) != 1 or max(arguments.workers) == 1:
        raise FkpError("--workers must name 1, which all is compared with, and at least one number more")
    given = config_from_args(["--config", str(_DEFAULT_CONFIG), *rest], "scaling.py", "")
    parameters = sum(parameter.numel() for parameter in Network(given).parameters())
    gradient_bytes = 4.0 * parameters
    points, cores, hosts = measure(given, arguments.workers, arguments.batches)
    fitted = fit(points, cores, gradient_bytes)
    print(
        f"{given.model.arch} of width {given.model.width}, {parameters / 1e6:.2f} M parameters; {hosts} hosts, {cores} cores for workers\n"
    )
    print("| workers | global batch | images/s | of 1 worker | ms a step | fitted | MB each sends |\n|---|---|---|---|---|---|---|")
    for point in points:
        (alone,) = (other.images_per_s for other in points if (other.workers, other.batch) == (1, point.batch))
        step_ms = 1000 * point.batch / point.images_per_s
        fitted_ms = 1000 * fitted.seconds(point.workers, point.batch, cores, gradient_bytes)
        sent_mb = 2 * (point.workers - 1) / point.workers * gradient_bytes / 1e6
        print(
            f"| {point.workers}{' (oversubscribed)' if point.workers > cores else ''} | {point.batch} | {point.images_per_s:.0f} "
            f"| {point.images_per_s / alone:.2f} | {step_ms:.0f} | {fitted_ms:.0f} | {sent_mb:.1f} |"
        )
    print(
        f"\nfitted: {fitted.rate:.0f} images/s a core, {1000 * fitted.step_s:.1f} ms a step, {1000 * fitted.latency_s:.1f} ms "
        f"and {1e9 * fitted.byte_s:.2f} ns a byte for an all-reduce\n"
    )
    predict(arguments, gradient_bytes)


def measure(given: Config, workers: list[int], batches: list[int]) -> tuple[list[Point], int, int]:
    """Train with each number of workers at each batch.

    Returns:
        The points, the cores that workers have in truth, and the hosts they are on.
    """
    from fkp.cluster import ray_session  # isort: skip  # Before ray: it sets what ray reads when it is imported.
    import ray

    address = os.environ.get("RAY_ADDRESS")
    declared = {} if address else {"num_cpus": max(workers)}
    ray.init(address or "local", namespace=ray_session.NAMESPACE, log_to_driver=False, logging_level="WARNING", **declared)
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        cores = int(sum(node["CPU"] for node in nodes)) if address else os.cpu_count() or 1
        points = []
        for batch in batches:
            for number in workers:
                print(f"  {number} workers, global batch {batch}", file=sys.stderr)
                points.append(Point(number, batch, _train(given, number, batch)))
    finally:
        ray.shutdown()
    return points, cores, len(nodes)


def _train(given: Config, workers: int, batch: int) -> float:
    """Images/s of the steps of the second epoch; the first one warms up."""
    from fkp.train.ray_backend import fit_on_ray

    name = f"scaling-{workers}-{batch}-{int(time.time())}"
    with tempfile.TemporaryDirectory() as folder:
        storage = folder if given.track.storage == "runs" else given.track.storage  # Several hosts need one that they share.
        changes = {
            "data": {"source": "synthetic", "extra": []},
            "scale": {"num_workers": workers, "cpus_per_worker": 1},
            "optim": {"global_batch_size": batch},
            "train": {"epochs": 2},
            "track": {"storage": storage, "run_name": name},
        }
        config = with_absolute_paths(given.updated(changes))
        make_synthetic(config)
        seen: list[float] = []

        def show(progress: Mapping[str, float]) -> None:
            if progress["epoch"] >= 1:
                seen.append(progress["images_per_s"])

        with open_run(config) as run:
            fit_on_ray(run, lambda *figures: None, show)
    return seen[-1]  # The last report of an epoch covers the most of its steps.


def fit(points: list[Point], cores: int, gradient_bytes: float) -> StepTime:
    """Fit the model to measured points, each weighted by its own time: a tenth of a step counts the same for all."""
    rows = [
        [
            point.batch / min(point.workers, cores),
            1.0,
            float(point.workers > 1),
            (point.workers > 1) * 2 * (point.workers - 1) / point.workers * gradient_bytes,
        ]
        for point in points
    ]
    seconds = np.array([point.batch / point.images_per_s for point in points])
    scaled = np.array(rows) / seconds[:, None]
    columns = np.maximum(np.abs(scaled).max(axis=0), 1e-30)  # Bytes and faces differ by powers of ten.
    found = nnls(scaled / columns, np.ones(len(points)))[0] / columns
    return StepTime(1 / max(found[0], 1e-12), *(float(value) for value in found[1:]))


def predict(arguments: argparse.Namespace, gradient_bytes: float) -> None:
    """Print the efficiency of many GPUs, with what it assumes."""
    compute_s = arguments.gpu_batch / arguments.gpu_images_per_s
    print(
        f"Predicted, not measured, and assumed: {arguments.gpu_images_per_s:.0f} images/s of one GPU, {arguments.gpu_batch} faces a step "
        f"of each, {arguments.network_gbit:g} Gbit/s and {arguments.latency_us:g} us a hop between machines, one GPU a machine, a ring of "
        "2 (n - 1) hops. Nothing overlapped is the worst case; DDP hides the all-reduce behind the backward pass (two thirds of a step)."
    )
    print("\n| GPUs | all-reduce ms | efficiency, nothing overlapped | overlapped | images/s, nothing overlapped |\n|---|---|---|---|---|")
    for number in _PREDICTED:
        hops = 2 * (number - 1)
        reduce_s = hops / number * gradient_bytes * 8 / (arguments.network_gbit * 1e9) + hops * arguments.latency_us / 1e6
        plain = compute_s / (compute_s + reduce_s)
        overlapped = compute_s / (compute_s + max(0.0, reduce_s - compute_s * 2 / 3))
        rate = number * arguments.gpu_images_per_s * plain
        print(f"| {number} | {1000 * reduce_s:.1f} | {100 * plain:.0f} % | {100 * overlapped:.0f} % | {rate:.0f} |")


if __name__ == "__main__":
    run_command(main)
