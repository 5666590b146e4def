"""How a search goes: its flags, beside the settings of the runs themselves."""

from __future__ import annotations

import argparse
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from fkp.config import Config, config_from_args
from fkp.errors import FkpError
from fkp.shipped import shipped

ALGORITHMS = ("optuna", "random", "grid")
SCHEDULERS = ("asha", "hyperband", "pbt", "none")

_ABOUT = """\
Search learning rate, architecture and more with Ray Tune, and record it all in MLflow.

Every other setting is one of a run, as in `fkp train --help`: --config FILE, --optim.lr 0.01, ...
--train.epochs is the full budget, which only --refit spends; --epochs is what a trial of the search may spend.
"""


@dataclass(frozen=True)
class Settings:
    """A search; see the flags for what each field means."""

    space: str = str(shipped("tune/space.yaml"))
    trials: int | None = None
    epochs: int = 9
    grace: int = 1
    reduction: int = 3
    algo: str = "optuna"
    scheduler: str = "asha"
    workers: int = 1
    gpus: float | None = None
    concurrent: int | None = None
    minutes: float | None = None
    seed: int = 0
    blind: bool = False
    name: str | None = None
    resume: bool = False
    refit: bool = False

    def identity(self) -> dict[str, Any]:
        """What must be the same when a search is resumed, as plain JSON."""
        ours = ("trials", "epochs", "grace", "reduction", "algo", "scheduler", "workers", "seed", "blind")
        return {key: getattr(self, key) for key in ours}

    def as_params(self) -> dict[str, Any]:
        """The settings as parameters of the search's record."""
        return {f"search.{key}": value for key, value in dataclasses.asdict(self).items()}


def parse(argv: list[str]) -> tuple[Settings, Config]:
    """Read the command line of a search.

    Raises:
        FkpError: A flag or a value that there is not, or a budget of nothing.
        SystemExit: After `--help`.
    """
    parser = _Parser(prog="fkp tune", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    own = Settings()
    flag = parser.add_argument
    flag("--space", default=own.space, metavar="YAML", help="what is searched; by default tune/space.yaml, which says how to write one")
    flag("--trials", type=int, help="how many trials (32; a grid has as many as it has points); a finished search takes more")
    flag("--epochs", type=int, default=own.epochs, help="most epochs of a trial (%(default)s)")
    flag("--grace", type=int, default=own.grace, help="epochs before a trial may be stopped (%(default)s)")
    flag("--reduction", type=int, default=own.reduction, help="one in so many trials goes on at each halt (%(default)s)")
    flag("--algo", choices=ALGORITHMS, default=own.algo, help="what proposes trials (%(default)s: multivariate TPE)")
    flag("--scheduler", type=_scheduler, choices=SCHEDULERS, default=own.scheduler, help="what stops bad trials (%(default)s)")
    flag("--workers", type=int, default=own.workers, help="Ray Train workers of a trial (%(default)s: in the trial's own process)")
    flag("--gpus", type=float, help="GPUs of a worker, a fraction shares one (by default 1 where the cluster has any)")
    flag("--concurrent", type=int, help="most trials at once, for a new search (by default as many as the cluster holds)")
    flag("--minutes", type=float, help="stop the search after so many minutes")
    flag("--seed", type=int, default=own.seed, help="seed of the proposals; --train.seed is the networks' (%(default)s)")
    flag("--blind", action="store_true", help="do not begin with the space's defaults or the run's own settings")
    flag("--name", help="name of the search (made from the time)")
    flag("--resume", action="store_true", help="continue with the unfinished search --name")
    flag("--refit", action="store_true", help="train the best for --train.epochs, evaluate, register and promote it if it is better")
    known, others = parser.parse_known_args(argv)
    settings = Settings(**vars(known))
    _check(settings)
    name = {} if settings.name is None else {"track.run_name": settings.name}
    config = config_from_args(others, "fkp tune", "Settings of every run of the search.")
    if config.track.run_name is not None:
        raise FkpError("a search has one --name: leave out track.run_name")
    return settings, config.updated(name)


def _check(settings: Settings) -> None:
    for flag in ("trials", "epochs", "grace", "workers", "concurrent", "minutes"):
        value = getattr(settings, flag)
        if value is not None and not value > 0:
            raise FkpError(f"--{flag} is {value}: a search needs a budget above 0")
    if settings.reduction < 2:
        raise FkpError(f"--reduction is {settings.reduction}: at least every second trial must be stopped")
    if settings.grace > settings.epochs:
        raise FkpError(f"--grace {settings.grace} is more than --epochs {settings.epochs}: no trial could be stopped")
    if settings.gpus is not None and not (math.isfinite(settings.gpus) and settings.gpus >= 0):
        raise FkpError(f"--gpus is {settings.gpus}: use 0 or a part of a GPU such as 0.25")
    if settings.resume and settings.name is None:
        raise FkpError("--resume needs the --name of the search to continue with")
    if settings.scheduler == "pbt" and settings.workers > 1:
        raise FkpError("--scheduler pbt moves checkpoints between trials of one worker: leave out --workers")
    if settings.scheduler == "pbt" and settings.algo == "grid":
        raise FkpError("--scheduler pbt proposes trials itself: leave out --algo grid")
    if settings.scheduler == "hyperband" and settings.workers > 1:
        raise FkpError("--scheduler hyperband lets trials wait for each other, which those of one worker can: leave out --workers")


def _scheduler(name: str) -> str:
    if name == "bohb":
        raise FkpError("--scheduler bohb was removed, for nobody maintains its package: use --scheduler hyperband, with Optuna")
    return name


#: Settings that population-based training may change on the way: they do not shape the network.
MUTABLE = ("optim.lr", "optim.weight_decay", "augment.", "loss.heatmap_weight")


class _Parser(argparse.ArgumentParser):
    """argparse prints its usage around an error; ours are one sentence."""

    def error(self, message: str) -> Any:
        raise FkpError(f"{message}: --help lists the flags")
