"""Which subset a file or a value speaks of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

_WORDS: dict[str, Literal["train", "val", "test"]] = {
    **dict.fromkeys(("train", "training", "trainset", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "valset"), "val"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}


def subset_of_word(word: str) -> Literal["train", "val", "test"] | None:
    """The subset that a value names; None for any other."""
    return _WORDS.get(word.strip().lower())


def subset_of_path(path: Path) -> Literal["train", "val", "test"] | None:
    """The subset that a path names in one of its words; None where it names none, or two."""
    words = re.split(r"[^a-z]+", path.with_suffix("").as_posix().lower())
    found = {_WORDS[word] for word in words if word in _WORDS}
    return found.pop() if len(found) == 1 else None
