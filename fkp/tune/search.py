"""Search settings with Ray Tune, on this machine or on the cluster that RAY_ADDRESS names.

python tune/search.py [--config FILE.yaml] [--trials N] [--refit] [--section.key VALUE ...]
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from fkp.compat import know_old_names
from fkp.errors import FkpError, run_command

if TYPE_CHECKING:
    from ray.tune import Tuner

    from fkp.config import Config
    from fkp.track.write_ahead_log import Status
    from fkp.train.ancestor import Ancestor
    from fkp.tune.options import Settings
    from fkp.tune.resources import Placement
    from fkp.tune.space import Space
    from fkp.tune.study import Study

#: A driver that dies loses what Tune has not saved: it saves its state this often, in seconds.
_SAVE_EVERY_S = "2"


def main(argv: list[str] | None = None) -> None:
    """Search, show what was found, and train the best again when asked to."""
    from fkp.tune.options import parse

    settings, config = parse(sys.argv[1:] if argv is None else argv)
    undelivered = search(settings, config)
    if undelivered:
        raise FkpError(undelivered)


def search(settings: Settings, config: Config) -> str:
    """Run a search from its start or its last state to its end.

    Returns:
        What is missing in the record, in one sentence; empty when nothing is.

    Raises:
        FkpError: Anything the user can mend; finished trials are kept.
    """
    from fkp.common import storage
    from fkp.data.crop_cache import open_cache
    from fkp.errors import stopping
    from fkp.track.write_ahead_log import WriteAheadLog
    from fkp.train.ancestor import find_ancestor, pinned
    from fkp.train.pipeline import make_synthetic, with_absolute_paths, with_source
    from fkp.train.publish_detector import faces_of
    from fkp.tune import record, refit
    from fkp.tune.space import read_space
    from fkp.tune.study import open_study
    from fkp.tune.trial import check_batch

    # What can be wrong with the input shows before anything starts: the space, the frames, the place, the record.
    name = config.track.run_name or f"search-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    config = with_absolute_paths(with_source(config.updated({"track.run_name": name, **_for_scheduler(settings, config)})))
    space = read_space(settings.space, config)
    _check_grid(settings, space)
    check_batch(settings, config, space)
    if config.train.init and (moved := [entry.path for entry in space.entries if entry.path.startswith(("model.", "input."))]):
        raise FkpError(f"a search that begins from a model (train.init) cannot change its {moved[0]}: leave it out of {settings.space}")
    ancestor = find_ancestor(config)
    config = pinned(config, ancestor)
    storage.check_writable(config.track.storage)
    make_synthetic(config)
    data_digest = faces_of(config.data).digest if config.task == "detect" else open_cache(config).digest
    begun = f"search {name} is kept; continue with the same command and --name {name} --resume"
    with open_study(settings, config, space) as study, stopping.hint(lambda: begun if study.begun else stopping.ANEW):
        study.log = WriteAheadLog.open(study.folder / "outbox.jsonl", config.track.experiment)
        study.save()  # From here on the name is taken.
        status: Status = "FINISHED"
        try:
            if not study.finished:
                record.begin(study, data_digest)
                _run(study, ancestor)
            best = record.finish(study)
        except BaseException as error:
            status = record.failed(study, error)
            raise
        finally:
            undelivered = record.close(study, status)
            if status != "FINISHED" and undelivered:
                print(undelivered, file=sys.stderr)  # The error, not this, is the command's one sentence.
        trained = None
        try:
            if stopping.received() is not None:
                raise KeyboardInterrupt
            trained = refit.refit(study, best) if settings.refit else None
        except BaseException:
            if undelivered:
                print(undelivered, file=sys.stderr)
            raise
        finally:
            record.say(study, best, trained)
        return undelivered


def _for_scheduler(settings: Settings, config: Config) -> dict[str, Any]:
    """Population-based training finds the learning rate's course itself and needs a run that has none."""
    return {"optim.schedule": "constant"} if settings.scheduler == "pbt" else {}


def _check_grid(settings: Settings, space: Space) -> None:
    if settings.algo == "grid" and settings.trials is not None and settings.trials != len(space.grid_points()):
        raise FkpError(f"the grid has {len(space.grid_points())} points and --trials is {settings.trials}: leave --trials out")


