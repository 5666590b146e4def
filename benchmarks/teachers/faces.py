"""Faces for the teachers: each cut out of what it is in, with its points, in a folder that their scripts take.

    python benchmarks/teachers/faces.py mosaics FOLDER OUT [--bundle DIR]     faces that fkp finds in the images of a folder
    python benchmarks/teachers/faces.py labelled FOLDER ... OUT               photographs with a .pts file beside each
    python benchmarks/teachers/faces.py set OUT [--subset val] [--root DIR]   the labelled set that a bundle was trained on

OUT gets one PNG a face, a square of about twice the box of the points at 384 px, and `faces.csv` with a line for each: `crop` (that PNG),
`name`, `image` (the file it was cut from), `x`, `y` and `side` (that square, in whole pixels of that file), and `x0`, `y0` and so on: the
points, in pixels of the file. Of mosaics these are fkp's own, and only say where to look.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fkp.errors import FkpError, run_command
from fkp.predict import DEFAULT_BUNDLE, Predictor
from fkp.vision.crop import Crop, box_of_points
from fkp.vision.image import Image, read_image

SIZE_PX, SCALE = 384, 2.0
#: A mosaic is searched window by window, each with a margin, so that a face is whole in one of them.
WINDOW_PX, MARGIN_PX = 1000, 350
#: Smaller faces, in px of the longer side of the box, are too coarse to be labelled.
LEAST_PX = 60
#: Two crops of the same face: the correlation of their grey thumbnails. Different faces in one pose stay below.
SAME = 0.9

#: Name, file, image and points (68, 2) in its pixels.
Face = tuple[str, str, Image, np.ndarray]


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    mosaics = kinds.add_parser("mosaics", help="faces that fkp finds in large images, each once")
    mosaics.add_argument("folder", type=Path)
    labelled_ = kinds.add_parser("labelled", help="photographs with .pts files")
    labelled_.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    known = kinds.add_parser("set", help="the labelled set of a bundle")
    known.add_argument("--root", help="the set's folder (default: the bundle's, or data/ytfaces)")
    known.add_argument("--subset", choices=("train", "val"), default="train")
    for kind in (mosaics, labelled_, known):
        kind.add_argument("out", type=Path)
        kind.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, metavar="DIR", help="(default: %(default)s)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    if arguments.out.exists():
        raise FkpError(f"{arguments.out} is there already: name a new folder")
    if arguments.kind == "mosaics":
        faces = in_mosaics(Predictor(arguments.bundle), arguments.folder)
    elif arguments.kind == "labelled":
        faces = in_photographs(arguments.folders)
    else:
        faces = in_set(arguments.bundle, arguments.root, arguments.subset)
    print(f"{write(faces, arguments.out, once=arguments.kind == 'mosaics')} faces in {arguments.out}")


def in_mosaics(predictor: Predictor, folder: Path) -> Iterator[Face]:
    """The faces of large images, each found in the window that holds its middle."""
    count = 0
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png")):
        image, middles = read_image(path), []
        for top in range(0, image.shape[0], WINDOW_PX):
            for left in range(0, image.shape[1], WINDOW_PX):
                low = np.maximum([left - MARGIN_PX, top - MARGIN_PX], 0)
                window = image[low[1] : top + WINDOW_PX + MARGIN_PX, low[0] : left + WINDOW_PX + MARGIN_PX]
                for found in predictor(np.ascontiguousarray(window)):
                    points = found.points_px + low
                    middle, side = points.mean(0), np.ptp(points, axis=0).max()
                    here = (middle >= [left, top]).all() and (middle < [left + WINDOW_PX, top + WINDOW_PX]).all()
                    if here and side >= LEAST_PX and not any(np.abs(middle - other).max() < 0.3 * side for other in middles):
                        middles.append(middle)
                        yield f"{folder.name}_{count:05d}.png", path.name, image, points
                        count += 1


def in_photographs(folders: list[Path]) -> Iterator[Face]:
    """Labelled photographs, under the names by which `benchmarks/general.py` knows them."""
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from pts import labelled

    for folder in folders:
        for path, points in labelled(folder):
            yield f"{folder.name}/{path.name}", str(path), read_image(path), points


def in_set(bundle: Path, root: str | None, subset: str) -> Iterator[Face]:
    """The faces of one subset of the set that a bundle was trained on, with their corrected labels."""
    from fkp.bundle import open_bundle
    from fkp.data.labels import load_labels, read_frame

    data = open_bundle(bundle).config.data
    catalog = load_labels(data.updated({"root": root}) if root else data)
    for row in catalog.rows(subset, data):
        path = str(catalog.path(row))
        yield Path(path).name, path, read_frame(catalog, row)[0], catalog.points_px[row]


def write(faces: Iterator[Face], out: Path, once: bool) -> int:
    """Write the crops and `faces.csv`, which comes last: a folder without it is not whole.

    Args:
        faces: What to write.
        out: A new folder.
        once: Whether a face that is there twice is written once, the largest of them.

    Returns:
        How many.
    """
    out.mkdir(parents=True)
    rows: list[list[str | int | float]] = []
    thumbnails = []
    for number, (name, file, image, points) in enumerate(faces):
        low, high = np.split(box_of_points(points).astype(np.float64), 2)
        side = round(SCALE * float((high - low).max()))
        x, y = np.round((low + high) / 2 + 0.5 - side / 2).astype(int).tolist()
        crop = Crop((x + side / 2 - 0.5, y + side / 2 - 0.5), side, SIZE_PX).apply(image, 3).transpose(1, 2, 0)
        cv2.imwrite(str(out / f"{number:05d}.png"), crop[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        grey = cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_RGB2GRAY)
        thumbnails.append(cv2.resize(grey, (24, 24), interpolation=cv2.INTER_AREA).ravel())
        rows.append([f"{number:05d}.png", name, file, x, y, side, *np.round(points.astype(np.float64), 2).ravel().tolist()])
    if not rows:
        raise FkpError("no face was found: name another folder")
    kept = different(np.stack(thumbnails).astype(np.float32), [int(row[5]) for row in rows]) if once else list(range(len(rows)))
    for number in set(range(len(rows))) - set(kept):
        (out / f"{number:05d}.png").unlink()
    head = ["crop", "name", "image", "x", "y", "side", *(f"{axis}{point}" for point in range(len(rows[0][6:]) // 2) for axis in "xy")]
    with (out / "faces.csv").open("w", newline="") as table:
        csv.writer(table).writerows([head, *(rows[place] for place in kept)])
    return len(kept)


def different(thumbnails: np.ndarray, sides: list[int]) -> list[int]:
    """Numbers of the (N, D) thumbnails that show different faces, in order: of those that are alike, the one of the largest side."""
    flat = thumbnails - thumbnails.mean(1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    kept: list[int] = []
    for place in np.argsort(-np.array(sides), kind="stable").tolist():
        if not kept or (flat[kept] @ flat[place]).max() < SAME:
            kept.append(place)
    return sorted(kept)


if __name__ == "__main__":
    run_command(main)
