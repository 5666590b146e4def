"""What a few labels tell of a convention."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fkp.adapt.ridge import fit_map, mirrored
from fkp.data.face_shape import mean_face
from fkp.model.shape_map import ShapeMap
from fkp.scheme import IBUG68, Scheme, load_scheme

SIZE = 128


def answers(count: int, seed: int) -> np.ndarray:
    """(2, N, 68, 2) looks at faces of several sizes, places and shapes; the second one in mirrored crops."""
    rng = np.random.default_rng(seed)
    shape = mean_face()[None, :, :2] * rng.uniform(0.9, 1.1, (count, 1, 2)) + rng.normal(0, 0.02, (count, 68, 2))
    points = (shape * rng.uniform(25, 35, (count, 1, 1)) + rng.uniform(55, 65, (count, 1, 2))).astype(np.float32)
    return np.stack([points, mirrored(points, IBUG68, SIZE)])


def convention(points: np.ndarray) -> np.ndarray:
    """Labels of somebody who puts the jaw lower by a tenth of the eyes' distance and the ears further out; the same on both sides."""
    eyes = np.linalg.norm(points[:, 36] - points[:, 45], axis=-1)[:, None]
    labels = points.copy()
    labels[:, 4:13, 1] += 0.1 * eyes
    labels[:, [0], 0] -= 0.08 * eyes
    labels[:, [16], 0] += 0.08 * eyes
    return labels


def apply(fitted: ShapeMap, points: np.ndarray) -> np.ndarray:
    return fitted(torch.from_numpy(points), torch.ones(points.shape[:2]))[0].numpy()


def error(found: np.ndarray, labels: np.ndarray) -> float:
    eyes = np.linalg.norm(labels[:, 36] - labels[:, 45], axis=-1)
    return float(100 * (np.linalg.norm(found - labels, axis=-1).mean(1) / eyes).mean())


def test_twenty_faces_tell_a_constant_shift() -> None:
    looks, unseen = answers(20, 0), answers(50, 1)[0]
    fitted = fit_map(looks, convention(looks[0]), IBUG68, IBUG68, SIZE, 2.0)
    before, after = error(unseen, convention(unseen)), error(apply(fitted, unseen), convention(unseen))
    assert before > 1.4
    assert after < 0.2 * before


def test_it_is_mirror_symmetric() -> None:
    looks, unseen = answers(20, 0), answers(5, 1)[0]
    labels = convention(looks[0]) + np.random.default_rng(2).normal(0, 1, looks[0].shape).astype(np.float32)
    fitted = fit_map(looks, labels, IBUG68, IBUG68, SIZE, 1.0)
    there = apply(fitted, mirrored(unseen, IBUG68, SIZE))
    np.testing.assert_allclose(there, mirrored(apply(fitted, unseen), IBUG68, SIZE), atol=2e-3)


@pytest.mark.parametrize("count", [12, 100])
def test_points_that_are_not_labelled_are_left_out(count: int) -> None:
    """Twelve faces are fewer than the map's inputs, a hundred are more: two forms of the same solution."""
    looks = answers(count, 0)
    labels = convention(looks[0])
    labels[::3, 8] = np.nan
    labels[:, 30] = np.nan
    fitted = fit_map(looks, labels, IBUG68, IBUG68, SIZE, 2.0)
    unseen = answers(50, 1)[0]
    found = apply(fitted, unseen)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, 30], unseen[:, 30], atol=1e-3)  # Nobody says anything of it.
    assert error(found, convention(unseen)) < 0.3


@pytest.mark.parametrize("count", [12, 100])
def test_a_label_counts_by_its_weight(count: int) -> None:
    """A face of weight 1/2 twice is one of weight 1; of two conventions the heavier one holds, also for the mirrored points."""
    looks, unseen = answers(count, 0), answers(20, 1)[0]
    labels = convention(looks[0])
    once = apply(fit_map(looks, labels, IBUG68, IBUG68, SIZE, 2.0), unseen)
    doubled = np.concatenate([looks, looks], 1), np.concatenate([labels, labels])
    half = np.full((2 * count, 68), 0.5, np.float32)
    np.testing.assert_allclose(apply(fit_map(*doubled, IBUG68, IBUG68, SIZE, 2.0, half), unseen), once, atol=1e-3)
    mixed = np.concatenate([labels, looks[0]])
    light = np.repeat([1.0, 1e-3], count).astype(np.float32)[:, None] * np.where(np.arange(68) == 5, 0.7, 1).astype(np.float32)
    found = apply(fit_map(doubled[0], mixed, IBUG68, IBUG68, SIZE, 2.0, light), unseen)
    assert (
        error(found, convention(unseen))
        < 0.25
        < error(apply(fit_map(doubled[0], mixed, IBUG68, IBUG68, SIZE, 2.0), unseen), convention(unseen))
    )


def test_a_landmark_of_another_name_is_placed_by_the_others() -> None:
    scheme: Scheme = load_scheme('{"name": "two", "landmarks": ["left_pupil", "right_pupil"]}')
    assert not scheme.places_in(IBUG68)
    looks, unseen = answers(30, 0), answers(20, 1)[0]

    def pupils(points: np.ndarray) -> np.ndarray:
        return np.stack([points[:, 36:42].mean(1), points[:, 42:48].mean(1)], 1)

    found = apply(fit_map(looks, pupils(looks[0]), IBUG68, scheme, SIZE, 0.6), unseen)
    off = np.linalg.norm(found - pupils(unseen), axis=-1).mean()
    assert off < 1.0  # Of about 30 pixels between them.
