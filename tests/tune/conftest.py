"""Small searches on the session's Ray cluster, and what is left of them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from fkp.config import Config
from fkp.errors import FkpError
from fkp.tune import results
from fkp.tune.options import Settings
from fkp.tune.results import Trial
from fkp.tune.study import Study

#: Called when an epoch of a trial has come in: number of the trial, the report.
OnReport = Callable[[int, Mapping[str, Any]], None]


@dataclass
class Searched:
    """A search that has come to its end, good or bad.

    Attributes:
        settings: Of the search, to resume it with.
        config: Of every run.
        uri: Of the store.
        reports: Number of the trial, epochs done and id of the process, as they came in.
        error: What the search raised.
        undelivered: What it said is missing in the record.
        out: What it printed on stdout.
        err: The same on stderr, warnings among them.
    """

    settings: Settings
    config: Config
    uri: str
    reports: list[tuple[int, int, int]] = field(default_factory=list)
    error: BaseException | None = None
    undelivered: str = ""
    out: str = ""
    err: str = ""

    @property
    def folder(self) -> Path:
        return Path(self.config.track.storage) / str(self.config.track.run_name)

    @property
    def trials(self) -> list[Trial]:
        return results.from_json((self.folder / "trials.json").read_text())

    def epochs_of(self, number: int) -> list[int]:
        """The reports of a trial in the order in which they came."""
        return [epochs for trial, epochs, _ in self.reports if trial == number]

    @property
    def store(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def runs(self) -> dict[str, Run]:
        """All runs of the record by their names; a run that was made twice fails here."""
        experiment = self.store.get_experiment_by_name("fkp")
        runs = [] if experiment is None else list(self.store.search_runs([experiment.experiment_id]))
        names = [str(run.info.run_name) for run in runs]
        assert sorted(names) == sorted(set(names))
        return dict(zip(names, runs, strict=True))

    def history(self, run: Run, key: str) -> dict[int, float]:
        return {entry.step: entry.value for entry in self.store.get_metric_history(run.info.run_id, key)}


@pytest.fixture(scope="session")
def run_search(ray_cluster: None, small_run_in: Callable[..., Config], empty_store: Path) -> Callable[..., Searched]:
    """`run_search(folder, space, on_report, trials=2, optim__lr=0.1)` searches; names with `__` are settings of the runs."""

    def begin(folder: Path, space: Mapping[str, Any], on_report: OnReport | None = None, **changes: Any) -> Searched:
        of_runs = {key: value for key, value in changes.items() if "__" in key}
        own = {key: value for key, value in changes.items() if "__" not in key}
        (folder / "space.yaml").write_text(yaml.safe_dump(dict(space)))
        shutil.copyfile(empty_store, folder / "mlflow.db")
        config = small_run_in(folder, scale__use_gpu="no", **of_runs)
        settings = Settings(**{"space": str(folder / "space.yaml"), "epochs": 3, "name": "small", **own})
        return search_on(Searched(settings, config, f"sqlite:///{folder}/mlflow.db"), on_report)

    return begin


def search_on(found: Searched, on_report: OnReport | None = None, **changes: Any) -> Searched:
    """Search with the same settings but for some of the search's own, in the same folder."""
    from fkp.tune.search import search

    again = Searched(dataclasses.replace(found.settings, **changes), found.config, found.uri)
    reported = Study.reported

    def spy(study: Study, trial_id: str, report: Mapping[str, Any]) -> None:
        reported(study, trial_id, report)
        number = study.trials[trial_id].number
        again.reports.append((number, int(report["epochs"]), int(report["pid"])))
        if on_report is not None:
            on_report(number, report)

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setenv("MLFLOW_TRACKING_URI", found.uri)
        patch.setattr("fkp.tune.record._DELIVERY_S", 2.0)
        patch.setattr(Study, "reported", spy)
        try:
            again.undelivered = search(again.settings, again.config)
        except FkpError as error:
            again.error = error
    again.out, again.err = out.getvalue(), err.getvalue()
    return again


def lose(database: Path) -> None:
    """From now on the database fails at once: its table of runs is away."""
    _rename(database, "runs", "runs_away")


def find(database: Path) -> None:
    """It answers again."""
    _rename(database, "runs_away", "runs")


def _rename(database: Path, old: str, new: str) -> None:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA legacy_alter_table=ON")
        connection.execute(f"ALTER TABLE {old} RENAME TO {new}")


def state_of(found: Searched) -> dict[str, Any]:
    """study.json of a search."""
    return json.loads((found.folder / "study.json").read_text())
