"""The folder of a run: its name, what it was asked to do, and whether it is done."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fkp import config as configs
from fkp import folder
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
        folder.write_json(self.folder / "run.json", state)


@contextlib.contextmanager
def open_run(config: Config) -> Iterator[Run]:
    """Begin a run, or go on with the unfinished one of the same name, and hold it against a second process.

    Raises:
        FkpError: The name is finished, belongs to other settings, or is being trained by another process.
    """
    name = config.track.run_name or f"{config.model.arch}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    path = Path(config.track.storage) / name
    with folder.claimed(path, f"run {name}"):
        yield _load(path, configs.build(config.model_dump(), {"track": {"run_name": name}}))


def _load(path: Path, config: Config) -> Run:
    if not (path / "run.json").is_file():
        run = Run(path, config)
        run.save()
        return run
    state = json.loads((path / "run.json").read_text(encoding="utf-8"))
    name = config.track.run_name
    if state["finished"]:
        raise FkpError(f"run {name} is finished: its model is {path / 'bundle'}; choose another track.run_name to train again")
    folder.check_same(config.model_dump(mode="json"), state["config"], f"run {name}")
    return Run(path, config, state["mlflow_run_id"], resumed=True)
