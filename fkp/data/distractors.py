"""What looks a little like a face and is none: letters, buttons, patterns, pieces of photographs seen large, faces painted over."""

from __future__ import annotations

import cv2
import numpy as np

from fkp.vision.image import Image

#: Side of a drawn distractor.
_SIDE_PX = 64
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghkmnopqrstuvwxyz0123456789&@%?"
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX)
#: A piece from beside a face covers no more of the face's box than this: an ear or an eye may be in it, and no half of a face.
_OF_FACE = 0.12


def drawn(random: np.random.Generator) -> tuple[Image, np.ndarray]:
    """Draw one.

    Returns:
        (S, S, 3) uint8 and (S, S) float32, how much of it is seen.
    """
    below, above = _two_colours(random)
    image: np.ndarray = np.full((_SIDE_PX, _SIDE_PX, 3), below, np.uint8)
    mask: np.ndarray = np.ones((_SIDE_PX, _SIDE_PX), np.float32)
    kind = random.random()
    if kind < 0.4:
        _draw_letters(image, above, random)
    elif kind < 0.7:
        _draw_button(image, mask, above, random)
    else:
        _draw_pattern(image, above, random)
    return image, mask


def piece_of(photograph: Image, random: np.random.Generator) -> tuple[Image, np.ndarray]:
    """Cut a small piece of a photograph that shows no face; see `drawn`."""
    height, width = photograph.shape[:2]
    side = min(max(round(min(height, width) * np.exp(random.uniform(np.log(0.04), np.log(0.5)))), 8), height, width)
    x, y = int(random.integers(width - side + 1)), int(random.integers(height - side + 1))
    return _rounded(photograph[y : y + side, x : x + side], random)


def piece_beside(
    window: Image, box_xyxy: np.ndarray, known_xyxy: np.ndarray, random: np.random.Generator
) -> tuple[Image, np.ndarray] | None:
    """Cut a piece from beside a face, or a small one of it: an ear, hair, a collar, an eye; see `drawn`.

    Args:
        window: (P, P, 3) around a face.
        box_xyxy: (4,) of the face.
        known_xyxy: (4,) the part of the window that its image covers.
        random: Where.

    Returns:
        None where none was found that shows nearly nothing of the face.
    """
    length = float((box_xyxy[2:] - box_xyxy[:2]).max())
    for _ in range(6):
        side = max(round(length * random.uniform(0.2, 0.8)), 4)
        low = np.round(random.uniform(known_xyxy[:2], np.maximum(known_xyxy[2:] - side, known_xyxy[:2] + 1e-6))).astype(int)
        high = low + side
        common = np.clip(np.minimum(high, box_xyxy[2:]) - np.maximum(low, box_xyxy[:2]), 0, None).prod()
        if (high <= np.minimum(known_xyxy[2:], len(window))).all() and common <= _OF_FACE * (box_xyxy[2:] - box_xyxy[:2]).prod():
            return _rounded(window[low[1] : high[1], low[0] : high[0]], random)
    return None


