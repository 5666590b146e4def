"""In which order faces are labelled: first those that tell most about what the model is unsure of, and no two alike in a row.

The order is an optimal design for a linear map of shapes, which is the first thing that labels teach (`fkp adapt`, way map): the next
face is the one that lowers the expected error of the whole set most (transductive experimental design: Yu, Bi and Tresp, ICML 2006). Faces
count by how unsure the model is of them. The most unsure ones alone are no good choice: they are extreme and say little of the
others, and after 50 of them a map is worse than after 50 random ones: `benchmarks/labelling.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fkp.predict import Face
from fkp.scheme import IBUG68, Scheme
from fkp.vision.crop import upright

#: So many faces are chosen with regard to all before them. The others follow by their unsureness: nobody labels more at one sitting.
_CHOSEN = 300
#: Faces that are compared; of a larger set an even part by unsureness.
_COMPARED = 4000
#: Faces that are taken together: while numpy stacks them, whoever labels waits.
_AT_ONCE = 4096
#: Axes of shape (pose, expression, build) in which they are compared. Of 6, 12, 20 and 30 12 were best for the map after 50 labels.
_AXES = 12
#: What a further face of a group is worth beside one of another: frames of one person are alike in more than their shape.
_SAME_GROUP = 0.5
#: How fast a face counts for more, and its label for less, as the model is less sure of it: errors spread more than is stated.
_WEIGHT, _NOISE = 2.0, 4.0


@dataclass(frozen=True)
class Guess:
    """What a model says of one face.

    Attributes:
        points_px: (K, 2) in pixels of the image.
        scale_px: (K,) scale of their errors: half the expected error.
        box: (4,) x0, y0, x1, y1.
        group: What must stay on one side of a split: a person, a clip.
        image: Names the image.
    """

    points_px: np.ndarray
    scale_px: np.ndarray
    box: np.ndarray
    group: str
    image: str

    @classmethod
    def of_face(cls, face: Face, group: str, image: str) -> Guess:
        """Of a predictor's answer."""
        return cls(face.points_px, face.expected_error_px / 2, face.box_xyxy, group, image)

    @property
    def expected_error_px(self) -> np.ndarray:
        """(K,) how far from the truth each point is on average."""
        return np.asarray(2 * self.scale_px)


def expected_pct(faces: Sequence[Guess], scheme: Scheme = IBUG68) -> np.ndarray:
    """(N,) mean expected error of each face in percent of its size, see `Scheme.size_px`."""
    parts = []
    for start in range(0, len(faces), _AT_ONCE):
        some = faces[start : start + _AT_ONCE]
        size = scheme.size_px(np.stack([face.points_px for face in some]))
        parts.append(200 * np.stack([face.scale_px for face in some]).mean(1) / np.maximum(size, 1e-6))
    return np.concatenate(parts)


def rank(
    faces: Sequence[Guess], scheme: Scheme = IBUG68, labelled: Sequence[Guess] = (), went: Callable[[float], None] = lambda part: None
) -> list[int]:
    """In which order to label faces; the same for the same faces.

    Args:
        faces: All that are not labelled.
        scheme: Of their points.
        labelled: What the model says of faces that are labelled: nothing that they tell is asked again.
        went: Is told the part that is done, from time to time; what it raises ends the ranking.

    Returns:
        Their places, each once.
    """
    if len(faces) < 2:
        return list(range(len(faces)))
    unsure = expected_pct(faces, scheme)
    by_doubt = np.argsort(-unsure, kind="stable")
    compared = by_doubt[np.unique(np.linspace(0, len(faces) - 1, min(_COMPARED, len(faces))).astype(int))]
    chosen = compared[_design([faces[place] for place in compared], unsure[compared], scheme, labelled, went)].tolist()
    taken = set(chosen)
    return [*chosen, *_apart([place for place in by_doubt.tolist() if place not in taken], faces)]


def _design(
    faces: Sequence[Guess], unsure: np.ndarray, scheme: Scheme, labelled: Sequence[Guess], went: Callable[[float], None]
) -> list[int]:
    """Places of the first `_CHOSEN` faces."""
    every = [*faces, *labelled]
    looks = _features(every, scheme)
    relative = np.concatenate([unsure, expected_pct(labelled, scheme) if labelled else unsure[:0]]) / max(float(unsure.mean()), 1e-9)
    noise = np.maximum(relative, 1e-3) ** _NOISE
    wanted = sum((look[: len(faces)] * relative[: len(faces), None] ** _WEIGHT).T @ look[: len(faces)] for look in looks)
    unknown = np.eye(looks.shape[2])  # Covariance of what a map from features to one offset does not know yet.
    names, each = np.unique([face.group for face in every], return_inverse=True)
    worth, free, order = np.ones(len(names)), np.ones(len(faces), bool), []

    def tell(place: int) -> None:
        nonlocal unknown
        worth[each[place]] *= _SAME_GROUP
        for look in looks[:, place]:
            told = unknown @ look
            unknown = unknown - np.outer(told, told) / (noise[place] + look @ told)

    for place in range(len(faces), len(every)):
        tell(place)
    candidates = looks[0, : len(faces)]
    for turn in range(count := min(_CHOSEN, len(faces))):
        went(turn / count)
        seen = candidates @ unknown
        gain = ((seen @ wanted) * seen).sum(1) / (noise[: len(faces)] + (seen * candidates).sum(1))
        place = int(np.argmax(np.where(free, gain * worth[each[: len(faces)]], -1.0)))
        order.append(place)
        free[place] = False
        tell(place)
    return order


def _features(faces: Sequence[Guess], scheme: Scheme) -> np.ndarray:
    """(2, N, D) shape of each face and of its mirror image along the main axes, in units of the first; and a constant."""
    points = np.stack([face.points_px for face in faces]).astype(np.float64)
    points -= points.mean(1, keepdims=True)
    points /= np.maximum(np.sqrt((points**2).sum((1, 2), keepdims=True) / points.shape[1]), 1e-9)
    stood = upright(points, points, scheme)
    mirrored = stood[:, list(scheme.mirror)] * (-1, 1) if scheme.pairs else stood
    shapes = np.stack([stood, mirrored]).reshape(2, len(points), -1)
    spread = shapes.reshape(2 * len(points), -1)
    spread = spread - spread.mean(0)
    axes = np.linalg.svd(spread.T @ spread)[0][:, :_AXES]
    along = spread @ axes
    along = along / max(float(along[:, 0].std()), 1e-9)
    return np.concatenate([along, np.ones((len(along), 1))], 1).reshape(2, len(points), -1)


def _apart(places: Sequence[int], faces: Sequence[Guess]) -> list[int]:
    """The same places in turns: first the first of each group, then their seconds."""
    met: Counter[str] = Counter()
    turns = []
    for place in places:
        turns.append(met[faces[place].group])
        met[faces[place].group] += 1
    return [place for _, place in sorted(zip(turns, places, strict=True), key=lambda pair: pair[0])]
