"""What the page must know of the model's landmarks, told by the server so that no number stands twice."""

from __future__ import annotations

import math
from typing import Any

from fkp.predict.belief import NO_DOUBT, Belief
from fkp.predict.measures import names
from fkp.scheme import Scheme
from fkp.vision.draw import region_colours


def page_landmarks(scheme: Scheme, belief: Belief = NO_DOUBT) -> dict[str, Any]:
    """The scheme as plain JSON.

    Returns:
        `scheme`: its name. `points`: their number. `landmarks`: their names. `edges`: pairs of points joined by a line, in the colour
        of the first one's region. `regions`: each with `name`, `points` and `colour` (`#rrggbb`). `groups`: further sets by name.
        `pairs`, `normaliser`, and `yaw` where there is one: as in a scheme's file. `measures`: what answers tell of a face beside its
        points, `pose` and `openness` by name. `unsure_ratio`: see `belief.Belief`, null where the model has no such limit.
    """
    colours = region_colours(scheme)
    plain = scheme.to_json()
    return {
        **{key: plain[key] for key in ("pairs", "normaliser", "yaw") if key in plain},
        "scheme": scheme.name,
        "points": len(scheme),
        "landmarks": list(scheme.landmarks),
        "edges": [list(edge) for edge in scheme.edges],
        "regions": [
            {"name": name, "points": list(points), "colour": "#{:02x}{:02x}{:02x}".format(*colours[name])}
            for name, points in scheme.regions.items()
        ],
        "measures": names(scheme),
        "unsure_ratio": belief.unsure_ratio if math.isfinite(belief.unsure_ratio) else None,
        "groups": {name: list(points) for name, points in scheme.groups.items()},
    }
