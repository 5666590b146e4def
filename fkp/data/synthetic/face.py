"""A made-up head: who it is, its 68 points in three dimensions, and how it is painted through them.

Head units: 1 is half the width of a mean face between the ears; x to the viewer's right, y down, z towards the viewer;
the eyes of a mean face lie at y = 0. Frame pixels have integers at pixel centres, as everywhere in fkp.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

from fkp.data.face_shape import mean_face
from fkp.scheme import IBUG68

Rgb = tuple[float, float, float]

SUPERSAMPLING = 2
_SUBPIXEL_BITS = 4

#: Coefficients of a person's shape, each a standard normal number.
SHAPES: tuple[str, ...] = (
    *("face_width", "jaw_square", "chin_length", "chin_skew", "eye_distance", "eye_width", "eye_opening", "eye_tilt"),
    *("nose_length", "nose_width", "nose_depth", "mouth_width", "mouth_height", "upper_lip", "lower_lip"),
    *("brow_height", "brow_tilt", "brow_arch", "brow_skew"),
)

_JAW = slice(0, 17)


@dataclass(frozen=True)
class Identity:
    """A made-up person: what stays the same from frame to frame.

    Attributes:
        shape: One coefficient for each name of `SHAPES`.
        skin, hair, brow, lips, iris, cloth: RGB, 0 to 255.
        hair_length: 0 bald, 0.5 to the ears, 1 to the shoulders and more.
        hair_volume: How far the hair stands off the skull, head units.
        fringe: How far the hair comes down the forehead, 0 to 1.
        beard, age, brow_weight: 0 none to 1 strong.
        glasses: Whether the person wears glasses.
    """

    shape: tuple[float, ...]
    skin: Rgb
    hair: Rgb
    brow: Rgb
    lips: Rgb
    iris: Rgb
    cloth: Rgb
    hair_length: float
    hair_volume: float
    fringe: float
    beard: float
    age: float
    brow_weight: float
    glasses: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Identity:
        """Draw a person at random."""
        skin = jitter(between(_SKINS, rng.random()), 0.08, rng)
        age = rng.random() ** 1.5
        hair = jitter(_HAIRS[rng.integers(len(_HAIRS))], 0.2, rng)
        hair = mix(hair, (190, 188, 185), max(0.0, age * 2 - 1.1))
        made_up = rng.random() < 0.3
        red = jitter((175, 40, 60) if made_up else (175, 85, 85), 0.12, rng)
        lips = mix(shade(skin, 0.85), red, rng.uniform(0.5, 0.8) if made_up else rng.uniform(0.15, 0.4))
        brow = mix(shade(hair, 0.75), shade(skin, 0.45), rng.uniform(0.2, 0.7))
        beard = rng.uniform(0.25, 1.0) if not made_up and rng.random() < 0.4 else 0.0
        return cls(
            shape=tuple(float(v) for v in np.clip(rng.normal(size=len(SHAPES)), -2.2, 2.2)),
            skin=skin,
            hair=hair,
            brow=shade(brow, min(1.0, 0.6 * sum(skin) / sum(brow))),  # even fair brows stand out from the skin
            lips=lips,
            iris=jitter(_IRISES[rng.integers(len(_IRISES))], 0.15, rng),
            cloth=any_colour(rng),
            hair_length=0.0 if rng.random() < (0.25 if beard else 0.03) else float(rng.uniform(0.25, 1.1)),
            hair_volume=float(rng.uniform(0.03, 0.28)),
            fringe=float(rng.choice([rng.uniform(-0.3, 0.3), rng.uniform(0.3, 1.0)], p=[0.7, 0.3])),
            beard=beard,
            age=age,
            brow_weight=float(rng.uniform(0.2, 1.0)),
            glasses=bool(rng.random() < 0.2),
        )


_SKINS: tuple[Rgb, ...] = ((250, 222, 202), (238, 200, 172), (222, 173, 136), (190, 136, 98), (142, 95, 66), (96, 62, 44), (62, 42, 34))
_HAIRS: tuple[Rgb, ...] = ((22, 18, 18), (40, 28, 22), (70, 45, 30), (115, 75, 42), (180, 140, 85), (215, 185, 130), (130, 55, 30))
_IRISES: tuple[Rgb, ...] = ((50, 32, 20), (75, 48, 28), (110, 80, 45), (95, 115, 85), (90, 125, 160))


@dataclass(frozen=True)
class Expression:
    """What a face does in one frame. All 0 is neutral.

    Attributes:
        mouth_open, blink_left, blink_right, pucker: 0 to 1; left is the viewer's.
        smile: -0.5 (sad) to 1.
        brows_left, brows_right: -0.7 (frown) to 1 (raised).
        gaze: Place of the irises in the eyes, (x, y), -1 to 1.
    """

    mouth_open: float = 0.0
    smile: float = 0.0
    pucker: float = 0.0
    blink_left: float = 0.0
    blink_right: float = 0.0
    brows_left: float = 0.0
    brows_right: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Expression:
        """Draw an expression at random: half of the mouths nearly closed, most eyes open, brows mostly moving together."""
        blink = rng.uniform(0.5, 1.0) if rng.random() < 0.12 else rng.uniform(0, 0.35)
        wink = float(rng.uniform(0, 1)) if rng.random() < 0.04 else blink
        brows = rng.normal(0, 0.35)
        return cls(
            mouth_open=float(rng.uniform(0.1, 1.0)) if rng.random() < 0.5 else float(rng.uniform(0, 0.08)),
            smile=float(np.clip(rng.normal(0.2, 0.4), -0.5, 1)),
            pucker=float(rng.uniform(0.3, 1)) if rng.random() < 0.12 else 0.0,
            blink_left=float(blink),
            blink_right=wink,
            brows_left=float(np.clip(brows + rng.normal(0, 0.1), -0.7, 1)),
            brows_right=float(np.clip(brows + rng.normal(0, 0.1), -0.7, 1)),
            gaze=(float(np.clip(rng.normal(0, 0.45), -1, 1)), float(np.clip(rng.normal(0, 0.35), -1, 1))),
        )


@dataclass(frozen=True)
class View:
    """Weak perspective: a rotation (radians), pixels a head unit, and where the head's origin lands in the frame.

    Positive yaw turns the nose to the viewer's right, positive pitch lowers it, positive roll turns the head clockwise.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    scale_px: float = 50.0
    origin_px: tuple[float, float] = (0.0, 0.0)

    def project(self, points: np.ndarray, slide: bool = False) -> np.ndarray:
        """Put (N, 3) points of the head into the frame as (N, 2) float64 pixels.

        With `slide`, points on the side that turns away slide forward along the cheek to the visible outline, which is where
        300-W labels the jaw: the head's cross-section there is taken as an ellipse, as wide as the point and reaching the
        front of the face, and the point goes to its silhouette.
        """
        turned = points @ self._turn
        if slide:
            x, y, z = points.T
            cos, sin = math.cos(self.yaw), math.sin(self.yaw)
            front = np.interp(y, (-1.36, -0.9, -0.3, 0.1, 1.2, 1.63), (-0.40, 0.12, 0.24, 0.20, 0.26, 0.09))
            bulge = np.maximum(front - z, 0) * sin * np.minimum(1, 3 * np.abs(x))  # none at the midline
            turned[:, 0] = np.where(x * sin > 0, np.sign(x) * np.hypot(x * cos, bulge), x * cos) + z * sin
            turned[:, 2] = z * cos
        flat: np.ndarray = turned @ self._tilt + self.origin_px
        return flat

    @cached_property
    def _turn(self) -> np.ndarray:
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return np.array([(cos, 0, -sin), (0, 1, 0), (sin, 0, cos)])

    @cached_property
    def _tilt(self) -> np.ndarray:
        # Pitch and roll, and away with the depth.
        (cos_p, sin_p), (cos_r, sin_r) = ((math.cos(angle), math.sin(angle)) for angle in (self.pitch, self.roll))
        return self.scale_px * np.array([(cos_r, sin_r), (-sin_r * cos_p, cos_r * cos_p), (-sin_r * sin_p, cos_r * sin_p)])


