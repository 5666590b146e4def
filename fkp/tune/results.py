"""What a search found, without Ray and without MLflow: trials, their order, their cost, and the time that is left."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from fkp.compat import with_todays_settings
from fkp.errors import FkpError

if TYPE_CHECKING:
    import pandas as pd

State = Literal["pending", "running", "finished", "stopped", "failed"]

#: Ended as the search meant it, so that its epochs say something about the search's cost.
_ENDED_WELL = ("finished", "stopped")


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Attributes:
        number: Place in the order of creation, from 0.
        trial_id: The scheduler's name for it.
        state: `stopped` is early, by the scheduler; `failed` is an error.
        reason: Why it was stopped or failed, one line; empty otherwise.
        sample: Dotted Config path -> value, a JSON value.
        nme_by_epoch: Validation NME after each epoch so far, in percent.
        seconds: Spent in the trial so far.
        cores: Processor cores it holds.
    """

    number: int
    trial_id: str
    state: State
    reason: str
    sample: dict[str, Any]
    nme_by_epoch: tuple[float, ...]
    seconds: float
    cores: float

    @property
    def epochs(self) -> int:
        """Epochs that are done."""
        return len(self.nme_by_epoch)

    @property
    def best_nme(self) -> float | None:
        """Least NME over the epochs; None before the first."""
        return min(self.nme_by_epoch, default=None)

    @property
    def core_seconds(self) -> float:
        """Seconds times cores."""
        return self.seconds * self.cores

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in (*_ENDED_WELL, "failed")


@dataclass(frozen=True)
class Cost:
    """What the scheduler saved.

    Spent and in full are both of the same trials: those that finished or were stopped, after at least one epoch. A failed
    trial or one that still runs saved nothing, so what went into those stands apart.

    Attributes:
        trials: How many are compared.
        epochs_spent: Their epochs.
        epochs_full: Their epochs, had each gone on to the last one.
        core_seconds_spent: Their core-seconds.
        core_seconds_full: The same in full, each trial at its own seconds per epoch. A trial's start counts as part of its
            epochs, so for short trials this is somewhat too much.
        epochs_other: Epochs of failed and unfinished trials.
        core_seconds_other: Core-seconds of failed and unfinished trials.
    """

    trials: int
    epochs_spent: int
    epochs_full: int
    core_seconds_spent: float
    core_seconds_full: float
    epochs_other: int
    core_seconds_other: float

    @property
    def epochs_saved_part(self) -> float:
        """Part of the full epochs that was saved, 0 to 1; 0 without trials."""
        return 1 - self.epochs_spent / self.epochs_full if self.epochs_full else 0.0

    @property
    def core_seconds_saved_part(self) -> float:
        """Part of the full core-seconds that was saved, 0 to 1; 0 without trials."""
        return 1 - self.core_seconds_spent / self.core_seconds_full if self.core_seconds_full else 0.0


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Sort by best NME; then those without an epoch; failed ones last, because their error is no result."""

    def key(trial: Trial) -> tuple[bool, float, int]:
        nme = trial.best_nme
        return trial.state == "failed", float("inf") if nme is None else nme, trial.number

    return sorted(trials, key=key)


def best(trials: Iterable[Trial]) -> Trial | None:
    """The trial of least NME among those that did not fail and have an epoch; None without one."""
    return next((trial for trial in ranked(trials) if trial.state != "failed" and trial.epochs), None)


def cost(trials: Iterable[Trial], max_epochs: int) -> Cost:
    """Compare what was spent with every trial going on to the last epoch.

    Raises:
        ValueError: `max_epochs` is not positive.
    """
    if max_epochs < 1:
        raise ValueError(f"a trial has at least one epoch, got max_epochs={max_epochs}")
    trials = list(trials)
    compared = [trial for trial in trials if trial.state in _ENDED_WELL and trial.epochs]
    spent, core_seconds_spent = sum(trial.epochs for trial in compared), sum(trial.core_seconds for trial in compared)
    return Cost(
        trials=len(compared),
        epochs_spent=spent,
        epochs_full=len(compared) * max_epochs,
        core_seconds_spent=core_seconds_spent,
        core_seconds_full=sum(trial.core_seconds / trial.epochs * max_epochs for trial in compared),
        epochs_other=sum(trial.epochs for trial in trials) - spent,
        core_seconds_other=sum(trial.core_seconds for trial in trials if trial not in compared),
    )


def time_left(trials: Sequence[Trial], planned: int, max_epochs: int, concurrency: int) -> float | None:
    """Estimate the seconds until all planned trials have ended.

    A trial is expected to run as many epochs as the ended trials that outlasted it did on average (so one that still runs
    after the scheduler stopped most others is expected to go far), each at the mean seconds per epoch of the ended ones.

    Args:
        trials: All there are so far.
        planned: How many there will be.
        max_epochs: Epochs of a trial that nobody stops.
        concurrency: How many run at a time.

    Returns:
        Seconds; 0 when all have ended; None before the first trial with an epoch has ended.

    Raises:
        ValueError: `concurrency` or `max_epochs` is not positive.
    """
    if concurrency < 1 or max_epochs < 1:
        raise ValueError(f"concurrency and max_epochs must be positive, got {concurrency} and {max_epochs}")
    # The end of a failed trial says nothing about when others end.
    ended = [trial for trial in trials if trial.state in _ENDED_WELL and trial.epochs]
    if not ended:
        return None
    seconds_per_epoch = sum(trial.seconds for trial in ended) / sum(trial.epochs for trial in ended)

    def seconds_to_go(epochs: int) -> float:
        longer = [trial.epochs for trial in ended if trial.epochs > epochs]
        expected = sum(longer) / len(longer) if longer else max_epochs
        return max(0.0, expected - epochs) * seconds_per_epoch

    under_way = [trial.epochs for trial in trials if not trial.ended]
    left = [seconds_to_go(epochs) for epochs in [*under_way, *[0] * max(0, planned - len(trials))]]
    # Spread over the slots, but no trial is split: the longest one bounds it from below.
    return max(sum(left) / concurrency, max(left)) if left else 0.0


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Dotted path -> its last part, or the whole path where two paths end alike."""
    paths = list(dict.fromkeys(paths))
    ends = [path.rpartition(".")[2] for path in paths]
    return {path: end if ends.count(end) == 1 else path for path, end in zip(paths, ends, strict=True)}


