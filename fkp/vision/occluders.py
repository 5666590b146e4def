"""Drawn things in front of faces in training crops: hands, masks, hair, glasses. They lie where the landmarks say that such things lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np
import torch
from torch import Tensor

from fkp.scheme import Scheme

#: Luminance of red, green and blue, ITU-R BT.601.
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
#: Regions of the scheme that glasses and masks need.
_EYES, _JAW, _NOSE = ("left_eye", "right_eye"), "jaw", "nose"
#: cv2 takes whole numbers: so many bits behind the point.
_BITS = 4
_Rng = np.random.Generator


@dataclass
class Layer:
    """What is painted over a crop: (S, S, 3) colours in 0 to 255 and the (S, S) part of the crop that they hide."""

    size_px: int
    colour: np.ndarray = field(init=False)
    hidden: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.colour = np.zeros((self.size_px, self.size_px, 3), np.float32)
        self.hidden = np.zeros((self.size_px, self.size_px), np.float32)

    def paint(self, draw: Callable[..., object], tone: np.ndarray, part: float = 1.0) -> None:
        """Paint a shape; `draw` puts it on an image in the value it is given."""
        drawn = np.zeros((self.size_px, self.size_px), np.uint8)
        draw(drawn)
        weight = drawn.astype(np.float32) * (part / 255)
        self.colour += weight[..., None] * (np.asarray(tone, np.float32).clip(0, 255) - self.colour)
        self.hidden += weight * (1 - self.hidden)

    def line(self, places: np.ndarray, width_px: float, tone: np.ndarray, part: float = 1.0) -> None:
        """A line through (L, 2) places with round ends."""
        thick = max(1, round(width_px))
        self.paint(lambda drawn: cv2.polylines(drawn, [_whole(places)], False, 255, thick, cv2.LINE_AA, _BITS), tone, part)

    def area(self, corners: np.ndarray, tone: np.ndarray, part: float = 1.0) -> None:
        """A filled polygon of (L, 2) corners."""
        self.paint(lambda drawn: cv2.fillPoly(drawn, [_whole(corners)], 255, cv2.LINE_AA, _BITS), tone, part)


def occlude(crops: Tensor, points_px: Tensor, probability: float, scheme: Scheme, generator: torch.Generator) -> None:
    """Draw one thing in front of a random part of the faces, in place.

    Hands and hair for every scheme; glasses where it has the regions `left_eye` and `right_eye`, masks where it has `jaw` and `nose`. A
    face with a point that is not labelled stays as it is.

    Args:
        crops: (N, C, S, S) float in 0 to 255; of three channels red comes first.
        points_px: (N, K, 2) in pixels of the crops.
        probability: Of one thing on a face.
        scheme: Of the points.
        generator: Source of all randomness.
    """
    kinds = [hand, hair]
    if all(name in scheme.regions for name in _EYES):
        kinds.append(partial(glasses, eyes=[list(scheme.regions[name]) for name in _EYES]))
    if _JAW in scheme.regions and _NOSE in scheme.regions:
        kinds.append(partial(mask, jaw=list(scheme.regions[_JAW]), nose=list(scheme.regions[_NOSE])))
    chosen = torch.rand(len(crops), generator=generator) < probability
    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    for row in chosen.nonzero()[:, 0].tolist():
        points = points_px[row].detach().cpu().numpy().astype(np.float64)
        kind = kinds[rng.integers(len(kinds))]
        if not np.isfinite(points).all():
            continue
        layer = Layer(crops.shape[-1])
        kind(layer, points, _skin(crops[row], points), rng)
        layer.colour *= 1 + rng.normal(0, 0.03, layer.hidden.shape)[..., None]  # No real surface is even.
        hidden = cv2.GaussianBlur(layer.hidden, (3, 3), 0.6)[None]
        colour = layer.colour.transpose(2, 0, 1) if crops.shape[1] == 3 else (layer.colour @ _LUMINANCE)[None]
        part = torch.from_numpy(hidden).to(crops)
        crops[row] += part * (torch.from_numpy(colour.astype(np.float32)).to(crops) - crops[row])


def hand(layer: Layer, points: np.ndarray, skin: np.ndarray, rng: _Rng) -> None:
    """Two to four fingers side by side, which come from outside the face and end on its lower part."""
    low, high = points.min(0), points.max(0)
    face_px = float((high - low).max())
    tip = low + (high - low) * rng.uniform([0.1, 0.5], [0.9, 1.0])
    side = np.sign(tip[0] - (low[0] + high[0]) / 2) or 1.0
    angle = np.pi / 2 - side * rng.uniform(-0.3, 1.5)  # From straight below to the side that the tip is on.
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    width_px = face_px * rng.uniform(0.09, 0.15)
    tone = skin * rng.uniform(0.75, 1.2)
    count = int(rng.integers(2, 5))
    palm = tip + along * face_px * rng.uniform(0.5, 0.8)
    layer.line(np.stack([palm, palm + along * face_px * 2]), width_px * (count + 0.5), tone * 0.9)
    for finger in rng.permutation(count):
        offset = across * width_px * 1.02 * (finger - (count - 1) / 2)
        end = tip + offset + along * face_px * rng.uniform(0, 0.12)
        bend = (end + palm + offset) / 2 + across * width_px * rng.normal(0, 0.15)
        way = _curve(end, bend, palm + offset)
        layer.line(way, width_px, tone * 0.62)  # The dark rim between two fingers,
        layer.line(way, width_px * 0.82, tone * 0.92)
        layer.line(way - across * width_px * 0.1, width_px * 0.45, tone * 1.06)  # and the light along the middle.
        if rng.random() < 0.5:
            nail = end + along * width_px * 0.1
            layer.line(np.stack([nail, nail + along * width_px * 0.2]), width_px * 0.5, tone * 1.15 + 12)


def hair(layer: Layer, points: np.ndarray, skin: np.ndarray, rng: _Rng) -> None:
    """Strands that fall from above over the forehead, one eye, or along a cheek."""
    low, high = points.min(0), points.max(0)
    face = high - low
    root = low + face * rng.uniform([0.0, -0.75], [1.0, -0.45])
    end = low + face * np.array([rng.uniform(-0.15, 1.15), rng.uniform(0.05, 0.75)])
    tone = np.array([[25, 20, 18], [60, 40, 28], [120, 85, 50], [185, 150, 100], [150, 150, 150]])[rng.integers(5)] * rng.uniform(0.7, 1.2)
    spread = rng.uniform(0.05, 0.25)
    for _ in range(int(rng.integers(12, 60))):
        start, stop = (place + face * rng.normal(0, [spread, 0.06]) for place in (root, end))
        middle = (start + stop) / 2 + face * rng.normal(0.0, 0.04, 2) + [0.15 * (root[0] - end[0]), 0]
        layer.line(_curve(start, middle, stop), face[0] * rng.uniform(0.005, 0.03), tone * rng.uniform(0.7, 1.35), rng.uniform(0.6, 1.0))


def glasses(layer: Layer, points: np.ndarray, skin: np.ndarray, rng: _Rng, eyes: list[list[int]]) -> None:
    """Clear or dark glasses: two lenses, the bridge, and the temples towards the ears."""
    left, right = (points[eye].mean(0) for eye in eyes)
    apart = float(np.hypot(*(right - left)))
    if not apart:
        return
    along = (right - left) / apart
    down = np.array([-along[1], along[0]])
    half = apart * np.array([rng.uniform(0.34, 0.46), rng.uniform(0.22, 0.38)])
    power = rng.choice([2.0, 2.6, 4.0])  # Of a superellipse: round to nearly square.
    turn = np.linspace(0, 2 * np.pi, 40)
    ring = np.sign(np.stack([np.cos(turn), np.sin(turn)], 1)) * np.abs(np.stack([np.cos(turn), np.sin(turn)], 1)) ** (2 / power) * half
    dark = rng.random() < 0.5
    glass = np.full(3, rng.uniform(5, 50)) if dark else np.full(3, 235.0)
    frame = np.full(3, rng.uniform(10, 90)) if rng.random() < 0.7 else rng.uniform(40, 220, 3)
    width_px = apart * rng.uniform(0.02, 0.1)
    drop = down * apart * rng.uniform(0.0, 0.12)
    for eye, outward in ((left, -along), (right, along)):
        middle = eye + drop
        lens = middle + ring[:, :1] * along + ring[:, 1:] * down
        layer.area(lens, glass, rng.uniform(0.75, 1.0) if dark else rng.uniform(0.0, 0.18))
        if rng.random() < 0.4:  # A reflection.
            shine = middle + along * half[0] * rng.uniform(-0.6, 0.3) - down * half[1] * 0.7
            slope = along * half[0] * 0.5 + down * half[1] * 1.1
            layer.line(np.stack([shine, shine + slope]), apart * rng.uniform(0.03, 0.1), np.full(3, 250.0), rng.uniform(0.3, 0.9))
        layer.line(lens, width_px, frame)
        hinge = middle + outward * half[0] - down * half[1] * 0.4
        layer.line(np.stack([hinge, hinge + outward * apart * rng.uniform(0.3, 0.8)]), width_px, frame)
    inner = half[0] * along
    layer.line(np.stack([left + drop + inner, right + drop - inner]), width_px, frame)


def mask(layer: Layer, points: np.ndarray, skin: np.ndarray, rng: _Rng, jaw: list[int], nose: list[int]) -> None:
    """A surgical mask or one of cloth: from the bridge of the nose to below the chin, folded, with bands to the ears."""
    outline = points[jaw]
    count = len(outline)
    first = max(1, round(count * 0.1))
    bottom = outline[first : count - first]
    middle = (bottom[0] + bottom[-1]) / 2
    top = points[nose[0]] + (points[nose].mean(0) - points[nose[0]]) * rng.uniform(0.5, 1.3)
    bottom = middle + (bottom - middle) * rng.uniform(1.0, 1.1)
    tone = np.array([[150, 195, 215], [235, 238, 240], [30, 30, 34], rng.uniform(20, 235, 3)])[rng.integers(4)] * rng.uniform(0.75, 1.05)
    upper = _curve(bottom[-1], top, bottom[0])
    for end, ear in ((bottom[0], outline[0]), (bottom[-1], outline[-1])):
        layer.line(np.stack([end, ear + (ear - middle) * 0.15]), 1.0 + np.hypot(*(outline[0] - outline[-1])) * 0.008, tone * 1.1)
    layer.area(np.concatenate([bottom, upper]), tone)
    folds = int(rng.integers(0, 4))
    for fold in range(1, folds + 1):
        part = fold / (folds + 1)
        ends = [place + (outline[count // 2] - top) * 0.35 * part for place in (bottom[1], bottom[-2])]
        way = _curve(ends[0], top + (outline[count // 2] - top) * (part + 0.1), ends[1])
        layer.line(middle + (way - middle) * 0.93, 1.0, tone * 0.75, 0.7)
    half = np.concatenate([bottom[: len(bottom) // 2 + 1], [top]])
    layer.area(half, tone * (1 + rng.normal(0, 0.15)), 0.6)  # One half is lighter than the other.


def _skin(crop: Tensor, points: np.ndarray) -> np.ndarray:
    """(3,) the median colour around the middle of the landmarks; a grey crop's in all three channels."""
    size = crop.shape[-1]
    (x0, y0), (x1, y1) = np.percentile(points, 25, axis=0), np.percentile(points, 75, axis=0)
    x0, y0 = (int(np.clip(value, 0, size - 2)) for value in (x0, y0))
    x1, y1 = int(np.clip(x1, x0 + 1, size)), int(np.clip(y1, y0 + 1, size))
    tone = crop[:, y0:y1, x0:x1].reshape(len(crop), -1).median(1).values.cpu().numpy()
    return np.broadcast_to(tone, 3).astype(np.float64)


def _curve(start: np.ndarray, through: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(16, 2) places on the parabola from one place through another, halfway, to a third."""
    t = np.linspace(0, 1, 16)[:, None]
    return start * (1 - t) * (1 - 2 * t) + through * 4 * t * (1 - t) + end * t * (2 * t - 1)


def _whole(places: np.ndarray) -> np.ndarray:
    return np.round(places * (1 << _BITS)).astype(np.int32)