def points_of(identity: Identity, expression: Expression) -> np.ndarray:
    """(68, 3) points of a person with an expression, in head units."""
    c = dict(zip(SHAPES, identity.shape, strict=True))
    p = mean_face()
    side = np.sign(p[:, 0])
    # Jaw: width, square angles, long or short below the mouth.
    p[_JAW, 0] *= 1 + 0.06 * c["face_width"]
    p[_JAW, 0] += side[_JAW] * 0.05 * c["jaw_square"] * np.clip(1 - np.abs(np.abs(np.arange(17) - 8) - 3.5) / 3.5, 0, 1)
    p[_JAW, 1] += 0.07 * c["chin_length"] * np.clip(p[_JAW, 1] - 0.3, 0, None)
    p[_JAW, 0] += 0.02 * c["chin_skew"] * np.clip(p[_JAW, 1], 0, None)
    for name, sign in (("left", -1), ("right", 1)):
        eye, brow = list(IBUG68.regions[f"{name}_eye"]), list(IBUG68.regions[f"{name}_brow"])
        p[eye + brow, 0] += sign * 0.025 * c["eye_distance"]
        middle = p[eye].mean(axis=0)
        p[eye, 0] = middle[0] + (p[eye, 0] - middle[0]) * (1 + 0.07 * c["eye_width"])
        p[eye, 1] = middle[1] + (p[eye, 1] - middle[1]) * (1 + 0.16 * c["eye_opening"])
        p[eye, 1] -= 0.06 * c["eye_tilt"] * sign * (p[eye, 0] - middle[0])
        out = sign * (p[brow, 0] - p[brow, 0].mean())
        lift = getattr(expression, f"brows_{name}")
        frown = min(lift, 0.0)
        p[brow, 1] += -0.035 * c["brow_height"] - 0.05 * c["brow_tilt"] * out + 0.015 * c["brow_skew"] * sign
        p[brow, 1] += -0.13 * lift + 0.18 * frown * out + 0.15 * c["brow_arch"] * (out**2 - 0.05)
        p[brow, 0] += sign * 0.06 * frown * (out < 0.1)
        _close_lids(p, eye, getattr(expression, f"blink_{name}"))
    nose = list(IBUG68.regions["nose"])
    p[nose, 1] += 0.07 * c["nose_length"] * np.clip(p[nose, 1] + 0.03, 0, None)
    p[31:36, 0] *= 1 + 0.12 * c["nose_width"] + 0.1 * max(expression.smile, 0)
    p[28:34, 2] *= 1 + 0.09 * c["nose_depth"]
    _move_mouth(p, c, expression)
    return p


