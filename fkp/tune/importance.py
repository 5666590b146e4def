"""Trials side by side: the Optuna study made of them, and which of its settings mattered."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fkp.tune.results import Trial, short_names, varied

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

#: With fewer, the forest has next to nothing to split.
MIN_TRIALS_FOR_IMPORTANCE = 5

#: In 192 simulated searches of 24 and 40 trials the setting that decided the error always came first, in 96 of 12 trials in 94 %.
TRIALS_FOR_TRUST = 20

EVALUATOR = "fANOVA"

#: A range that spans more than this factor is drawn and judged by its logarithm.
_LOG_SPAN = 20


@dataclass(frozen=True)
class Comparison:
    """Trials at the last epoch that all of them reach, stopped or not.

    Attributes:
        epoch: That epoch, counted from 1.
        trials: Those that did not fail and reached it.
        left_out: How many others there are.
        study: One Optuna trial each, its value the NME after that epoch, its parameters the settings that vary, under
            their short names; None where there is nothing to compare.
        importances: Short name -> part of all importance, largest first, of the settings that all trials have; empty where
            there is nothing to compare.
        why_no_study: One sentence where `study` is None.
        why_no_importances: One sentence where `importances` is empty.
        notes: What a reader of the charts has to know besides.
    """

    epoch: int
    trials: tuple[Trial, ...]
    left_out: int
    study: Study | None
    importances: dict[str, float]
    why_no_study: str
    why_no_importances: str
    notes: tuple[str, ...]

    @property
    def basis(self) -> str:
        """What the compared value is, for a chart's title."""
        left_out = f", {self.left_out} left out that failed or never came there" if self.left_out else ""
        return f"NME after epoch {self.epoch}, the last that early stopping lets all trials reach; {len(self.trials)} trials{left_out}"


def compare(trials: Sequence[Trial], grace_epochs: int, distributions: Mapping[str, BaseDistribution] | None = None) -> Comparison:
    """Compare trials at the epoch before which the scheduler stops none.

    Args:
        trials: All trials of the search.
        grace_epochs: That epoch, counted from 1.
        distributions: Dotted path -> what it was sampled from; inferred from the values where missing.

    Raises:
        ValueError: `grace_epochs` is not positive.
    """
    if grace_epochs < 1:
        raise ValueError(f"trials are compared after at least one epoch, got grace_epochs={grace_epochs}")
    compared = tuple(trial for trial in trials if trial.state != "failed" and trial.epochs >= grace_epochs)
    values = {trial.nme_by_epoch[grace_epochs - 1] for trial in compared}
    paths = varied(compared)

    why, count = "", f"{len(compared)} trial{'s' * (len(compared) != 1)}"
    if len(compared) < 2:
        why = f"Only {count} reached epoch {grace_epochs} without failing, and a comparison needs two."
    elif not paths:
        why = f"All {count} that reached epoch {grace_epochs} have the same settings."
    elif len(values) == 1:
        why = f"All {count} that reached epoch {grace_epochs} have the same NME there, so no setting can have mattered."

    study, importances, why_no_importances = None, {}, why
    notes: list[str] = []
    if not why:
        study, notes = _study(compared, grace_epochs, paths, distributions or {})
        names = short_names(paths)
        partial = [names[path] for path in paths if any(path not in trial.sample for trial in compared)]
        if len(compared) < MIN_TRIALS_FOR_IMPORTANCE:
            why_no_importances = f"Only {count} reached epoch {grace_epochs}, and importances need {MIN_TRIALS_FOR_IMPORTANCE}."
        elif len(partial) == len(paths):
            why_no_importances = f"No setting that varies is in all {count}, and {EVALUATOR} judges only such."
        else:
            importances = _importances(study)
            if partial:
                notes.append(f"{EVALUATOR} judges only settings that all trials have: without {', '.join(partial)}.")
            if len(compared) < TRIALS_FOR_TRUST:
                notes.append(f"Importances from fewer than {TRIALS_FOR_TRUST} trials are a hint, no finding.")
    return Comparison(
        epoch=grace_epochs,
        trials=compared,
        left_out=len(trials) - len(compared),
        study=study,
        importances=importances,
        why_no_study=why,
        why_no_importances=why_no_importances,
        notes=tuple(notes),
    )


