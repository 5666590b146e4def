"""`fkp data export`: an imported set in a format of other tools."""

from __future__ import annotations

import os
from pathlib import Path

from fkp.common.files import atomic_replace_dir
from fkp.data import label_set
from fkp.data.formats import FORMATS
from fkp.errors import FkpError


def export_set(place: Path, form: str, out: Path) -> tuple[int, int]:
    """Write the labels of a set in another format, and its images; the folder appears whole or not at all.

    Returns:
        Faces, and images.

    Raises:
        FkpError: It is no imported set, the format cannot hold it, or the folder is there already or cannot be written.
    """
    if not label_set.is_label_set(place):
        raise FkpError(f"{place} is no imported set: `fkp data import {place} --out SET` makes one")
    if os.path.lexists(out):
        raise FkpError(f"{out} exists already: choose another --out, or remove it first")
    write = FORMATS[form].write
    assert write is not None, "the command offers only what can be written"
    labels = label_set.read(place)
    try:
        with atomic_replace_dir(out) as draft:
            write(place, draft)
    except OSError as error:
        raise FkpError(f"cannot write {out}: {error.strerror or error}: free some space or choose another --out") from error
    return len(labels), len(set(labels.images))
