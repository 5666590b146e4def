"""How a trained network behaves: it learns eight faces by heart, and small changes of an image change the answer little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import torch

from fkp.config import AugmentConfig, Config
from fkp.data.crop_cache import open_cache
from fkp.data.labels import load_labels
from fkp.evaluation import metrics
from fkp.model import losses
from fkp.model.network import Network
from fkp.scheme import IBUG68
from fkp.vision.augment import Augment
from fkp.vision.crop import Crop, box_of_points
from fkp.vision.image import read_image

#: Brings points of a changed image back into the face's own image.
Back = Callable[[np.ndarray], np.ndarray]

pytestmark = pytest.mark.slow("a network is trained until it knows eight faces by heart")

FACES = 8
STEPS = 350
#: Enough for the invariances below, little enough for a short run.
GENTLE = AugmentConfig(rotate_deg=2, scale=0.02, shift=0.03, light=0.15, noise=0.0, blur=0.0, downscale=0.0, jpeg=0.0, occlude=0.0)


@dataclass(frozen=True)
class Face:
    """An image with its true points and their box, in its pixels."""

    image: np.ndarray
    points_px: np.ndarray

    @property
    def box_xyxy(self) -> np.ndarray:
        return box_of_points(self.points_px)


@dataclass(frozen=True)
class Trained:
    """A network with the faces it knows."""

    config: Config
    network: Network
    faces: list[Face]

    def find(self, image: np.ndarray, box_xyxy: np.ndarray) -> np.ndarray:
        """(68, 2) points in the image's pixels."""
        crop = Crop.of_box(box_xyxy, self.config.input.size_px, self.config.input.crop_scale)
        pixels = torch.from_numpy(crop.apply(image, self.config.input.channels))[None]
        with torch.no_grad():
            return crop.undo(self.network(pixels)[0][0].numpy())


def nme_pct(points_px: np.ndarray, truth_px: np.ndarray) -> float:
    return float(metrics.nme_pct(points_px[None], truth_px[None])[0])


@pytest.fixture(scope="module")
def trained(tiny_config: Config) -> Trained:
    config = tiny_config.updated({"model.width": 16})
    cache = open_cache(config)
    catalog = load_labels(config.data)
    faces = [Face(read_image(catalog.path(row)), catalog.points_px[row]) for row in cache.train.rows[:FACES]]
    wide_u8 = torch.tensor(cache.train.crops_u8[:FACES])
    points_wide_px = torch.tensor(cache.train.points_px[:FACES])

    torch.manual_seed(0)
    network = Network(config)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, STEPS)
    plain, gentle = (Augment(changes, config.input.size_px, IBUG68) for changes in (AugmentConfig(strength=0.0), GENTLE))
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        parts = [augment(wide_u8, points_wide_px, generator) for augment in (plain, gentle)]
        crops_u8, truth_px = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        loss = losses.landmark_loss("smooth_l1", *network(crops_u8), truth_px, config.input.size_px)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return Trained(config, network.eval(), faces)


def moved_pct(trained: Trained, change: Callable[[Face], tuple[np.ndarray, np.ndarray, Back]]) -> float:
    """How far a change of image and box moves the points, in percent of the eyes' distance, mean over the faces.

    `change` also says how to bring the points of the changed image back to the face's own.
    """
    errors_pct = []
    for face in trained.faces:
        image, box_xyxy, back = change(face)
        found = back(trained.find(image, box_xyxy))
        errors_pct.append(nme_pct(found, trained.find(face.image, face.box_xyxy)))
    return float(np.mean(errors_pct))


def as_they_are(points_px: np.ndarray) -> np.ndarray:
    return points_px


def test_it_learns_eight_faces_by_heart(trained: Trained) -> None:
    errors_pct = [nme_pct(trained.find(face.image, face.box_xyxy), face.points_px) for face in trained.faces]
    assert np.mean(errors_pct) < 1.5
    assert max(errors_pct) < 2.5


def test_one_face_is_no_answer_for_another(trained: Trained) -> None:
    shapes = np.stack([Crop.of_box(face.box_xyxy, 64, 1.3).do(face.points_px) for face in trained.faces])
    # A network that gives the mean face for all of them would fail the test above by far.
    assert metrics.nme_pct(np.broadcast_to(shapes.mean(axis=0), shapes.shape), shapes).mean() > 5


def test_a_mirrored_image_mirrors_the_points(trained: Trained) -> None:
    def mirrored(face: Face) -> tuple[np.ndarray, np.ndarray, Back]:
        last = face.image.shape[1] - 1
        x0, y0, x1, y1 = face.box_xyxy
        return (
            np.ascontiguousarray(face.image[:, ::-1]),
            np.array([last - x1, y0, last - x0, y1]),
            lambda p: p[list(IBUG68.mirror)] * (-1, 1) + (last, 0),
        )

    assert moved_pct(trained, mirrored) < 4.5


def test_a_darker_image_moves_little(trained: Trained) -> None:
    def darker(face: Face) -> tuple[np.ndarray, np.ndarray, Back]:
        return np.round(face.image * 0.8).astype(np.uint8), face.box_xyxy, as_they_are

    assert moved_pct(trained, darker) < 3.5


@pytest.mark.parametrize("shift", [(0.03, 0.0), (-0.03, 0.02), (0.0, -0.04)], ids=str)
def test_a_shifted_box_moves_little(trained: Trained, shift: tuple[float, float]) -> None:
    def shifted(face: Face) -> tuple[np.ndarray, np.ndarray, Back]:
        box = face.box_xyxy
        return face.image, box + np.tile(shift, 2) * (box[2:] - box[:2]).max(), as_they_are

    # Points that stayed where they are in the crop would move by 4 to 6 %.
    assert moved_pct(trained, shifted) < 3.5


def test_an_image_twice_as_large_has_its_points_twice_as_far(trained: Trained) -> None:
    def enlarged(face: Face) -> tuple[np.ndarray, np.ndarray, Back]:
        larger = cv2.resize(face.image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        return larger, face.box_xyxy * 2 + 0.5, lambda points_px: (points_px - 0.5) / 2

    assert moved_pct(trained, enlarged) < 0.6
