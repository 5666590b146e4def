"""A search on disk and in the record: what it was asked to do, its trials, and Tune's callback that keeps both current."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback, Stopper, Tuner

from fkp.common import files as folders
from fkp.common import storage
from fkp.compat import with_todays_settings
from fkp.config import Config, build_config
from fkp.errors import FkpError
from fkp.train.ray_backend import EPOCHS
from fkp.tune import results
from fkp.tune.options import MUTABLE, Settings
from fkp.tune.results import Trial
from fkp.tune.space import Space
from fkp.tune.trial import CPU_SECONDS, FAILED, trial_config

if TYPE_CHECKING:
    from fkp.track.write_ahead_log import WriteAheadLog
    from fkp.tune.live_table import LiveTable

#: What of a report goes into a trial's record each epoch.
_RECORDED = ("val_loss", "train_loss", "images_per_s", "time_total_s", CPU_SECONDS)

#: Key of the search's own run in its log; the trials' keys are their ids.
PARENT = "search"

DEFAULT_TRIALS = 32


@dataclass
class Study:
    """A search that is under way or done.

    Attributes:
        folder: Where this process writes study.json, trials.json, charts/ and outbox.jsonl: the search's `place`, or what stands for
            it on this machine if that is in a bucket.
        settings: How it goes.
        config: What every trial starts from; its paths are absolute.
        space: What is searched.
        trials: By Tune's id.
        finished: Whether every trial has ended.
        seconds: Spent by the processes that went before this one.
        earlier: How many trials had ended when more of them were asked for; they are not Tune's any more.
    """

    folder: Path
    settings: Settings
    config: Config
    space: Space
    trials: dict[str, Trial] = field(default_factory=dict)
    finished: bool = False
    seconds: float = 0.0
    earlier: int = 0
    log: WriteAheadLog | None = None
    live: LiveTable | None = None
    cores: float = 1.0
    concurrent: int = 1
    _began: float = field(default_factory=time.monotonic)
    _reached: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the search."""
        return self.folder.name

    @property
    def place(self) -> str:
        """`<track.storage>/<name>`, a folder that all hosts see or an address: Tune's own state and the trials' checkpoints lie in it."""
        return storage.join(self.config.track.storage, self.name)

    @property
    def begun(self) -> bool:
        """Whether its name is taken, so that it can be resumed."""
        return (self.folder / "study.json").is_file()

    @property
    def state(self) -> str:
        """Where Tune keeps its own state: each time that more trials are asked for it begins anew, with what was found before."""
        return storage.join(self.place, f"tune-{self.earlier}" if self.earlier else "tune")

    @property
    def planned(self) -> int:
        """How many trials there will be."""
        if self.settings.algo == "grid":
            return len(self.space.grid_points())
        return self.settings.trials or DEFAULT_TRIALS

    @property
    def found(self) -> list[Trial]:
        """The trials that had ended when more of them were asked for."""
        return self.ordered()[: self.earlier]

    @property
    def elapsed_s(self) -> float:
        """Seconds of searching, those before an interruption included."""
        return self.seconds + time.monotonic() - self._began

    def ordered(self) -> list[Trial]:
        """The trials in the order of their creation."""
        return sorted(self.trials.values(), key=lambda trial: trial.number)

    def identity(self) -> dict[str, Any]:
        """What must be the same when the search is resumed."""
        return {"search": self.settings.identity(), "space": self.space.as_json(), "run": self.config.model_dump(mode="json")}

    def save(self) -> None:
        """Write study.json and trials.json, each in one step."""
        state = {**self.identity(), "finished": self.finished, "seconds": self.elapsed_s, "earlier": self.earlier}
        folders.write_json(self.folder / "study.json", state)
        self._save_trials()

    # What Tune's callback tells.

    def proposed(self, trial_id: str, sample: Mapping[str, Any]) -> None:
        """A trial is there; it need not have begun."""
        if trial_id not in self.trials:
            self._put(Trial(len(self.trials), trial_id, "pending", "", dict(sample), (), 0.0, self.cores))

    def started(self, trial_id: str, sample: Mapping[str, Any]) -> None:
        """A trial begins, or goes on."""
        self._put(dataclasses.replace(self.trials[trial_id], state="running", reason="", sample=dict(sample)))
        if self.log is not None:
            config = trial_config(self.config, sample, self.settings.epochs, self.settings.workers)
            params = {path: value for path, value in config.as_params().items() if not path.startswith("track.")}
            for path in self._moving(sample):  # A parameter cannot change; these go into the record epoch by epoch.
                del params[path]
            number = self.trials[trial_id].number
            self.log.begin(trial_id, f"{self.name}-{number:03d}", PARENT, params, {"trial": str(number)})

    def reported(self, trial_id: str, report: Mapping[str, Any]) -> None:
        """An epoch is done, or the trial has failed."""
        trial = self.trials[trial_id]
        seconds = float(report.get("time_total_s", trial.seconds))
        if FAILED in report:
            self._put(dataclasses.replace(trial, reason=report[FAILED], seconds=seconds))
            return
        done, nme = int(report[EPOCHS]), float(report[self.config.val_nme_key])
        if not math.isfinite(nme):
            reason = f"the validation error became {nme} in epoch {done - 1}: lower optim.lr or set optim.grad_clip"
            self._put(dataclasses.replace(trial, reason=reason, seconds=seconds))
            return
        # A trial that was restarted may come through an epoch again: what it reports now stands. One that has taken over
        # the weights of another, in population-based training, may leave some out: it has not trained those.
        self._reached[trial_id] = done
        self._put(dataclasses.replace(trial, nme_by_epoch=(*trial.nme_by_epoch[: done - 1], nme), seconds=seconds))
        if self.log is not None:
            moving = {path: float(trial.sample[path]) for path in self._moving(trial.sample)}
            self.log.metrics(
                trial_id, done, {**{key: float(report[key]) for key in (self.config.val_nme_key, *_RECORDED) if key in report}, **moving}
            )

    def _moving(self, sample: Mapping[str, Any]) -> list[str]:
        """Settings of a sample that may change while its trial runs."""
        return [path for path in sample if path.startswith(MUTABLE)] if self.settings.scheduler == "pbt" else []

    def ended(self, trial_id: str, error: str = "") -> None:
        """A trial is over; Tune says only whether by an error."""
        if self.trials[trial_id].state == "pending":  # Over before it began: the record has it all the same.
            self.started(trial_id, self.trials[trial_id].sample)
        trial = self.trials[trial_id]
        if error or trial.reason:
            trial = dataclasses.replace(trial, state="failed", reason=error or trial.reason)
        elif self._reached.get(trial_id, trial.epochs) >= self.settings.epochs:
            trial = dataclasses.replace(trial, state="finished")
        else:
            by = self.settings.scheduler if not self.time_is_over() else "the end of --minutes"
            reason = f"by {by} after {trial.epochs} of {self.settings.epochs} epochs"
            trial = dataclasses.replace(trial, state="stopped", reason=reason)
        self._put(trial)
        self.save()
        if self.log is not None:
            best = {"best_val_nme": trial.best_nme} if trial.best_nme is not None else {}
            self.log.metrics(trial_id, trial.epochs, {**best, "epochs": float(trial.epochs), "core_seconds": trial.core_seconds})
            self.log.tags(trial_id, {"state": trial.state, "stop_reason": trial.reason or "all epochs are done"})
            self.log.end(trial_id, "FAILED" if trial.state == "failed" else "FINISHED")

    def close(self) -> bool:
        """Tune has returned: whether the search is complete, and not interrupted."""
        ended = sum(trial.ended for trial in self.ordered())
        if ended < self.planned and not self.time_is_over():
            return False
        for trial in self.ordered():
            if trial.state == "pending":  # Proposed, and never begun.
                del self.trials[trial.trial_id]
            elif not trial.ended:
                # Tune does not know it: the process before this one died before it had saved its start.
                lost = "lost with the process that had just begun it; another one took its place"
                self.ended(trial.trial_id, "" if self.time_is_over() else lost)
        self.finished = True
        self.save()
        return True

    def show(self) -> None:
        """Bring the table on the terminal up to date."""
        if self.live is not None:
            trials = self.ordered()
            self.live.update(trials, results.time_left(trials, self.planned, self.settings.epochs, self.concurrent))

    def _put(self, trial: Trial) -> None:
        self.trials[trial.trial_id] = trial
        self._save_trials()
        self.show()

    def _save_trials(self) -> None:
        folders.write(self.folder / "trials.json", results.to_json(self.ordered()))

    def time_is_over(self) -> bool:
        """Whether --minutes have passed."""
        return self.settings.minutes is not None and time.monotonic() - self._began >= 60 * self.settings.minutes


