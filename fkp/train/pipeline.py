"""A training from start to finish: crops, workers, the best checkpoint as a bundle, its metrics, the record."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fkp.common import storage
from fkp.config import Config
from fkp.data import labels
from fkp.data.extra import about_extra
from fkp.data.labels import place_of, root_of
from fkp.errors import FkpError, stopping
from fkp.train.publish import Outcome, publish
from fkp.train.run_dir import Run, noted_init, open_run

if TYPE_CHECKING:
    from fkp.track import Record
    from fkp.train.ancestor import Ancestor


def train(config: Config) -> Outcome:
    """Train a model as configured, or continue with the unfinished run of the same name.

    What can be wrong with the input is found before a worker starts: the architecture, every frame and label, the
    run's name, the record's address. A store that takes nothing any more from then on stops nothing, see `Outcome.undelivered`.

    Raises:
        FkpError: Anything the user can mend.
    """
    from fkp import track
    from fkp.data.crop_cache import open_cache
    from fkp.model.network import Network
    from fkp.train.ancestor import find_ancestor, pinned

    if config.task == "detect":
        return train_detector(config)
    config = with_source(config)
    Network(config)
    ancestor = find_ancestor(config, noted_init(with_absolute_paths(config)))
    check_storage(config)
    make_synthetic(config)
    absolute = pinned(with_absolute_paths(config), ancestor)
    cache = open_cache(absolute)
    with open_run(absolute) as run, stopping.hint(_going_on(run, named=config.track.run_name is not None)):
        tags = {"data_digest": cache.digest, "split": config.data.split, "config_digest": config.digest()}
        with track.recording(run.config, tags, run.mlflow_run_id) as record:
            run.mlflow_run_id = record.run_id
            run.save()
            faces = None if cache.train is None else int((cache.train.rows >= 0).sum())
            record.log_dataset(config.data.source, cache.digest, str(absolute.data.root), faces)
            for root, extra in zip(absolute.data.extra, about_extra(absolute.data), strict=True):
                record.log_dataset(Path(root).name, extra["labels_sha256"], root, extra["faces"])
            began = time.monotonic()
            best = _fit(run, record, ancestor)
            minutes = (time.monotonic() - began) / 60
            # The bundle keeps the settings as they were given: it may travel to where our folders do not exist.
            given = config.updated({"track": {"run_name": run.name}})
            outcome = publish(run, best, given, cache, record, minutes, ancestor)
        run.finish()
    return replace(outcome, undelivered=record.undelivered)


def train_detector(config: Config) -> Outcome:
    """Like `train`, of a face detector.

    Raises:
        FkpError: Anything the user can mend.
    """
    from fkp import track
    from fkp.model.detection import DetectionNetwork
    from fkp.train.publish_detector import faces_of, publish_detector

    config = with_source(config)
    if config.train.init is not None or config.data.backend == "stream" or config.input.channels != 3:
        raise FkpError("task=detect begins from nothing, with data.backend=memory and input.channels=3")
    DetectionNetwork(config)
    check_storage(config)
    make_synthetic(config)
    absolute = with_absolute_paths(config)
    faces = faces_of(absolute.data)
    with open_run(absolute) as run, stopping.hint(_going_on(run, named=config.track.run_name is not None)):
        tags = {"data_digest": faces.digest, "split": config.data.split, "config_digest": config.digest()}
        with track.recording(run.config, tags, run.mlflow_run_id) as record:
            run.mlflow_run_id = record.run_id
            run.save()
            record.log_dataset(config.data.source, faces.digest, str(absolute.data.root), faces.own)
            for root, extra in zip(absolute.data.extra, faces.extra, strict=True):
                record.log_dataset(Path(root).name, extra["labels_sha256"], root, extra["faces"])
            began = time.monotonic()
            best = _fit(run, record, None)
            minutes = (time.monotonic() - began) / 60
            outcome = publish_detector(run, best, config.updated({"track": {"run_name": run.name}}), faces, record, minutes)
        run.finish()
    return replace(outcome, undelivered=record.undelivered)


def _going_on(run: Run, named: bool) -> str:
    flag = "" if named else f" and --track.run_name {run.name}"
    return f"run {run.name} is kept in {run.place}; continue with the same command{flag}"


def check_storage(config: Config) -> None:
    """Refuse at once what could not keep the run.

    Raises:
        FkpError: The bucket cannot be written, or it is asked of a training that has no Ray to write there.
    """
    if storage.is_uri(config.track.storage) and not config.scale.num_workers:
        raise FkpError(f"track.storage={config.track.storage} needs Ray workers: set scale.num_workers to 1 or more, or name a folder")
    storage.check_writable(config.track.storage)


def with_source(config: Config) -> Config:
    """The same run; an imported set is a folder, whatever source was given."""
    return config.updated({"data.source": labels.with_source(config.data).source})


def with_absolute_paths(config: Config) -> Config:
    """The same run for processes that start in another folder."""
    changes = {
        "data.root": storage.absolute(place_of(config.data)),
        "data.extra": [str(Path(root).absolute()) for root in config.data.extra],
        "detect.backgrounds": [str(Path(folder).absolute()) for folder in config.detect.backgrounds],
        "data.cache_dir": str(Path(config.data.cache_dir).absolute()),
        "track.storage": storage.absolute(config.track.storage),
    }
    return config.updated(changes)


def make_synthetic(config: Config) -> None:
    """Make the synthetic set where a run asks for it and it is not there yet."""
    if config.data.source == "synthetic" and config.data.backend != "stream":
        from fkp.data.synthetic.render import write_set

        write_set(root_of(config.data), config.data.synthetic_faces, config.data.synthetic_seed)


def _fit(run: Run, record: Record, ancestor: Ancestor | None) -> Path:
    """Train and return the best checkpoint."""
    from fkp.train.metric_log import write_ahead
    from fkp.train.progress import ProgressBar

    write = write_ahead(run, record)
    with ProgressBar(run.name, "AP lacks" if run.config.task == "detect" else "NME") as bar:
        if run.config.scale.num_workers:
            from fkp.train.ray_backend import fit_on_ray

            return fit_on_ray(run, write, bar.update, ancestor)
        from fkp.train import loop

        return loop.fit_in_process(run.config, run.folder / "checkpoints", bar.update, write, ancestor=ancestor)
