"""A linear map of a face's shape: from what one network calls a landmark to what somebody else does, or to other landmarks.

Two people who label the same face put the same point at different places, and do so for every face alike. Such a convention is a
matter of the whole shape (where a jaw's points slide to, how far a brow reaches), linear to first order, and few labels tell it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fkp.scheme import Scheme


class ShapeMap(nn.Module):
    """Inner landmarks to those of another scheme: y = x' + s R (A (u - m) + b).

    x' are the inner landmarks of the same names, and for a landmark of a new name the middle c of all inner ones. The shape u is seen
    in a frame of its own: from c, in units of the root mean square distance s from it, and turned by the R that lays the mean
    shape m over it best (Procrustes). So the map turns, moves and grows with the face. Until it is fitted, A and b are zero.

    Args:
        inner: Scheme of the landmarks that go in.
        outer: Scheme of those that come out.
    """

    mean: Tensor
    matrix: Tensor
    offset: Tensor
    scale_weights: Tensor

    def __init__(self, inner: Scheme, outer: Scheme) -> None:
        super().__init__()
        there = outer.places_in(inner)
        self.register_buffer("mean", torch.zeros(len(inner), 2))
        self.register_buffer("matrix", torch.zeros(2 * len(outer), 2 * len(inner)))
        self.register_buffer("offset", torch.zeros(2 * len(outer)))
        # One place behind the inner landmarks stands their middle. No buffer: averages of weights would round whole numbers.
        self._places = [there.get(place, len(inner)) for place in range(len(outer))]
        weights = torch.full((len(inner), len(outer)), 1 / len(inner))
        for place, source in there.items():
            weights[:, place] = torch.eye(len(inner))[source]
        self.register_buffer("scale_weights", weights, persistent=False)

    def forward(self, points_px: Tensor, scale_px: Tensor) -> tuple[Tensor, Tensor]:
        """Map the answers of a head.

        Args:
            points_px: (N, K', 2) inner landmarks, any pixels.
            scale_px: (N, K') scale of their errors.

        Returns:
            (N, K, 2) landmarks of the outer scheme, and (N, K) scales: of the landmark of the same name, or the mean.
        """
        shape, middle, size, turn = self.frame(points_px)
        seen = torch.addmm(self.offset, (shape - self.mean).flatten(1), self.matrix.T).unflatten(1, (-1, 2))
        # Taken away and not added: an Add would become one of 8-bit integers, see `bundle.quantize`.
        return self.anchors(points_px, middle) - seen @ turn * -size, scale_px @ self.scale_weights

    def frame(self, points_px: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, K', 2) shapes in their own frames, and what leads back: middle (N, 1, 2), size (N, 1, 1), turn (N, 2, 2), from the right."""
        middle = points_px.mean(1, keepdim=True)
        shape = points_px - middle
        size = (shape * shape).sum((1, 2), keepdim=True).div(shape.shape[1]).sqrt().clamp_min(1e-6)
        shape = shape / size
        cos = (shape * self.mean).sum((1, 2))
        sin = (shape.flip(-1) * self.mean * shape.new_tensor([1.0, -1.0])).sum((1, 2))
        length = (cos * cos - sin * -sin).sqrt().clamp_min(1e-6)
        cos, sin = cos / length, sin / length
        turn = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)
        return shape @ turn.mT, middle, size, turn

    def anchors(self, points_px: Tensor, middle: Tensor) -> Tensor:
        """(N, K, 2) inner landmarks of the same names, and the middle for the others."""
        return torch.cat([points_px, middle], 1)[:, self._places]

    def inner_truth(self, points_px: Tensor, mapped_px: Tensor, truth_px: Tensor) -> Tensor:
        """Where the inner landmarks should be for the mapped ones to be right, to first order: (N, K', 2), NaN for those without a name.

        Args:
            points_px: (N, K', 2) inner landmarks.
            mapped_px: (N, K, 2) what the map makes of them.
            truth_px: (N, K, 2), NaN where a point is not labelled.
        """
        inner = torch.full_like(points_px, torch.nan)
        named, sources = self._named(points_px.shape[1])
        inner[:, sources] = points_px[:, sources] + (truth_px - mapped_px)[:, named]
        return inner

    def inner_weights(self, weights: Tensor, landmarks: int) -> Tensor:
        """(N, K) weights of labels as (N, `landmarks`) of the inner landmarks, 1 for those without a name."""
        inner = weights.new_ones(len(weights), landmarks)
        named, sources = self._named(landmarks)
        inner[:, sources] = weights[:, named]
        return inner

    def _named(self, landmarks: int) -> tuple[list[int], list[int]]:
        """Places of the mapped landmarks that are also inner ones, and of these."""
        named = [place for place, source in enumerate(self._places) if source < landmarks]
        return named, [self._places[place] for place in named]
