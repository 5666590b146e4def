"""Labels of faces that nobody labelled, in our convention, by what permissive teachers agree on.

    python benchmarks/teachers/label.py TRAIN FACES OUT.csv [--check VAL [--bundle DIR]] [--most-spread PCT] [--mosaics FOLDER]

TRAIN, FACES and VAL are folders of `faces.py` that both teachers have answered for. On TRAIN, whose points are our labels, a linear map of
what the teachers say is fitted: ridge regression on all their points together, in the frame in which the mesh stands upright at one size.
FACES get what it answers: the teachers, by one map. Each teacher by a map of its own gives `spread_pct`, the mean distance of the two in
percent of the outer eye corners: how far such a label is to be trusted. Faces without an answer, and those of which the teachers differ by
more than --most-spread, are left out and counted. --check prints each map's error on faces it was not fitted on, also with the convention
taken out (`benchmarks/convention.py`): on photographs that people labelled, how good such labels are. The last line tells how far
face-api's convention lies from ours where a constant is taken out: `fkp.evaluation.radii` holds these numbers.

OUT.csv is a manifest: `name`, `mosaic`, `x`, `y`, `side` (the square of the mosaic's pixels to cut), `spread_pct`, and the points, `x0`,
`y0` and so on, in pixels of that cut. With --mosaics, where they lie, it names their sha256, too, and `fkp data fetch` can cut by it.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fkp.common.files import write
from fkp.data.verify import sha256_of
from fkp.errors import FkpError, run_command
from fkp.evaluation.metrics import nme_pct
from fkp.predict import Predictor
from fkp.scheme import IBUG68, load_scheme
from fkp.vision.crop import box_of_points, upright
from fkp.vision.image import read_image

MESH, POINTS = "mediapipe.npz", "face_api.npz"
#: Which teachers a map is of, by name.
KINDS = {"both": (MESH, POINTS), "mediapipe": (MESH,), "face_api": (POINTS,)}
#: A face: of 1e-5 to 1e-3 the best on frames that the map was not fitted on.
PENALTY = 1e-4
_LEFT_EYE, _RIGHT_EYE = load_scheme("mediapipe478").find(["left_eye_outer", "right_eye_outer"])


@dataclass(frozen=True)
class Folder:
    """What is known of the faces of a folder: lines of faces.csv, their points (N, 68, 2), and by teacher its (N, K, 2) or NaN."""

    rows: list[dict[str, str]]
    points_px: np.ndarray
    told: dict[str, np.ndarray]

    @property
    def answered(self) -> np.ndarray:
        """(N,) bool: faces that every teacher found."""
        return np.logical_and.reduce([np.isfinite(points).all((1, 2)) for points in self.told.values()])


@dataclass(frozen=True)
class Frame:
    """Where the mesh of each face stands upright, at one size: its middle (N, 1, 2), its size (N, 1, 1), and the turn (N, 2, 2)."""

    middle: np.ndarray
    size: np.ndarray
    turn: np.ndarray

    @classmethod
    def of(cls, mesh_px: np.ndarray) -> Frame:
        """Of (N, 478, 2) points."""
        middle = mesh_px.mean(1, keepdims=True)
        size = np.sqrt(((mesh_px - middle) ** 2).sum(-1).mean(-1))[:, None, None]
        x, y = (mesh_px[:, _RIGHT_EYE] - mesh_px[:, _LEFT_EYE]).T
        cos, sin = np.stack([x, y]) / np.hypot(x, y)
        return cls(middle, size, np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2))

    def do(self, points_px: np.ndarray) -> np.ndarray:
        """(N, K, 2) pixels into the frame, (N, 2 K)."""
        return ((points_px - self.middle) / self.size @ self.turn).reshape(len(points_px), -1)

    def undo(self, flat: np.ndarray) -> np.ndarray:
        """Back."""
        return flat.reshape(len(flat), -1, 2) @ self.turn.transpose(0, 2, 1) * self.size + self.middle


@dataclass(frozen=True)
class Map:
    """From what teachers say to our points, a linear map in the mesh's frame."""

    kinds: Sequence[str]
    mean: np.ndarray
    target: np.ndarray
    weights: np.ndarray

    @classmethod
    def fit(cls, folder: Folder, kinds: Sequence[str]) -> Map:
        """Ridge regression in closed form, on the faces that are answered."""
        used = folder.answered
        frame = Frame.of(folder.told[MESH][used])
        x = np.concatenate([frame.do(folder.told[kind][used]) for kind in kinds], 1)
        y = frame.do(folder.points_px[used])
        mean, target = x.mean(0), y.mean(0)
        gram = (x - mean).T @ (x - mean) + PENALTY * len(x) * np.eye(x.shape[1])
        return cls(kinds, mean, target, np.linalg.solve(gram, (x - mean).T @ (y - target)))

    def __call__(self, folder: Folder) -> np.ndarray:
        """(M, 68, 2) points of the faces that are answered, in pixels of their files."""
        used = folder.answered
        frame = Frame.of(folder.told[MESH][used])
        x = np.concatenate([frame.do(folder.told[kind][used]) for kind in self.kinds], 1)
        return frame.undo((x - self.mean) @ self.weights + self.target)


