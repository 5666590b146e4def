"""Images as the rows of a table: one a face, and one for an image without a face or with an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa

from fkp.errors import FkpError
from fkp.predict.face import Face
from fkp.predict.measures import COLUMNS, measures
from fkp.predict.predictor import Predictor
from fkp.vision.encoded import EncodedImage
from fkp.vision.image import read_bytes, shown

#: Lists of free length: Parquet does not give back a fixed-size list that is null in some row.
BOX = pa.list_(pa.float32())
POINTS = pa.list_(pa.list_(pa.float32()))
FACE_FIELDS: tuple[pa.Field, ...] = (
    pa.field("face", pa.int32()),
    pa.field("box_xyxy", BOX),
    pa.field("score", pa.float32()),
    pa.field("points_px", POINTS),
    pa.field("expected_error_px", pa.list_(pa.float32())),
    pa.field("quality", pa.float32()),
)
MEASURE_FIELDS: tuple[pa.Field, ...] = tuple(pa.field(name, pa.float32()) for name in COLUMNS)

#: `picture` is the place in the list of images and `face` the place among its faces, best first: the rows' order.
#: Without a face all of its columns are null; `error` tells whether that is because the image could not be read.
#: `left_out` stands in each row of an image: how many of its detections the network does not believe.
SCHEMA = pa.schema(
    [
        pa.field("picture", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        *FACE_FIELDS,
        pa.field("left_out", pa.int32()),
        pa.field("error", pa.string()),
        pa.field("model", pa.string(), nullable=False),
        *MEASURE_FIELDS,
    ]
)


@dataclass(frozen=True)
class Chunk:
    """Images that are worked on and kept together.

    Attributes:
        first: Number of the first image.
        paths: Its images.
    """

    first: int
    paths: Sequence[str]


def rows_of(predictor: Predictor, root: str, paths: Sequence[str], first: int) -> pa.Table:
    """Find the faces of some images.

    Args:
        predictor: Finds them.
        root: Folder that relative paths start from.
        paths: Images; only one is in memory at a time.
        first: `picture` of the first of them.

    Returns:
        Rows of `SCHEMA`, in the order of the paths, the faces of an image best first. An image that cannot be read is a
        row with its error.
    """
    sizes: dict[int, tuple[int, int]] = {}
    errors: dict[int, str] = {}
    found: dict[int, tuple[list[Face], int]] = {}
    for number, path in enumerate(paths, first):
        try:
            image = EncodedImage(read_bytes(Path(root) / path), shown(path))
            sizes[number] = image.size
            found[number] = predictor.find(image)
        except FkpError as error:
            errors[number] = shown(str(error))
        except cv2.error as error:  # An image that OpenCV decodes but cannot work on must not cost the others.
            errors[number] = f"{shown(path)} cannot be worked on: {error.err}"
    rows: list[dict[str, Any]] = []
    for number, path in enumerate(paths, first):
        width, height = sizes.get(number, (None, None))
        faces, left_out = found.get(number, ([], None))
        own = {"picture": number, "path": shown(path), "width": width, "height": height, "left_out": left_out}
        own["error"] = errors.get(number)
        rows += [{**own, **face_columns(face, place)} for place, face in enumerate(faces)] or [own]
    for row in rows:
        row["model"] = predictor.bundle.digest
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def face_columns(face: Face, number: int) -> dict[str, Any]:
    """A face as the values of `FACE_FIELDS`."""
    return {
        "face": number,
        "box_xyxy": face.box_xyxy,
        "score": face.score,
        "points_px": list(face.points_px),
        "expected_error_px": face.expected_error_px,
        "quality": face.quality,
        **measures(face.points_px, face.scheme),
    }
