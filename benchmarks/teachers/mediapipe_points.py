"""What MediaPipe's face mesh answers for the faces of a folder that `faces.py` wrote: ENVIRONMENT/mediapipe/bin/python this FOLDER ...

FOLDER gets `mediapipe.npz`: `names`, `points_px` (N, 478, 2) in pixels of the files that the faces were cut from, `depth_px` (N, 478) in
the same unit, growing away from the camera, both NaN where it finds no face, and `scheme`. Each face is seen three times, a little turned
and scaled; the mean of the answers is steadier than one. This file runs without fkp.
"""

import csv
import sys
from pathlib import Path

import cv2
import mediapipe
import numpy as np

SIZE_PX = 384
#: Degrees, and scale, of each look.
LOOKS = ((0, 1.0), (8, 1.12), (-8, 0.9))


def main() -> None:
    """Answer for each folder."""
    if len(sys.argv) < 2:
        sys.exit("error: name folders that faces.py wrote")
    cv2.setNumThreads(1)
    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.3)
    for folder in map(Path, sys.argv[1:]):
        with (folder / "faces.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        points = np.full((len(rows), 478, 3), np.nan)
        for number, row in enumerate(rows):
            crop = cv2.imread(str(folder / row["crop"]))
            found = [look for look in (see(mesh, crop, *look) for look in LOOKS) if look is not None]
            if found:
                at, unit = np.array([int(row["x"]), int(row["y"]), 0.5]), int(row["side"]) / SIZE_PX
                points[number] = (np.mean(found, axis=0) + [0.5, 0.5, 0]) * unit - 0.5 + at
            if number % 200 == 0:
                print(f"{folder}: {number} of {len(rows)}", file=sys.stderr, flush=True)
        names = np.array([row["name"] for row in rows])
        points = points.astype(np.float32)
        np.savez(folder / "mediapipe.npz", names=names, points_px=points[..., :2], depth_px=points[..., 2], scheme="mediapipe478")
        print(f"{folder / 'mediapipe.npz'}: {len(rows)} faces, {int(np.isnan(points[:, 0, 0]).sum())} without an answer")


def see(mesh, crop_bgr, angle_deg, scale):
    """(478, 3) in pixels of the crop, x, y and depth, or None."""
    matrix = cv2.getRotationMatrix2D(((SIZE_PX - 1) / 2,) * 2, angle_deg, scale)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    turned = cv2.warpAffine(crop_bgr, matrix, (SIZE_PX, SIZE_PX), flags=interpolation, borderMode=cv2.BORDER_REPLICATE)
    found = mesh.process(np.ascontiguousarray(turned[..., ::-1])).multi_face_landmarks
    if not found:
        return None
    back = cv2.invertAffineTransform(matrix)
    told = np.array([(point.x, point.y, point.z) for point in found[0].landmark]) * SIZE_PX
    return np.column_stack([(told[:, :2] - 0.5) @ back[:, :2].T + back[:, 2], told[:, 2] / scale])


if __name__ == "__main__":
    main()