def main() -> None:
    """Write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("faces", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--check", type=Path, metavar="VAL", help="prints the maps' errors on these faces")
    parser.add_argument("--most-spread", type=float, default=8.0, metavar="PCT", help="(default: %(default)s)")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="checks this model, too, and its mean with both, which halfway.py makes")
    parser.add_argument("--mosaics", type=Path, metavar="FOLDER", help="the images that the faces were cut from")
    arguments = parser.parse_args()
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from convention import fit

    train = read(arguments.train)
    maps = {name: Map.fit(train, kinds) for name, kinds in KINDS.items()}
    if arguments.check:
        folder = read(arguments.check)
        truth_px = folder.points_px[folder.answered]
        answers = {name: fitted(folder) for name, fitted in maps.items()}
        if arguments.bundle is not None:
            own_px = asked(Predictor(arguments.bundle), arguments.check, folder, answers["both"])
            answers |= {str(arguments.bundle): own_px, f"both and {arguments.bundle}": (answers["both"] + own_px) / 2}
        for name, found_px in answers.items():
            error, mapped = nme_pct(found_px, truth_px), nme_pct(fit(found_px, truth_px).mapped_px, truth_px)
            told = f"{name}: NME {error.mean():.2f} %, median {np.median(error):.2f} %, convention taken out {mapped.mean():.2f} %"
            print(f"{told}, on {len(error)} faces of {arguments.check}")
    folder = read(arguments.faces)
    points, *alone = (fitted(folder) for fitted in maps.values())
    spread = nme_pct(*alone)
    rows = [row for row, known in zip(folder.rows, folder.answered, strict=True) if known]
    kept = np.flatnonzero(spread <= arguments.most_spread)
    lines = [["name", "mosaic", "x", "y", "side", "spread_pct", *(f"{axis}{point}" for point in range(len(IBUG68)) for axis in "xy")]]
    for place in kept.tolist():
        row = rows[place]
        cut = points[place] - [int(row["x"]), int(row["y"])]
        told = [row["name"], row["image"], row["x"], row["y"], row["side"], f"{spread[place]:.2f}"]
        lines.append([*told, *(f"{value:.1f}" for value in cut.ravel())])
    text = io.StringIO()
    if arguments.mosaics is not None:
        for name in sorted({line[1] for line in lines[1:]}):
            if (digest := sha256_of(arguments.mosaics / name)) is None:
                raise FkpError(f"{arguments.mosaics} has no {name}: name the folder that faces.py was given")
            text.write(f"# {digest}  {name}\n")
    csv.writer(text, lineterminator="\n").writerows(lines)
    write(arguments.out, text.getvalue())
    left_out = len(rows) - len(kept)
    print(f"{arguments.out}: {len(kept)} faces; {len(folder.rows) - len(rows)} without an answer, {left_out} by the spread left out")
    apart = apart_pct(folder.told[POINTS][folder.answered][kept], alone[list(KINDS).index("face_api") - 1][kept])
    print("another convention, % of the eye distance: " + ", ".join(f"{name} {value:.1f}" for name, value in apart.items()))


def asked(predictor: Predictor, place: Path, folder: Folder, points_px: np.ndarray) -> np.ndarray:
    """(M, 68, 2) points of a folder's answered faces by a model of ours, in the boxes of (M, 68, 2) others, all in pixels of the files."""
    found_px = np.empty_like(points_px)
    rows = [row for row, known in zip(folder.rows, folder.answered, strict=True) if known]
    for number, row in enumerate(rows):
        crop = read_image(place / row["crop"])
        scale, corner = float(row["side"]) / len(crop), np.array([float(row["x"]), float(row["y"])])
        (face,) = predictor(crop, [box_of_points((points_px[number] - corner + 0.5) / scale - 0.5)])
        found_px[number] = (face.points_px + 0.5) * scale - 0.5 + corner
    return found_px


def apart_pct(theirs_px: np.ndarray, ours_px: np.ndarray) -> dict[str, float]:
    """How far one way to place the points, (N, 68, 2), lies from another beyond a constant: root mean square by region."""
    ways = upright(theirs_px - ours_px, ours_px, IBUG68) / IBUG68.size_px(ours_px)[:, None, None]
    squares = ((ways - ways.mean(0)) ** 2).sum(-1)
    return {name: 100 * float(np.sqrt(squares[:, list(points)].mean())) for name, points in IBUG68.regions.items()}


def read(folder: Path) -> Folder:
    """Read a folder of `faces.py` with the teachers' answers.

    Raises:
        FkpError: An answer is missing, or is one for other faces.
    """
    try:
        with (folder / "faces.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise FkpError(f"{folder} holds no faces.csv ({error.strerror}): make it with faces.py") from error
    told = {}
    for name in (MESH, POINTS):
        if not (folder / name).is_file():
            raise FkpError(f"{folder} holds no {name}: ask that teacher first, see benchmarks/teachers/README.md")
        with np.load(folder / name) as answers:
            if answers["names"].tolist() != [row["name"] for row in rows]:
                raise FkpError(f"{folder / name} is about other faces than its faces.csv: ask that teacher again")
            told[name] = answers["points_px"].astype(np.float64)
    points = [[[float(row[f"{axis}{point}"]) for axis in "xy"] for point in range(len(IBUG68))] for row in rows]
    return Folder(rows, np.array(points), told)


if __name__ == "__main__":
    run_command(main)
