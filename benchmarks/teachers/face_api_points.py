"""What face-api's 68 points are for the faces of a folder that `faces.py` wrote: python this ENVIRONMENT FOLDER ...

ENVIRONMENT is the folder of `make.sh`. FOLDER gets `face_api.npz`: `names`, `points_px` (N, 68, 2) in pixels of the files that the faces
were cut from, and `scheme`. Each face is seen four times around the box of its points, twice mirrored; the mean is steadier than one.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from fkp.errors import FkpError, run_command
from fkp.scheme import IBUG68

FROM_PX, TO_PX = 384, 112
#: Of each look: the square's side and its way across and down, by the longer side of the box, and whether it is mirrored.
LOOKS = ((1.2, 0.0, -0.05, False), (1.2, 0.0, -0.05, True), (1.35, 0.03, -0.02, False), (1.1, -0.03, -0.06, True))
#: Faces a run of node: its memory grows with them.
_BLOCK = 500


def main() -> None:
    """Answer for each folder."""
    if len(sys.argv) < 3:
        raise FkpError("name the folder of make.sh, and folders that faces.py wrote")
    cv2.setNumThreads(1)
    environment = Path(sys.argv[1])
    for folder in map(Path, sys.argv[2:]):
        with (folder / "faces.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        blocks = [answer(environment, folder, rows, first) for first in range(0, len(rows), _BLOCK)]
        points = np.concatenate(blocks).astype(np.float32)
        np.savez(folder / "face_api.npz", names=np.array([row["name"] for row in rows]), points_px=points, scheme=IBUG68.name)
        print(f"{folder / 'face_api.npz'}: {len(rows)} faces")


def answer(environment: Path, folder: Path, rows: list[dict[str, str]], first: int) -> np.ndarray:
    """(M, 68, 2) of the faces from `first` on, at most `_BLOCK`."""
    crops, matrices = [], []
    for row in rows[first : first + _BLOCK]:
        crop = cv2.GaussianBlur(cv2.imread(str(folder / row["crop"]))[..., ::-1], (3, 3), 0)
        x, y, side = (int(row[name]) for name in ("x", "y", "side"))
        points = np.array([[float(row[f"{axis}{point}"]) for axis in "xy"] for point in range(len(IBUG68))])
        to_crop = np.array([[FROM_PX / side, 0, (0.5 - x) * FROM_PX / side - 0.5], [0, FROM_PX / side, (0.5 - y) * FROM_PX / side - 0.5]])
        for look in LOOKS:
            matrix = look_of(points @ to_crop[:, :2].T + to_crop[:, 2], *look)
            crops.append(cv2.warpAffine(crop, matrix, (TO_PX, TO_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
            matrices.append(matrix @ np.vstack([to_crop, [0, 0, 1]]))
    done = subprocess.run(["node", "face_api_points.mjs"], cwd=environment, input=np.stack(crops).tobytes(), capture_output=True)
    if done.returncode:
        raise FkpError(f"face-api fails in {environment}: {(done.stderr.decode().strip().splitlines() or ['no reason'])[-1]}: run make.sh")
    # Its pixels begin at 0, those of fkp have their middle there.
    told = np.frombuffer(done.stdout, np.float32).reshape(-1, len(LOOKS), len(IBUG68), 2).astype(np.float64) - 0.5
    back = np.stack([cv2.invertAffineTransform(matrix) for matrix in matrices]).reshape(-1, len(LOOKS), 2, 3)
    in_file = np.einsum("nlij,nlkj->nlki", back[..., :2], told) + back[:, :, None, :, 2]
    mirrored = [place for place, look in enumerate(LOOKS) if look[3]]
    in_file[:, mirrored] = in_file[:, mirrored][:, :, list(IBUG68.mirror)]
    return in_file.mean(1)


def look_of(points_px: np.ndarray, scale: float, across: float, down: float, mirrored: bool) -> np.ndarray:
    """(2, 3) affine from the crop of `faces.py` to one of face-api."""
    low, high = points_px.min(0), points_px.max(0)
    side = float((high - low).max())
    zoom = TO_PX / (scale * side)
    x, y = (low + high) / 2 + np.array([across, down]) * side
    middle = (TO_PX - 1) / 2
    matrix = np.array([[zoom, 0, middle - zoom * x], [0, zoom, middle - zoom * y]])
    if mirrored:
        matrix[0] = [-zoom, 0, TO_PX - 1 - matrix[0, 2]]
    return matrix


if __name__ == "__main__":
    run_command(main)