def _close_lids(p: np.ndarray, eye: list[int], blink: float) -> None:
    # The lids never quite meet, so that the outline keeps an inside; both move to a line a little below the middle.
    for upper, lower in ((1, 5), (2, 4)):
        gap = p[eye[lower], 1] - p[eye[upper], 1]
        p[eye[upper], 1] += 0.85 * blink * gap
        p[eye[lower], 1] -= 0.06 * blink * gap


def _move_mouth(p: np.ndarray, c: dict[str, float], expression: Expression) -> None:
    mouth, upper, lower = slice(48, 68), [49, 50, 51, 52, 53], [55, 56, 57, 58, 59]
    p[upper, 1] -= 0.022 * c["upper_lip"] * np.array([0.5, 1, 0.9, 1, 0.5])
    p[lower, 1] += 0.026 * c["lower_lip"] * np.array([0.5, 1, 1, 1, 0.5])
    p[mouth, 1] += 0.035 * c["mouth_height"] + 0.05 * c["nose_length"] * 0.67
    p[mouth, 0] *= 1 + 0.08 * c["mouth_width"]
    # Smile: corners out, up and back; the lips thin out.
    smile, pucker, wide = expression.smile, expression.pucker, expression.mouth_open
    pull = np.clip(np.abs(p[mouth, 0]) / 0.36, 0, 1.1) ** 2
    p[mouth, 0] *= 1 + 0.20 * max(smile, 0) * pull
    p[mouth, 1] -= 0.10 * smile * (pull - 0.15)
    p[mouth, 2] -= 0.08 * max(smile, 0) * pull
    # Pucker: narrow and forward.
    p[mouth, 0] *= 1 - 0.32 * pucker
    p[mouth, 2] += 0.08 * pucker
    # Open: the lower lip and the chin drop, the upper lip lifts a little.
    p[lower, 1] += 0.36 * wide * np.array([0.55, 0.9, 1, 0.9, 0.55])
    p[[65, 66, 67], 1] += 0.36 * wide * np.array([0.88, 1, 0.88])
    p[[48, 54, 60, 64], 1] += 0.08 * wide
    p[[50, 51, 52, 61, 62, 63], 1] -= 0.03 * wide
    p[mouth, 0] *= 1 - 0.12 * wide * (1 - max(smile, 0))
    p[_JAW, 1] += 0.24 * wide * np.clip((p[_JAW, 1] - 0.5) / 1.1, 0, None) ** 1.5


