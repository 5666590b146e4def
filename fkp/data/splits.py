"""Who is in which subset of a split: folds of persons."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from fkp.config import DataConfig

NUM_FOLDS = 5


def belongs(subset: str, data: DataConfig, fold: np.ndarray, csv_file: np.ndarray, draw: np.ndarray | float = 1.0) -> np.ndarray:
    """Which frames are in "train", "val" or "test" of a split: (N,) bool.

    Args:
        subset: "train", "val" or "test".
        data: Says which split, which folds and which share of the validation fold.
        fold: (N,) fold of each frame's person.
        csv_file: (N,) CSV file that each frame stands in: "training" or "test". Where labels name their own validation subset it is "val",
            and "train" what only trains.
        draw: (N,) see `draws_of`. By default the last to be held out: "train" is then what may train at all.
    """
    test = fold == data.test_fold if data.split == "identity" else csv_file == "test"
    val = (fold == data.val_fold) & ~test & (draw <= data.val_share)
    if data.split == "published":
        val = (csv_file == "val") | (val & (csv_file == "training"))
    return {"train": ~test & ~val, "val": val, "test": test}[subset]


def fold_of(identity: str) -> int:
    """Fold of a person, 0 to 4: a hash of the name, so that it never depends on who else is in the set."""
    return int(_hash(identity)[:8], 16) % NUM_FOLDS


def draws_of(identity: np.ndarray) -> np.ndarray:
    """(N,) places of persons in their fold, over 0 and up to 1: other digits of the same hash."""
    names, each = np.unique(identity.astype(str), return_inverse=True)
    drawn = [int(_hash(name)[8:16], 16) for name in names.tolist()]
    return ((np.array(drawn, np.float64) + 1) / 2**32)[each]


def _hash(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()


def faces_of(data: DataConfig) -> dict[str, Any]:
    """The settings that say which faces are in which subset. A whole validation fold is left unsaid: digests outlive the setting."""
    chosen = data.model_dump(include={"split", "test_fold", "val_fold", "val_share", "limit"})
    return {name: value for name, value in chosen.items() if (name, value) != ("val_share", 1.0)}
