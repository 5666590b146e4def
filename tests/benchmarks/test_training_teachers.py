"""What the teachers' rows of a table train: the mesh beside the labels, and labels without what the faces' size does to them."""

from __future__ import annotations

import importlib
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fkp.config import Config
from fkp.data.crop_cache import CropSet
from fkp.errors import FkpError
from fkp.scheme import IBUG68, load_scheme
from tests.faces import face

FACES = 120


@pytest.fixture
def rows() -> Any:
    return importlib.import_module("training_teachers")


def labels(count: int = FACES) -> np.ndarray:
    """(count, 68, 2) in frames, of half a width of 20 to 80 px."""
    half_px = np.linspace(20, 80, count)
    return np.stack([face(100 + seed, 120, float(half), seed) for seed, half in enumerate(half_px)]).astype(np.float64)


def test_points_move_with_the_labels_that_they_stand_beside(rows: Any) -> None:
    label_px, scale = labels(), np.linspace(0.5, 2, FACES)[:, None, None]
    moved_px = label_px * scale + [3.0, -20.0]
    told_px = np.random.default_rng(0).uniform(0, 200, (FACES, 478, 2))
    assert np.abs(rows.to_crops(told_px, label_px, moved_px) - (told_px * scale + [3.0, -20.0])).max() < 1e-9
    with pytest.raises(FkpError, match="the labels of 118 faces"):
        rows.to_crops(told_px, label_px, moved_px[np.r_[:2, 3:FACES, 2]])


def test_the_mesh_stands_after_the_labels_and_mirrors(rows: Any) -> None:
    size_px = Config().input.size_px
    wide_px = size_px * 3 // 2
    rng = np.random.default_rng(1)
    mesh_px = rng.uniform(wide_px * 0.3, wide_px * 0.7, (FACES, 478, 2))
    mesh_px[:, [5, 263]] = 1.0  # Outside the network's crop.
    mesh_px[3] = np.nan  # No answer for this face.
    both = CropSet(np.zeros((FACES, 1, wide_px, wide_px), np.uint8), labels().astype(np.float32), np.arange(FACES))
    crops, chosen = rows.with_mesh(both, mesh_px, SimpleNamespace(config=Config()))
    assert len(chosen) >= len(IBUG68) and not {5, 33, 263} & set(chosen)
    np.testing.assert_array_equal(crops.points_px[:, : len(IBUG68)], both.points_px)
    np.testing.assert_array_equal(crops.points_px[:, len(IBUG68) :], mesh_px[:, chosen].astype(np.float32))
    scheme, mesh = load_scheme(json.dumps(rows.scheme_with(chosen))), load_scheme("mediapipe478")
    assert scheme.mirror[: len(IBUG68)] == IBUG68.mirror
    assert [chosen[place - len(IBUG68)] for place in scheme.mirror[len(IBUG68) :]] == [mesh.mirror[number] for number in chosen]


def test_what_the_size_does_to_labels_is_taken_out(rows: Any) -> None:
    count = 400
    true_px = labels(count)
    size_px = IBUG68.size_px(true_px)
    wrong_px = np.stack([2 - size_px / 40, np.zeros(count)], 1)
    label_px = true_px + wrong_px[:, None]
    rng = np.random.default_rng(2)
    mixed = rng.dirichlet(np.full(68, 0.1), 478)  # Each point of the mesh lies between some landmarks.
    told = {rows.MESH: np.einsum("mk,nkc->nmc", mixed, true_px), "face_api.npz": true_px}
    told[rows.MESH][:, [33, 263]] = true_px[:, [36, 45]]
    to_crop = np.linspace(0.7, 1.4, count)[:, None, None]
    crops = CropSet(np.zeros((count, 1, 1, 1), np.uint8), (label_px * to_crop).astype(np.float32), np.arange(count))
    others = CropSet(np.zeros((count + 2, 1, 1, 1), np.uint8), np.concatenate([crops.points_px, crops.points_px[:2]]), np.arange(count + 2))
    material = SimpleNamespace(catalog=SimpleNamespace(points_px=label_px), labels=crops, fold=np.arange(count) % 3)
    found = rows.without_size_shift(material, others, rows.Folder([{}] * count, label_px, told))
    np.testing.assert_array_equal(found.points_px[count:], others.points_px[count:])
    left_px = found.points_px[:count] / to_crop - true_px
    # A shift that grows with the face as all faces do is a convention, and stays.
    before, after = (np.std(away[:, :, 0].mean(1) / size_px) for away in (label_px - true_px, left_px))
    assert after < 0.2 * before
    assert np.abs(left_px[:, :, 1]).mean() < 0.1
