"""Labels as other tools write them: twelve faces that a test makes, in each format that is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from fkp.scheme import load_scheme
from fkp.vision.image import write_image
from tests.faces import face

COUNT = 12
WIDTH, HEIGHT = 160, 140
NAMES = load_scheme("ibug68").landmarks


def points_of(number: int) -> np.ndarray:
    """(68, 2) true points of a face, in quarters of a pixel, the first pixel's centre at (0, 0)."""
    return face(80 + number, 50, 45, seed=number) + 0.25


def image_of(number: int) -> np.ndarray:
    """(140, 160, 3) uint8: no two are alike."""
    coarse = np.random.default_rng(number).integers(0, 255, (7, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def name_of(number: int) -> str:
    return f"{'abc'[number % 3]}_{number:02d}.png"


def write_images(folder: Path, count: int = COUNT) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        write_image(folder / name_of(number), image_of(number))


def pts_text(points: np.ndarray, header: bool = True) -> str:
    rows = "".join(f"{x} {y}\n" for x, y in (points + 1).tolist())
    return f"version: 1\nn_points: {len(points)}\n{{\n{rows}}}\n" if header else rows


def _pts(root: Path) -> None:
    write_images(root)
    for number in range(COUNT):
        (root / name_of(number)).with_suffix(".pts").write_text(pts_text(points_of(number), header=number % 2 == 0))


def imglab_image(number: int, file: str) -> str:
    parts = "".join(f"<part name='{place:02}' x='{x}' y='{y}'/>\n" for place, (x, y) in enumerate(points_of(number).tolist()))
    head = f"<image file='{file}' width='{WIDTH}' height='{HEIGHT}'>\n"
    return head + f"<box top='20' left='30' width='90' height='80'>\n{parts}</box>\n</image>\n"


def _imglab(root: Path) -> None:
    write_images(root / "photos")
    faces = "".join(imglab_image(number, f"photos/{name_of(number)}") for number in range(COUNT))
    (root / "faces.xml").write_text(
        f"<?xml version='1.0' encoding='ISO-8859-1'?>\n<dataset><name>é</name>\n<images>\n{faces}</images></dataset>\n", "latin-1"
    )


def coco(numbers: list[int]) -> dict[str, list[dict[str, object]]]:
    return {
        "images": [{"id": 7 + n, "file_name": name_of(n), "width": WIDTH, "height": HEIGHT} for n in numbers],
        "annotations": [
            {
                "id": n,
                "image_id": 7 + n,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [30, 20, 90, 80],
                "keypoints": [v for x, y in points_of(n).tolist() for v in (x, y, 2)],
            }
            for n in numbers
        ],
        "categories": [{"id": 1, "name": "face", "keypoints": list(NAMES)}],
    }


def _coco(root: Path) -> None:
    write_images(root / "images")
    (root / "faces.json").write_text(json.dumps(coco(list(range(COUNT)))))


def wflw_points(number: int) -> np.ndarray:
    """(98, 2) of WFLW: where the two schemes share a point it is the face's, and the others lie on its box's middle."""
    shared = load_scheme("wflw98").places_in(load_scheme("ibug68"))
    points = np.repeat(points_of(number).mean(0, keepdims=True), 98, axis=0)
    points[list(shared)] = points_of(number)[list(shared.values())]
    return points


def _wflw(root: Path) -> None:
    write_images(root / "WFLW_images" / "3--Riot")
    lines = []
    for number in range(COUNT):
        numbers = [*wflw_points(number).ravel().tolist(), 30, 20, 120, 100, 0, 0, 1, 0, 0, 0]
        lines.append(" ".join(map(str, numbers)) + f" 3--Riot/{name_of(number)}\n")
    (root / "list_98pt.txt").write_text("".join(lines))


def cvat_skeleton(number: int) -> str:
    points = "".join(
        f'<points label="{name}" outside="0" occluded="0" points="{x:.2f},{y:.2f}"></points>\n'
        for name, (x, y) in zip(NAMES, (points_of(number) + 0.5).tolist(), strict=True)
    )
    return f'<skeleton label="face" source="manual" z_order="0">\n{points}</skeleton>\n'


def cvat_points(number: int) -> str:
    return '<points label="face" occluded="0" points="{}"></points>\n'.format(
        ";".join(f"{x:.2f},{y:.2f}" for x, y in (points_of(number) + 0.5).tolist())
    )


def cvat_text(shape: Callable[[int], str]) -> str:
    images = "".join(f'<image id="{n}" name="{name_of(n)}" width="{WIDTH}" height="{HEIGHT}">\n{shape(n)}</image>\n' for n in range(COUNT))
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{images}</annotations>\n'


def _cvat(root: Path) -> None:
    write_images(root / "images")
    (root / "annotations.xml").write_text(cvat_text(cvat_skeleton))


def studio_task(number: int) -> dict[str, object]:
    percent = (points_of(number) + 0.5) / (WIDTH, HEIGHT) * 100
    results = [
        {
            "type": "keypointlabels",
            "original_width": WIDTH,
            "original_height": HEIGHT,
            "image_rotation": 0,
            "value": {"x": x, "y": y, "width": 0.5, "keypointlabels": [name]},
        }
        for name, (x, y) in zip(NAMES, percent.tolist(), strict=True)
    ]
    return {"id": number, "data": {"image": f"/data/upload/1/0123abcd-{name_of(number)}"}, "annotations": [{"result": results}]}


def _labelstudio(root: Path) -> None:
    write_images(root / "images")
    (root / "project.json").write_text(json.dumps([studio_task(number) for number in range(COUNT)]))


def csv_text(header: str, row: Callable[[int], str], numbers: range = range(COUNT)) -> str:
    return "\n".join([*([header] if header else []), *(row(number) for number in numbers)]) + "\n"


def flat(points: np.ndarray) -> str:
    return ",".join(map(str, points.ravel().tolist()))


def _csv(root: Path) -> None:
    write_images(root)
    header = "image," + ",".join(f"{axis}_{name}" for name in NAMES for axis in "xy")
    (root / "faces.csv").write_text(csv_text(header, lambda n: f"{name_of(n)},{flat(points_of(n))}"))


def _frames(root: Path) -> None:
    header = "," + ",".join(map(str, range(136)))
    for part, numbers in (("training", range(8)), ("test", range(8, COUNT))):
        (root / part).mkdir(parents=True)
        for number in numbers:
            write_image(root / part / f"Person{number}_00.png", image_of(number))
        text = csv_text(header, lambda n: f"Person{n}_00.png,{flat(points_of(n))}", numbers)
        (root / f"{part}_frames_keypoints.csv").write_text(text)


def _own(root: Path) -> None:
    from fkp.data.importer import Asked, import_set

    _csv(root.with_name("before"))
    import_set(Asked(root.with_name("before"), root))


#: Format -> writes the twelve faces into a new folder.
WRITERS: dict[str, Callable[[Path], None]] = {
    "pts": _pts,
    "imglab": _imglab,
    "coco": _coco,
    "wflw": _wflw,
    "cvat": _cvat,
    "labelstudio": _labelstudio,
    "csv": _csv,
    "frames": _frames,
    "fkp": _own,
}
