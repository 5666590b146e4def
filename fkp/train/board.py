"""What the first worker tells the driver: where the run stands, and the figures for the record.

The worker may be on another host than the driver, and MLflow's server may listen where only the driver reaches it. So the
figures go through an actor beside the driver, and the driver writes the record: a server that is gone for minutes delays
it, while the training goes on.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from fkp.train import cluster  # isort: skip  # Before ray: it sets what ray reads when it is imported.

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fkp.errors import FkpError

#: Progress is told and the record is written this often.
_EVERY_S = 1.0

_LOG = logging.getLogger(__name__)

#: One step's figures: the step, when they were found in milliseconds since 1970, their values by name.
Figures = tuple[int, int, dict[str, float]]
WriteFigures = Callable[[int, int, Mapping[str, float]], None]


class _Board:
    """The actor."""

    def __init__(self) -> None:
        self._progress: dict[str, float] | None = None
        self._figures: list[Figures] = []

    def put(self, progress: dict[str, float]) -> None:
        self._progress = progress

    def get(self) -> dict[str, float] | None:
        return self._progress

    def log(self, figures: Figures) -> None:
        self._figures.append(figures)

    def take(self) -> list[Figures]:
        taken, self._figures = self._figures, []
        return taken


class BoardLogger(Logger):
    """Lightning's logger of a worker: hands figures to the board.

    Args:
        board: The actor.
    """

    def __init__(self, board: Any) -> None:
        super().__init__()
        self._board = board

    @property
    def name(self) -> None:
        return None

    @property
    def version(self) -> None:
        return None

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The driver has logged the settings."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = {name: float(value) for name, value in metrics.items()}
        # Waits until the board has them: a worker that is lost in the next moment has lost none.
        ray.get(self._board.log.remote((int(step or 0), int(time.time() * 1000), values)))


def find(name: str) -> Any:
    """The board of a run, in a worker."""
    return ray.get_actor(name, namespace=cluster.NAMESPACE)


@contextlib.contextmanager
def standing(write: WriteFigures, show: Callable[[Mapping[str, float]], None]) -> Iterator[str]:
    """Keep a board, and read it, while the block runs.

    Args:
        write: Writes one step's figures into the record. An FkpError means that the record cannot be reached now: the
            figures are kept and written again.
        show: Called with the newest progress.

    Yields:
        The board's name.

    Raises:
        FkpError: At the end of the block the record could still not be written.
    """
    name = f"board-{uuid.uuid4().hex}"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board: Any = ray.remote(num_cpus=0)(_Board).options(name=name, namespace=cluster.NAMESPACE, scheduling_strategy=here).remote()
    done = threading.Event()
    scribe = _Scribe(board, write, done)
    threads = [scribe, threading.Thread(target=_show, args=(board, show, done), daemon=True)]
    for thread in threads:
        thread.start()
    try:
        yield name
    finally:
        done.set()
        for thread in threads:
            thread.join()
        ray.kill(board)
    if scribe.error is not None:
        raise scribe.error


def _show(board: Any, show: Callable[[Mapping[str, float]], None], done: threading.Event) -> None:
    while not done.wait(_EVERY_S):
        progress = ray.get(board.get.remote())
        if progress is not None:
            show(progress)


class _Scribe(threading.Thread):
    """Writes what is on the board into the record, in order, each figure once.

    Attributes:
        error: Why the last figures could not be written.
    """

    def __init__(self, board: Any, write: WriteFigures, done: threading.Event) -> None:
        super().__init__(daemon=True)
        self.error: Exception | None = None
        self._board = board
        self._write = write
        self._done = done

    def run(self) -> None:
        waiting: list[Figures] = []
        last = False
        while not last:
            last = self._done.wait(_EVERY_S)
            waiting += ray.get(self._board.take.remote())
            try:
                while waiting:
                    self._write(*waiting[0])
                    del waiting[0]
            except FkpError as error:
                if self.error is None:
                    _LOG.warning("%s; training goes on, and its figures are written later", error)
                self.error = error
            else:
                self.error = None
