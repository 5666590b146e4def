"""python -m fkp.predict PHOTO... --out DIR"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fkp.errors import run_command
from fkp.predict.predictor import DEFAULT_BUNDLE, Predictor
from fkp.vision.crop import Crop


def main(argv: list[str] | None = None) -> int:
    """Annotate pictures; the status is 1 when any of them could not be read."""
    arguments = _parse(argv)
    predictor = Predictor(arguments.bundle)
    from fkp.predict import photos

    return photos.annotate(predictor, arguments.photos, Path(arguments.out), arguments.box)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fkp.predict", description="Find 68 points on each face of each picture.")
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="JPEG, PNG or WebP")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for annotated pictures, faces.json and faces.csv")
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, type=Path, metavar="DIR", help=f"model (default: {DEFAULT_BUNDLE})")
    parser.add_argument(
        "--box", action="append", type=_box, metavar="X0,Y0,X1,Y1", help="face box in pixels, instead of detection; may be repeated"
    )
    return parser.parse_args(argv)


def _box(text: str) -> np.ndarray:
    try:
        box = np.array([float(part) for part in text.split(",")], np.float32)
        Crop.of_box(box, 32, 1.0)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not x0,y0,x1,y1 with x0 < x1 and y0 < y1") from error
    return box


if __name__ == "__main__":
    run_command(main)
