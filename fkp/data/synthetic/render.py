"""Made-up faces with exact labels: the set fkp trains on where there is no other, written in the layout `fkp.data.labels` reads."""

from __future__ import annotations

import csv
import json
import math
import os
import secrets
import shutil
from pathlib import Path

import cv2
import numpy as np

from fkp.data.synthetic.face import SUPERSAMPLING, Expression, Identity, Painter, View, any_colour, curve, mirrored, mix, points_of, shade
from fkp.errors import FkpError
from fkp.scheme import IBUG68
from fkp.vision.image import Image, decode_image

#: Goes up with every change that alters an image or a label: sets of different versions are different sets.
VERSION = 1

FRAMES_PER_PERSON = 10
#: Persons take turns in groups of this many, so that a small set still has several persons and a larger one begins with it.
_GROUP = 30
_NOTE = "synthetic.json"

# What is painted and has no labels, in head units, on the viewer's left.
_SKULL = ((-0.99, -0.30, -0.75), (-0.92, -0.75, -0.62), (-0.62, -1.17, -0.50), (0.0, -1.36, -0.42))
_HAIRLINE = ((-0.95, -0.20, -0.60), (-0.86, -0.62, -0.30), (-0.52, -0.90, 0.0), (0.0, -0.98, 0.10))
_EAR = ((-1.0, -0.12, -0.86), (-1.1, -0.2, -0.98), (-1.17, -0.06, -1.02), (-1.13, 0.25, -0.98), (-1.04, 0.52, -0.9), (-0.99, 0.45, -0.84))
_NECK = (-0.66, 1.00, -0.85)

# Points around what light reaches less: eyes, the gaps above and below the lips, a cheek.
_HOLLOWS = (
    *([*range(17, 22), 39, 40, 41, 36], [*range(22, 27), 45, 46, 47, 42]),
    *([31, 33, 35, 52, 50], [59, 57, 55, 9, 7], [0, 3, 5, 48, 31]),
)
_GLINT = np.array([0.9, -1.1])
_CIRCLE = np.array([(math.cos(k * math.pi / 10), math.sin(k * math.pi / 10)) for k in range(20)])


