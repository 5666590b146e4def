"""The folder of a run: its name, what it was asked to do, and whether it is done."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fkp import config as configs
from fkp.config import Config
from fkp.errors import FkpError


@dataclass
class Run:
    """A run on disk.

    Attributes:
        folder: `<track.storage>/<run_name>`; checkpoints and the bundle lie in it.
        config: What is trained, with the name filled in.
        mlflow_run_id: The record of the run; the same one after a resume.
        finished: Whether the bundle is written.
        resumed: Whether an earlier process began this run.
    """

    folder: Path
    config: Config
    mlflow_run_id: str | None = None
    finished: bool = False
    resumed: bool = False

    @property
    def bundle_path(self) -> Path:
        """Where the trained model goes."""
        return self.folder / "bundle"

    @property
    def name(self) -> str:
        """The run's name, given or made."""
        assert self.config.track.run_name is not None
        return self.config.track.run_name

    def save(self) -> None:
        """Write run.json in one step."""
        state = {"config": self.config.model_dump(mode="json"), "mlflow_run_id": self.mlflow_run_id, "finished": self.finished}
        draft = self.folder / ".run.json.new"
        draft.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        os.replace(draft, self.folder / "run.json")


@contextlib.contextmanager
def open_run(config: Config) -> Iterator[Run]:
    """Begin a run, or go on with the unfinished one of the same name, and hold it against a second process.

    Raises:
        FkpError: The name is finished, belongs to other settings, or is being trained by another process.
    """
    name = config.track.run_name or f"{config.model.arch}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder = Path(config.track.storage) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise FkpError(f"cannot make the run folder {folder}: {error.strerror}: set track.storage") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FkpError(f"run {name} is being trained by another process: wait for it or choose another track.run_name") from error
        yield _load(folder, configs.build(config.model_dump(), {"track": {"run_name": name}}))


def _load(folder: Path, config: Config) -> Run:
    path = folder / "run.json"
    if not path.is_file():
        run = Run(folder, config)
        run.save()
        return run
    state = json.loads(path.read_text(encoding="utf-8"))
    name = config.track.run_name
    if state["finished"]:
        raise FkpError(f"run {name} is finished: its model is {folder / 'bundle'}; choose another track.run_name to train again")
    asked, began = dict(configs.dotted(config.model_dump(mode="json"))), dict(configs.dotted(state["config"]))
    different = [f"{key}={asked.get(key)} (was {began.get(key)})" for key in sorted(asked | began) if asked.get(key) != began.get(key)]
    if different:
        raise FkpError(f"run {name} was begun with other settings: {', '.join(different)}; repeat them or choose another track.run_name")
    return Run(folder, config, state["mlflow_run_id"], resumed=True)
