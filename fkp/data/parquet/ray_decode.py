"""Ray Data as what decodes a streamed set: tasks on any core of the cluster, blocks through the object store.

Every worker runs a pipeline of its own, over its own share of an epoch (`fkp.data.parquet.stream`), within its own part of the
cluster's object store: the workers' order cannot change with who is faster, and there is no process that all wait for.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence

# Read when ray.data is imported: what it logs as an error it raises too.
os.environ.setdefault("RAY_DATA_LOG_LEVEL", "CRITICAL")

from fkp.cluster import ray_session  # isort: skip  # Before ray: it sets what ray reads when it is imported.

import cv2
import numpy as np
import ray
import ray.data
from ray.data import ExecutionResources, TaskPoolStrategy

from fkp.data.parquet.stream import Decode, DecodeAll, Faces
from fkp.errors import FkpError

__all__ = ["on_ray", "ray_session"]

#: Part of the object store that all pipelines together may fill; the rest is for what they hand over, and for everybody else.
_STORE_FRACTION = 0.5


def on_ray(decoders: int, pipelines: int) -> DecodeAll:
    """Who decodes for one worker.

    Args:
        decoders: How many cores it has for that.
        pipelines: How many workers share the cluster's object store.
    """
    return functools.partial(_run, decoders, pipelines)


def _run(decoders: int, pipelines: int, decode: Decode, pieces: Sequence[np.ndarray]) -> Iterator[Faces]:
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    options = context.execution_options
    options.preserve_order = True
    store = ray.cluster_resources()["object_store_memory"] * _STORE_FRACTION / pipelines
    options.resource_limits = ExecutionResources.for_limits(cpu=decoders, object_store_memory=store)
    with ray.data.DataContext.current(context):
        blocks = ray.data.range(len(pieces), override_num_blocks=len(pieces)).map_batches(
            functools.partial(_decode, decode, list(pieces)),
            batch_size=None,
            batch_format="numpy",
            num_cpus=1,
            compute=TaskPoolStrategy(size=decoders),
        )
    try:
        for block in blocks.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=1):
            yield block["crops"], block["points"]
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, FkpError):
            raise error.cause from error
        raise


def _decode(decode: Decode, pieces: Sequence[np.ndarray], block: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a task does; its one core is for this alone."""
    cv2.setNumThreads(1)
    (piece,) = block["id"]
    crops, points = decode(pieces[piece])
    return {"crops": crops, "points": points}
