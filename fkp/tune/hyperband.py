"""HyperBand as Ray has it, with corrections without which it stops next to nothing, or never ends (Ray 2.60)."""

from __future__ import annotations

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import HyperBandScheduler

from fkp.common import ray_private


class HyperBand(HyperBandScheduler):
    """Successive halving in brackets: a trial that reaches a halt waits there until the others of its bracket do.

    - A bracket halts first when it has all its members, or when no more will come. Ray's halts when all that have come so far
      are there: the first one is alone, so the best, and goes on.
    - A bracket that has had all its members takes no more. Ray fills it up again as they end, and opens no second one.
    - Trials that wait hold no core, but Ray's searchers count them against the limit of concurrent trials, and a bracket of
      nine would never have more members than run at once.
    - Ray marks a bracket at its first halt as "being processed" and never takes the mark away, nor looks at the last halt when a
      trial is gone: where one fails later, the others of its bracket wait for it for ever.

    Args:
        concurrent: Trials at once.
        **settings: See `HyperBandScheduler`.
    """

    def __init__(self, concurrent: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._concurrent = concurrent

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """See `HyperBandScheduler`."""
        newest = ray_private.newest_bracket(self)
        if newest is not None and ray_private.is_complete(newest):
            ray_private.open_another_bracket(self)
        super().on_trial_add(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """See `HyperBandScheduler`; called before every step, and so where the searcher's limit follows."""
        trials = tune_controller.get_trials()
        active = sum(trial.status in (Trial.RUNNING, Trial.PENDING) for trial in trials)
        waiting = [trial for trial in trials if trial.status == Trial.PAUSED and not self._survived(trial)]
        searcher = getattr(tune_controller.search_alg, "searcher", tune_controller.search_alg)
        limit = self._concurrent + len(waiting)
        # Ray asks the searcher before it calls this. Whether more will come shows only where it was asked with room for more.
        had_room = searcher.max_concurrent == limit
        searcher.max_concurrent = limit
        if waiting and not active and had_room:  # No more will come for their brackets.
            for bracket in {id(bracket): bracket for bracket in (ray_private.bracket_of(self, trial) for trial in waiting)}.values():
                super()._process_bracket(tune_controller, bracket)
                bracket.is_being_processed = False
        chosen = super().choose_trial_to_run(tune_controller)
        if chosen is not None and chosen.status == Trial.PAUSED and active >= self._concurrent:
            return None  # Survivors of a halt take their turn.
        return chosen

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """See `HyperBandScheduler`."""
        super().on_trial_remove(tune_controller, trial)
        bracket = ray_private.bracket_of(self, trial)
        if bracket.finished():
            bracket.cleanup_full(tune_controller)

    def _survived(self, trial: Trial) -> bool:
        return trial in ray_private.bracket_of(self, trial).trials_to_unpause

    def _process_bracket(self, tune_controller: Any, bracket: Any) -> str:
        if not ray_private.is_complete(bracket):
            return HyperBandScheduler.PAUSE
        try:
            return super()._process_bracket(tune_controller, bracket)
        finally:
            bracket.is_being_processed = False