def painted_over(window: Image, shape: np.ndarray, random: np.random.Generator) -> Image:
    """The window with its face gone: under a flat or a rough colour, smeared, or under a piece from elsewhere in the window."""
    side = window.shape[0]
    (x0, y0), (x1, y1) = shape[:2]
    grown = 0.3 * (y1 - y0)
    x0, y0, x1, y1 = (int(np.clip(value, 0, side)) for value in (x0 - 0.15 * grown, y0 - grown, x1 + 0.15 * grown, y1 + 0.3 * grown))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return window
    painted, kind = window.copy(), random.random()
    new: np.ndarray
    inside = window[y0:y1, x0:x1]
    if kind < 0.3:
        new = np.full_like(inside, inside.mean(axis=(0, 1)) if random.random() < 0.6 else random.integers(0, 256, 3))
    elif kind < 0.5:
        new = np.clip(inside.mean(axis=(0, 1)) + random.normal(0, random.uniform(3, 30), inside.shape), 0, 255).astype(np.uint8)
    elif kind < 0.8:
        small = cv2.resize(inside, tuple(int(value) for value in random.integers(1, 4, 2)), interpolation=cv2.INTER_AREA)
        new = cv2.resize(small, (x1 - x0, y1 - y0), interpolation=cv2.INTER_CUBIC)
    else:
        border = window[max(y1, side - 12) :, :] if side - y1 > 12 else window[: max(y0, 4), :]
        new = cv2.resize(border, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    if random.random() < 0.5:
        painted[y0:y1, x0:x1] = new
        return painted
    mask: np.ndarray = np.zeros((side, side), np.float32)
    cv2.ellipse(mask, ((x0 + x1) // 2, (y0 + y1) // 2), ((x1 - x0) // 2, (y1 - y0) // 2), 0, 0, 360, 1, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), max(side / 60, 0.5))[y0:y1, x0:x1, None]
    painted[y0:y1, x0:x1] = (inside * (1 - mask) + new * mask).astype(np.uint8)
    return painted


def _rounded(piece: Image, random: np.random.Generator) -> tuple[Image, np.ndarray]:
    side = len(piece)
    mask: np.ndarray = np.ones((side, side), np.float32)
    if random.random() < 0.6:
        y, x = np.mgrid[:side, :side].astype(np.float32) * (2 / side) - 1
        mask = np.clip((1 - np.hypot(x, y)) / random.uniform(0.05, 0.4), 0, 1).astype(np.float32)
    return piece, mask


def _two_colours(random: np.random.Generator) -> tuple[list[int], list[int]]:
    """Often greys; never alike."""
    below = random.integers(0, 256, 3)
    if random.random() < 0.4:
        below[:] = below[0]
    above = below + np.where(below.mean() < 128, 1, -1) * random.integers(40, 160)
    above = np.clip(above + random.integers(-40, 41, 3) * (random.random() < 0.5), 0, 255)
    return below.tolist(), above.tolist()


def _draw_letters(image: np.ndarray, colour: list[int], random: np.random.Generator) -> None:
    """One to six letters, or a few lines of them."""
    font, thickness = _FONTS[int(random.integers(len(_FONTS)))], int(random.integers(1, 8))
    lines = int(random.integers(1, 4))
    for line in range(lines):
        count = int(random.integers(1, 4 if lines == 1 else 7))
        text = "".join(_LETTERS[int(index)] for index in random.integers(0, len(_LETTERS), count))
        (width, height), _ = cv2.getTextSize(text, font, 1.0, thickness)
        scale = min(0.9 * _SIDE_PX / max(width, 1), 0.9 * _SIDE_PX / lines / max(height, 1))
        x = round((_SIDE_PX - width * scale) / 2)
        y = round(_SIDE_PX * (line + 0.5) / lines + height * scale / 2)
        cv2.putText(image, text, (x, y), font, scale, colour, max(round(thickness * min(scale, 1.0)), 1), cv2.LINE_AA)


def _draw_button(image: np.ndarray, mask: np.ndarray, colour: list[int], random: np.random.Generator) -> None:
    """A button, a wheel, a lamp: a disc with rings and holes."""
    middle, radius = _SIDE_PX // 2, random.uniform(0.3, 0.48) * _SIDE_PX
    cv2.circle(image, (middle, middle), round(radius), colour, -1, cv2.LINE_AA)
    for _ in range(int(random.integers(0, 3))):
        shade = np.clip(np.array(colour) + random.integers(-90, 91), 0, 255).tolist()
        cv2.circle(image, (middle, middle), round(radius * random.uniform(0.3, 0.95)), shade, int(random.integers(1, 5)), cv2.LINE_AA)
    holes, turn, away = int(random.integers(1, 6)), random.uniform(0, 2 * np.pi), radius * random.uniform(0.15, 0.5)
    size = max(round(radius * random.uniform(0.06, 0.22)), 1)
    shade = np.clip(np.array(colour) + random.choice([-1, 1]) * random.integers(60, 200), 0, 255).tolist()
    for hole in range(holes):
        angle = turn + 2 * np.pi * hole / holes
        place = round(middle + away * np.cos(angle)), round(middle + away * np.sin(angle))
        cv2.circle(image, place, size, shade, -1, cv2.LINE_AA)
    if random.random() < 0.5:  # Nothing but the disc is seen.
        disc = np.zeros_like(mask)
        cv2.circle(disc, (middle, middle), round(radius), 1.0, -1, cv2.LINE_AA)
        mask *= disc


def _draw_pattern(image: np.ndarray, colour: list[int], random: np.random.Generator) -> None:
    """A pattern that repeats: stripes, checks, dots, petals."""
    y, x = np.mgrid[:_SIDE_PX, :_SIDE_PX].astype(np.float32)
    period, other, angle = random.uniform(5, 30), random.uniform(5, 30), random.uniform(0, np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    bend = random.uniform(0, 4) * np.sin(across / random.uniform(3, 12))
    waves = np.sin(2 * np.pi * (along + bend) / period)
    if random.random() < 0.7:
        crossing = np.sin(2 * np.pi * across / other)
        waves = waves * crossing if random.random() < 0.5 else waves + crossing
    cover = np.clip((waves - random.uniform(-0.5, 0.8)) * random.uniform(1, 8), 0, 1)[..., None]
    image[:] = (image * (1 - cover) + np.array(colour) * cover).astype(np.uint8)