def varied(trials: Iterable[Trial]) -> list[str]:
    """Dotted paths whose value is not the same in all trials that have one, in order of first appearance."""
    values: dict[str, set[str]] = {}
    for trial in trials:
        for path, value in trial.sample.items():
            # As JSON, because a list cannot be in a set, and True must differ from 1.
            values.setdefault(path, set()).add(json.dumps(value, sort_keys=True))
    return [path for path, seen in values.items() if len(seen) > 1]


def table(trials: Iterable[Trial]) -> pd.DataFrame:
    """One row a trial in the order of `ranked`, then one column for each sampled path; None where a trial lacks it."""
    import pandas as pd

    trials = ranked(trials)
    paths = list(dict.fromkeys(path for trial in trials for path in trial.sample))
    columns: dict[str, list[Any]] = {
        "number": [trial.number for trial in trials],
        "trial_id": [trial.trial_id for trial in trials],
        "state": [trial.state for trial in trials],
        "reason": [trial.reason for trial in trials],
        "epochs": [trial.epochs for trial in trials],
        "best_nme_pct": [trial.best_nme for trial in trials],
        "last_nme_pct": [trial.nme_by_epoch[-1] if trial.epochs else None for trial in trials],
        "seconds": [trial.seconds for trial in trials],
        "core_seconds": [trial.core_seconds for trial in trials],
    }
    frame = pd.DataFrame({name: pd.Series(values, dtype=None if values else object) for name, values in columns.items()})
    # As objects: a width of 32 must not become 32.0 because another trial has none.
    settings = {path: pd.Series([trial.sample.get(path) for trial in trials], dtype=object) for path in paths}
    return frame.assign(**settings)


def to_json(trials: Iterable[Trial]) -> str:
    """A JSON list, one object a trial.

    Raises:
        ValueError: A number is not finite.
    """
    return json.dumps([asdict(trial) for trial in trials], indent=2, allow_nan=False) + "\n"


def from_json(text: str) -> list[Trial]:
    """Read what `to_json` wrote.

    Raises:
        FkpError: The text is something else.
    """
    try:
        trials = [Trial(**{**entry, "nme_by_epoch": tuple(entry["nme_by_epoch"])}) for entry in with_todays_settings(json.loads(text))]
    except (ValueError, TypeError, KeyError) as error:
        raise FkpError(f"this is not a list of trials as a search writes it ({error}): run the search again") from error
    for trial in trials:
        if trial.state not in get_args(State):
            raise FkpError(f"trial {trial.number} has the unknown state {trial.state!r}: use one of {', '.join(get_args(State))}")
    return trials
