"""The place of a run: its name, what it was asked to do, and whether it is done.

In a folder, a lock keeps a second process away. In a bucket it does so on this machine only: there is no lock in a bucket
that all stores know, so two machines must not train the same name at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fkp.bundle import SUMS
from fkp.common import files, storage
from fkp.compat import with_todays_settings
from fkp.config import Config, build_config
from fkp.errors import FkpError

#: What a run leaves beside its bundle.
REPORT_FILES = ("report.html", "ced.png", "predictions.png")


@dataclass
class Run:
    """A run on disk.

    Attributes:
        place: `<track.storage>/<run_name>`, a folder or an address; run.json, checkpoints and the bundle lie in it.
        folder: Where this machine writes: the place itself, or what is then uploaded to it.
        config: What is trained, with the name filled in.
        mlflow_run_id: The record of the run; the same one after a resume.
        finished: Whether the bundle is written.
    """

    place: str
    folder: Path
    config: Config
    mlflow_run_id: str | None = None
    finished: bool = False

    @property
    def bundle_path(self) -> Path:
        """The trained model on this machine."""
        return self.folder / "bundle"

    @property
    def name(self) -> str:
        """The run's name, given or made."""
        assert self.config.track.run_name is not None
        return self.config.track.run_name

    def save(self) -> None:
        """Write run.json in one step."""
        state = {"config": self.config.model_dump(mode="json"), "mlflow_run_id": self.mlflow_run_id, "finished": self.finished}
        storage.write_bytes(storage.join(self.place, "run.json"), (json.dumps(state, indent=2) + "\n").encode())

    def finish(self) -> None:
        """Bring bundle and report to the run's place, and mark it as done.

        Raises:
            FkpError: The place cannot be written; the same command publishes again.
        """
        if storage.is_uri(self.place):
            # A bundle is one once its checksums are there.
            storage.upload(self.bundle_path, storage.join(self.place, self.bundle_path.name), last=SUMS)
            for name in REPORT_FILES:
                storage.write_bytes(storage.join(self.place, name), (self.folder / name).read_bytes())
        self.finished = True
        self.save()


@contextlib.contextmanager
def open_run(config: Config) -> Iterator[Run]:
    """Begin a run, or continue with the unfinished one of the same name, and hold it against a second process.

    Raises:
        FkpError: The name is finished, belongs to other settings, or is being trained by another process.
    """
    name = config.track.run_name or f"{config.model.arch}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    place, path = _where(config, name)
    with files.exclusive(path, f"run {name}"):
        yield _load(place, path, config.updated({"track": {"run_name": name}}))


def noted_init(config: Config) -> str | None:
    """What the unfinished run of a config's name began from; None where there is none."""
    state = None if config.track.run_name is None else _noted(_where(config, config.track.run_name)[0])
    return None if state is None else state["config"]["train"]["init"]


def finished_run(config: Config) -> Run | None:
    """The run of a config's name where it is finished with these very settings, and its model is on this machine."""
    assert config.track.run_name is not None
    place, path = _where(config, config.track.run_name)
    state = _noted(place)
    if state is None or not state["finished"] or state["config"] != config.model_dump(mode="json"):
        return None
    run = Run(place, path, config, state["mlflow_run_id"], finished=True)
    return run if run.bundle_path.is_dir() else None


def _where(config: Config, name: str) -> tuple[str, Path]:
    """Place and folder of a run."""
    place = storage.join(config.track.storage, name)
    return place, storage.local_copy(place, Path(config.data.cache_dir) / "runs")


def _noted(place: str) -> dict[str, Any] | None:
    """What run.json says; None where there is none."""
    note = storage.join(place, "run.json")
    if storage.size_bytes(note) is None:
        return None
    state: dict[str, Any] = with_todays_settings(json.loads(storage.read_bytes(note)))
    return {**state, "config": build_config(state["config"]).model_dump(mode="json")}


def _load(place: str, path: Path, config: Config) -> Run:
    state = _noted(place)
    if state is None:
        run = Run(place, path, config)
        run.save()
        return run
    name = config.track.run_name
    if state["finished"]:
        raise FkpError(
            f"run {name} is finished: its model is {storage.join(place, 'bundle')}; choose another track.run_name to train again"
        )
    files.check_same(config.model_dump(mode="json"), state["config"], f"run {name}")
    return Run(place, path, config, state["mlflow_run_id"])