def evaluator() -> Any:
    """Optuna's fANOVA: how much of the variance of the NME each setting explains, alone and with others; seeded.

    Optuna's default, PED-ANOVA, asks what the best trials have in common and needs more of them than a search has: of a
    categorical setting that alone decided the error it said so in 0 to 2 of 12 searches of 24 trials by TPE, fANOVA in all.
    """
    from optuna.importance import FanovaImportanceEvaluator

    return FanovaImportanceEvaluator(seed=0)


def log_nme(trial: FrozenTrial) -> float:
    """What importances explain. One diverged trial would take most of the variance of the NME itself."""
    assert trial.value is not None
    return math.log(trial.value)


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna says on stderr that it made a study, which here is nobody's concern."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _importances(study: Study) -> dict[str, float]:
    from optuna.importance import get_param_importances

    found = get_param_importances(study, evaluator=evaluator(), target=log_nme)
    return {name: float(value) for name, value in sorted(found.items(), key=lambda item: (-item[1], item[0]))}


def _study(
    trials: Sequence[Trial], epoch: int, paths: Sequence[str], distributions: Mapping[str, BaseDistribution]
) -> tuple[Study, list[str]]:
    """The study, and notes on distributions that do not fit."""
    import optuna

    names, notes = short_names(paths), []
    chosen: dict[str, BaseDistribution] = {}
    texts: set[str] = set()
    for path in paths:
        values = [trial.sample[path] for trial in trials if path in trial.sample]
        given, as_text = _canonical(distributions[path]) if path in distributions else (None, False)
        if given is not None and not _contains(given, [_text(value) if as_text else value for value in values]):
            notes.append(f"{names[path]} has values outside of what it was to be sampled from; its range is that of the values.")
            given = None
        if given is None:
            given, as_text = _infer(values)
        chosen[path] = given
        if as_text:
            texts.add(path)
    with quiet_optuna():
        study = optuna.create_study(direction="minimize", study_name="search")
    for trial in trials:
        sampled = [path for path in paths if path in trial.sample]
        study.add_trial(
            optuna.create_trial(
                value=trial.nme_by_epoch[epoch - 1],
                params={names[path]: _text(trial.sample[path]) if path in texts else trial.sample[path] for path in sampled},
                distributions={names[path]: chosen[path] for path in sampled},
            )
        )
    return study, notes


def _canonical(given: BaseDistribution) -> tuple[BaseDistribution, bool]:
    """A distribution whose choices are all numbers or all texts, and whether they were made texts."""
    from optuna.distributions import CategoricalDistribution

    if isinstance(given, CategoricalDistribution) and not all(_is_number(choice) for choice in given.choices):
        return CategoricalDistribution([_text(choice) for choice in given.choices]), True
    return given, False


def _contains(distribution: BaseDistribution, values: Sequence[Any]) -> bool:
    from optuna.distributions import CategoricalDistribution

    if isinstance(distribution, CategoricalDistribution):
        return all(value in distribution.choices for value in values)
    return all(_is_number(value) and distribution._contains(value) for value in values)


def _infer(values: Sequence[Any]) -> tuple[BaseDistribution, bool]:
    """A distribution over the values, and whether they have to become texts for it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not all(_is_number(value) for value in values):
        return CategoricalDistribution(sorted({_text(value) for value in values})), True
    low, high = min(values), max(values)
    log = low > 0 and high / low > _LOG_SPAN
    kind = IntDistribution if all(isinstance(value, int) for value in values) else FloatDistribution
    return kind(low, high, log=log), False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
