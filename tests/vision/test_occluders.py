"""Drawn things in front of faces: each lies where such a thing lies, most of the face stays, and one seed gives one result."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from fkp.scheme import IBUG68, load_scheme
from fkp.vision import occluders
from fkp.vision.occluders import Layer, occlude
from tests.faces import face

SIZE = 128
POINTS = face(63.5, 50.0, 38.0).astype(np.float64)
EYES = [list(IBUG68.regions[name]) for name in ("left_eye", "right_eye")]
JAW, NOSE, MOUTH, BROWS = (list(IBUG68.regions[name]) for name in ("jaw", "nose", "mouth", "left_brow"))
SKIN = np.array([200.0, 150.0, 120.0])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hidden_parts(draw: object, seeds: int = 30) -> np.ndarray:
    """(seeds, 68) how much of each landmark a thing hides."""
    x, y = np.round(POINTS).astype(int).T
    found = []
    for seed in range(seeds):
        layer = Layer(SIZE)
        draw(layer, POINTS, SKIN, np.random.default_rng(seed))  # type: ignore[operator]
        assert (layer.hidden >= 0).all() and (layer.hidden <= 1 + 1e-5).all()
        assert (layer.colour >= 0).all() and (layer.colour <= 255 + 1e-3).all()
        found.append(layer.hidden[y, x])
    return np.array(found)


def test_a_mask_hides_the_mouth_and_no_eye() -> None:
    hidden = hidden_parts(partial(occluders.mask, jaw=JAW, nose=NOSE))
    assert hidden[:, MOUTH].min() > 0.9
    assert hidden[:, [*EYES[0], *EYES[1]]].max() == 0
    assert hidden[:, BROWS].max() == 0


def test_dark_glasses_hide_the_eyes_and_clear_ones_do_not() -> None:
    hidden = hidden_parts(partial(occluders.glasses, eyes=EYES))
    at_eyes = np.median(hidden[:, [*EYES[0], *EYES[1]]], 1)
    assert (at_eyes > 0.7).sum() >= 8 and (at_eyes < 0.3).sum() >= 8
    assert hidden[:, [*MOUTH, JAW[8]]].max() == 0


def test_a_hand_lies_on_the_lower_part() -> None:
    hidden = hidden_parts(occluders.hand)
    lower, upper = hidden[:, [*MOUTH, *JAW[4:13]]].mean(), hidden[:, [*BROWS, *EYES[0], *EYES[1]]].mean()
    assert lower > 3 * upper
    assert (hidden[:, [*MOUTH, *JAW]].max(1) > 0.9).mean() > 0.7
    assert hidden.mean(1).max() < 0.7


def test_hair_falls_from_above() -> None:
    hidden = hidden_parts(occluders.hair)
    brows, lower = hidden[:, [*BROWS, *EYES[0], *EYES[1]]].mean(), hidden[:, [*MOUTH, *JAW[5:12]]].mean()
    assert brows > 3 * lower
    assert (hidden.max(1) > 0.5).mean() > 0.8


@pytest.mark.parametrize("channels", [1, 3])
def test_one_thing_on_the_chosen_part_of_the_faces(channels: int) -> None:
    faces = torch.from_numpy(POINTS).float().expand(40, -1, -1)
    plain = torch.full((40, channels, SIZE, SIZE), 120.0)
    drawn, again, none, half = plain.clone(), plain.clone(), plain.clone(), plain.clone()
    occlude(drawn, faces, 1.0, IBUG68, seeded())
    occlude(again, faces, 1.0, IBUG68, seeded())
    occlude(none, faces, 0.0, IBUG68, seeded())
    occlude(half, faces, 0.5, IBUG68, seeded())
    assert torch.equal(drawn, again)
    assert torch.equal(none, plain)
    changed = ((drawn - plain).abs() > 8).any(1).float().mean((1, 2))
    assert changed.min() > 0 and changed.median() > 0.03 and changed.max() < 0.7
    assert 10 <= sum(not torch.equal(a, b) for a, b in zip(half, plain, strict=True)) <= 30


def test_other_schemes_and_faces_with_missing_points() -> None:
    faces = torch.from_numpy(POINTS[[36, 45, 30, 48, 54]]).float().expand(40, -1, -1).clone()
    faces[0, 2] = torch.nan
    crops = torch.full((40, 1, SIZE, SIZE), 120.0)
    occlude(crops, faces, 1.0, load_scheme("five"), seeded())
    assert (crops[0] == 120).all()
    assert sum(bool((crop != 120).any()) for crop in crops) > 30
