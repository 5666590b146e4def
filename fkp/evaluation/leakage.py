"""What of the evaluated faces a bundle's training has used: whether its metrics are held out or contaminated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fkp.config import DataConfig, build_config

if TYPE_CHECKING:
    from fkp.bundle import Bundle
    from fkp.data.labels import Catalog

#: Key in a bundle's metrics.json under which training may leave `Catalog.digest`, to tell sets of one source apart.
LABELS_DIGEST = "labels_sha256"
#: Key of the models that a bundle began from, the nearest first: what they were trained on, as `LABELS_DIGEST` and `data`.
DESCENT = "descends_from"
#: Key of whether a training used all faces of its set, whatever its folds say; in a bundle's metrics and in an entry of `DESCENT`.
ALL_TRAIN = "trained_on_all"

#: Key of the label sets that only trained (`data.extra`), each with `root`, `faces` and `LABELS_DIGEST`; in a bundle's metrics and in
#: an entry of `DESCENT`.
EXTRA = "extra_sets"


@dataclass(frozen=True)
class Leakage:
    """What of the evaluated faces the training has used.

    Attributes:
        note: One line for the table.
        frames_trained: How many of the evaluated frames were trained on; None when that is not known.
        persons_trained: How many of the evaluated persons were trained on, in these or other frames.
        frames_chosen: How many of the evaluated frames chose the checkpoint (the validation subset).
    """

    note: str
    frames_trained: int | None = None
    persons_trained: int | None = None
    frames_chosen: int | None = None

    @property
    def held_out(self) -> bool:
        """Whether it is known that no frame and no person had a part in the training."""
        return (self.frames_trained, self.persons_trained, self.frames_chosen) == (0, 0, 0)


def leakage(bundle: Bundle | None, catalog: Catalog, data: DataConfig, subset: str = "test") -> Leakage:
    """Say how much of one subset ("test" or "val") of a split the training of a bundle, or of one it began from, has used."""
    if bundle is None:
        return Leakage("unknown: nothing says what the model was trained on")
    used = _trainings(bundle, catalog, data)
    extra = _extra_sets(bundle)
    apart_sets = sum(digest != catalog.digest for digest in extra)
    others = len(bundle.metrics.get(DESCENT, [])) + 1 + len(extra) - apart_sets - len(used)
    apart = (
        f"; of {others} other training{'s' * (others > 1)} on the way to it, on other labels, shared persons are not known"
        if others
        else ""
    )
    if apart_sets:
        apart += f"; it was also trained on {apart_sets} extra set{'s' * (apart_sets > 1)}, of which shared persons are not known"
    if not used:
        source = bundle.config.data.source
        return Leakage(f"another set: the bundle was trained on {source}, on other labels; whether persons are shared is not known")
    trained_on, chosen_by = (np.unique(np.concatenate([_rows(catalog, of, *training) for training in used])) for of in ("train", "val"))
    chosen_by = np.setdiff1d(chosen_by, trained_on)
    tested = catalog.rows(subset, data)
    identity = catalog.table["identity"].to_numpy()
    frames, chosen = (int(np.isin(tested, rows).sum()) for rows in (trained_on, chosen_by))
    everybody = set(identity[tested])
    persons = len(everybody & set(identity[trained_on]))
    if not (frames or chosen or persons):
        note = f"held out: the bundle was trained on none of these {len(tested)} frames and on none of their persons ({len(everybody)})"
    elif not (frames or persons):
        note = f"chosen by: {chosen} of these {len(tested)} frames served to choose the bundle's checkpoint; it was trained on none of them"
    else:
        of_all = f"{frames} of these {len(tested)} frames and on {persons} of their {len(everybody)} persons"
        note = f"contaminated: the bundle was trained on {of_all}" + (
            f"; {chosen} more frames served to choose its checkpoint" if chosen else ""
        )
    return Leakage(note + apart, frames, persons, chosen)


def held_out(rows: np.ndarray, bundle: Bundle, catalog: Catalog, data: DataConfig) -> np.ndarray:
    """Those of some faces whose persons a bundle, or one it began from, was not trained on; all where that was another set."""
    identity = catalog.table["identity"].to_numpy()
    for training in _trainings(bundle, catalog, data):
        rows = rows[~np.isin(identity[rows], identity[_rows(catalog, "train", *training)])]
    return rows


def _trainings(bundle: Bundle, catalog: Catalog, data: DataConfig) -> list[tuple[DataConfig, bool]]:
    """The trainings of a bundle and of those it began from that were on this very set, and whether on all of it."""
    own = [(bundle.config.data, bool(bundle.metrics.get(ALL_TRAIN)))] if _same_set(bundle, catalog, data) else []
    own += [(bundle.config.data, True) for digest in _extra_sets(bundle) if digest == catalog.digest]
    before = [entry for entry in bundle.metrics.get(DESCENT, []) if entry[LABELS_DIGEST] == catalog.digest]
    return own + [(build_config({"data": entry["data"]}).data, bool(entry.get(ALL_TRAIN))) for entry in before]


def _extra_sets(bundle: Bundle) -> list[str]:
    """Digests of the sets of `data.extra` of a bundle's training and of those it began from."""
    return [some[LABELS_DIGEST] for entry in (bundle.metrics, *bundle.metrics.get(DESCENT, [])) for some in entry.get(EXTRA, [])]


def _rows(catalog: Catalog, subset: str, trained: DataConfig, everything: bool) -> np.ndarray:
    """Rows of a subset of a training."""
    if everything:
        return np.arange(len(catalog) if subset == "train" else 0)
    return catalog.rows(subset, trained)


def _same_set(bundle: Bundle, catalog: Catalog, data: DataConfig) -> bool:
    trained = bundle.config.data
    if LABELS_DIGEST in bundle.metrics:
        return bundle.metrics[LABELS_DIGEST] == catalog.digest
    # Without a digest: the other sources hold one set each, wherever it lies; a folder is known by its place alone.
    if trained.source == "folder" == data.source:
        from fkp.data.labels import root_of

        return root_of(trained).resolve() == root_of(data).resolve()
    return trained.source == data.source
