"""The label sets of `data.extra`: all their faces train, beside those of the configured set, and none validates or tests.

Such a set is what `fkp data import` and `fkp data fetch --set sfhq` write (`fkp.data.label_set`). Its labels are taken as they are,
without a constant shift, and whatever subsets they name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fkp.config import DataConfig
from fkp.data import label_set
from fkp.data.face_shape import first_fault
from fkp.data.labels import LABEL_BIAS_PX, Catalog, table_of
from fkp.errors import FkpError
from fkp.scheme import Scheme, load_scheme


def load_extra(data: DataConfig) -> list[Catalog]:
    """Read the labels of all sets of `data.extra`, their points in `data.scheme` by name; NaN where a set has no such landmark.

    Raises:
        FkpError: A set is missing, empty or named twice, its scheme does not fit, a label of it is no face, or `data.backend=stream`.
    """
    if data.extra and data.backend == "stream":
        raise FkpError("data.extra needs data.backend=memory: what is streamed comes from one packed set")
    if len({Path(root).resolve() for root in data.extra}) < len(data.extra):
        raise FkpError(f"data.extra names a set twice ({', '.join(data.extra)}): keep one")
    scheme = load_scheme(data.scheme)
    return [_load(Path(root), scheme) for root in data.extra]


def faces_that_train(catalog: Catalog, data: DataConfig) -> np.ndarray:
    """Rows of an extra set that train: all, or the first `data.limit`."""
    return np.arange(len(catalog))[: data.limit]


def about_extra(data: DataConfig) -> list[dict[str, Any]]:
    """What a record of the run keeps of each set of `data.extra`, in its order.

    Returns:
        `faces` that train, `labels_sha256` (`Catalog.digest`), and `license` and `source` where its set.json says them.

    Raises:
        FkpError: See `load_extra`.
    """
    told = []
    for catalog in load_extra(data):
        head = label_set.read_head(catalog.root)
        said = {key: str(head[key]) for key in ("license", "source") if head.get(key)}
        told.append({"faces": len(faces_that_train(catalog, data)), "labels_sha256": catalog.digest, **said})
    return told


def _load(root: Path, scheme: Scheme) -> Catalog:
    if not label_set.is_label_set(root):
        raise FkpError(f"{root} of data.extra holds no set: `fkp data import` makes one of labelled images")
    labels = label_set.read(root)
    # Errors and crops are measured by these; the mean head or the other landmarks stand in for the rest.
    needed = [scheme.landmarks[end] for end in scheme.between] if scheme.between else scheme.landmarks
    if missing := [name for name in needed if name not in labels.scheme.landmarks]:
        raise FkpError(
            f"{root} of data.extra is labelled in scheme {labels.scheme.name}, which has no {missing[0]} of {scheme.name}: leave it out"
        )
    points_px = scheme.convert(labels.points_px, labels.scheme)
    if fault := first_fault(points_px, scheme):
        raise FkpError(f"{root / label_set.LABELS} of data.extra, face {fault[0] + 1}: {fault[1]}")
    shift = np.array(LABEL_BIAS_PX["folder"], np.float32)
    return Catalog(root, table_of(labels), points_px, shift, labels.digest, scheme, imported=True)
