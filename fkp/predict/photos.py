"""Single photographs: each drawn with its faces, and the numbers as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fkp.common.files import write
from fkp.errors import FkpError
from fkp.predict.belief import told_left_out
from fkp.predict.drawing import draw_faces
from fkp.predict.measures import COLUMNS
from fkp.predict.predictor import Predictor
from fkp.scheme import Scheme
from fkp.vision.align import five_points
from fkp.vision.encoded import EncodedImage
from fkp.vision.image import read_bytes, shown, write_image

_ANNOTATED = ".annotated.png"


def annotate(
    predictor: Predictor, paths: Sequence[str], out: Path, boxes_xyxy: list[np.ndarray] | None = None, aligned_px: int | None = None
) -> int:
    """Annotate images into a folder: `NAME.annotated.png` each, `faces.json` and `faces.csv` of all.

    Args:
        predictor: Finds the faces.
        paths: Images.
        out: Folder, made if need be.
        boxes_xyxy: The same boxes for every image, in place of detection.
        aligned_px: Side of the crop that is also written of each face, `NAME.aligned-FACE.png`, see `Face.aligned`; None: no crop is.

    Returns:
        The exit status: 1 when any image could not be read, which costs the others nothing.

    Raises:
        FkpError: The results cannot be written, or the scheme lacks a point that crops are aligned by.
    """
    if aligned_px:
        five_points(np.zeros((len(predictor.scheme), 2)), predictor.scheme)  # One that is missing is one error, not one an image.
    if not boxes_xyxy:
        _ = predictor.detector  # One that is missing is one error, not one an image.
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FkpError(f"cannot make {out}: {error.strerror}") from error
    results, failed = [], 0
    for path, name in zip(paths, _names(paths), strict=True):
        try:
            results.append(_annotate(predictor, path, out / f"{name}{_ANNOTATED}", boxes_xyxy, aligned_px))
        except FkpError as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
    _write_tables(out, results, predictor.bundle.digest, predictor.scheme)
    faces = sum(len(result["faces"]) for result in results)
    left_out = told_left_out(sum(result["left_out"] for result in results), predictor.min_quality)
    print(f"{faces} faces in {len(results)} images{left_out}: {out}/faces.json, {out}/faces.csv and images")
    return 1 if failed else 0


def _annotate(predictor: Predictor, path: str, target: Path, boxes_xyxy: list[np.ndarray] | None, aligned_px: int | None) -> dict[str, Any]:
    image = EncodedImage(read_bytes(path), path)
    faces, left_out = predictor.find_all(image, boxes_xyxy)
    write_image(target, draw_faces(image.full, faces, left_out))
    own = {"picture": shown(path), "size": list(image.size), "left_out": len(left_out)}
    told = [face.to_json() for face in faces]
    for number, face in enumerate(faces if aligned_px is not None else ()):
        name = f"{target.name.removesuffix(_ANNOTATED)}.aligned-{number}.png"
        try:
            crop = face.aligned(image.full, aligned_px or 0)
        except FkpError as error:  # A network that is hardly trained: the image and its other faces are whole.
            print(f"error: {shown(path)}, face {number}: {error}", file=sys.stderr)
            continue
        write_image(target.with_name(name), crop)
        told[number]["aligned"] = name
    return {**own, "faces": told, "left_out_faces": [face.outline_json() for face in left_out]}


def _names(paths: Sequence[str]) -> list[str]:
    """One output name an image; images of the same name in different folders get a number."""
    names: dict[str, None] = {}
    for path in paths:
        name = stem = Path(path).stem
        number = 1
        while name in names:  # Also a number may be taken, by an image that is called so.
            number += 1
            name = f"{stem}-{number}"
        names[name] = None
    return list(names)


def _write_tables(out: Path, results: list[dict[str, Any]], digest: str, scheme: Scheme) -> None:
    write(
        out / "faces.json",
        json.dumps({"model": digest, "scheme": scheme.name, "landmarks": scheme.landmarks, "pictures": results}, indent=1) + "\n",
    )
    rows = io.StringIO(newline="")
    table = csv.writer(rows)
    table.writerow(["picture", "face", "score", "quality", *(f"{axis}{i}" for i in range(len(scheme)) for axis in "xy"), *COLUMNS])
    for result in results:
        for number, face in enumerate(result["faces"]):
            own = [result["picture"], number, face["score"], face["quality"]]
            told = (face["pose"] or {}) | {f"{name}_openness": ratio for name, ratio in face["openness"].items()}
            table.writerow([*own, *(value for point in face["keypoints"] for value in point), *(told.get(name) for name in COLUMNS)])
    write(out / "faces.csv", rows.getvalue())
