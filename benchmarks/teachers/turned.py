"""Views of faces turned in 3-D, with the labels turned along: a label set for `data.extra`.

    python benchmarks/teachers/turned.py TRAIN FACES MANIFEST.csv OUT [--seed 0]

TRAIN and FACES are folders of `faces.py` that MediaPipe has answered for, MANIFEST.csv is what `label.py` wrote for FACES. Each face of the
manifest whose yaw is below 38 degrees is turned once, away from the camera and by as much as keeps it below 55 degrees, and nods a little:
then nothing comes into sight that the image does not show. The image is bent triangle by triangle as its mesh moves; around the face the
movement fades out. Labels move as a map from the mesh to our points, fitted on TRAIN, says; what it got wrong on the face itself is kept.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np
from label import Folder, Map, read
from scipy.spatial import Delaunay
from tqdm import tqdm

from fkp.data import label_set
from fkp.data.label_set import LabelSet
from fkp.errors import FkpError, run_command
from fkp.scheme import IBUG68
from fkp.vision.image import read_image, write_image

#: Points of the mesh without the irises, and its outline from the top clockwise (MediaPipe's FACEMESH_FACE_OVAL).
_MESH = 468
_OVAL = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377]
_OVAL += [152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
_EARS = 234, 454
#: Rings around the outline, by the distance from its middle, and the part of the outline's movement that they take.
_RINGS = (1.22, 0.75), (1.6, 0.3), (2.2, 0.0)
SIZE_PX = 384
MOST_DEG, BELOW_DEG, LEAST_DEG, NOD_DEG = 55.0, 38.0, 8.0, 7.0


def main() -> None:
    """Write the set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("train", "faces", "manifest", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.out.exists():
        raise FkpError(f"{arguments.out} is there already: name a new folder")
    to_ours = Map.fit(read(arguments.train), ("mediapipe.npz",))
    folder = read(arguments.faces)
    with np.load(arguments.faces / "mediapipe.npz") as told:
        if "depth_px" not in told:
            raise FkpError(f"{arguments.faces}/mediapipe.npz has no depths: run mediapipe_points.py again")
        mesh_px = np.concatenate([told["points_px"], told["depth_px"][..., None]], -1).astype(np.float64)
    label_px = labels_of(arguments.manifest)
    chosen = [place for place, row in enumerate(folder.rows) if row["name"] in label_px and abs(yaw_deg(mesh_px[place])) < BELOW_DEG]
    triangles = triangles_of(mesh_px[chosen])
    (arguments.out / label_set.IMAGES).mkdir(parents=True)
    rng = np.random.default_rng(arguments.seed)
    names, points = [], []
    for place in tqdm(chosen, desc="turn", unit="face", disable=None):
        row = folder.rows[place]
        unit, corner = int(row["side"]) / SIZE_PX, np.array([int(row["x"]), int(row["y"])])
        before = mesh_px[place] / unit - [*((corner - 0.5) / unit + 0.5), 0]
        after = turned(before, rng)
        image = bent(read_image(arguments.faces / row["crop"]), before, after, triangles)
        moved = one(to_ours, after[:, :2]) - one(to_ours, before[:, :2])
        names.append(f"{label_set.IMAGES}/{Path(row['name']).stem}.png")
        points.append((label_px[row["name"]] + 0.5) / unit - 0.5 + moved)
        write_image(arguments.out / names[-1], image)
    count = len(names)
    everywhere = np.ones((count, len(IBUG68)), bool)
    nowhere = np.full((count, 4), np.nan, np.float32)
    groups = [Path(name).stem for name in names]
    labels = LabelSet(arguments.out, IBUG68, names, groups, [None] * count, nowhere, np.array(points, np.float32), everywhere)
    label_set.write(arguments.out, labels, {"source": f"{arguments.faces.name}, turned in 3-D"})
    print(f"{arguments.out}: {count} faces")


def labels_of(manifest: Path) -> dict[str, np.ndarray]:
    """(68, 2) points by the face's name, in pixels of its cut."""
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return {row["name"]: np.array([[float(row[f"{axis}{point}"]) for axis in "xy"] for point in range(len(IBUG68))]) for row in rows}


def one(to_ours: Map, mesh_px: np.ndarray) -> np.ndarray:
    """(68, 2) points of one (478, 2) mesh."""
    return to_ours(Folder([{}], np.zeros((1, len(IBUG68), 2)), {"mediapipe.npz": mesh_px[None]}))[0]


def yaw_deg(mesh_px: np.ndarray) -> float:
    """How far the ears of a (478, 3) mesh are apart in depth: 0 from the front."""
    across = mesh_px[_EARS[1]] - mesh_px[_EARS[0]]
    return float(np.degrees(np.arctan2(across[2], across[0])))


def turned(mesh_px: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(478, 3) mesh, turned further from the front about its middle, and nodding."""
    now = yaw_deg(mesh_px)
    sign = np.sign(now) if abs(now) > 5 else rng.choice([-1.0, 1.0])
    # What has more depth on its right has turned by a rotation of the other sign.
    yaw = np.radians(-sign * min(rng.uniform(LEAST_DEG, BELOW_DEG), MOST_DEG - abs(now)))
    nod = np.radians(np.clip(rng.normal(0, NOD_DEG), -2 * NOD_DEG, 2 * NOD_DEG))
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(nod), -np.sin(nod)], [0, np.sin(nod), np.cos(nod)]])
    middle = np.array([*mesh_px[:_MESH, :2].mean(0), mesh_px[_OVAL, 2].mean()])
    return (mesh_px - middle) @ (about_x @ about_y).T + middle


def triangles_of(meshes_px: np.ndarray) -> np.ndarray:
    """(T, 3) triangles over the mesh and the rings around it, as they lie in the mean of the fifth that looks ahead the most."""
    straight = meshes_px[np.argsort([abs(yaw_deg(mesh)) for mesh in meshes_px])[: max(1, len(meshes_px) // 5)], :_MESH, :2]
    unit = straight - straight.mean(1, keepdims=True)
    mean = (unit / np.abs(unit).max((1, 2), keepdims=True)).mean(0)
    return Delaunay(with_rings(mean, mean)[0]).simplices


def with_rings(before_px: np.ndarray, after_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of mesh and rings, (468 + 3 x 36, 2), before and after the mesh's points have moved."""
    before_px, after_px = before_px[:_MESH, :2], after_px[:_MESH, :2]
    middle, moved = before_px.mean(0), after_px[_OVAL] - before_px[_OVAL]
    rings = [middle + (before_px[_OVAL] - middle) * far for far, _ in _RINGS]
    return np.concatenate([before_px, *rings]), np.concatenate(
        [after_px, *(ring + moved * part for ring, (_, part) in zip(rings, _RINGS, strict=True))]
    )


def bent(image: np.ndarray, before: np.ndarray, after: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The image as its mesh moves: nearer triangles cover those behind, those that turned away are not seen, the rings lie behind all."""
    source, target = with_rings(before, after)
    behind = after[:_MESH, 2].max() + np.repeat(np.arange(1, len(_RINGS) + 1), len(_OVAL))
    depth = np.concatenate([after[:_MESH, 2], behind])[triangles].mean(1)
    from_px, to_px = source[triangles], target[triangles]
    order = np.argsort(-depth)
    order = order[(area(from_px) * area(to_px) > 1e-6)[order]]
    covered = np.full(image.shape[:2], -1, np.int32)
    sixteenths = np.round(to_px * 16).astype(np.int32)
    for number in order.tolist():
        cv2.fillConvexPoly(covered, sixteenths[number], number, cv2.LINE_8, 4)
    affine = np.zeros((len(triangles), 3, 2))
    affine[order] = np.linalg.solve(np.concatenate([to_px[order], np.ones((len(order), 3, 1))], 2), from_px[order])
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float64)
    by_pixel = affine[covered.clip(0)]
    place = by_pixel[..., 0, :] * x[..., None] + by_pixel[..., 1, :] * y[..., None] + by_pixel[..., 2, :]
    place = np.where((covered < 0)[..., None], np.stack([x, y], -1), place).astype(np.float32)
    return cv2.remap(image, place[..., 0], place[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def area(triangle: np.ndarray) -> np.ndarray:
    """(T,) twice the signed area of (T, 3, 2) triangles."""
    along, across = triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0]
    return along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0]


if __name__ == "__main__":
    run_command(main)