def _run(study: Study, ancestor: Ancestor | None) -> None:
    """Let Tune run the trials that are not done yet."""
    from fkp.cluster.ray_session import connect
    from fkp.errors import stopping
    from fkp.train.loop import MALLOC_ENVIRONMENT
    from fkp.tune.live_table import LiveTable
    from fkp.tune.resources import place

    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", _SAVE_EVERY_S)
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    # What a trial raised stands in the table and the record; its traceback in error.txt of its folder.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with connect(MALLOC_ENVIRONMENT):
        placement = place(study.settings, study.config)
        study.cores, study.concurrent = placement.cores, placement.concurrent
        with LiveTable(study.planned) as study.live, stopping.instead(_end_tune):
            _tuner(study, placement, ancestor).fit()
        study.live = None
    if not study.close():
        if stopping.received() is not None:
            raise KeyboardInterrupt
        raise FkpError(f"search {study.name} was interrupted: the same command with --name {study.name} --resume continues it")


def _end_tune() -> None:
    """Have Tune save its state and return, as it does at SIGUSR1.

    Raises:
        KeyboardInterrupt: It has not begun.
    """
    handler = signal.getsignal(signal.SIGUSR1)
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal.SIGUSR1, None)


def _tuner(study: Study, placement: Placement, ancestor: Ancestor | None) -> Tuner:
    """Tune as configured, from its last state when it has one."""
    from ray import tune
    from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner

    from fkp.common import storage
    from fkp.tune.algorithm import choose
    from fkp.tune.study import StudyCallback, TimeBudgetStopper
    from fkp.tune.trial import train_trial

    settings, config = study.settings, study.config
    job = {
        "base": config.model_dump(mode="json"),
        "epochs": settings.epochs,
        "workers": settings.workers,
        "gpus": placement.gpus,
        "crops": _put_crops(study.space, config),
        "pipelines": placement.concurrent * settings.workers,
        "folder": storage.join(study.place, "train"),
        "follow": settings.scheduler == "pbt",
        "ancestor": ancestor,
    }
    trainable = tune.with_resources(tune.with_parameters(train_trial, job=job), placement.trial_resources)
    if Tuner.can_restore(study.state):
        know_old_names()  # Its state is pickled.
        return Tuner.restore(study.state, trainable, resume_unfinished=True)
    algorithm = choose(study, placement.concurrent)
    return Tuner(
        trainable,
        param_space=algorithm.param_space,
        tune_config=TuneConfig(
            metric=config.val_nme_key,
            mode="min",
            num_samples=1 if settings.algo == "grid" else study.planned - study.earlier,
            search_alg=algorithm.search_alg,
            scheduler=algorithm.scheduler,
            max_concurrent_trials=algorithm.concurrent,
            reuse_actors=settings.workers == 1,
        ),
        run_config=RunConfig(
            name=study.state.rpartition("/")[2],
            storage_path=study.place,
            callbacks=[StudyCallback(study)],
            stop=TimeBudgetStopper(study),
            failure_config=FailureConfig(max_failures=config.scale.max_failures),
            # Population-based training copies checkpoints of other trials, also those before the last.
            checkpoint_config=CheckpointConfig(num_to_keep=None if settings.scheduler == "pbt" else 2),
            verbose=0,
        ),
    )


def _put_crops(space: Space, config: Config) -> dict[str, Any]:
    """Decode the crops of every setting that changes them, once, and share them through Ray's object store."""
    import numpy as np
    import ray

    from fkp.data.crop_cache import CropCache, CropSet, open_cache
    from fkp.tune.trial import crops_key

    def plain(part: CropSet) -> CropSet:
        # The object store shares plain arrays, and would copy a memory map into every process.
        return CropSet(np.array(part.crops_u8), np.array(part.points_px), np.array(part.rows))

    if config.task == "detect":
        return {}  # Each trial makes scenes of its own.
    crops = {}
    for sample in space.crop_settings():
        run = config.updated(sample)
        cache = open_cache(run)
        crops[crops_key(run)] = ray.put(CropCache(cache.train and plain(cache.train), plain(cache.val), cache.digest))
    return crops


if __name__ == "__main__":
    run_command(main, "tune")
