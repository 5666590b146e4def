"""The 68-point scheme (iBUG 300-W order): regions, mirror permutation, eye corners and the lines for drawing.

Source: C. Sagonas et al., "300 Faces in-the-Wild Challenge", ICCVW 2013. Left and right are the viewer's:
points 36-41 are the eye on the left of the image.
"""

from __future__ import annotations

NUM_POINTS = 68

REGIONS: dict[str, tuple[int, ...]] = {
    "jaw": tuple(range(0, 17)),
    "left_brow": tuple(range(17, 22)),
    "right_brow": tuple(range(22, 27)),
    "nose": tuple(range(27, 36)),
    "left_eye": tuple(range(36, 42)),
    "right_eye": tuple(range(42, 48)),
    "mouth": tuple(range(48, 68)),
}

#: The points without the jaw, which is where labelling conventions differ most.
INNER_51: tuple[int, ...] = tuple(range(17, 68))

#: The outer eye corners; their distance normalises the error ("inter-ocular" in the 300-W protocol).
OUTER_EYE_CORNERS: tuple[int, int] = (36, 45)

#: MIRROR[i] is the point that takes the place of point i when the image is mirrored left to right.
MIRROR: tuple[int, ...] = (
    *range(16, -1, -1),  # jaw
    *range(26, 16, -1),  # brows
    *range(27, 31),  # nose bridge
    *range(35, 30, -1),  # nostrils
    *(45, 44, 43, 42, 47, 46),  # left eye
    *(39, 38, 37, 36, 41, 40),  # right eye
    *(54, 53, 52, 51, 50, 49, 48),  # outer lip, top
    *(59, 58, 57, 56, 55),  # outer lip, bottom
    *(64, 63, 62, 61, 60),  # inner lip, top
    *(67, 66, 65),  # inner lip, bottom
)

#: The viewer's left half of a face, without the points that are their own mirror's.
LEFT_HALF: tuple[int, ...] = (*range(0, 8), *range(17, 22), 31, 32, *range(36, 42), 48, 49, 50, 58, 59, 60, 61, 67)


def _chain(first: int, last: int, closed: bool = False) -> tuple[tuple[int, int], ...]:
    edges = tuple((i, i + 1) for i in range(first, last))
    return (*edges, (last, first)) if closed else edges


#: Pairs of points joined by a line when a face is drawn.
EDGES: tuple[tuple[int, int], ...] = (
    *_chain(0, 16),
    *_chain(17, 21),
    *_chain(22, 26),
    *_chain(27, 30),
    *_chain(31, 35),
    *_chain(36, 41, closed=True),
    *_chain(42, 47, closed=True),
    *_chain(48, 59, closed=True),
    *_chain(60, 67, closed=True),
)
