"""ASHA that goes on where another search has ended."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler

from fkp.train.ray_backend import EPOCHS
from fkp.tune.results import Trial


class ASHA(ASHAScheduler):
    """Holds new trials against those that have ended, too: against each other alone, the first of them would never be stopped.

    Args:
        found: Those that have ended.
        *arguments: See `ASHAScheduler`.
        **settings: The same.
    """

    def __init__(self, found: Sequence[Trial], *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._found = tuple(found)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Called by Tune before the first trial, and before the first one of a search that is resumed."""
        known = super().set_search_properties(metric, mode, **spec)
        for trial in self._found:
            told: Any = SimpleNamespace(trial_id=trial.trial_id)
            self.on_trial_add(None, told)  # type: ignore[arg-type]
            for epochs, nme in enumerate(trial.nme_by_epoch, 1):
                self.on_trial_result(None, told, {EPOCHS: epochs, str(self._metric): nme})  # type: ignore[arg-type]
            self.on_trial_remove(None, told)  # type: ignore[arg-type]
        self._num_stopped = 0
        return known
