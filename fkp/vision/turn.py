"""Faces turned out of the picture's plane: where their points go, and where each pixel comes from.

A set of interviews has few faces seen from the side, photographs have many. The points of a mean face in three dimensions
(`mean_face`), posed as a face's own points say, give each of them a depth; with depths a face can be turned, and a thin-plate
spline carries the pixels between the points along. After X. Zhu et al., "Face Alignment Across Large Poses: A 3D Solution",
CVPR 2016, who fit a dense model instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fkp.vision.mean_face import MEAN_FACE

#: How far behind the face's middle, in distances of the eyes, the outline lies on the side that turns away. The jaw's own
#: points lie further back, but turn out of sight: the outline is drawn where the cheek ends, which moves less.
_OUTLINE_DEPTH = -0.3
#: Over this part of the eyes' distance the depth goes over from one side's to the other's.
_SIDES_MEET = 0.125
#: Still points on each side of the picture's border.
_BORDER_POINTS = 5
#: What the spline may miss a point by for being smoother: points that nearly coincide (closed lips) would tear it.
_SMOOTHNESS = 1e-5


def angles(points_px: Tensor) -> tuple[Tensor, Tensor]:
    """Yaw and pitch of faces as (N,) radians, by (N, 68, 2) points; positive moves the nose to the right, and down."""
    across, down, _ = _axes(_camera(points_px))
    return across[:, 2].clamp(-1, 1).asin(), down[:, 2].clamp(-1, 1).asin()


def turned(points_px: Tensor, yaw: Tensor, pitch: Tensor) -> Tensor:
    """Turn faces about their middle, each by its own angles.

    Args:
        points_px: (N, 68, 2) float32.
        yaw: (N,) radians; positive moves the nose to the right.
        pitch: (N,) radians; positive moves it down.

    Returns:
        (N, 68, 2) the points of the turned faces, under parallel projection.
    """
    camera = _camera(points_px)
    eyes_px = camera.norm(dim=-1).prod(-1).sqrt()[:, None]
    *_, towards = _axes(camera)
    depth = towards @ _mean_face(points_px).T
    angle = torch.stack([yaw, pitch], -1).norm(dim=-1, keepdim=True).clamp_min(1e-6)
    direction = torch.stack([yaw, pitch], -1) / angle  # In the picture, where the nose goes.
    along = ((points_px - points_px.mean(1, keepdim=True)) @ direction[:, :, None])[..., 0] / eyes_px
    leaving = torch.sigmoid(along / _SIDES_MEET)
    depth = torch.lerp(depth, depth.clamp_min(_OUTLINE_DEPTH), leaving)
    moved_px = (along * (angle.cos() - 1) + depth * angle.sin()) * eyes_px
    return points_px + moved_px[..., None] * direction[:, None]


@dataclass(frozen=True)
class Bend:
    """A smooth map of pictures that brings given points to given places and leaves the border where it is.

    A thin-plate spline from the new places to the old ones: F. Bookstein, "Principal Warps", TPAMI 1989.

    Attributes:
        side_px: Side of the pictures.
        knots: (N, K, 2) new places, as parts of the side.
        weights: (N, K + 3, 2) weights of the knots and of an affine.
        holds: (N,) bool, whether every point comes to its place within a pixel. Points that come too close to others do not.
    """

    side_px: int
    knots: Tensor
    weights: Tensor
    holds: Tensor

    @classmethod
    def between(cls, old_px: Tensor, new_px: Tensor, side_px: int) -> Bend:
        """The map that brings (N, P, 2) points to (N, P, 2) other places of pictures of (side_px, side_px)."""
        steps = torch.linspace(0, side_px - 1, _BORDER_POINTS, device=old_px.device)
        places = torch.cartesian_prod(steps, steps)
        border = places[((places == 0) | (places == side_px - 1)).any(-1)].expand(len(old_px), -1, -1)
        old, knots = (torch.cat([points_px, border], 1) / side_px for points_px in (old_px, new_px))
        affine = F.pad(knots, (1, 0), value=1.0)
        kernel = _kernel(knots, knots)
        smoothed = kernel + _SMOOTHNESS * torch.eye(knots.shape[1], device=knots.device)
        system = torch.cat([torch.cat([smoothed, affine], -1), F.pad(affine.mT, (0, 3))], 1)
        weights = torch.linalg.solve(system, F.pad(old - knots, (0, 0, 0, 3)))
        missed = torch.cat([kernel, affine], -1) @ weights - (old - knots)
        return cls(side_px, knots, weights, (missed.norm(dim=-1) * side_px < 1).all(-1))

    def source_px(self, places_px: Tensor) -> Tensor:
        """Where in the old pictures (N, M, 2) places of the new ones come from."""
        places = places_px / self.side_px
        basis = torch.cat([_kernel(places, self.knots), F.pad(places, (1, 0), value=1.0)], -1)
        return places_px + basis @ self.weights * self.side_px


def _kernel(left: Tensor, right: Tensor) -> Tensor:
    """(N, M, 2) and (N, K, 2) to (N, M, K): r^2 log r^2."""
    square = left.square().sum(-1)[:, :, None] + right.square().sum(-1)[:, None] - 2 * left @ right.mT
    square = square.clamp_min_(1e-12)  # Where the logarithm still counts for nothing.
    return square.log().mul_(square)


def _mean_face(like: Tensor) -> Tensor:
    return torch.tensor(MEAN_FACE, dtype=like.dtype, device=like.device)


def _camera(points_px: Tensor) -> Tensor:
    """(N, 2, 3) least-squares maps from the mean face to faces, their middles apart."""
    shape = _mean_face(points_px)
    return (points_px - points_px.mean(1, keepdim=True)).mT @ torch.linalg.pinv(shape).T


def _axes(camera: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, 3) unit vectors in the mean face's frame: to the right and down in the picture, and to the viewer."""
    across, down = F.normalize(camera, dim=-1).unbind(1)
    return across, down, F.normalize(torch.linalg.cross(across, down), dim=-1)
