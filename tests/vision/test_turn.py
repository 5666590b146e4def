"""Turned faces: angles add up, the outline stays outside, and a bend brings points where it should."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fkp.landmarks import MIRROR, NUM_POINTS
from fkp.vision.mean_face import MEAN_FACE
from fkp.vision.turn import Bend, angles, turned

SIDE = 192
#: Points whose depth is their own on both sides: brows, nose, eyes, mouth.
INNER = slice(17, None)


def seen(yaw_deg: float = 0.0, pitch_deg: float = 0.0, eyes_px: float = 60.0) -> Tensor:
    """(1, 68, 2) the mean face in the middle of a crop, turned as a rigid body."""
    yaw, pitch = math.radians(yaw_deg), math.radians(pitch_deg)
    around_y = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    around_x = np.array([[1, 0, 0], [0, math.cos(pitch), math.sin(pitch)], [0, -math.sin(pitch), math.cos(pitch)]])
    points = np.array(MEAN_FACE) @ (around_x @ around_y).T
    return torch.from_numpy(points[None, :, :2] * eyes_px + (SIDE - 1) / 2).float()


def of(*degrees: float) -> Tensor:
    return torch.deg2rad(torch.tensor(degrees))


def test_the_mean_face_is_a_face() -> None:
    face = np.array(MEAN_FACE)
    assert face.shape == (NUM_POINTS, 3)
    assert np.abs(face[list(MIRROR)] * (-1, 1, 1) - face).max() < 0.002  # Symmetric.
    assert np.linalg.norm(face[45] - face[36]) == pytest.approx(1, abs=0.002)
    assert face[8, 1] > face[57, 1] > face[33, 1] > face[36, 1] > face[19, 1]  # Chin, mouth, nose, eye, brow.
    assert face[:, 2].argmax() == 30  # The tip of the nose is nearest,
    assert set(face[:, 2].argsort()[:2]) == {0, 16}  # and the ends of the jaw are furthest.


@pytest.mark.parametrize("yaw_deg", [-35, -10, 0, 20])
@pytest.mark.parametrize("pitch_deg", [-15, 0, 10])
def test_angles_are_those_it_was_seen_under(yaw_deg: float, pitch_deg: float) -> None:
    yaw, pitch = angles(seen(yaw_deg, pitch_deg))
    assert math.degrees(yaw) == pytest.approx(yaw_deg, abs=0.1)
    # The picture's downward axis meets the mean face's depth at the pitch, as seen from the turned side.
    assert math.sin(pitch) == pytest.approx(math.sin(math.radians(pitch_deg)) * math.cos(math.radians(yaw_deg)), abs=0.02)


@pytest.mark.parametrize("change_deg", [-20, -5, 15, 25])
def test_inner_points_turn_as_a_rigid_body(change_deg: float) -> None:
    before = seen(-8)
    found = turned(before, of(change_deg), of(0))
    exact = seen(-8 + change_deg)
    assert (found - exact)[:, INNER].abs().max() < 60 * 0.09  # An eye distance is 60; the mouth's far corner gives up most.
    assert (found - exact)[:, INNER].abs().mean() < 60 * 0.015
    assert torch.allclose(found[..., 1], before[..., 1], atol=1e-3)  # Nothing rises or sinks.


def test_no_turn_moves_nothing_and_pitch_moves_up_and_down_only() -> None:
    face = seen(10, 5)
    assert torch.allclose(turned(face, of(0), of(0)), face, atol=1e-3)
    nodded = turned(face, of(0), of(15))
    assert torch.allclose(nodded[..., 0], face[..., 0], atol=1e-3)
    assert nodded[0, 30, 1] > face[0, 30, 1] + 5  # The tip of the nose goes down.


@pytest.mark.parametrize("yaw_deg", [25, 45])
def test_the_outline_stays_outside_the_eyes_on_the_side_that_leaves(yaw_deg: float) -> None:
    face = turned(seen(), of(yaw_deg), of(0))[0]
    assert face[14:17, 0].min() > face[42:48, 0].max()
    left = turned(seen(), of(-yaw_deg), of(0))[0]
    assert torch.allclose(left[list(MIRROR), 0], SIDE - 1 - face[:, 0], atol=0.1)  # Either side alike.


def test_faces_of_a_batch_turn_each_by_its_own_angles() -> None:
    faces = torch.cat([seen(), seen(20, eyes_px=40)])
    both = turned(faces, of(10, -25), of(5, 0))
    for row, (yaw, pitch) in enumerate([(10, 5), (-25, 0)]):
        assert torch.allclose(both[row], turned(faces[row : row + 1], of(yaw), of(pitch))[0], atol=1e-3)


def test_a_bend_brings_points_to_their_places_and_keeps_the_border() -> None:
    old, new = seen(5), turned(seen(5), of(18), of(-6))
    bend = Bend.between(old, new, SIDE)
    assert bend.holds.all()
    assert (bend.source_px(new) - old).norm(dim=-1).max() < 1
    corners = torch.tensor([[[0.0, 0], [SIDE - 1, 0], [0, SIDE - 1], [SIDE - 1, SIDE - 1], [(SIDE - 1) / 2, 0]]])
    assert (bend.source_px(corners) - corners).norm(dim=-1).max() < 0.2


def test_a_bend_of_nothing_is_nothing() -> None:
    bend = Bend.between(seen(), seen(), SIDE)
    places = torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(0)) * SIDE
    assert torch.allclose(bend.source_px(places), places, atol=1e-3)


def test_points_that_meet_do_not_hold() -> None:
    old = torch.cat([seen(), seen()])
    new = old.clone()
    new[1, 60] = new[1, 64]  # Two corners of the mouth at one place: no picture has them there.
    assert Bend.between(old, new, SIDE).holds.tolist() == [True, False]
