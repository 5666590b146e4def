"""Whole photographs, as people have them: milliseconds on one core, faces found, and detections that are none.

    python benchmarks/photographs.py [--photographs FOLDER ...] [--megapixels 12] [--every 1] [--yunet FILE]
        [--environment FOLDER] [--without mediapipe dlib] [--runs 7]

The scenes are put together from the faces of nobody in docs/images/sfhq. FOLDER holds photographs with a `.pts` file beside each, whose
one labelled face counts; all else that is found there is an "other", which may be a face, too. Rows:

- fkp: the detector's passes and looks, and landmarks of each face
- fkp, coarse: the same with `--smallest-face 0.05`
- blazeface: the same with `--detector blazeface`
- limit: one pass of the detector's network over the reduced image, and the landmarks of the faces that are there
- dlib: its frontal detector, the image as it is; no landmarks, as no package ships weights for them
- mediapipe: Face Mesh of 0.10.21 for up to ten faces, in an environment that this script makes (in --environment, where it stays)
- yunet: the file of --yunet as fkp's detector, with fkp's landmarks

Mosaics of a hundred faces of 30 and 60 pixels follow.

Time is the processor's (`time.process_time`, the median of the runs), of all threads, without decoding, which has rows of its own: in full,
at half the size, and whole ways from a JPEG file to its faces, once decoded in full and once as finely as its faces need.
With --megapixels each labelled photograph is made as large as that first, and both whole ways are measured on its JPEG file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from pts import Labelled, labelled

from fkp.errors import FkpError, run_command
from fkp.predict import Predictor
from fkp.predict.predictor import given_boxes
from fkp.scheme import IBUG68
from fkp.vision.crop import box_of_points
from fkp.vision.detect import BLAZEFACE, OWN, iou
from fkp.vision.detect.detector import FaceDetector
from fkp.vision.detect.pyramid import Pyramid
from fkp.vision.detect.windows import whole
from fkp.vision.encoded import EncodedImage
from fkp.vision.image import Image, decode_half, decode_image, encode_image, read_image

FACES = Path(__file__).resolve().parents[1] / "docs/images/sfhq"
#: Name, width, height, faces, side of each face's tile (a face is about half of it), and what is asked in ms.
SCENES = (
    ("256 px, 1 face", 256, 256, 1, 256, 5),
    ("640 x 480, 1", 640, 480, 1, 300, 8),
    ("1920 x 1080, 4", 1920, 1080, 4, 380, 30),
    ("4000 x 3000, 8", 4000, 3000, 8, 700, 100),
)
#: Lengths of the faces in mosaics of 10 x 10.
MOSAIC_FACES_PX = (30, 60)
MEDIAPIPE = "mediapipe==0.10.21"
#: A box that overlaps the true one less (intersection over union) is another one.
HIT_IOU = 0.3

#: Boxes of an image's faces, (N, 4).
Find = Callable[[Image], np.ndarray]


@dataclass(frozen=True)
class Scene:
    """An image, the boxes (N, 4) of its faces, and what is asked of it."""

    name: str
    image: Image
    truth_xyxy: np.ndarray
    asked_ms: float | None = None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, nargs="+", default=[], metavar="FOLDER", help="labelled photographs, see above")
    parser.add_argument(
        "--megapixels", type=float, metavar="M", help="make the labelled photographs so large, and measure from their files"
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth labelled photograph (default: all)")
    parser.add_argument("--yunet", type=Path, metavar="FILE", help="weights of YuNet")
    parser.add_argument("--environment", type=Path, metavar="FOLDER", help="where MediaPipe is, or is to be, installed")
    parser.add_argument("--without", nargs="+", choices=("dlib", "mediapipe"), default=[])
    parser.add_argument("--runs", type=int, default=7, help="of each scene (default: %(default)s)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    predictor = Predictor()
    scenes = [make_scene(predictor, number, *row) for number, row in enumerate(SCENES)]
    print(f"{'ms of one core, faces found, others':24}" + "".join(f"{scene.name:>24}" for scene in scenes), flush=True)
    print(f"{'asked':35}" + "".join(f"{f'<= {scene.asked_ms:g}':>24}" for scene in scenes))
    _print_decoding(predictor, [encode_image(scene.image, ".jpg") for scene in scenes])
    rows: list[tuple[str, Find]] = [
        ("fkp", _boxes_by(predictor)),
        ("fkp, coarse", _boxes_by(Predictor(predictor.bundle, detector=f"{OWN}:0.05"))),
        ("blazeface", _boxes_by(Predictor(predictor.bundle, detector=BLAZEFACE))),
    ]
    if arguments.yunet:
        rows.append(("yunet", _boxes_by(Predictor(predictor.bundle, detector=str(arguments.yunet)))))
    if "dlib" not in arguments.without:
        rows.append(("dlib", _dlib()))
    for name, find in rows:
        _print_row(name, scenes, [(find(scene.image), _median_ms(lambda s=scene, f=find: f(s.image), arguments.runs)) for scene in scenes])  # type: ignore[misc]
    limits = [_limit_ms(predictor, scene, arguments.runs) for scene in scenes]
    print(f"{'limit':35}" + "".join(f"{ms:>24.1f}" for ms in limits), flush=True)
    if "mediapipe" not in arguments.without:
        with tempfile.TemporaryDirectory() as folder:
            _print_row("mediapipe", scenes, _mediapipe(arguments.environment or Path(folder) / "env", scenes, arguments.runs))
    for face_px in MOSAIC_FACES_PX:
        scene = _mosaic(predictor, face_px)
        for name, find in rows:
            found, others = _count(find(scene.image), scene.truth_xyxy)
            print(f"{scene.name}, {name}: {found} found, {others} others", flush=True)
    for folder in arguments.photographs:
        if arguments.megapixels:
            _print_files(predictor, folder, arguments.megapixels, arguments.every)
        for name, find in rows if not arguments.megapixels else ():
            _print_photographs(name, folder, find, arguments.every)


def make_scene(predictor: Predictor, number: int, name: str, width: int, height: int, count: int, side: int, asked_ms: float) -> Scene:
    """Faces side by side before a blurred, bright-and-dark background; their true boxes are those of each face alone."""
    random = np.random.default_rng(number)
    noise = random.integers(40, 200, (9, 12, 3)).astype(np.uint8)
    image = np.ascontiguousarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))
    files = sorted(FACES.glob("*.jpg"))
    columns = -(-count // 2) if count > 1 else 1
    lines = -(-count // columns)
    truth = []
    for place in range(count):
        tile = cv2.resize(read_image(files[(place + 1) % len(files)]), (side, side), interpolation=cv2.INTER_AREA)
        x = width * (2 * (place % columns) + 1) // (2 * columns) - side // 2
        y = height * (2 * (place // columns) + 1) // (2 * lines) - side // 2
        image[y : y + side, x : x + side] = tile
        truth.append(box_of_points(predictor(tile)[0].points_px) + np.array([x, y, x, y]))
    return Scene(name, image, np.array(truth), asked_ms)


def _mosaic(predictor: Predictor, face_px: int) -> Scene:
    """A hundred faces, of which none is longer than `face_px`; their boxes are those of each face alone, seen large."""
    tiles, boxes = [], []
    for path in sorted(FACES.glob("*.jpg")):
        tile = read_image(path)
        box = box_of_points(predictor(tile)[0].points_px)
        side = round(tile.shape[0] * face_px / (box[2:] - box[:2]).max())
        tiles.append(cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA))
        boxes.append((box + 0.5) * side / tile.shape[0] - 0.5)
    side = max(len(tile) for tile in tiles)
    image, truth = np.full((10 * side, 10 * side, 3), 128, np.uint8), []
    for place in range(100):
        tile, (y, x) = tiles[place % len(tiles)], np.array(divmod(place, 10)) * side
        image[y : y + len(tile), x : x + len(tile)] = tile
        truth.append(boxes[place % len(tiles)] + np.array([x, y, x, y]))
    return Scene(f"mosaic of 100 faces of {face_px} px", image, np.array(truth))


def _print_decoding(predictor: Predictor, files: Sequence[bytes]) -> None:
    """Decoding apart, and both whole ways from a file."""

    def row(name: str, work: Callable[[bytes], object]) -> None:
        times = [_median_ms(lambda data=data: work(data), 3) for data in files]  # type: ignore[misc]
        print(f"{name:35}" + "".join(f"{ms:>24.1f}" for ms in times), flush=True)

    row("(decoding its JPEG)", decode_image)
    row("(the same at half its size)", decode_half)
    row("fkp, decoded in full", lambda data: predictor(decode_image(data)))
    row("fkp, as finely as its faces need", lambda data: predictor(EncodedImage(data)))


def _boxes_by(predictor: Predictor) -> Find:
    return lambda image: np.array([box_of_points(face.points_px) for face in predictor(image)]).reshape(-1, 4)


def _dlib() -> Find:
    import dlib

    detector = dlib.get_frontal_face_detector()
    return lambda image: np.array([[b.left(), b.top(), b.right(), b.bottom()] for b in detector(image, 0)], float).reshape(-1, 4)


def _limit_ms(predictor: Predictor, scene: Scene, runs: int) -> float:
    detector: FaceDetector = predictor.detector
    height, width = scene.image.shape[:2]
    pixels = Pyramid(scene.image).cut(whole(width, height, detector._first_px(max(width, height))))
    faces = given_boxes(list(scene.truth_xyxy))
    return _median_ms(lambda: (detector.backend.look(pixels), predictor.of_detections(scene.image, faces)), runs)


def _median_ms(work: Callable[[], object], runs: int) -> float:
    times = []
    for _ in range(runs):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return 1000 * float(np.median(times))


def _print_row(name: str, scenes: Sequence[Scene], found: Sequence[tuple[np.ndarray, float]] | str) -> None:
    if isinstance(found, str):
        print(f"{name}: {found}")
        return
    cells = []
    for scene, (boxes, ms) in zip(scenes, found, strict=True):
        hits, others = _count(boxes, scene.truth_xyxy)
        cells.append(f"{ms:.1f}, {hits} of {len(scene.truth_xyxy)}, {others}")
    print(f"{name:35}" + "".join(f"{cell:>24}" for cell in cells), flush=True)


def _count(boxes_xyxy: np.ndarray, truth_xyxy: np.ndarray) -> tuple[int, int]:
    """True faces that were found, and boxes that are of none of them."""
    overlap = iou(truth_xyxy[:, None], boxes_xyxy[None]) > HIT_IOU
    return int(overlap.any(axis=1).sum()), int((~overlap).all(axis=0).sum())


def _mediapipe(environment: Path, scenes: Sequence[Scene], runs: int) -> list[tuple[np.ndarray, float]] | str:
    """Boxes and ms of each scene by MediaPipe in its own environment; a sentence where it cannot be had."""
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    try:
        if not python.is_file():
            venv.create(environment, with_pip=True)
            command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", MEDIAPIPE]
            subprocess.run(command, check=True, capture_output=True, text=True)
        with tempfile.TemporaryDirectory() as folder:
            for number, scene in enumerate(scenes):
                (Path(folder) / f"{number}.png").write_bytes(encode_image(scene.image, ".png"))
            command = [str(python), "-c", _MESH, folder, str(len(scenes)), str(runs)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        return f"not measured: {(error.stderr.strip().splitlines() or ['it failed'])[-1][:200]}"
    return [(np.array(boxes, float).reshape(-1, 4), ms) for boxes, ms in json.loads(done.stdout.splitlines()[-1])]


#: What runs there; its landmarks are fractions of the image.
_MESH = """
import json, statistics, sys, time
import cv2, mediapipe, numpy
cv2.setNumThreads(1)
folder, count, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=10)
answers = []
for number in range(count):
    image = cv2.cvtColor(cv2.imread(f"{folder}/{number}.png"), cv2.COLOR_BGR2RGB)
    times = []
    for _ in range(runs):
        began = time.process_time()
        found = mesh.process(image)
        times.append(time.process_time() - began)
    boxes = []
    for face in found.multi_face_landmarks or []:
        points = numpy.array([(point.x, point.y) for point in face.landmark]) * image.shape[1::-1]
        boxes.append([*points.min(0).tolist(), *points.max(0).tolist()])
    answers.append((boxes, 1000 * statistics.median(times)))
