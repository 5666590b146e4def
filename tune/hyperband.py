"""HyperBand as Ray has it, with corrections without which it stops next to nothing, or never ends (Ray 2.60)."""

from __future__ import annotations

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import HyperBandScheduler


class HyperBand(HyperBandScheduler):
    """Successive halving in brackets: a trial that reaches a halt waits there until the others of its bracket do.

    A trial that waits holds no core, but Ray's searchers count it against their limit of concurrent trials: a bracket of nine
    then never has more than that many members, all of them survive, and nobody is stopped. Here only those count that run.
    And Ray marks a bracket at its first halt as "being processed" and never takes the mark away, nor looks at the last halt
    when a trial is gone: where one fails later, the others of its bracket wait for it for ever.

    Args:
        concurrent: Trials at once.
        **settings: See `HyperBandScheduler`.
    """

    def __init__(self, concurrent: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._concurrent = concurrent

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """See `HyperBandScheduler`; called before every step, and so where the searcher's limit follows."""
        trials = tune_controller.get_trials()
        halted = [trial for trial in trials if trial.status == Trial.PAUSED and trial not in self._trial_info[trial][0].trials_to_unpause]
        searcher = tune_controller.search_alg
        # A trial that stands alone in its bracket would be its best: one more than runs must be there to compare it with.
        getattr(searcher, "searcher", searcher).max_concurrent = max(self._concurrent, 2) + len(halted)
        chosen = super().choose_trial_to_run(tune_controller)
        active = sum(trial.status in (Trial.RUNNING, Trial.PENDING) for trial in trials)
        if chosen is not None and chosen.status == Trial.PAUSED and active >= self._concurrent:
            return None  # Survivors of a halt take their turn.
        return chosen

    def _process_bracket(self, tune_controller: Any, bracket: Any) -> str:
        try:
            return super()._process_bracket(tune_controller, bracket)
        finally:
            bracket.is_being_processed = False

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """See `HyperBandScheduler`."""
        super().on_trial_remove(tune_controller, trial)
        bracket, _ = self._trial_info[trial]
        if bracket.finished():
            bracket.cleanup_full(tune_controller)
