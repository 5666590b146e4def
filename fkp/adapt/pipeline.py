"""From a labelled set and a base model to a bundle and its report."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fkp import track
from fkp.adapt.faces import Faces, check_set, folds_of, read_faces, shown
from fkp.adapt.finetune import Recipe
from fkp.adapt.measure import measure, predictor_of
from fkp.adapt.publish import publish
from fkp.adapt.report import summarise
from fkp.adapt.ways import TRIED, Adapter, Trial, Way, scale_factor, try_ways
from fkp.bundle import SUMS, Bundle, load_network
from fkp.common import files
from fkp.config import Config, DataConfig
from fkp.data.face_shape import box_of_label
from fkp.data.labels import Catalog, load_labels, read_frame
from fkp.errors import FkpError
from fkp.evaluation.evaluate import ERROR_RADII
from fkp.evaluation.leakage import Leakage
from fkp.evaluation.report import write_report
from fkp.predict import Predictor
from fkp.train.ancestor import open_ancestor, read_ancestor
from fkp.vision.crop import box_of_points

#: From so many faces on a fifth of them measures enough, and one training without it is tried; of fewer each is held out once.
ONE_FOLD_FROM = 300
#: A scheme that shares no landmark with the base's needs so many faces.
LEAST_WITHOUT_NAMES = 50
_FOLDS, _OF_MANY = 3, 5
#: Less than the share of any person, see `splits.draws_of`.
_NOBODY = 1e-10
_SCALE_FRAMES = 24


@dataclass(frozen=True)
class Adapted:
    """What came of it.

    Attributes:
        bundle: The model; None where it does not help and none was written.
        report_path: JSON; the HTML report lies beside it where there is a bundle.
        summary: Content of the JSON.
        undelivered: See `train.publish.Outcome`.
    """

    bundle: Bundle | None
    report_path: Path
    summary: dict[str, Any]
    undelivered: str = ""


def adapt(
    data: DataConfig, model: str, out: Path, ways: Sequence[Way] = TRIED, recipe: Recipe | None = None, seed: int = 0, force: bool = False
) -> Adapted:
    """Adapt a model to a labelled set.

    Args:
        data: The set: `source`, `root` and `scheme`.
        model: Bundle's folder, models:/NAME/3 or champion.
        out: The bundle's folder; the reports are `<out>-report.json` and `.html`.
        ways: Which to try.
        recipe: Of the fine-tuning.
        seed: Of it.
        force: Write the bundle also where it does not help.

    Raises:
        FkpError: Anything the user can mend; nothing is written then.
    """
    out = out.resolve()
    if out.exists() and not (out / SUMS).is_file():
        raise FkpError(f"{out} exists and is not a bundle: choose another place for --out")
    base, address = open_ancestor(model)
    if out == base.path.resolve():
        raise FkpError(f"{out} is the model to begin from: choose another place for --out")
    catalog = load_labels(data)
    check_set(catalog)
    check_schemes(catalog, base)
    # What an alias points to today; a folder as it was named, for the bundle may travel.
    begun_from = address if address.startswith("models:/") else model
    config = config_of(base, data, begun_from, out).updated({"input.crop_scale": crop_scale(catalog, base)})
    adapter = Adapter(read_ancestor(base, address), load_network(base), config, recipe or Recipe(), seed)
    tags = {"labels_sha256": catalog.digest, "adapted_from": address, "base_digest": base.digest}
    with track.recording(config, tags) as record:
        record.log_dataset(data.source, catalog.digest, str(catalog.root), len(catalog))
        adapted = _adapt(catalog, base, adapter, out, ways, force)
        after, before = adapted.summary["after"], adapted.summary["before"]
        record.log_metrics({"headline/before_nme_pct": before["nme_pct"], "headline/after_nme_pct": after["nme_pct"]} if before else {})
        record.log_metrics({f"ways/{way}_nme_pct": nme for way, nme in adapted.summary["ways"].items()})
        record.log_tags({"way": adapted.summary["way"], "helps": str(adapted.summary["helps"])})
        record.log_artifacts(adapted.report_path, "evaluation")
        if adapted.bundle is not None:
            record.log_tags({"bundle_digest": adapted.bundle.digest})
            record.log_artifacts(adapted.bundle.path, "bundle")
            record.log_artifacts(adapted.report_path.with_suffix(".html"), "evaluation")
    return replace(adapted, undelivered=record.undelivered)


def config_of(base: Bundle, data: DataConfig, address: str, out: Path) -> Config:
    """The run of the adapted model, with a map of the shape."""
    kept = base.config.data.model_dump(include={"cache_dir"})
    # No validation subset: `folds_of` splits, and all train in the end.
    own = data.updated({"test_fold": 0, "val_fold": 1, "val_share": _NOBODY, **kept})
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", out.name).strip("-._")[:100] or "adapted"
    config = base.config.updated(
        {
            "model.base_scheme": base.config.model.base_scheme or base.config.data.scheme,
            "train.init": address,
            "track.run_name": name,
            "scale.num_workers": 0,
        }
    )
    return Config.model_validate({**config.model_dump(), "data": own.model_dump()})


def crop_scale(catalog: Catalog, base: Bundle) -> float:
    """`input.crop_scale` for labels of other landmarks: so that the network sees as much of a face as it knows.

    A box tight around other landmarks is another part of the face; the base's own answers to some faces tell how large.
    """
    kept = base.config.input.crop_scale
    if catalog.scheme.landmarks == base.config.scheme.landmarks:
        return kept
    predictor, ratios = Predictor(base), []
    for row in shown(np.unique(np.linspace(0, len(catalog) - 1, min(_SCALE_FRAMES, len(catalog))).astype(int)), "size of the crops"):
        frame, _ = read_frame(catalog, int(row))
        box_xyxy = box_of_label(catalog.points_px[row], catalog.scheme)
        found = box_of_points(predictor(frame, [box_xyxy])[0].points_px)
        ratios.append(max(found[2:] - found[:2]) / max(box_xyxy[2:] - box_xyxy[:2]))
    low, high = 1.0, 3.0  # Of the setting.
    return round(min(max(kept * float(np.median(ratios)), low), high), 2)


def check_schemes(catalog: Catalog, base: Bundle) -> None:
    """Refuse few labels of landmarks that the base model has none of.

    Raises:
        FkpError: It is so.
    """
    scheme, inner = catalog.scheme, base.config.inner_scheme
    if not scheme.places_in(inner) and len(catalog) < LEAST_WITHOUT_NAMES:
        raise FkpError(
            f"scheme {scheme.name} has no landmark's name in common with {inner.name} of the model: {LEAST_WITHOUT_NAMES} faces are needed "
            f"to learn it and {catalog.root} has {len(catalog)}; name the landmarks as there, or label more"
        )


def _adapt(catalog: Catalog, base: Bundle, adapter: Adapter, out: Path, ways: Sequence[Way], force: bool) -> Adapted:
    clock = _Clock()
    config = adapter.config
    with clock("reading"):
        faces = read_faces(catalog, config, np.arange(len(catalog)))
    folds, held = _folds(faces)
    with clock("training"):
        penalty = adapter.choose_penalty(faces, folds)
        trials = try_ways(adapter, faces, folds, held, ways)
    best = trials[0]
    config = adapter.config_of(best.way)
    factor = scale_factor(best, faces, folds)
    tried = Trials(base, config, best, factor, catalog, faces, folds)
    with clock("measuring"):
        measured = measure(catalog, config, tried.rows, Predictor(base), tried.predictor, _crossed(tried.rows))
    summary = summarise(catalog, base, measured, trials, penalty)
    report_path = out.with_name(f"{out.name}-report.json")
    bundle = None
    if summary["helps"] or force:
        with clock("training"):
            network = adapter.adapt(best.way, faces, f"{best.way}, all {len(faces)} faces", best.blend)
            network.head.log_scale.bias.data += float(np.log(factor))
        print(f"writing {out} and its report", file=sys.stderr, flush=True)  # Some ten seconds without a bar.
        with clock("publishing"):
            bundle = publish(out, catalog, base, adapter, config, network, faces, measured, summary)
            write_report(report_path.with_suffix(".html"), [replace(measured.after, radii=bundle.metrics[ERROR_RADII])], bundle)
    summary |= clock.to_json()
    files.write_json(report_path, summary)
    return Adapted(bundle, report_path, summary)


class _Clock:
    """Which step took how long."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._spent_s: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._spent_s[step] = self._spent_s.get(step, 0.0) + time.monotonic() - began

    def to_json(self) -> dict[str, Any]:
        """`minutes` of all and `minutes_of` each step, for the report."""
        spent = {step: round(seconds / 60, 2) for step, seconds in self._spent_s.items()}
        return {"minutes": round((time.monotonic() - self._began) / 60, 2), "minutes_of": spent}