print(json.dumps(answers))
"""


def _print_files(predictor: Predictor, folder: Path, megapixels: float, every: int) -> None:
    """Labelled photographs as large JPEG files, decoded in full and as finely as their faces need."""
    names = "decoded in full", "as finely as its faces need"
    ms, nme, hits, others = ({name: list[float]() for name in names} for _ in range(4))
    whole = 0
    for path, points in _labelled(folder, every):
        image = read_image(path)
        zoom = (1e6 * megapixels / (image.shape[0] * image.shape[1])) ** 0.5
        width, height = (2 * round(side * zoom / 2) for side in image.shape[1::-1])
        data = encode_image(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC), ".jpg")
        truth = (points + 0.5) * (width / image.shape[1], height / image.shape[0]) - 0.5
        for name, opened in zip(names, (decode_image, EncodedImage), strict=True):
            began = time.process_time()
            file = opened(data)
            faces = predictor(file)
            ms[name].append(1000 * (time.process_time() - began))
            whole += isinstance(file, EncodedImage) and "full" in vars(file)
            boxes = np.array([box_of_points(face.points_px) for face in faces]).reshape(-1, 4)
            found, more = _count(boxes, box_of_points(truth)[None])
            hits[name].append(found)
            others[name].append(more)
            if found:
                best = faces[int(iou(boxes, box_of_points(truth)[None]).argmax())]
                errors_px = np.linalg.norm(best.points_px - truth, axis=-1)
                nme[name].append(100 * float(errors_px.mean() / IBUG68.size_px(truth)))
    for name in names:
        told = f"{sum(hits[name]):.0f} of {len(hits[name])} faces, {sum(others[name]):.0f} others, NME {np.mean(nme[name]):.3f} %"
        print(f"{folder.name}, {megapixels:g} MP, {name}: {told}, ms: median {np.median(ms[name]):.1f}, mean {np.mean(ms[name]):.1f}")
    print(f"{folder.name}, {megapixels:g} MP: {whole} had to be decoded in full after all", flush=True)


def _labelled(folder: Path, every: int) -> Labelled:
    found = labelled(folder)[::every]
    if not found:
        raise FkpError(f"{folder} holds no photograph with a .pts file beside it: name another folder")
    return found


def _print_photographs(name: str, folder: Path, find: Find, every: int) -> None:
    hits = others = count = 0
    times = []
    for path, points in _labelled(folder, every):
        image, truth = read_image(path), box_of_points(points)[None]
        began = time.process_time()
        boxes = find(image)
        times.append(1000 * (time.process_time() - began))
        found, more = _count(boxes, truth)
        hits, others, count = hits + found, others + more, count + 1
    told = f"{hits} of {count} faces, {others} others, ms: median {np.median(times):.1f}, mean {np.mean(times):.1f}"
    print(f"{folder.name}, {name}: {told}", flush=True)


if __name__ == "__main__":
    run_command(main)
