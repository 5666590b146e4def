"""What `fkp data import` says of a new set, in lines for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fkp.config import DataConfig
from fkp.data import label_set
from fkp.data.label_set import LabelSet
from fkp.data.labels import table_of
from fkp.data.splits import NUM_FOLDS, belongs
from fkp.scheme import DEFAULT, Scheme, built_in

#: Reasons for leaving out that are printed; the others stand in the file alone.
_MOST_REASONS = 8


def number_of(count: int, what: str) -> str:
    """A number of things in words."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def points_told(labels: LabelSet) -> str:
    """How many points are labelled, missing and covered."""
    there = np.isfinite(labels.points_px).all(-1)
    return f"{int(there.sum())} labelled, {int((~there).sum())} missing, {int((there & ~labels.visible).sum())} labelled and covered"


def groups_told(about: str, own: Sequence[str], groups: Sequence[str]) -> str:
    """How many groups there are, by which rule, and how many were joined to others."""
    before, after = len(set(own)), len(set(groups))
    joined = f"; {before - after} more were joined to others, whose image they share or nearly are" if before > after else ""
    return f"{after} groups, {about}{joined}"


def splits_told(labels: LabelSet) -> list[str]:
    """How many faces are in which subset of the splits that can be asked for, and what is wrong with them."""
    data = DataConfig(source="folder")
    table = table_of(labels)
    fold, part = table["fold"].to_numpy(), table["part"].to_numpy()
    counts = {subset: int(belongs(subset, data, fold, part).sum()) for subset in ("train", "val", "test")}
    told = ", ".join(f"{subset} {count}" for subset, count in counts.items())
    lines = [f"split by group: {told} faces"]
    if empty := [subset for subset, count in counts.items() if not count]:
        held = np.bincount(table["fold"][~table["identity"].duplicated()], minlength=NUM_FOLDS).tolist()
        lines.append(f"no group is in {' or '.join(empty)}: the folds hold {held} groups, choose by --data.test_fold and --data.val_fold")
    if any(labels.subsets):
        given = Counter(subset or "none" for subset in labels.subsets)
        sides: dict[str, set[bool]] = {}
        for group, subset in zip(labels.groups, labels.subsets, strict=True):
            sides.setdefault(group, set()).add(subset == "test")
        shared = sum(len(found) > 1 for found in sides.values())
        told = ", ".join(f"{subset} {count}" for subset, count in given.items())
        lines.append(
            f"split of the labels (--data.split published): {told} faces; {number_of(shared, 'group')} of test in train or val, too"
        )
    return lines


def left_out_told(left_out: Sequence[tuple[str, str]], file: Path) -> list[str]:
    """What is left out, by its reason; all of it stands in the set."""
    if not left_out:
        return ["nothing is left out"]
    lines = [f"{len(left_out)} left out, all in {file}:"]
    reasons: dict[str, list[str]] = {}
    for where, reason in left_out:
        reasons.setdefault(reason, []).append(where)
    for reason, places in sorted(reasons.items(), key=lambda item: -len(item[1]))[:_MOST_REASONS]:
        lines.append(f"  {len(places)} x {reason}: {places[0]}" + (f" and {len(places) - 1} more" if len(places) > 1 else ""))
    return lines


def scheme_flag(scheme: Scheme, out: Path) -> str:
    """The flag that training needs for a scheme."""
    if scheme.name == DEFAULT:
        return ""
    return f" --data.scheme {scheme.name if scheme.name in built_in() else out / label_set.SCHEME}"
