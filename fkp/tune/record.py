"""A search in the record and on the terminal: what it was asked to do, what came of it, and what to do with it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import yaml

from fkp import track
from fkp.common import files as folders
from fkp.errors import FkpError, stopping
from fkp.tune import results
from fkp.tune.results import Trial
from fkp.tune.study import PARENT

if TYPE_CHECKING:
    from fkp.track.write_ahead_log import Status
    from fkp.tune.refit import Winner
    from fkp.tune.study import Study

#: How long the end of a search waits for a record that does not answer, in seconds.
_DELIVERY_S = 30.0
#: The same for one that was stopped.
_AFTER_STOP_S = 3.0


def begin(study: Study, data_digest: str) -> None:
    """Open the search's run in the record: its settings as parameters, its space as an artifact."""
    assert study.log is not None
    space_path = study.folder / "space.json"
    folders.write_json(space_path, study.space.as_json())
    begun = study.settings.resume or study.earlier  # Parameters cannot change.
    params = {} if begun else {**study.settings.as_params(), "search.planned": study.planned, **study.config.as_params()}
    tags = {"data_digest": data_digest, "split": study.config.data.split, "git_commit": track.git_commit(), "kind": "search"}
    if study.earlier:
        tags["trials_asked_for"] = f"{study.planned}, after {study.earlier}"
    study.log.begin(PARENT, study.name, None, params, {**tags, "space": json.dumps(study.space.as_json())})
    study.log.artifacts(PARENT, space_path, "search")


def finish(study: Study) -> Trial:
    """Draw the charts, record them with the summary, and return the best trial.

    Raises:
        FkpError: No trial succeeded; the table of trials is kept.
    """
    from fkp.tune.html import write_charts

    assert study.log is not None
    trials = study.ordered()
    charts = study.folder / "charts"
    # Where nobody is stopped, all reach the last epoch.
    compared = study.settings.epochs if study.settings.scheduler == "none" else study.settings.grace
    write_charts(trials, study.settings.epochs, compared, charts, study.space.distributions())
    study.log.artifacts(PARENT, charts, "search")
    states = Counter(trial.state for trial in trials)
    cost = results.cost(trials, study.settings.epochs)
    summary = {
        "trials": len(trials),
        **{f"trials_{state}": float(states[state]) for state in ("finished", "stopped", "failed")},
        "epochs_spent": cost.epochs_spent,
        "epochs_full": cost.epochs_full,
        "epochs_saved_pct": 100 * cost.epochs_saved_part,
        "core_seconds_spent": cost.core_seconds_spent,
        "core_seconds_full": cost.core_seconds_full,
        "core_seconds_saved_pct": 100 * cost.core_seconds_saved_part,
        "seconds": study.elapsed_s,
    }
    best = results.best(trials)
    if best is None:
        study.log.metrics(PARENT, 0, summary)
        reasons = Counter(trial.reason for trial in trials)
        reason = reasons.most_common(1)[0][0] if reasons else "none was begun"
        raise FkpError(f"no trial of search {study.name} succeeded, most often because: {reason}; {charts / 'trials.csv'} lists them all")
    study.log.metrics(PARENT, 0, {**summary, "best_val_nme": float(best.best_nme or 0)})
    study.log.tags(PARENT, {"best_trial": str(best.number), "best_sample": json.dumps(best.sample)})
    write_best(study, best)
    return best


def write_best(study: Study, best: Trial) -> None:
    """Write the best trial's settings with the full budget as best.yaml, for `fkp.train --config`."""
    config = study.config.updated(best.sample)
    plain = config.model_dump(mode="json")
    plain["track"].pop("run_name")
    head = f"# The best of search {study.name}: trial {best.number}, validation NME {best.best_nme:.2f} % after {best.epochs} epochs.\n"
    folders.write(study.folder / "best.yaml", head + yaml.safe_dump(plain, sort_keys=False))


def failed(study: Study, error: BaseException) -> Status:
    """Record why the search did not end well, end its trials that run, and return the status of its run."""
    assert study.log is not None
    status: Status = "KILLED" if stopping.stops(error) else "FAILED"
    study.log.tags(PARENT, {"error": f"{type(error).__name__}: {error}"})
    for trial in study.ordered():
        if trial.state == "running":  # It goes on where the search does.
            study.log.end(trial.trial_id, status)
    if status == "KILLED" and study.finished:  # Its charts and its summary are still to come.
        study.finished = False
        study.save()
    return status


def close(study: Study, status: Status) -> str:
    """End the search's run and deliver what the record has not got yet; say in one sentence what could not be delivered."""
    assert study.log is not None
    study.log.end(PARENT, status)
    study.log.close(_AFTER_STOP_S if status == "KILLED" else _DELIVERY_S)
    missing = study.log.missing()
    study.log = None
    return missing


def say(study: Study, best: Trial, trained: Winner | None) -> None:
    """Print what was found and the commands that go on from it."""
    cost = results.cost(study.ordered(), study.settings.epochs)
    uri = track.tracking_uri()
    settings = " ".join(f"{path}={value:.4g}" if isinstance(value, float) else f"{path}={value}" for path, value in best.sample.items())
    print(f"best       trial {best.number}: validation NME {best.best_nme:.2f} % after {best.epochs} epochs")
    print(f"settings   {settings}")
    print(
        f"cost       {cost.epochs_spent} of {cost.epochs_full} epochs, {cost.core_seconds_spent:.0f} core-seconds; "
        f"stopping early saved {100 * cost.core_seconds_saved_part:.0f} %"
    )
    print(f"charts     {study.folder / 'charts' / 'search.html'}")
    if trained is None:
        print(f"train it   fkp train --config {study.folder / 'best.yaml'} --track.run_name {study.name}-winner")
    else:
        print(f"model      {trained.bundle_path}: {trained.verdict}")
        print(f"report     {trained.report_path}")
        print(f"use it     fkp predict PHOTO --out out --bundle {trained.bundle_path}")
    print(f"record     {uri}, experiment {study.config.track.experiment}, run {study.name}")
    if uri.startswith("sqlite:"):
        print(f"see it     mlflow ui --backend-store-uri {uri}")
