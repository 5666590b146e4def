"""Found faces drawn into their image, with what the network is unsure of: hollow points, and dashed faces that have its doubt as a name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fkp.predict.face import Face
from fkp.vision.draw import draw_box, draw_face, draw_label
from fkp.vision.image import Image


def draw_faces(image: Image, faces: Sequence[Face], left_out: Sequence[Face] = ()) -> Image:
    """Return a copy of an image with all that was found in it.

    Args:
        image: (H, W, 3) uint8 RGB.
        faces: Those that count.
        left_out: Those that are not kept: their boxes alone, dashed and named.
    """
    for face in faces:
        image = draw_found(image, face)
    for face in left_out:
        image = draw_label(draw_box(image, face.box_xyxy, dashed=True), doubt_of(face), face.box_xyxy)
    return image


def draw_found(image: Image, face: Face, points_px: np.ndarray | None = None, name: str = "") -> Image:
    """Return a copy of an image with one face.

    Args:
        image: (H, W, 3) uint8 RGB.
        face: To be drawn.
        points_px: (K, 2) in place of its own, such as smoothed ones.
        name: Stands above its box; one that is not believed also says that.
    """
    places = face.points_px if points_px is None else points_px
    image = draw_face(image, places, face.box_xyxy, scheme=face.scheme, hollow=face.unsure, dashed=not face.believed)
    text = " ".join(filter(None, (name, "" if face.believed else doubt_of(face))))
    return draw_label(image, text, face.box_xyxy) if text else image


def doubt_of(face: Face) -> str:
    """What a face is called that the network does not believe, or that is below a limit which somebody named."""
    return f"{'below the limit' if face.believed else 'not believed'} {face.quality:.2f}"
