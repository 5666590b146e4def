"""What a model says of labelled faces when it is adapted to all groups but theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fkp.adapt.faces import check_set, folds_of, read_faces
from fkp.adapt.finetune import Recipe
from fkp.adapt.pipeline import check_schemes, config_of, crop_scale
from fkp.adapt.ways import Adapter, answers, scale_factor, try_ways
from fkp.bundle import load_network
from fkp.config import DataConfig
from fkp.data.labels import load_labels
from fkp.evaluation.joint_errors import fit_joint_errors
from fkp.label.disagreement import HeldOut
from fkp.label.posterior import Errors
from fkp.train.ancestor import open_ancestor, read_ancestor

_FOLDS = 5


def held_out(data: DataConfig, model: str) -> HeldOut:
    """Adapt a model to a labelled set by the map of the shape, five times, and predict each face by the one that did not see its group.

    Faces are in the order of the set, coordinates in pixels of the network's crops.

    Args:
        data: The set: `source`, `root` and `scheme`.
        model: Bundle's folder, models:/NAME/3 or champion. One that was itself trained on the faces has learnt some wrong labels, too.

    Raises:
        FkpError: See `adapt.pipeline.adapt`.
    """
    base, address = open_ancestor(model)
    catalog = load_labels(data)
    check_set(catalog)
    check_schemes(catalog, base)
    config = config_of(base, data, address, Path("held-out")).updated({"input.crop_scale": crop_scale(catalog, base)})
    adapter = Adapter(read_ancestor(base, address), load_network(base), config, Recipe(), seed=0)
    faces = read_faces(catalog, config, np.arange(len(catalog)))
    folds = folds_of(faces.groups, min(_FOLDS, len(set(faces.groups))))
    adapter.choose_penalty(faces, folds)
    (trial,) = try_ways(adapter, faces, folds, np.unique(folds).tolist(), ("map",))
    points, scale = np.empty_like(faces.plain_px), np.empty(faces.plain_px.shape[:2], np.float32)
    for fold, network in trial.networks.items():
        points[folds == fold], scale[folds == fold] = answers(network, faces[folds == fold])
    return HeldOut(faces.plain_px, points, scale * scale_factor(trial, faces, folds), faces.groups, config.scheme)


def errors_of(found: HeldOut) -> Errors:
    """The joint distribution of errors that such answers have; wrong labels among them widen it a little."""
    return Errors(found.scheme, fit_joint_errors(found.points_px, 2 * found.scale_px, found.labels_px, found.groups, found.scheme))
