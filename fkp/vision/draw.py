"""Faces drawn into an image."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from fkp.scheme import IBUG68, Scheme
from fkp.vision.image import Image

#: RGB, readable on skin and for the common colour-vision deficiencies (Okabe & Ito 2008).
_PALETTE = ((86, 180, 233), (230, 159, 0), (240, 228, 66), (0, 158, 115), (213, 94, 0), (204, 121, 167), (0, 114, 178))
#: What both sides of a face have, and the other usual regions, look the same in every scheme.
_USUAL = {"jaw": 0, "brow": 1, "nose": 2, "eye": 3, "mouth": 4}
_SUBPIXEL_BITS = 4
_DISC_OPACITY = 0.45
#: A ring is so many times as large as a point, and never too small for something to be seen in it.
_RING, _LEAST_RING_PX = 1.4, 2.5
_DASHES, _LEAST_DASH_PX = 12, 10.0  # With the gap.
_MOST_THICK = 1000


def region_colours(scheme: Scheme) -> dict[str, tuple[int, int, int]]:
    """RGB of each region of a scheme."""
    usual = [_USUAL.get(region.removeprefix("left_").removeprefix("right_")) for region in scheme.regions]
    free = [place for place in range(len(_PALETTE)) if place not in usual] or list(range(len(_PALETTE)))
    further = (free[count % len(free)] for count in range(len(usual)))
    return {region: _PALETTE[next(further) if place is None else place] for region, place in zip(scheme.regions, usual, strict=True)}


def draw_face(
    image: Image,
    points_px: np.ndarray,
    box_xyxy: np.ndarray | None = None,
    truth_px: np.ndarray | None = None,
    scheme: Scheme = IBUG68,
    expected_error_px: np.ndarray | None = None,
    hollow: np.ndarray | None = None,
    dashed: bool = False,
) -> Image:
    """Return a copy of an RGB image with one face drawn: edges, points, its box, the true points in white, a disc of each expected error.

    Args:
        image: (H, W, 3) uint8.
        points_px: (K, 2) in image pixels.
        box_xyxy: (4,) or None.
        truth_px: (K, 2) or None.
        scheme: Says what the points are.
        expected_error_px: (K,) radii in image pixels, or None.
        hollow: (K,) bool, points that are drawn as rings, or None.
        dashed: Whether the box is.

    Raises:
        ValueError: The points are not as many as the scheme's.
    """
    if len(points_px) != len(scheme):
        raise ValueError(f"{len(points_px)} points are no face of scheme {scheme.name}, which has {len(scheme)}")
    canvas = image.copy()
    span = float(np.ptp(points_px, axis=0).max())
    thickness = _thickness(span)
    radius = max(1.0, span / 110)
    colours = region_colours(scheme)
    colour_of = {point: colours[region] for region, points in scheme.regions.items() for point in points}
    if expected_error_px is not None:
        for point, (place, error) in enumerate(zip(points_px, np.clip(expected_error_px, 0, 2**12), strict=True)):
            size = round(float(error) * 2**_SUBPIXEL_BITS)
            cv2.circle(canvas, _fixed(place), size, colour_of[point], -1, cv2.LINE_AA, _SUBPIXEL_BITS)
        canvas = cv2.addWeighted(canvas, _DISC_OPACITY, image, 1 - _DISC_OPACITY, 0)
    for a, b in scheme.edges:
        cv2.line(canvas, _fixed(points_px[a]), _fixed(points_px[b]), colour_of[a], thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
    for point, place in enumerate(points_px):
        ring = hollow is not None and bool(hollow[point])
        size = round((max(_RING * radius, _LEAST_RING_PX) if ring else radius) * 2**_SUBPIXEL_BITS)
        cv2.circle(canvas, _fixed(place), size, colour_of[point], thickness if ring else -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    if truth_px is not None:
        for place in truth_px[np.isfinite(truth_px).all(-1)]:  # What is not labelled is not drawn.
            cv2.circle(canvas, _fixed(place), round(radius * 0.7 * 2**_SUBPIXEL_BITS), (255, 255, 255), -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    if box_xyxy is not None:
        _put_box(canvas, box_xyxy, dashed)
    return canvas


def draw_box(image: Image, box_xyxy: np.ndarray, dashed: bool = False) -> Image:
    """Return a copy of an RGB image with a white box, (4,) in image pixels; a dashed one has a dozen dashes along its longer side."""
    canvas = image.copy()
    _put_box(canvas, box_xyxy, dashed)
    return canvas


def _put_box(canvas: np.ndarray, box_xyxy: np.ndarray, dashed: bool) -> None:
    x0, y0, x1, y1 = (float(value) for value in box_xyxy)
    longer = max(x1 - x0, y1 - y0)
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])
    for start, end in pairwise(corners):
        dashes = max(2, round(float(np.abs(end - start).max()) / max(longer / _DASHES, _LEAST_DASH_PX))) if dashed else 1
        # A dash and a gap take turns, and a dash ends each side, so that the corners are seen.
        stops = np.linspace(start, end, 2 * dashes)
        for first, last in zip(stops[::2], stops[1::2], strict=True):
            cv2.line(canvas, _fixed(first), _fixed(last), (255, 255, 255), _thickness(longer), cv2.LINE_AA, _SUBPIXEL_BITS)


def draw_label(image: Image, text: str, box_xyxy: np.ndarray) -> Image:
    """Return a copy of an RGB image with a short text above a box, (4,) in image pixels."""
    canvas = image.copy()
    scale = float(np.ptp(box_xyxy.reshape(2, 2), axis=0).max()) / 250
    place = (round(float(box_xyxy[0])), round(float(box_xyxy[1]) - 6 * scale))
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), max(1, round(2 * scale)), cv2.LINE_AA)
    return canvas


def draw_numbered(image: Image, points_px: np.ndarray, visible: np.ndarray, scheme: Scheme) -> Image:
    """Return a copy of an RGB image with the points of one face and their numbers from 0, in small; every tenth of more than 100.

    Args:
        image: (H, W, 3) uint8.
        points_px: (K, 2) in image pixels; NaN is not drawn.
        visible: (K,) bool; others are hollow.
        scheme: Says what the points are.
    """
    canvas = image.copy()
    colours = region_colours(scheme)
    colour_of = {point: colours[region] for region, points in scheme.regions.items() for point in points}
    step = 1 if len(scheme) <= 100 else 10
    for point in np.flatnonzero(np.isfinite(points_px).all(-1)).tolist():
        place, fill = _fixed(points_px[point]), -1 if visible[point] else 1
        cv2.circle(canvas, place, round(2.2 * 2**_SUBPIXEL_BITS), colour_of[point], fill, cv2.LINE_AA, _SUBPIXEL_BITS)
        if point % step == 0:
            corner = (round(float(points_px[point, 0])) + 3, round(float(points_px[point, 1])) - 2)
            for colour, thickness in (((0, 0, 0), 2), ((255, 255, 255), 1)):  # Readable on any skin.
                cv2.putText(canvas, str(point), corner, cv2.FONT_HERSHEY_SIMPLEX, 0.3, colour, thickness, cv2.LINE_AA)
    return canvas


def _thickness(span_px: float) -> int:
    return min(max(1, round(span_px / 150)), _MOST_THICK)


def _fixed(place: np.ndarray) -> tuple[int, int]:
    x, y = np.clip(np.round(np.asarray(place) * 2**_SUBPIXEL_BITS), -(2**24), 2**24).astype(int)
    return int(x), int(y)
