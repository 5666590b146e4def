"""What the page must know of the 68-point scheme, told by the server so that no number stands twice."""

from __future__ import annotations

from typing import Any

from fkp.scheme import EDGES, NUM_POINTS, REGIONS
from fkp.vision.draw import REGION_COLOURS


def page_landmarks() -> dict[str, Any]:
    """The scheme as plain JSON.

    Returns:
        `points`: their number. `edges`: pairs of points joined by a line, in the colour of the first one's region.
        `regions`: in the order of the points, each with `name`, `points` and `colour` (`#rrggbb`).
    """
    return {
        "points": NUM_POINTS,
        "edges": [list(edge) for edge in EDGES],
        "regions": [
            {"name": name, "points": list(points), "colour": "#{:02x}{:02x}{:02x}".format(*REGION_COLOURS[name])}
            for name, points in REGIONS.items()
        ],
    }