def write_set(root: Path, faces: int, seed: int) -> None:
    """Write a set of faces; return at once if `root` holds the same set already.

    Args:
        root: Folder of the set. It appears complete or not at all.
        faces: Number of frames, about `FRAMES_PER_PERSON` a person. A smaller set is the beginning of a larger one.
        seed: Frame number i depends on `seed` and i alone.

    Raises:
        FkpError: `root` holds something else, or cannot be written.
    """
    root = Path(os.path.realpath(root))
    note = {"faces": faces, "seed": seed, "version": VERSION}
    if _holds(root, note):
        return
    half_made = root.with_name(f".{root.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        half_made.mkdir(parents=True)
        _write_files(half_made, faces, seed)
        (half_made / _NOTE).write_text(json.dumps(note) + "\n", encoding="utf-8")
        half_made.rename(root)
    except OSError as error:
        # Another process may have finished the same set meanwhile: then the rename fails, and there is nothing left to do.
        if not _holds(root, note):
            raise FkpError(f"cannot write the synthetic set to {root}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(half_made, ignore_errors=True)


def frame_of(index: int, seed: int) -> tuple[str, bool, Image, np.ndarray]:
    """Make frame number `index` of the set of a seed.

    Returns:
        File name, whether it stands in the test CSV, (H, W, 3) uint8 RGB, (68, 2) float32 pixels.
    """
    group, rest = divmod(index, _GROUP * FRAMES_PER_PERSON)
    frame, place = divmod(rest, _GROUP)
    person = group * _GROUP + place
    identity = Identity.draw(np.random.default_rng([seed, 0, person]))
    image, points_px = render(identity, np.random.default_rng([seed, 1, index]))
    # One frame in five, of the same persons: the published split of the upstream set shares persons too.
    return f"Person_{person + 1:04d}_{frame // 5}{frame % 5}.jpg", (person + frame) % 5 == 4, image, points_px


def render(identity: Identity, rng: np.random.Generator) -> tuple[Image, np.ndarray]:
    """Paint one frame of a person, with everything that is not the person drawn from `rng`.

    Returns:
        (H, W, 3) uint8 RGB with sides of 110 to 320 px, and (68, 2) float32 points in pixels, exact for what is painted.
    """
    image, points_px, _ = render_view(identity, rng)
    return image, points_px


def render_view(
    identity: Identity, rng: np.random.Generator, angles: tuple[float, float, float] | None = None
) -> tuple[Image, np.ndarray, View]:
    """As `render`, with the view that it was painted from.

    Args:
        identity: The person.
        rng: Draws everything else.
        angles: Yaw, pitch and roll in radians, see `View`; None: they are drawn, too.
    """
    width, height = (
        np.clip(110 * (320 / 110) ** (rng.random() ** 1.3) * np.exp(rng.uniform(-0.2, 0.2, 2)), 110, 320).round().astype(int).tolist()
    )
    expression = Expression.draw(rng)
    points = points_of(identity, expression)
    view = _draw_view(points, width, height, rng, angles)
    points_px = place_points(points, view)
    light = np.array([rng.normal(0, 0.6), rng.normal(-0.35, 0.35), 1.0])
    painter = Painter(_background(width, height, rng))
    _paint_behind(painter, identity, view)
    _paint_skin(painter, identity, view, points_px, rng)
    _paint_nose(painter, identity, view, points_px, light)
    _paint_mouth(painter, identity, view, points_px, rng)
    _paint_eyes(painter, identity, view, points, points_px, expression, rng)
    _paint_hair(painter, identity, view, rng)
    _paint_glasses(painter, identity, view, points, rng)
    _paint_occluder(painter, view, points_px, rng)
    image = cv2.resize(painter.canvas_u8, (width, height), interpolation=cv2.INTER_AREA)
    image = _light_up(image, painter.lit_u8, view, points_px, light / np.linalg.norm(light), rng)
    return _photograph(image, painter.lit_u8, rng), points_px.astype(np.float32), view


def place_points(points: np.ndarray, view: View) -> np.ndarray:
    """(68, 3) points of a head to (68, 2) float64 pixels; the jaw slides to the visible outline, see `View.project`."""
    return np.concatenate([view.project(points[:17], slide=True), view.project(points[17:])])


def _holds(root: Path, note: dict[str, int]) -> bool:
    try:
        if not root.exists() or (root.is_dir() and not any(root.iterdir())):
            return False
        if json.loads((root / _NOTE).read_text(encoding="utf-8")) == note:
            return True
    except (OSError, ValueError):
        pass
    wanted = f"{note['faces']} synthetic faces of seed {note['seed']}"
    raise FkpError(f"{root} holds something other than {wanted}: remove it or choose another folder")


def _write_files(folder: Path, faces: int, seed: int) -> None:
    rows: dict[str, list[list[str]]] = {"training": [], "test": []}
    for part in rows:
        (folder / part).mkdir()
    for index in range(faces):
        name, is_test, image, points_px = frame_of(index, seed)
        part = "test" if is_test else "training"
        (folder / part / name).write_bytes(_jpeg(image, 95))
        rows[part].append([name, *(f"{value:.2f}" for value in points_px.ravel())])
    for part, lines in rows.items():
        with (folder / f"{part}_frames_keypoints.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([["", *range(2 * len(IBUG68))], *sorted(lines)])


def _jpeg(image: Image, quality: int) -> bytes:
    # Colours at full resolution: lips and irises are small.
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)[1].tobytes()


def _draw_view(
    points: np.ndarray, width: int, height: int, rng: np.random.Generator, angles: tuple[float, float, float] | None = None
) -> View:
    drawn = np.radians(np.clip(rng.normal(0, (19, 9, 9)), (-40, -20, -25), (40, 20, 25)))
    yaw, pitch, roll = angles or drawn.tolist()
    flat = place_points(points, View(yaw, pitch, roll, 1.0))
    low, high = flat.min(axis=0), flat.max(axis=0)
    frame = np.array([width, height])
    part = max(rng.uniform(0.38, 0.80), 48 / frame.min())
    scale = part * float(frame.min() / (high - low).max())
    # Anywhere in the frame, more often near its middle; a little of the face may be cut off.
    slack = np.maximum(frame - 1 - scale * (high - low), 0) / 2 + 0.03 * scale
    middle = (frame - 1) / 2 + slack * np.clip(rng.normal(0, 0.4, 2), -1, 1)
    origin = middle - scale * (low + high) / 2
    return View(yaw, pitch, roll, scale, (float(origin[0]), float(origin[1])))


def _background(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """(SUPERSAMPLING * height, SUPERSAMPLING * width, 3) uint8: soft colours, and on most of them shapes or a texture."""
    cells = rng.integers(2, 9, 2)
    colour, contrast = any_colour(rng), rng.uniform(4, 70)
    small = np.clip(colour + rng.normal(0, contrast, (*cells, 1)) + rng.normal(0, contrast / 4, (*cells, 3)), 0, 255).astype(np.uint8)
    canvas = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR if rng.random() < 0.8 else cv2.INTER_NEAREST)
    for _ in range(rng.integers(0, 9)):
        shape_rgb, (x, y) = any_colour(rng), (rng.random(2) * (width, height)).astype(int).tolist()
        a, b = (rng.uniform(0.03, 0.5, 2) * width).astype(int).tolist()
        kind = rng.integers(3)
        if kind == 0:
            cv2.rectangle(canvas, (x, y), (x + a, y + b), shape_rgb, -1)
        elif kind == 1:
            cv2.ellipse(canvas, (x, y), (a, b), float(rng.uniform(0, 180)), 0, 360, shape_rgb, -1, cv2.LINE_AA)
        else:
            cv2.line(canvas, (x, y), (x + 2 * a - b, y + 2 * b - a), shape_rgb, 1 + a // 12, cv2.LINE_AA)
    if rng.random() < 0.3:
        grain = rng.integers(0, 256, (int(height / rng.uniform(1.5, 6)), int(width / rng.uniform(1.5, 6)), 1), np.uint8)
        grain = cv2.cvtColor(cv2.resize(grain, (width, height)), cv2.COLOR_GRAY2RGB)
        canvas = cv2.addWeighted(canvas, 0.8, grain, 0.2, 0)
    if rng.random() < 0.6:
        canvas = cv2.blur(canvas, (k := 1 + 2 * int(rng.integers(1, 8)), k))
    return cv2.resize(canvas, (SUPERSAMPLING * width, SUPERSAMPLING * height), interpolation=cv2.INTER_LINEAR)


def _paint_behind(painter: Painter, who: Identity, view: View) -> None:
    """The hair or skull behind the head, neck, clothes and ears."""
    s, volume = view.scale_px, who.hair_volume
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    reach = (1.06 + volume, 1.08 + volume) if who.hair_length else (1.02, 1.06)
    skull = np.stack([reach[0] * np.cos(angle), -0.32 + reach[1] * np.sin(angle), np.full(16, -0.8)], axis=1)
    if who.hair_length > 0.4:
        # Long hair hangs down: the lower half of the round is drawn out.
        skull[:, 1] += np.clip(np.sin(angle), 0, None) ** 0.5 * (2.4 * who.hair_length - 0.9)
    painter.fill(curve(view.project(skull), closed=True), shade(who.hair, 0.7) if who.hair_length else shade(who.skin, 0.85), lit=True)
    # The trunk turns less than the head: it hangs straight down from the neck.
    left, right = view.project(np.array([_NECK, (-_NECK[0], *_NECK[1:])]))
    middle, half = (left + right) / 2, (right - left) / 2
    down = s * np.array([-0.4 * np.sin(view.roll), 1.0])
    foot = middle + 1.15 * down
    neck = np.array([left - 0.5 * down, right - 0.5 * down, right + 0.5 * down, foot + 1.15 * half, foot - 1.15 * half, left + 0.5 * down])
    collar = [(-2.3, 0.35), (-0.85, -0.05), (0.0, 0.25), (0.85, -0.05), (2.3, 0.35), (2.6, 3.0), (-2.6, 3.0)]
    painter.fill(neck, shade(who.skin, 0.78), lit=True)
    painter.soft([np.array([left, right, middle + 0.85 * down])], shade(who.skin, 0.5), 0.6, 0.12 * s)
    painter.fill(curve(np.array([foot + (x * s, 0) + y * down for x, y in collar]), closed=True), who.cloth, lit=True)
    for side in (1, -1):
        ear = view.project(np.array(_EAR) * (side, 1, 1))
        painter.fill(curve(ear, closed=True), shade(who.skin, 0.9), lit=True)
        painter.line(curve(ear[1:5] * 0.75 + ear.mean(axis=0) * 0.25), shade(who.skin, 0.68), 0.04 * s)


def _paint_skin(painter: Painter, who: Identity, view: View, p: np.ndarray, rng: np.random.Generator) -> None:
    """The head through the jaw's points, cheeks, beard, wrinkles."""
    s = view.scale_px
    head = curve(np.concatenate([p[:17], view.project(mirrored(_SKULL), slide=True)[::-1]]), closed=True)
    painter.fill(head, who.skin, lit=True)
    # A darker rim keeps the outline visible where the background has the colour of the skin.
    painter.line(curve(p[:17], steps=3), shade(who.skin, 0.72), 0.025 * s)
    cheeks = [_round(0.8 * p[a] + 0.45 * p[b] - 0.25 * p[c] + (0, 0.12 * s), 0.2 * s) for a, b, c in ((36, 31, 39), (45, 35, 42))]
    painter.soft(cheeks, mix(who.skin, (215, 70, 60), 0.35), rng.uniform(0.1, 0.6), 0.14 * s)
    if who.beard:
        lip_line = [0.6 * p[54] + 0.4 * p[35], 0.4 * p[33] + 0.6 * p[51], 0.6 * p[48] + 0.4 * p[31]]
        outline = np.array([*p[2:15], 0.5 * (p[14] + p[54]), *lip_line, 0.5 * (p[2] + p[48])])
        painter.soft([outline], mix(who.hair, shade(who.skin, 0.4), 0.3), 0.85 * who.beard, (0.11 - 0.05 * who.beard) * s)
    out, deeper = np.array([0.1 * s, 0]), shade(who.skin, 0.6)
    creases: list[np.ndarray] = []
    for wing, corner, side in ((31, 48, -1), (35, 54, 1)):
        creases.append(curve(np.array([p[wing], (p[wing] + p[corner]) / 2, p[corner]]) + side * np.array([[0.6], [1.2], [0.8]]) * out))
    if who.age > 0.5:
        furrow = np.array([(-0.5, -0.52, 0.1), (-0.2, -0.56, 0.2), (0.2, -0.56, 0.2), (0.5, -0.52, 0.1)])
        creases += [curve(view.project(furrow - (0, 0.1 * row, 0))) for row in range(3)]
    painter.soft(creases, deeper, 0.1 + 0.45 * who.age, 0.02 * s, 0.025 * s)


def _paint_nose(painter: Painter, who: Identity, view: View, p: np.ndarray, light: np.ndarray) -> None:
    s, skin = view.scale_px, who.skin
    for wing, side in ((31, -1), (35, 1)):
        bright = 0.87 + 0.15 * side * float(np.clip(light[0], -1, 1))
        painter.soft([np.concatenate([p[27:31], p[[33, wing]]])], shade(skin, bright), 0.75, 0.035 * s)
        alar = np.array([p[wing] + 0.19 * (p[27] - p[30]), 1.1 * p[wing] - 0.1 * p[33] + 0.09 * (p[27] - p[30]), p[wing]])
        painter.line(curve(alar), shade(skin, 0.75), 0.02 * s)
    painter.soft([curve(p[27:31])], shade(skin, 1.18), 0.75, 0.03 * s, 0.06 * s)
    painter.soft([_round(p[30], 0.06 * s)], mix(shade(skin, 1.2), (255, 250, 240), 0.3), 0.7, 0.03 * s)
    for a, b in ((31, 32), (35, 34)):
        painter.fill(_round(0.35 * p[a] + 0.65 * p[b] - (0, 0.022 * s), 0.045 * s, 0.6), shade(skin, 0.35))
    painter.line(curve(p[31:36]), shade(skin, 0.58), 0.028 * s)


def _paint_mouth(painter: Painter, who: Identity, view: View, p: np.ndarray, rng: np.random.Generator) -> None:
    s = view.scale_px
    upper, lower = curve(p[48:55]), curve(p[[54, 55, 56, 57, 58, 59, 48]])
    inner_top, inner_bottom = curve(p[60:65]), curve(p[[64, 65, 66, 67, 60]])
    painter.fill(np.concatenate([upper, lower]), who.lips)
    painter.fill(np.concatenate([upper, inner_top[::-1]]), shade(who.lips, 0.84))
    full = 0.5 * (p[[59, 58, 57, 56, 55]] + p[[60, 67, 66, 65, 64]])
    painter.soft([curve(full)], shade(who.lips, 1.3), rng.uniform(0, 0.7), 0.03 * s, 0.05 * s)
    painter.line(upper, mix(shade(who.lips, 0.8), who.skin, 0.3), 0.02 * s)
    painter.line(lower, mix(shade(who.lips, 0.75), who.skin, 0.4), 0.02 * s)
    hole, down = np.concatenate([inner_top, inner_bottom]), p[66] - p[62]
    if np.hypot(*down) > 0.05 * s:
        with painter.inside(hole, 0.1 * s):
            painter.fill(hole, (45, 15, 18))
            if rng.random() < 0.6:
                painter.fill(_round(p[66] - 0.1 * down, 0.35 * float(np.hypot(*down))), (150, 65, 70))
            if rng.random() < 0.8:
                teeth = inner_top + np.clip(0.45 * down, -0.12 * s, 0.12 * s)
                painter.fill(np.concatenate([inner_top, teeth[::-1]]), shade((235, 228, 215), rng.uniform(0.75, 1.0)))
    painter.line(inner_top, shade(who.lips, 0.42), 0.02 * s)
    painter.line(inner_bottom, shade(who.lips, 0.5), 0.015 * s)
    for corner in (p[[48, 60]], p[[54, 64]]):
        painter.line(corner, mix(shade(who.lips, 0.45), who.skin, 0.2), 0.03 * s)


def _paint_eyes(
    painter: Painter, who: Identity, view: View, points: np.ndarray, p: np.ndarray, expression: Expression, rng: np.random.Generator
) -> None:
    """Eyes and brows."""
    s = view.scale_px
    shadow = mix(shade(who.skin, 0.72), any_colour(rng), 0.4 if rng.random() < 0.15 else 0.0)
    up = s * np.array([np.sin(view.roll), -np.cos(view.roll)])
    lash = shade(mix(who.hair, (20, 15, 12), 0.7), 0.8)
    for eye, brow in ((slice(36, 42), slice(17, 22)), (slice(42, 48), slice(22, 27))):
        a, b, c, d, e, f = p[eye]
        upper, lower = curve(np.array([a, b, c, d])), curve(np.array([d, e, f, a]))
        outline = np.concatenate([upper, lower])
        painter.soft([np.concatenate([upper + 0.07 * up, lower[1:]])], shadow, 0.7, 0.04 * s)
        with painter.inside(outline, 0.14 * s):
            # The lids move, the eyeball does not: the iris stands between the corners.
            middle = (points[eye][0] + points[eye][3]) / 2 + (0.10 * expression.gaze[0], -0.02 + 0.03 * expression.gaze[1], 0.08)
            place = view.project(middle[None])[0]
            painter.fill(outline, (228, 223, 216))
            painter.fill(_round(place, 0.088 * s), shade(who.iris, 0.5))
            painter.fill(_round(place, 0.075 * s), who.iris)
            painter.fill(_round(place, 0.038 * s), (12, 10, 10))
            painter.fill(_round(place + 0.028 * s * _GLINT, 0.016 * s), (245, 245, 245))
            painter.line(upper - 0.02 * up, (150, 135, 128), 0.04 * s)
        painter.line(lower, mix(lash, who.skin, 0.45), 0.014 * s)
        painter.line(upper, lash, 0.03 * s)
        painter.line(upper + 0.055 * up, shade(who.skin, 0.66), 0.016 * s)
        # A brow tapers to its outer end.
        line = curve(p[brow])
        taper = np.linspace(0.5, 1.0, len(line))[:: 1 if brow.start == 17 else -1, None]
        thick = (0.025 + 0.045 * who.brow_weight) * taper * up
        painter.soft([np.concatenate([line + thick, (line - thick)[::-1]])], who.brow, 0.6 + 0.4 * who.brow_weight, 0.012 * s)


def _paint_hair(painter: Painter, who: Identity, view: View, rng: np.random.Generator) -> None:
    if not who.hair_length:
        return
    top, line = mirrored(_SKULL), mirrored(_HAIRLINE)
    top[:, :2] = (0, 0.2) + (top[:, :2] - (0, 0.2)) * (1 + who.hair_volume)
    line[1:-1, 1] += 0.55 * max(who.fringe, 0) + 0.25 * min(who.fringe, 0)
    line[1:-1, 1] += rng.normal(0, 0.04, 5)
    top_px, line_px = view.project(top, slide=True), view.project(line, slide=True)
    outer, inner = curve(top_px), curve(line_px)
    # Locks end unevenly, and some lie over the next: no straight seam between hair and forehead.
    inner[3:-3] += rng.normal(0, 0.025 * view.scale_px, inner[3:-3].shape)
    painter.fill(np.concatenate([outer, inner[::-1]]), who.hair, lit=True)
    parting = int(rng.integers(6, 19))
    for place in rng.integers(0, len(outer), 14):
        root, tip = outer[(place + 2 * parting) // 3], inner[place]
        lock = np.array([root, 0.35 * root + 0.65 * outer[place] + 0.1 * (tip - root), 0.45 * outer[place] + 0.55 * tip, tip])
        painter.line(curve(lock, steps=2), shade(who.hair, float(rng.uniform(0.7, 1.3))), float(rng.uniform(0.01, 0.04)) * view.scale_px)


def _paint_glasses(painter: Painter, who: Identity, view: View, points: np.ndarray, rng: np.random.Generator) -> None:
    dark = rng.random() < 0.05
    if not (who.glasses or dark):
        return
    s, colour, angle = view.scale_px, rng.uniform(0, 110, 3).tolist(), np.linspace(0, 2 * np.pi, 12, endpoint=False)
    width, height, square, thick = rng.uniform(0.27, 0.33), rng.uniform(0.17, 0.26), rng.uniform(0.5, 1.0), rng.uniform(0.02, 0.05) * s
    corners = {}
    for eye, side in ((slice(36, 42), -1), (slice(42, 48), 1)):
        ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(12)], axis=1)
        ring = np.sign(ring) * np.abs(ring) ** square * (width, height, 0)
        rim = view.project(points[eye].mean(axis=0) + np.array([0, 0.03, 0.12]) + ring)
        painter.soft([rim], (25, 25, 30) if dark else (225, 235, 245), float(rng.uniform(0.8, 1.0)) if dark else 0.08, 0.01 * s)
        painter.line(curve(rim, closed=True), colour, thick, closed=True)
        corners[side] = rim[6 if side > 0 else 0]
        # The temple runs to the ear; on the far side the head would hide it.
        if side * view.yaw <= 0.1:
            ear = view.project(np.array([(side * 1.0, -0.08, -0.8)]), slide=True)[0]
            painter.line(np.array([rim[0 if side > 0 else 6], ear]), colour, thick)
    painter.line(np.array([corners[-1], corners[1]]), colour, thick)


def _paint_occluder(painter: Painter, view: View, p: np.ndarray, rng: np.random.Generator) -> None:
    """Now and then a hand, a bar or a thing before the face, more often over its lower part."""
    if rng.random() > 0.15:
        return
    s, target = view.scale_px, p[rng.integers(len(IBUG68))] + rng.normal(0, 0.2, 2) * view.scale_px
    turn = rng.uniform(0, 2 * np.pi)
    along, across = s * np.array([np.cos(turn), np.sin(turn)]), s * np.array([-np.sin(turn), np.cos(turn)])
    if rng.random() < 0.5:
        rgb = Identity.draw(rng).skin
        for finger in range(4):
            tip, length = target + (finger - 1.5) * 0.2 * across, 0.7 - 0.08 * abs(finger - 1.3)
            around = np.linspace(0, 2 * np.pi, 14)[:, None]
            outline = tip + length * np.cos(around) * along + 0.1 * np.sin(around) * across
            painter.fill(outline, shade(rgb, 1 - 0.06 * (finger % 2)), lit=False)
        painter.fill(target + 0.9 * along + _round(np.zeros(2), 0.45 * s), rgb, lit=False)
        return
    a, b = rng.uniform(0.15, 0.45), rng.choice([rng.uniform(0.1, 0.4), 6.0])
    thing = np.array([target + x * across + y * along for x, y in ((-a, -0.2), (a, -0.2), (a, b), (-a, b))])
    painter.fill(thing, any_colour(rng), lit=False)
    painter.line(thing[:2] + 0.15 * along, any_colour(rng), 0.08 * s)


def _light_up(image: Image, lit_u8: np.ndarray, view: View, p: np.ndarray, light: np.ndarray, rng: np.random.Generator) -> Image:
    """Shade the face as a rounded body, with soft hollows at the eyes, the nose and the mouth, and uneven skin."""
    height, width = lit_u8.shape
    # An ellipsoid about the head: its normals, on a coarse grid because the shading is smooth.
    rows, columns = (max(2, round(side / max(view.scale_px / 14, 2.0))) for side in (height, width))
    cell = np.array([width / columns, height / rows])
    middle = view.project(np.array([(0.0, 0.25, -0.35)]))[0] + 0.5
    x = (((np.arange(columns) + 0.5) * cell[0] - middle[0]) / view.scale_px).astype(np.float32)[None]
    y = (((np.arange(rows) + 0.5) * cell[1] - middle[1]) / view.scale_px).astype(np.float32)[:, None]
    cos, sin = np.float32(np.cos(view.roll)), np.float32(np.sin(view.roll))
    u, v = (x * cos + y * sin) / 1.25, (y * cos - x * sin) / 1.75
    depth = np.sqrt(np.clip(1 - u * u - v * v, 0.04, None))
    toward_x, toward_y = light[0] * cos + light[1] * sin, light[1] * cos - light[0] * sin
    ambient = rng.uniform(0.25, 0.8)
    gain = ambient + (1 - ambient) * 1.25 * np.clip(u * toward_x + v * toward_y + depth * light[2], 0, None)
    hollows = np.zeros((rows, columns), np.uint8)
    for outline in _HOLLOWS:
        cv2.fillPoly(hollows, [(((p[outline] + 0.5) / cell - 0.5) * 16).round().astype(np.int32)], 255, cv2.LINE_AA, 4)
    gain *= 1 - cv2.GaussianBlur(hollows, (0, 0), 1.2).astype(np.float32) * np.float32(rng.uniform(0.05, 0.25) / 255)
    gain *= 1 + rng.normal(0, rng.uniform(0.0, 0.04), gain.shape).astype(np.float32)
    full = cv2.resize(gain.astype(np.float32), (width, height))
    full = 1 + (full - 1) * (lit_u8 * np.float32(1 / 255))
    return cv2.multiply(image, cv2.merge([full] * 3), dtype=cv2.CV_8U)


def _photograph(image: Image, lit_u8: np.ndarray, rng: np.random.Generator) -> Image:
    """Exposure, colour cast, blur, noise and compression of a cheap camera. Nothing here moves a feature."""
    # A camera exposes for the person, though not fully: the whole range of skins stays within the range of the image.
    exposure = (110 / max(float(np.mean(cv2.mean(image, lit_u8)[:3])), 15)) ** 0.65 * rng.uniform(0.7, 1.2)
    ramp = np.linspace(0, 1, 256)[:, None] ** np.exp(rng.normal(0, 0.15))
    table = 255 * exposure * np.exp(rng.normal(0, 0.05, 3)) * ramp + rng.uniform(0, 20)
    image = cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8)[None])
    if rng.random() < 0.05:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    sharpness_px = max(image.shape) / 320
    out_of_focus_px = rng.uniform(0, 1.3) * sharpness_px if rng.random() < 0.25 else 0.0
    image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 0.8) + out_of_focus_px))
    if rng.random() < 0.12:
        size = 3 + 2 * int(rng.integers(0, 1 + round(2 * sharpness_px)))
        kernel, middle = np.zeros((size, size), np.float32), size // 2
        end = (middle * rng.uniform(-1, 1, 2)).round().astype(int)
        end[rng.integers(2)] = middle
        cv2.line(kernel, (middle - int(end[0]), middle - int(end[1])), (middle + int(end[0]), middle + int(end[1])), 1.0)
        kernel += kernel[::-1, ::-1]  # a line that is even about its middle shifts nothing
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    noise = rng.integers(0, 2**16, image.shape[:2], np.uint16).astype(np.float32)
    noise = (noise - 2**15) * np.float32(rng.exponential(5.0) / 2**15)
    image = cv2.add(image, cv2.merge([noise] * 3), dtype=cv2.CV_8U)
    if rng.random() < 0.3:
        image = decode_image(_jpeg(image, int(rng.integers(25, 90))))
    return image


def _round(middle_px: np.ndarray, radius_px: float, flat: float = 1.0) -> np.ndarray:
    return middle_px + radius_px * _CIRCLE * (1.0, flat)
