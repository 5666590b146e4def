"""How far the faces of a set are turned, what that costs a model, and the mean face in three dimensions behind both.

python benchmarks/poses.py [BUNDLE ...] [--root DIR] [--write-mean-face]

The mean face comes from the labels of the training folds alone: many pictures of one rigid shape under parallel projection
have rank 3, and the shape follows from their singular vectors up to its mirror image in depth (Tomasi and Kanade, "Shape and
motion from image streams under orthography: a factorization method", IJCV 1992). `--write-mean-face` writes it to
`fkp/vision/mean_face.py`, which the augmentation turns faces by. Errors are those of the whole validation fold, box from the
label, labels without their shift; a bundle that trained on some of its persons (`data.val_share`) is refused.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from fkp.config import DataConfig
from fkp.data import catalog as catalogs
from fkp.errors import FkpError, run_command
from fkp.evaluate import evaluate
from fkp.folder import write
from fkp.landmarks import MIRROR, OUTER_EYE_CORNERS
from fkp.model.metrics import failure_pct
from fkp.predict import Predictor
from fkp.vision import mean_face
from fkp.vision.turn import angles

TARGET = Path(mean_face.__file__)
_NOSE_TIP = 30
#: Upper limits of the rows in degrees of yaw.
_YAWS = (0, 8, 16, 22, 28, 90)


def main() -> None:
    """Print the mean face's fit, the spread of the poses, and a table of the bundles' errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", metavar="BUNDLE")
    parser.add_argument("--root", default=None, help="the YouTube-Faces set (default: data/ytfaces)")
    parser.add_argument("--write-mean-face", action="store_true", help=f"write {TARGET.name} instead of only comparing with it")
    arguments = parser.parse_args()
    data = DataConfig(source="ytfaces", root=arguments.root)
    catalog = catalogs.load(data)
    shape, strengths = factorised(catalog.points_px[catalog.rows("train", data)])
    print(f"singular values of the training labels, of the first: {' '.join(f'{value:.3f}' for value in strengths[:6])}")
    if arguments.write_mean_face:
        rows = "".join(f"    ({x:.3f}, {y:.3f}, {z:.3f}),\n" for x, y, z in shape.round(3) + 0.0)
        start = TARGET.read_text(encoding="utf-8").split("MEAN_FACE")[0]
        write(TARGET, f"{start}MEAN_FACE: tuple[tuple[float, float, float], ...] = (\n{rows})\n".encode())
        return
    print(f"largest difference from {TARGET.name}: {np.abs(shape - np.array(mean_face.MEAN_FACE)).max():.3f} eye distances")
    for part in ("train", "val"):
        yaw, pitch = (np.degrees(found.numpy()) for found in angles(torch.from_numpy(catalog.points_px[catalog.rows(part, data)]).float()))
        print(f"{part}: |yaw| at 50, 90, 95, 99 % of the faces: {_at(np.abs(yaw), 50, 90, 95, 99)}; pitch at 5, 95 %: {_at(pitch, 5, 95)}")
    yaw = np.abs(yaw)
    bands = [(f"{low} to {high}", (yaw >= low) & (yaw < high)) for low, high in pairwise(_YAWS)]
    names = " | ".join(f"{name} ({of.sum()})" for name, of in bands)
    print(f"\n| validation NME % at a yaw of | all ({len(yaw)}) | {names} | failures at 8 % |\n|---|{'---|' * (len(bands) + 2)}")
    for path in arguments.bundles:
        predictor = Predictor(path)
        if predictor.bundle.config.data.val_share < 1:
            raise FkpError(f"{path} trained on a part of the validation persons (data.val_share): train one with --data.val_share 1")
        nme = evaluate(predictor, catalog, data, part="val").nme_interocular_pct()
        cells = [f"{nme.mean():.2f}", *(f"{nme[of].mean():.2f}" for _, of in bands), f"{failure_pct(nme, 8.0):.1f}"]
        print(f"| {path} | {' | '.join(cells)} |", flush=True)


def factorised(points_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rigid shape that best explains faces under scaled parallel projection.

    Args:
        points_px: (N, 68, 2); each face counts mirrored, too, so that the shape is symmetric.

    Returns:
        (68, 3) shape, x to the right, y down, z to the viewer, its middle at the origin, the outer eye corners at distance 1;
        and the singular values of all faces as parts of the first.
    """
    mirrored = points_px[:, list(MIRROR)] * (-1, 1)
    faces = np.concatenate([points_px, mirrored]).astype(np.float64)
    faces -= faces.mean(1, keepdims=True)
    faces /= np.sqrt((faces**2).mean((1, 2), keepdims=True))
    cameras, strengths, shape = np.linalg.svd(faces.transpose(0, 2, 1).reshape(-1, faces.shape[1]), full_matrices=False)
    cameras, shape = cameras[:, :3] * strengths[:3], shape[:3]
    # Any invertible 3 x 3 map between the two is as good; the right one makes the two axes of each camera orthogonal and equally long.
    across, down = cameras[0::2], cameras[1::2]
    system = np.concatenate([_product(across, down), _product(across, across) - _product(down, down)])
    length = (_product(across, across) + _product(down, down)).mean(0)
    system, wanted = np.vstack([system, 1000 * length]), np.append(np.zeros(len(system)), 2000.0)
    a, b, c, d, e, f = np.linalg.lstsq(system, wanted, rcond=None)[0]
    values, vectors = np.linalg.eigh(np.array([[a, b, c], [b, d, e], [c, e, f]]))
    if values.min() <= 0:
        raise FkpError("these labels are not those of one shape seen from several sides")
    square = vectors * np.sqrt(values)
    shape, down = np.linalg.solve(square, shape), down @ square
    # Upright: x runs from eye to eye, y as the pictures do on average, z towards the nose.
    eyes = shape[:, OUTER_EYE_CORNERS[1]] - shape[:, OUTER_EYE_CORNERS[0]]
    x = eyes / np.linalg.norm(eyes)
    y = down.sum(0) - x * (x @ down.sum(0))
    y /= np.linalg.norm(y)
    upright = np.stack([x, y, np.cross(x, y)]) @ shape
    upright[2] *= np.sign(upright[2, _NOSE_TIP] - upright[2].mean())
    found: np.ndarray = (upright - upright.mean(1, keepdims=True)).T / np.linalg.norm(eyes)
    return found, strengths / strengths[0]


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(N, 3) and (N, 3) to the (N, 6) factors of a symmetric matrix's upper half in left' M right."""
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    return np.stack([left[:, i] * right[:, j] + (left[:, j] * right[:, i] if i != j else 0) for i, j in pairs], 1)


def _at(values: np.ndarray, *percents: int) -> str:
    return ", ".join(f"{value:.0f}" for value in np.percentile(values, percents)) + " degrees"


if __name__ == "__main__":
    run_command(main)