#: Studies that this process has open: Tune pickles its callbacks, and a restored one finds its study here again.
_OPEN: dict[str, Study] = {}


class StudyCallback(Callback):
    """Tune's callback: tells a study, which this process must have open, what becomes of its trials."""

    def __init__(self, study: Study) -> None:
        self._folder = str(study.folder)

    @property
    def _study(self) -> Study:
        return _OPEN[self._folder]

    def _take_up(self, trials: list[Any]) -> None:
        """In the order in which they were proposed; which of two begins first is chance."""
        for trial in trials:
            self._study.proposed(trial.trial_id, with_todays_settings(trial.config))

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._take_up(trials)
        self._study.started(trial.trial_id, with_todays_settings(trial.config))

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        self._study.reported(trial.trial_id, result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._study.ended(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._take_up(trials)  # Its process may have been lost before it began.
        lines = [line.strip() for line in str(trial.get_error() or trial.get_pickled_error() or "").splitlines() if line.strip()]
        self._study.ended(trial.trial_id, lines[-1] if lines else "the trial's process was lost")


class TimeBudgetStopper(Stopper):
    """Tune's stopper: for --minutes, where Tune's own budget would not hold for a search that is resumed, and for the last epoch.

    Population-based training would move a trial even after its last epoch, to weights with which nothing is left to train,
    and then it never ended.
    """

    def __init__(self, study: Study) -> None:
        self._folder = str(study.folder)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return int(result[EPOCHS]) >= _OPEN[self._folder].settings.epochs

    def stop_all(self) -> bool:
        return _OPEN[self._folder].time_is_over()


@contextlib.contextmanager
def open_study(settings: Settings, config: Config, space: Space) -> Iterator[Study]:
    """Begin a search, or continue with the one of the same name, and hold it against a second process.

    Raises:
        FkpError: The name is taken and nothing says to resume it, it is finished and no more trials are asked for, there is nothing
            to resume, it was begun with other settings, or what it keeps beside its bucket lies on another machine.
    """
    assert config.track.run_name is not None
    folder = storage.local_copy(config.track.storage, Path(config.data.cache_dir) / "searches") / config.track.run_name
    what = f"search {folder.name}"
    place = storage.join(config.track.storage, folder.name)
    if storage.is_uri(place) and not (folder / "study.json").is_file() and Tuner.can_restore(storage.join(place, "tune")):
        raise FkpError(f"{what} of {place} has its trials in {folder} of the machine that began it: go on there, or choose another --name")
    if settings.resume and not (folder / "study.json").is_file():
        raise FkpError(f"there is no {what} in {folder.parent} to resume: look at --name and --track.storage")
    if storage.size_bytes(storage.join(place, "run.json")) is not None:
        raise FkpError(f"{place} is a training's folder: choose another --name")
    with folders.exclusive(folder, what):
        study = Study(folder, settings, config, space)
        if (folder / "study.json").is_file():
            _load(study, what)
        _OPEN[str(folder)] = study
        try:
            yield study
        finally:
            del _OPEN[str(folder)]


def _load(study: Study, what: str) -> None:
    state = with_todays_settings(json.loads((study.folder / "study.json").read_text(encoding="utf-8")))
    state["run"] = build_config(state["run"]).model_dump(mode="json")  # Settings that are younger than the search have their defaults.
    study.finished, study.seconds, study.earlier = state.pop("finished"), state.pop("seconds"), state.pop("earlier", 0)
    asked, had = study.settings.trials, state["search"]["trials"] or DEFAULT_TRIALS
    more = asked is not None and asked > had and study.settings.algo != "grid"
    if more and study.finished:
        state["search"]["trials"] = asked
    remedy = f"finish it with --trials {had} before you ask for more" if more and not study.finished else None
    folders.check_same(study.identity(), state, what, remedy)
    if not more and not study.settings.resume:
        raise FkpError(f"{what} exists: continue with it by --resume, or choose another --name")
    if not more and study.finished and not study.settings.refit:
        raise FkpError(f"{what} is finished: ask for --trials above {had}, train its best by --resume --refit, or choose another --name")
    path = study.folder / "trials.json"
    trials = results.from_json(path.read_text(encoding="utf-8")) if path.is_file() else []
    study.trials = {trial.trial_id: trial for trial in trials}
    if more:
        study.earlier, study.finished = len(trials), False
