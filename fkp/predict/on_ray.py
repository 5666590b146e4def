"""Parts of a table on a Ray cluster: Ray Data maps them over actors that hold a predictor each."""

from __future__ import annotations

import os
import platform
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fkp.cluster import ray_session  # isort: skip  # Before ray: it sets what ray reads when it is imported.

# Read when ray.data is imported: its notes on each dataset would break the progress bar, and what it logs as an error it raises too.
os.environ.setdefault("RAY_DATA_LOG_LEVEL", "CRITICAL")

import cv2
import pyarrow as pa
import ray
from ray.util.annotations import RayDeprecationWarning
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fkp.bundle import SUMS, Bundle
from fkp.errors import FkpError
from fkp.predict.predictor import Predictor
from fkp.predict.rows import rows_of

if TYPE_CHECKING:
    from fkp.predict.rows import Chunk

#: How often a part is tried again whose actor's process died: a machine may go, but an image that ends every process
#: that opens it must not be tried for ever, which is Ray Data's default.
_RETRIES = 3


def tables(
    bundle: Bundle,
    parts: Sequence[Chunk],
    actors: int | None = None,
    detector: str | None = None,
    min_quality: float | None = None,
) -> Iterator[pa.Table]:
    """Work on parts with the cluster's cores and yield them as they are done, in any order.

    Ray Data starts new parts only while the finished ones are taken, so that neither the object store nor this process
    fills up; an actor holds one decoded image at a time. Images and model are read by the machines themselves.

    Args:
        bundle: The model; each actor opens it at the same path.
        parts: What to do.
        actors: How many at most work, each on one core; without it as many as the cluster has cores.
        detector: What finds the faces, see `vision.detect.open_detector`.
        min_quality: Of the faces, see `Predictor`.

    Yields:
        Rows of `rows.SCHEMA`, one table a part.

    Raises:
        FkpError: The cluster cannot be reached or is too small, a machine of it does not see the files, or images end
            every process that opens them.
    """
    with ray_session.connect():
        cores = int(ray.cluster_resources().get("CPU", 0))
        if cores < (actors or 1):
            raise FkpError(f"{actors or 1} actors need a core each and the cluster has {cores}: lower --actors")
        _check_machines([bundle.path / SUMS, *_first_there(parts)])
        yield from _map(bundle, parts, min(actors or cores, len(parts)), detector, min_quality)


class _Annotator:
    """What an actor does; its one core is for this alone."""

    def __init__(self, path: str, digest: str, detector: str | None, min_quality: float | None, root: str) -> None:
        cv2.setNumThreads(1)
        self._predictor = Predictor(path, detector=detector, min_quality=min_quality)
        _ = self._predictor.detector  # One that is missing is one error, not one an image.
        self._root = root
        if self._predictor.bundle.digest != digest:
            raise FkpError(f"{platform.node()} has another model at {path}: copy the bundle there again")

    def __call__(self, part: pa.Table) -> pa.Table:
        (row,) = part.to_pylist()
        return rows_of(self._predictor, self._root, [os.fsdecode(path) for path in row["paths"]], row["first"])


def _map(bundle: Bundle, parts: Sequence[Chunk], actors: int, detector: str | None, min_quality: float | None) -> Iterator[pa.Table]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # One bar counts the images, also those of an earlier run.
    context.print_on_execution_start = False
    blocks = [pa.table({"first": [part.first], "paths": [[os.fsencode(path) for path in part.paths]]}) for part in parts]
    with warnings.catch_warnings():
        # The one way to bound the retries; Ray 2.60 announces its end without naming another.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        done = ray.data.from_arrow(blocks).map_batches(
            _Annotator,
            batch_size=None,  # A block, that is a part, at a time.
            batch_format="pyarrow",
            # Where others use the cluster it begins with one actor and takes what becomes free.
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),
            num_cpus=1,
            max_task_retries=_RETRIES,
            fn_constructor_args=(str(bundle.path.resolve()), bundle.digest, detector, min_quality, str(Path.cwd())),
        )
    try:
        yield from done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
    except ray.exceptions.RayActorError as error:
        told = re.findall(rf"{FkpError.__module__}\.{FkpError.__name__}: (.+)", str(error))  # By an actor's first step.
        if not told and "creation task" in str(error):
            raise
        died = f"processes died {_RETRIES + 1} times over one part: give them memory or take out its images; finished parts are kept"
        raise FkpError(told[0] if told else died) from error


def _first_there(parts: Sequence[Chunk]) -> list[Path]:
    """An image by which a machine can tell whether it sees the images at all."""
    return next(([Path(path).absolute()] for part in parts for path in part.paths if Path(path).exists()), [])


def _check_machines(files: Sequence[Path]) -> None:
    """Ask each other machine of the cluster whether it sees some files.

    Raises:
        FkpError: One does not.
    """
    asked = ray.remote(num_cpus=0)(_unseen)
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU") and node["NodeManagerHostname"] != platform.node():
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            for path in ray.get(asked.options(scheduling_strategy=there).remote([str(file.absolute()) for file in files])):
                raise FkpError(
                    f"{node['NodeManagerHostname']} does not see {path}: the machines of a cluster read images and model"
                    " themselves, so put both where all of them mount the same storage at the same place"
                )


def _unseen(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if not Path(path).exists()]
