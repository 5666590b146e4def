"""What scenes that train a face detector are made of: labelled faces with their surroundings, and photographs without faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from fkp.config import Config
from fkp.data.extra import faces_that_train, load_extra
from fkp.data.labels import load_labels
from fkp.data.synthetic.render import frame_of
from fkp.errors import FkpError
from fkp.scheme import IBUG68, Scheme
from fkp.vision.align import five_points
from fkp.vision.crop import Crop, box_of_points
from fkp.vision.image import Image, read_image

#: A face is kept with so much around it, as a multiple of its box: what the labelled images have.
AROUND = 2.4
#: Side of a kept face's window. Its face is half as long: the length from which on a larger one would be sharper.
_KEPT_PX = 224
#: Side of its small copy, for faces up to half of this.
SMALL_PX = 80
#: A background photograph is kept no longer than this.
_BACKGROUND_PX = 512


@dataclass(frozen=True)
class Pool:
    """What scenes are made of.

    Attributes:
        windows: Of each face, (P, P, 3) uint8 around it.
        small: (N, Q, Q, 3) uint8, the same, smaller.
        shapes: (N, 7, 2) in windows, as a part of their side: 0 and 1 are their borders.
        known: (N, 4) the part of each window that its image covers, x0, y0, x1, y1 likewise.
        backgrounds: Photographs without faces.
    """

    windows: Sequence[Image]
    small: np.ndarray
    shapes: np.ndarray
    known: np.ndarray
    backgrounds: Sequence[Image]

    def __len__(self) -> int:
        return len(self.shapes)


def open_pool(config: Config, subset: str) -> Pool:
    """Decode the faces of a subset, and of `data.extra` where it trains, and the backgrounds.

    Raises:
        FkpError: A set or a folder is missing, empty or broken.
    """
    catalog = load_labels(config.data)
    rows = catalog.rows(subset, config.data)
    if not len(rows):
        raise FkpError(f"the {subset} subset of {catalog.root} is empty: add persons or choose other folds")
    parts, drawn = [(catalog, rows)], 0
    if subset == "train":
        parts += [(some, faces_that_train(some, config.data)) for some in load_extra(config.data)]
        drawn = config.detect.drawn
    faces = [(some, int(row)) for some, chosen in parts for row in chosen]
    labelled = (
        _window(some.image(row), some.points_px[row], some.scheme)
        for some, row in tqdm(faces, f"faces that {subset}", unit="face", mininterval=1.0, delay=2.0)
    )
    others = (_window(*frame_of(index, config.train.seed)[2:], IBUG68) for index in range(drawn))
    windows, shapes, known = zip(*labelled, *others, strict=True)
    small = np.stack([cv2.resize(window, (SMALL_PX, SMALL_PX), interpolation=cv2.INTER_AREA) for window in windows])
    return Pool(windows, small, np.array(shapes), np.array(known), list(_backgrounds(config, subset)))


def _window(image: Image, points_px: np.ndarray, scheme: Scheme) -> tuple[Image, np.ndarray, np.ndarray]:
    """A face with its surroundings, its shape there, and the part that the image covers."""
    box = box_of_points(points_px)
    side = float(AROUND * (box[2:] - box[:2]).max())
    size = min(_KEPT_PX, max(round(side), 16))
    crop = Crop.of_box(box, size, AROUND)
    shape = np.concatenate([box.reshape(2, 2), five_points(points_px, scheme)])
    height, width = image.shape[:2]
    inside = np.clip((crop.do(np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]])) + 0.5) / size, 0, 1)
    return crop.apply(image, 3).transpose(1, 2, 0).copy(), (crop.do(shape) + 0.5) / size, inside.reshape(4)


def _backgrounds(config: Config, subset: str) -> Iterator[Image]:
    """Photographs without faces; a tenth of them is for validation."""
    for folder in config.detect.backgrounds:
        paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
        if not paths:
            raise FkpError(f"{folder} of detect.backgrounds holds no photograph: name another folder, or fetch one with `fkp data fetch`")
        for path in paths[::10] if subset != "train" else [path for index, path in enumerate(paths) if index % 10]:
            image = read_image(path)
            zoom = min(_BACKGROUND_PX / max(image.shape[:2]), 1.0)
            yield cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA) if zoom < 1 else image
