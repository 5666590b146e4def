"""The landmarks of a manifest, each moved half of the way to what a model of ours answers: their mean errs less than either.

    python benchmarks/teachers/halfway.py MANIFEST SET OUT.csv [--bundle DIR]

MANIFEST is what `label.py` wrote, SET the label set that was cut by it (`fkp data fetch --source`), whose images the model is asked about,
once each, in the box of the landmarks. Where it is further off than FURTHEST, one of the two is wrong, nobody knows which, and the face is
left out. `label.py --check` and `benchmarks/general.py` tell how good the teachers and the model are alone.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from fkp.common.files import write
from fkp.data import label_set
from fkp.data.mosaics import read_manifest
from fkp.errors import FkpError, run_command
from fkp.evaluation.metrics import nme_pct
from fkp.predict import DEFAULT_BUNDLE, Predictor
from fkp.vision.crop import box_of_points
from fkp.vision.image import read_image

#: NME of the model from the label, in percent of the outer eye corners' distance.
FURTHEST = 6.0


def main() -> None:
    """Write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("set", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, metavar="DIR", help="the model (default: %(default)s)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    listed, labels, predictor = read_manifest(arguments.manifest), label_set.read(arguments.set), Predictor(arguments.bundle)
    if [f"{label_set.IMAGES}/{name}" for name in listed.faces["name"]] != labels.images:
        raise FkpError(f"{arguments.set} holds other faces than {arguments.manifest}: fetch it anew by that manifest")
    told_px = listed.points_px
    found_px = np.empty_like(told_px)
    for place, name in enumerate(tqdm(labels.images, desc="ask", unit="face", disable=None)):
        (face,) = predictor(read_image(arguments.set / name), [box_of_points(told_px[place])])
        found_px[place] = face.points_px
    away = nme_pct(found_px, told_px)
    faces = listed.faces[away <= FURTHEST].copy()
    faces.iloc[:, -2 * told_px.shape[1] :] = np.round((told_px + found_px) / 2, 1).reshape(len(told_px), -1)[away <= FURTHEST]
    used = {*faces["mosaic"]}
    head = "".join(f"# {digest}  {name}\n" for name, digest in listed.mosaics.items() if name in used)
    text = (head + faces.to_csv(index=False, float_format="%g", lineterminator="\n")).encode()
    write(arguments.out, gzip.compress(text, mtime=0) if arguments.out.suffix == ".gz" else text)
    print(f"{arguments.out}: {len(faces)} faces, the model {np.median(away):.2f} % off in the median; {len(away) - len(faces)} left out")


if __name__ == "__main__":
    run_command(main)
