"""Random changes of training crops: one affine into one warp, then photometric noise, on whole batches of tensors.

The crops that come in are wider than what the network sees (`WIDE` times), so a turned or shifted window still shows
image and not black. Everything runs on the device the batch lies on.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fkp.config import AugmentConfig
from fkp.scheme import Scheme
from fkp.vision.occluders import occlude

#: Side of a training crop in the cache as a multiple of the network's crop; sqrt(2) would just hold any rotation.
WIDE = 1.5

#: The luminance table of JPEG, ITU-T T.81, Annex K.1.
_JPEG_TABLE = torch.tensor(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype=torch.float32,
)


def wide_size_px(size_px: int) -> int:
    """Side in pixels of the wide crop for a network crop of `size_px`: the same pixels per face, more around it."""
    return round(size_px * WIDE / 16) * 16


class Augment:
    """Turn wide crops into training crops.

    Args:
        config: Ranges and probabilities.
        size_px: Side of the crops that come out.
        scheme: Says which landmarks change places in a mirrored face.
    """

    def __init__(self, config: AugmentConfig, size_px: int, scheme: Scheme) -> None:
        # A face of landmarks that nobody has paired looks like itself mirrored, and its landmarks would be the wrong way round.
        self.config, self._mirror = config if scheme.pairs else config.updated({"flip": 0.0}), scheme.mirror
        self.size_px, self._scheme = size_px, scheme

    def __call__(self, wide_u8: Tensor, points_wide_px: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Change a batch.

        Args:
            wide_u8: (N, C, W, W) uint8, W = `wide_size_px(size_px)`.
            points_wide_px: (N, K, 2) float32 in pixels of the wide crops; further columns, such as weights, stay with their landmarks.
            generator: Source of all randomness, on the CPU, so that one seed gives one result on every device.

        Returns:
            (N, C, size_px, size_px) uint8 crops and (N, K, 2 or more) float32 points in their pixels.
        """
        matrix, flipped = self._affine(len(wide_u8), wide_u8.shape[-1], generator)
        crops = warp(wide_u8, matrix.to(wide_u8.device), self.size_px)
        points = points_wide_px[..., :2] @ matrix[:, :, :2].mT.to(points_wide_px) + matrix[:, None, :, 2].to(points_wide_px)
        points = torch.cat([points, points_wide_px[..., 2:]], -1)
        flipped = flipped.to(points.device)
        points = torch.where(flipped[:, None, None], points[:, self._mirror], points)
        if self.config.strength > 0:
            if self.config.objects:  # What is off draws no random numbers.
                occlude(crops, points[..., :2], self.config.objects * self.config.strength, self._scheme, generator)
            self._degrade(crops, generator)
            self._light(crops, generator)
        return crops.round_().clamp_(0, 255).to(torch.uint8), points

    def _affine(self, count: int, wide_px: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw (N, 2, 3) affines from wide-crop pixels to crop pixels, and which of them mirror."""
        c, s = self.config, self.config.strength

        def normal(spread: float, *shape: int) -> Tensor:
            return torch.randn(count, *shape, generator=generator).clamp_(-2, 2) * (spread * s)

        angle = torch.deg2rad(normal(c.rotate_deg))
        # The face keeps the size it has in an unchanged crop but for this zoom.
        zoom = torch.exp(normal(c.scale)) * (self.size_px * WIDE / wide_px)
        shift = normal(c.shift, 2) * self.size_px
        flipped = torch.rand(count, generator=generator) < (c.flip if s > 0 else 0.0)
        sign = torch.where(flipped, -1.0, 1.0)
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        linear = torch.stack([torch.stack([cos * sign, -sin], -1), torch.stack([sin * sign, cos], -1)], -2)
        if c.stretch:
            linear = linear @ _stretched(normal(c.stretch, 2))
        old_middle = torch.full((count, 2, 1), (wide_px - 1) / 2)
        offset = (self.size_px - 1) / 2 + shift - (linear @ old_middle)[..., 0]
        return torch.cat([linear, offset[..., None]], -1), flipped

    def _degrade(self, crops: Tensor, generator: torch.Generator) -> None:
        """Blur, lower the resolution, add noise, compress and cover, each on its own random part of the batch."""
        c = self.config
        changes = ((c.blur, blur), (c.sharpen, sharpen), (c.downscale, downscale), (c.noise, noise), (c.jpeg, jpeg))
        for probability, change in changes:
            if not probability:  # What is off draws no random numbers.
                continue
            drawn = torch.rand(len(crops), generator=generator) < probability * c.strength
            chosen = drawn.nonzero()[:, 0].to(crops.device)
            if len(chosen):
                crops[chosen] = change(crops[chosen], generator)
        cover(crops, c.occlude * c.strength, generator)

    def _light(self, crops: Tensor, generator: torch.Generator) -> None:
        """Change contrast, brightness and gamma of each crop in place."""
        if self.config.shade:
            shade(crops, self.config.shade * self.config.strength, generator)
        spread = self.config.light * self.config.strength
        if not spread:
            return
        gain, lift, bend = (torch.randn(3, len(crops), 1, 1, 1, generator=generator).clamp_(-2, 2) * spread).to(crops)
        # x + b x (1 - x) bends the tones like a gamma curve at a fraction of the cost of a power.
        # With the contrast around mid-grey and the brightness it is one quadratic: c0 + c1 x + c2 x^2.
        contrast = torch.exp(gain)
        square = crops * crops
        crops.mul_(contrast * (1 + bend)).addcmul_(square, -contrast * bend / 255).add_(127.5 * (1 + lift - contrast))


def _stretched(amount: Tensor) -> Tensor:
    """(N, 2) amounts to (N, 2, 2) symmetric maps of area 1: longer along a random direction, shorter across it.

    Stretches and shears in one: to first order, how a plane that turns away from the camera changes. The amounts are the two
    parts of a traceless symmetric matrix, whose exponential this is.
    """
    size = amount.norm(dim=-1).clamp_min(1e-9)
    along, across = size.cosh(), size.sinh() / size
    straight, oblique = across * amount[:, 0], across * amount[:, 1]
    return torch.stack([torch.stack([along + straight, oblique], -1), torch.stack([oblique, along - straight], -1)], -2)


def warp(images_u8: Tensor, matrix: Tensor, size_px: int) -> Tensor:
    """Sample (N, C, H, W) uint8 images bilinearly under (N, 2, 3) affines from their pixels to the result's.

    Returns:
        (N, C, size_px, size_px) float32 in 0 to 255, black outside.
    """
    if images_u8.device.type == "cpu":
        return _warp_on_cpu(images_u8, matrix, size_px)
    height, width = images_u8.shape[-2:]
    inverse = torch.linalg.inv(matrix[:, :, :2])
    # grid_sample wants the source place of every result pixel in [-1, 1]; integers are pixel centres.
    unit = torch.tensor([2 / width, 2 / height], device=matrix.device)
    linear = inverse * unit[:, None]
    offset = (-(inverse @ matrix[:, :, 2:])[..., 0] + 0.5) * unit - 1
    ramp = torch.arange(size_px, dtype=torch.float32, device=matrix.device)
    along_x = linear[:, None, None, :, 0] * ramp[:, None]
    along_y = linear[:, None, None, :, 1] * ramp[:, None, None] + offset[:, None, None, :]
    return F.grid_sample(images_u8.float(), along_x + along_y, mode="bilinear", padding_mode="zeros", align_corners=False)


def _warp_on_cpu(images_u8: Tensor, matrix: Tensor, size_px: int) -> Tensor:
    """`warp` by OpenCV, which takes a third of the time that torch's grid_sample takes on a processor."""
    images, matrices = images_u8.numpy(), matrix.numpy().astype(np.float64)
    result = np.empty((*images.shape[:2], size_px, size_px), np.uint8)
    for channels, affine, target in zip(images, matrices, result, strict=True):
        for channel, plane in zip(channels, target, strict=True):
            cv2.warpAffine(channel, affine, (size_px, size_px), dst=plane, flags=cv2.INTER_LINEAR)
    return torch.from_numpy(result).float()


def blur(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian blur of (N, C, S, S) crops, a random sigma of up to 2.5 % of the side for each."""
    count, channels, size, _ = crops.shape
    sigma = (0.004 + 0.021 * torch.rand(count, 1, generator=generator)) * size
    taps = torch.arange(-int(0.05 * size), int(0.05 * size) + 1)
    kernel = torch.exp(-0.5 * (taps / sigma) ** 2)
    kernel = (kernel / kernel.sum(-1, keepdim=True)).to(crops).repeat_interleave(channels, 0)[:, None]
    flat = crops.reshape(1, count * channels, size, size)
    reach = len(taps) // 2
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), "replicate"), kernel[:, :, None], groups=len(kernel))
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), "replicate"), kernel[:, :, :, None], groups=len(kernel))
    return flat.reshape_as(crops)


def sharpen(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Unsharp mask of (N, C, S, S) crops: the difference from a blurred copy, up to 1.5 times, is added."""
    gain = (1.5 * torch.rand(len(crops), 1, 1, 1, generator=generator)).to(crops)
    return crops + gain * (crops - F.avg_pool2d(F.pad(crops, (1, 1, 1, 1), "replicate"), 3, 1))


def shade(crops: Tensor, spread: float, generator: torch.Generator) -> None:
    """Multiply (N, C, S, S) crops, in place, by a light that falls off exponentially in a random direction.

    Args:
        crops: Changed in place.
        spread: Standard deviation of the logarithm between the middle and the border.
        generator: Source of randomness.
    """
    slope = torch.randn(len(crops), 2, generator=generator).clamp_(-2, 2) * spread
    ramp = torch.linspace(-1, 1, crops.shape[-1])
    along_x, along_y = (torch.exp(slope[:, axis, None] * ramp).to(crops) for axis in (0, 1))
    crops.mul_(along_x[:, None, None, :]).mul_(along_y[:, None, :, None])


def downscale(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Shrink all (N, C, S, S) crops by one random factor of 1.5 to 4 and bring them back."""
    size = crops.shape[-1]
    factor = 1.5 + 2.5 * float(torch.rand((), generator=generator))
    small = F.interpolate(crops, size=max(8, round(size / factor)), mode="area")
    return F.interpolate(small, size=size, mode="bilinear", align_corners=False)


def noise(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise, a random standard deviation of up to 8 % of the range for each crop."""
    spread = (20 * torch.rand(len(crops), 1, 1, 1, generator=generator)).to(crops)
    return crops + spread * torch.randn(crops.shape, generator=generator).to(crops)


def jpeg(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Quantise the 8 x 8 cosine transform as JPEG does (ITU-T T.81), a random quality for each crop.

    S must be a multiple of 8. Every channel gets the luminance table; entropy coding changes no pixel.
    """
    count, channels, size, _ = crops.shape
    strength = torch.exp(math.log(0.4) + math.log(10) * torch.rand(count, 1, 1, 1, 1, 1, generator=generator)).to(crops)
    basis = _cosine_basis().to(crops)
    table = _JPEG_TABLE.to(crops) * strength
    blocks = crops.reshape(count, channels, size // 8, 8, size // 8, 8).transpose(3, 4) - 128
    levels = torch.round(basis @ blocks @ basis.mT / table) * table
    return (basis.mT @ levels @ basis + 128).transpose(3, 4).reshape_as(crops)


def cover(crops: Tensor, probability: float, generator: torch.Generator) -> None:
    """Cover, in place, a random rectangle of up to half the side, for a random part of the batch.

    Half of them are of one tone, the others show a piece of another crop: what covers a face is seldom even.
    """
    size = crops.shape[-1]
    rows = (torch.rand(len(crops), generator=generator) < probability).nonzero()[:, 0]
    extents = (0.1 + 0.4 * torch.rand(len(rows), 2, generator=generator)) * size
    corners = (torch.rand(len(rows), 2, generator=generator) * (size + extents) - extents).round().clamp_min_(0)
    tones = (255 * torch.rand(len(rows), crops.shape[1], 1, 1, generator=generator)).to(crops)
    spans = torch.cat([corners, corners + extents.floor()], -1).int().tolist()
    pieces = torch.rand(len(rows), 3, generator=generator).tolist()
    for row, (x0, y0, x1, y1), tone, (even, across, down) in zip(rows.tolist(), spans, tones, pieces, strict=True):
        place = crops[row, :, y0:y1, x0:x1]
        if even < 0.5:
            place[:] = tone
        else:
            height, width = place.shape[-2:]
            top, left = int(down * (size - height)), int(across * (size - width))
            place[:] = crops[row - 1, :, top : top + height, left : left + width].clone()


def _cosine_basis() -> Tensor:
    """(8, 8) orthonormal DCT-II: basis @ block @ basis.T is the transform."""
    frequency, place = torch.arange(8.0)[:, None], torch.arange(8.0)
    basis = torch.cos(math.pi / 8 * (place + 0.5) * frequency) / 2
    basis[0] /= math.sqrt(2)
    return basis