@dataclass(frozen=True)
class Trials:
    """The networks of the best way's trial, each for the faces that it has not seen."""

    base: Bundle
    config: Config
    trial: Trial
    factor: float
    catalog: Catalog
    faces: Faces
    folds: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Rows of the catalog on which one was held out."""
        return self.faces.rows[np.isin(self.folds, list(self.trial.networks))]

    def predictor(self, place: int) -> Predictor:
        """For one of `rows`."""
        fold = int(self.folds[np.isin(self.folds, list(self.trial.networks))][place])
        return self._predictors[fold]

    @cached_property
    def _predictors(self) -> dict[int, Predictor]:
        made = {}
        for fold, network in self.trial.networks.items():
            network.head.log_scale.bias.data += float(np.log(self.factor))
            made[fold] = predictor_of(self.base, network, self.config)
        return made


def _folds(faces: Faces) -> tuple[np.ndarray, list[int]]:
    """Fold of each face, and which folds are held out in turn: only one of many faces."""
    one = len(faces) >= ONE_FOLD_FROM
    count = min(_OF_MANY if one else _FOLDS, len(set(faces.groups)))
    return folds_of(faces.groups, count), [0] if one else list(range(count))


def _crossed(rows: np.ndarray) -> Leakage:
    note = f"cross-validated: each of these {len(rows)} faces by a model that was not adapted to its group; they also chose the way"
    return Leakage(note, 0, 0, len(rows))
