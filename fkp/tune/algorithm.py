"""What proposes trials and what stops them: Optuna, random, grid; ASHA, HyperBand, population-based training, none."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fkp.errors import FkpError
from fkp.train.ray_backend import EPOCHS
from fkp.tune.options import MUTABLE
from fkp.tune.trial import WORST_NME

if TYPE_CHECKING:
    from fkp.tune.study import Study

#: Trials that TPE draws at random before it models anything: Optuna's own default.
_STARTUP_TRIALS = 10


@dataclass(frozen=True)
class Algorithm:
    """Arguments of Tune that belong together.

    Attributes:
        search_alg: Proposes trials; None is Tune's own, for a grid.
        scheduler: Stops trials.
        param_space: For a `search_alg` that does not hold the space itself.
        concurrent: `max_concurrent_trials`; None where the `search_alg` keeps it.
    """

    search_alg: Any
    scheduler: Any
    param_space: dict[str, Any]
    concurrent: int | None


def choose(study: Study, concurrent: int) -> Algorithm:
    """Build what the flags ask for.

    Raises:
        FkpError: --scheduler pbt has nothing in the space that it may change.
    """
    from ray import tune
    from ray.tune import schedulers
    from ray.tune.search import BasicVariantGenerator

    settings, space = study.settings, study.space
    scheduler: Any = schedulers.FIFOScheduler()
    if settings.scheduler == "asha":
        from fkp.tune.asha import ASHA

        scheduler = ASHA(study.found, EPOCHS, max_t=settings.epochs, grace_period=settings.grace, reduction_factor=settings.reduction)
    elif settings.scheduler == "hyperband":
        from fkp.tune.hyperband import HyperBand

        scheduler = HyperBand(concurrent, time_attr=EPOCHS, max_t=settings.epochs, reduction_factor=settings.reduction)
    elif settings.scheduler == "pbt":
        mutable = {entry.path: entry.domain() for entry in space.entries if entry.path.startswith(MUTABLE)}
        if not mutable:
            raise FkpError(f"--scheduler pbt needs a space with one of {', '.join(MUTABLE)}: it changes them while trials run")
        scheduler = schedulers.PopulationBasedTraining(EPOCHS, perturbation_interval=settings.grace, hyperparam_mutations=mutable)
    if settings.algo == "grid":
        return Algorithm(None, scheduler, {path: tune.grid_search(values) for path, values in space.grid().items()}, concurrent)
    first = {} if settings.blind or study.earlier else space.first_sample(study.config)
    points = [first] if first else None
    if settings.algo == "random" or settings.scheduler == "pbt":
        generator = BasicVariantGenerator(points_to_evaluate=points, max_concurrent=concurrent, random_state=_seed(study))
        return Algorithm(generator, scheduler, space.domains(), None)
    return Algorithm(_optuna(study, points), scheduler, {}, concurrent)


def _optuna(study: Study, points: list[dict[str, Any]] | None) -> Any:
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # A trial that still runs counts as a bad one, so that trials at the same time do not all try the same.
        sampler = optuna.samplers.TPESampler(n_startup_trials=_STARTUP_TRIALS, multivariate=True, constant_liar=True, seed=_seed(study))
        search = OptunaSearch(
            study.space.distributions(), metric=study.config.val_nme_key, mode="min", sampler=sampler, points_to_evaluate=points
        )
    for trial in study.found:  # As Tune told of them: by the last error, and of one that cannot be trained by the worst.
        if trial.nme_by_epoch or trial.state == "failed":
            search.add_evaluated_point(trial.sample, trial.nme_by_epoch[-1] if trial.nme_by_epoch else WORST_NME)
    return search


def _seed(study: Study) -> int:
    """The seed of what is drawn: with the same one, trials that are added to a search would repeat its first."""
    if not study.earlier:
        return study.settings.seed
    return int(np.random.SeedSequence([study.settings.seed, study.earlier]).generate_state(1)[0])