def mirrored(left: tuple[tuple[float, float, float], ...]) -> np.ndarray:
    """(2n - 1, 3): points from the left to the midline, and on to their mirror images."""
    half = np.array(left)
    return np.concatenate([half, half[-2::-1] * (-1, 1, 1)])


@lru_cache(maxsize=64)
def _spline(count: int, closed: bool, steps: int) -> np.ndarray:
    # Catmull-Rom: the curve goes through every point, so a drawn feature goes through its labels.
    t = np.arange(steps)[:, None] / steps
    basis = np.concatenate([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], axis=1) / 2
    segments = count if closed else count - 1
    matrix = np.zeros((segments * steps + (not closed), count))
    for segment in range(segments):
        for column in range(4):
            knot = segment + column - 1
            knot = knot % count if closed else min(max(knot, 0), count - 1)
            matrix[segment * steps : (segment + 1) * steps, knot] += basis[:, column]
    if not closed:
        matrix[-1, -1] = 1
    return matrix


def curve(points_px: np.ndarray, closed: bool = False, steps: int = 4) -> np.ndarray:
    """A smooth curve through (N, 2) points, as (M, 2)."""
    smooth: np.ndarray = _spline(len(points_px), closed, steps) @ points_px
    return smooth


class Painter:
    """A canvas of `SUPERSAMPLING` times the frame, painted in frame pixels; `lit_u8`, of frame size, marks what takes the light."""

    def __init__(self, canvas_u8: np.ndarray) -> None:
        self.canvas_u8 = canvas_u8
        self.lit_u8 = np.zeros((canvas_u8.shape[0] // SUPERSAMPLING, canvas_u8.shape[1] // SUPERSAMPLING), np.uint8)

    def fill(self, outline_px: np.ndarray, rgb: Rgb, lit: bool | None = None) -> None:
        """Fill an outline. `lit` says whether it takes the face's light; None leaves that as it is."""
        cv2.fillPoly(self.canvas_u8, [_fixed(outline_px)], rgb, cv2.LINE_AA, _SUBPIXEL_BITS)
        if lit is not None:
            cv2.fillPoly(self.lit_u8, [_fixed(outline_px, step=SUPERSAMPLING)], 255 if lit else 0, cv2.LINE_AA, _SUBPIXEL_BITS)

    def line(self, path_px: np.ndarray, rgb: Rgb, width_px: float, closed: bool = False) -> None:
        """Draw a line of a width along a path."""
        cv2.polylines(self.canvas_u8, [_fixed(path_px)], closed, rgb, _thick(width_px), cv2.LINE_AA, _SUBPIXEL_BITS)

    def soft(self, paths: list[np.ndarray], rgb: Rgb, alpha: float, blur_px: float, width_px: float | None = None) -> None:
        """Blend a colour over outlines, or along paths of a width, with blurred edges."""
        window = self._window(np.concatenate(paths), 1.7 * blur_px + (width_px or 0) + 1)
        if window is None:
            return
        part = self.canvas_u8[window]
        # A wide blur is made on a coarser mask: it costs less and looks the same. Two box filters are nearly a Gaussian.
        step = int(np.clip(SUPERSAMPLING * blur_px / 2, 1, 12))
        rows, columns = -(-part.shape[0] // step), -(-part.shape[1] // step)
        mask = np.zeros((rows, columns), np.uint8)
        places = [_fixed(path, (window[1].start, window[0].start), step) for path in paths]
        if width_px is None:
            cv2.fillPoly(mask, places, 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        else:
            cv2.polylines(mask, places, False, 255, max(1, round(_thick(width_px) / step)), cv2.LINE_AA, _SUBPIXEL_BITS)
        box = 1 + 2 * max(1, round(SUPERSAMPLING * blur_px / step * 0.75))
        mask = cv2.blur(cv2.blur(mask, (box, box)), (box, box))
        mask = cv2.resize(mask, (columns * step, rows * step))[: part.shape[0], : part.shape[1]]
        colour = cv2.rectangle(np.empty_like(part), (0, 0), part.shape[1::-1], rgb, -1)
        self._blend(window, part, colour, cv2.convertScaleAbs(mask, alpha=alpha))

    @contextmanager
    def inside(self, outline_px: np.ndarray, reach_px: float) -> Iterator[None]:
        """Keep only what is painted inside an outline; what is painted there must stay within `reach_px` of it."""
        window = self._window(outline_px, reach_px)
        if window is None:
            yield
            return
        before = self.canvas_u8[window].copy()
        yield
        mask = np.zeros(before.shape[:2], np.uint8)
        cv2.fillPoly(mask, [_fixed(outline_px, (window[1].start, window[0].start))], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        self._blend(window, before, self.canvas_u8[window], mask)

    def _blend(self, window: tuple[slice, slice], below: np.ndarray, above: np.ndarray, mask_u8: np.ndarray) -> None:
        # A third of the time of cv2.blendLinear.
        weight = cv2.merge([mask_u8] * 3)
        rest = cv2.multiply(below, cv2.bitwise_not(weight), scale=1 / 255)
        self.canvas_u8[window] = cv2.add(rest, cv2.multiply(above, weight, scale=1 / 255))

    def _window(self, path_px: np.ndarray, margin_px: float) -> tuple[slice, slice] | None:
        (x0, y0), (x1, y1) = path_px.min(axis=0).tolist(), path_px.max(axis=0).tolist()
        height, width = self.canvas_u8.shape[:2]
        x0, y0 = (max(math.floor(SUPERSAMPLING * (low - margin_px)), 0) for low in (x0, y0))
        x1, y1 = (min(math.ceil(SUPERSAMPLING * (high + margin_px)) + 2, side) for high, side in ((x1, width), (y1, height)))
        return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None


def _fixed(places_px: np.ndarray, corner_fine: tuple[int, int] | None = None, step: int = 1) -> np.ndarray:
    # For OpenCV: fixed point, on a canvas that begins at a fine pixel and has one pixel for `step` x `step` fine ones.
    # The middle of a frame pixel lies between the middles of its fine pixels.
    unit = 2**_SUBPIXEL_BITS / step
    places = places_px * (SUPERSAMPLING * unit) + (SUPERSAMPLING - step) / 2 * unit
    if corner_fine is not None:
        places -= np.array(corner_fine) * unit
    fixed: np.ndarray = np.rint(places).astype(np.int32)
    return fixed


def _thick(width_px: float) -> int:
    return max(1, round(SUPERSAMPLING * width_px))


def shade(rgb: Rgb, factor: float) -> Rgb:
    """A colour made darker or lighter."""
    red, green, blue = rgb
    return min(255.0, red * factor), min(255.0, green * factor), min(255.0, blue * factor)


def mix(a: Rgb, b: Rgb, part_of_b: float) -> Rgb:
    """A colour between two."""
    return a[0] + (b[0] - a[0]) * part_of_b, a[1] + (b[1] - a[1]) * part_of_b, a[2] + (b[2] - a[2]) * part_of_b


def between(scale: tuple[Rgb, ...], place: float) -> Rgb:
    """A colour on a scale, `place` from 0 to 1."""
    step, rest = divmod(place * (len(scale) - 1), 1)
    return mix(scale[int(step)], scale[min(int(step) + 1, len(scale) - 1)], rest)


def jitter(rgb: Rgb, deviation: float, rng: np.random.Generator) -> Rgb:
    """A colour made a little darker or lighter, and a little another hue; `deviation` is a part of the colour."""
    # In proportion: the same number of grey levels is another hue in a dark colour.
    factors = np.exp(rng.normal(0, deviation) + rng.normal(0, deviation / 3, 3))
    red, green, blue = np.clip(np.array(rgb) * factors, 5, 250).tolist()
    return red, green, blue


def any_colour(rng: np.random.Generator) -> Rgb:
    """A colour of a room or of clothes, which are less colourful than uniform RGB."""
    rgb = rng.uniform(0, 255, 3)
    red, green, blue = (rgb.mean() + (rgb - rgb.mean()) * rng.uniform(0.1, 0.9)).tolist()
    return red, green, blue
