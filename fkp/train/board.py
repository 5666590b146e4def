"""What the first worker tells the driver: where the run stands, and the figures for the record.

The worker may be on another host than the driver, and MLflow's server may listen where only the driver reaches it. So the
figures go through an actor beside the driver, which keeps them in a file until the driver has written them into the
record. A server that is gone for minutes delays the record and not the training, and a driver that is lost loses no figure.
Each checkpoint holds those that were not written then, so the same is true where the driver's machine is lost.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fkp.cluster import ray_session  # isort: skip  # Before ray: it sets what ray reads when it is imported.

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fkp.common import files
from fkp.errors import FkpError
from fkp.train.figures import FiguresLogger, WriteFigures

#: Progress is told and the record is written this often.
_EVERY_S = 1.0
#: In the folder of a checkpoint: the figures that were not in the record then.
_FIGURES = "figures.json"

_LOG = logging.getLogger(__name__)

#: What `WriteFigures` takes.
Figures = tuple[int, int, dict[str, float]]


class _Board:
    """The actor.

    Args:
        path: Figures that are not written yet, a JSON line each.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._progress: dict[str, float] | None = None
        # A line that was cut off with its process had not been promised to the worker.
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True) if self._path.is_file() else []
        self._waiting: list[Figures] = [json.loads(line) for line in lines if line.endswith("\n")]
        self._keep()

    def put(self, progress: dict[str, float]) -> None:
        self._progress = progress

    def get(self) -> dict[str, float] | None:
        return self._progress

    def log(self, figures: Figures) -> None:
        self._waiting.append(figures)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")

    def waiting(self) -> list[Figures]:
        return self._waiting

    def written(self, count: int) -> None:
        """The first `count` of those that were waiting are in the record."""
        del self._waiting[:count]
        self._keep()

    def _keep(self) -> None:
        files.write(self._path, "".join(json.dumps(figures) + "\n" for figures in self._waiting))


class BoardLogger(FiguresLogger):
    """Lightning's logger of a worker: hands figures to the board.

    Args:
        board: The actor.
    """

    def __init__(self, board: Any) -> None:
        super().__init__(self._put)
        self._board = board

    def keep(self, folder: Path) -> None:
        """Write what is not in the record yet into a checkpoint's folder."""
        folder.joinpath(_FIGURES).write_text(json.dumps(ray.get(self._board.waiting.remote())), encoding="utf-8")

    def take(self, folder: Path) -> None:
        """Hand what a checkpoint's folder holds to the board. A store takes the same figure of the same moment once only."""
        path = folder / _FIGURES
        for figures in json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []:
            self._put(*figures)

    def _put(self, step: int, time_ms: int, values: Mapping[str, float]) -> None:
        # Waits until the board has kept them: a worker that is lost in the next moment has lost none.
        ray.get(self._board.log.remote((step, time_ms, dict(values))))


def find(name: str) -> Any:
    """The board of a run, in a worker."""
    return ray.get_actor(name, namespace=ray_session.NAMESPACE)


@contextlib.contextmanager
def standing(path: Path, write: WriteFigures, show: Callable[[Mapping[str, float]], None]) -> Iterator[str]:
    """Keep a board, and read it, while the block runs.

    Args:
        path: Where figures lie that are not written yet, those of an earlier process, too.
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
    options: dict[str, Any] = {"name": name, "namespace": ray_session.NAMESPACE, "scheduling_strategy": here}
    board: Any = ray.remote(num_cpus=0)(_Board).options(**options).remote(str(path.absolute()))
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
    path.unlink()


def _show(board: Any, show: Callable[[Mapping[str, float]], None], done: threading.Event) -> None:
    while not done.wait(_EVERY_S):
        progress = ray.get(board.get.remote())
        if progress is not None:
            show(progress)


class _Scribe(threading.Thread):
    """Writes what is on the board into the record, in order, each figure once.

    Attributes:
        error: Why not all figures are written.
    """

    def __init__(self, board: Any, write: WriteFigures, done: threading.Event) -> None:
        super().__init__(daemon=True)
        self.error: Exception | None = None
        self._board = board
        self._write = write
        self._done = done

    def run(self) -> None:
        try:
            self._write_until_done()
        except Exception as error:  # The thread that waits for this one raises it.
            self.error = error

    def _write_until_done(self) -> None:
        last = False
        while not last:
            last = self._done.wait(_EVERY_S)
            written = 0
            try:
                for figures in ray.get(self._board.waiting.remote()):
                    self._write(*figures)
                    written += 1
            except FkpError as error:
                if self.error is None:
                    _LOG.warning("%s; training goes on, and its figures are written later", error)
                self.error = error
            else:
                self.error = None
            if written:
                ray.get(self._board.written.remote(written))
