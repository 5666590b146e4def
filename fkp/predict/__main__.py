"""fkp predict SOURCE... --out DIR | TABLE.parquet | CLIP.mp4, fkp predict --camera 0"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fkp.errors import FkpError, run_command
from fkp.shipped import DEFAULT_BUNDLE
from fkp.vision.align import ARCFACE_SIZE_PX, LARGEST_PX, SMALLEST_PX
from fkp.vision.detect import CHOICES, OWN, detector_name, with_smallest_face
from fkp.vision.smooth import OneEuroSettings

if TYPE_CHECKING:
    import numpy as np

_ABOUT = """Find a model's landmarks on each face of images, or follow them through a video. The name of --out says what is wanted:
  --out DIR             each image with its faces drawn, faces.json and faces.csv
  --out NAME.parquet    one table for any number of images; broken off, the same command resumes; --ray: on a Ray cluster
  --out NAME.mp4        one video with its faces followed and drawn, and NAME.parquet beside it
  --camera 0            a camera until Ctrl-C: a line of JSON a frame on stdout, or with --out NAME.mp4 as for a video"""


def main(argv: list[str] | None = None) -> int:
    """Annotate images or a video; the status is 1 when any of them could not be read to its end."""
    arguments = _parse(argv)
    from fkp.bundle import open_bundle
    from fkp.predict.measures import told_missing
    from fkp.predict.predictor import Predictor

    bundle = open_bundle(arguments.bundle)
    arguments.detector = with_smallest_face(detector_name(arguments.detector, bundle.face_boxes), arguments.smallest_face)
    if missing := told_missing(bundle.config.scheme):
        print(missing, file=sys.stderr)  # What a camera tells on stdout is JSON.
    if arguments.camera is not None:
        from fkp.predict import camera, video

        predictor = Predictor(bundle, video.threads(), arguments.detector, min_quality=arguments.min_quality)
        return camera.follow(predictor, arguments.camera, Path(arguments.out) if arguments.out else None, arguments.smooth)
    out = Path(arguments.out)
    if out.suffix.lower() == ".mp4":
        from fkp.predict import video

        predictor = Predictor(bundle, video.threads(), arguments.detector, min_quality=arguments.min_quality)
        return video.annotate(predictor, arguments.sources[0], out, arguments.smooth)
    from fkp.predict.inputs import list_images

    if out.suffix.lower() == ".parquet":
        from fkp.predict import table

        return table.annotate(
            bundle, list_images(arguments.sources), out, arguments.ray, arguments.actors, arguments.detector, arguments.min_quality
        )
    from fkp.predict import photos

    predictor = Predictor(bundle, detector=arguments.detector, min_quality=arguments.min_quality)
    return photos.annotate(predictor, list_images(arguments.sources), out, arguments.box, arguments.aligned)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fkp predict", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="image, folder (images at any depth) or quoted pattern ('day-*/**/*.jpg'); or one video",
    )
    parser.add_argument("--out", metavar="PLACE", help="folder, table (.parquet) or video (.mp4), see above")
    parser.add_argument("--camera", metavar="NUMBER", help="in place of sources: a camera by its number, or the path of its device")
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, type=Path, metavar="DIR", help=f"model (default: {DEFAULT_BUNDLE})")
    parser.add_argument("--detector", help=f"what finds the faces: {CHOICES} (default: {OWN}, or what the model was calibrated with)")
    parser.add_argument(
        "--smallest-face",
        type=float,
        metavar="PART",
        help="look for no face shorter than this part of the image's longer side: 0.02 is quicker than the default 0.0075, 0.004 finds "
        "smaller ones in large images",
    )
    parser.add_argument(
        "--min-quality",
        type=_quality,
        metavar="Q",
        help="leave out what the detector finds and the model believes less than Q, 0 to 1; 0 keeps all (default: the model's own limit)",
    )
    parser.add_argument(
        "--box",
        action="append",
        type=_box,
        metavar="X0,Y0,X1,Y1",
        help="face box in pixels, instead of detection; may be repeated (--box=-5,... where it begins below 0)",
    )
    parser.add_argument(
        "--aligned",
        type=_side,
        metavar="PX",
        help=f"also write each face as a crop that face recognisers expect, of so many pixels a side: {ARCFACE_SIZE_PX} is theirs",
    )
    parser.add_argument("--ray", action="store_true", help="write the table on the cluster of RAY_ADDRESS or this machine")
    parser.add_argument("--actors", type=_count, metavar="N", help="with --ray: at most N cores (default: all of the cluster)")
    default = OneEuroSettings()
    parser.add_argument(
        "--smooth",
        type=_smoothing,
        default=default,
        metavar="HZ,BETA",
        help="of a video: 1 Euro filter, cut-off at rest and its rise with the speed; lower is stiller, higher lags less"
        f" (default: {default.min_cutoff_hz:g},{default.beta:g})",
    )
    arguments = parser.parse_args(argv)
    kind = Path(arguments.out or "").suffix.lower()
    if arguments.camera is not None:
        if arguments.sources or arguments.box or arguments.ray:
            raise FkpError("--camera goes with --out NAME.mp4 and settings of faces: leave sources, --box and --ray out")
        if arguments.out and kind != ".mp4":
            raise FkpError(f"--camera writes a video, and --out {arguments.out} is none: end its name in .mp4, or leave --out out")
        return arguments
    if not arguments.sources or not arguments.out:
        parser.error("the following arguments are required: SOURCE and --out, or --camera")
    if arguments.ray and kind != ".parquet":
        raise FkpError(f"--ray writes a table, and --out {arguments.out} is none: end its name in .parquet")
    if arguments.actors and not arguments.ray:
        raise FkpError("--actors is for --ray: add that or leave it out")
    if arguments.aligned and kind in (".parquet", ".mp4"):
        raise FkpError("--aligned is for images that are drawn into a folder: name a folder as --out or leave it out")
    if arguments.box and kind in (".parquet", ".mp4"):
        raise FkpError("--box is for images that are drawn into a folder: name a folder as --out or leave it out")
    if kind == ".mp4" and len(arguments.sources) != 1:
        raise FkpError(f"--out {arguments.out} is one video: name one video to make it from")
    return arguments


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def _side(text: str) -> int:
    if not (text.isdigit() and SMALLEST_PX <= int(text) <= LARGEST_PX):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pixels from {SMALLEST_PX} to {LARGEST_PX}")
    return int(text)


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        quality = float("nan")
    if not 0 <= quality <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return quality


def _smoothing(text: str) -> OneEuroSettings:
    try:
        min_cutoff_hz, beta = (float(part) for part in text.split(","))
        if not (0 < min_cutoff_hz < float("inf") and 0 <= beta < float("inf")):
            raise ValueError
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not HZ,BETA with HZ above 0 and BETA of at least 0") from error
    return OneEuroSettings(min_cutoff_hz, beta)


def _box(text: str) -> np.ndarray:
    import numpy as np

    from fkp.vision.crop import parse_box

    try:
        return np.array(parse_box(text), np.float32)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not x0,y0,x1,y1 in pixels with x0 < x1 and y0 < y1") from error


if __name__ == "__main__":
    run_command(main)
