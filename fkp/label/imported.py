"""Labels of another tool that are opened to be corrected: an imported set in place of photographs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fkp.data import label_set
from fkp.label.face import Face, Point
from fkp.label.finder import Box, Guess
from fkp.label.photos import Photos, face_id
from fkp.scheme import Scheme


@dataclass(frozen=True)
class Imported:
    """The faces of an imported set.

    Attributes:
        root: Its folder.
        scheme: Of its points.
        photos: Its images.
        faces: As they are labelled there.
        boxes: By photograph and face.
    """

    root: Path
    scheme: Scheme
    photos: Photos
    faces: Mapping[str, Face]
    boxes: Mapping[str, Mapping[str, Box]]

    @classmethod
    def of(cls, root: Path) -> Imported:
        """Open a set.

        Raises:
            FkpError: See `label_set.read`.
        """
        labels = label_set.read(root)
        faces: dict[str, Face] = {}
        boxes: dict[str, dict[str, Box]] = {}
        paths: dict[str, Path] = {}
        for row, image in enumerate(labels.images):
            photo = image.removeprefix(f"{label_set.IMAGES}/")
            paths[photo] = root / image
            own = boxes.setdefault(photo, {})
            x0, y0, x1, y1 = labels.box_px(row)
            name = face_id(photo, len(own))
            own[name] = (x0, y0, x1, y1)
            points = {}
            for place, landmark in enumerate(labels.scheme.landmarks):
                x, y = labels.points_px[row, place].tolist()
                known = math.isfinite(x)
                state = "missing" if not known else "visible" if labels.visible[row, place] else "occluded"
                points[landmark] = Point(round(x, 3) if known else 0.0, round(y, 3) if known else 0.0, state, "imported")  # type: ignore[arg-type]
            faces[name] = Face(name, photo, own[name], points, group=labels.groups[row])
        return cls(root, labels.scheme, Photos(paths), faces, boxes)

    def strangeness(self, model: str) -> dict[str, float]:
        """How strange each face's label is to models that were adapted to all groups but its own, see `disagreement`.

        Args:
            model: To adapt.

        Raises:
            FkpError: There are too few faces, or an image is gone.
            ModuleNotFoundError: The extra `train` is not installed.
        """
        from fkp.config import build_config
        from fkp.label.disagreement import disagreement
        from fkp.label.held_out import errors_of, held_out

        settings = {"data.source": "folder", "data.root": str(self.root), "data.scheme": label_set.scheme_setting(self.root)}
        found = held_out(build_config(settings).data, model)
        return dict(zip(self.faces, disagreement(found, errors_of(found)).score.tolist(), strict=True))

    @staticmethod
    def disagreement_pct(face: Face, guess: Guess | None, scheme: Scheme) -> float:
        """Mean distance of a face's points from the model's, in percent of the face's size; 0 where they cannot be compared."""
        if guess is None:
            return 0.0
        away = [
            math.hypot(point.x - guess.points_px[place][0], point.y - guess.points_px[place][1])
            for place, name in enumerate(scheme.landmarks)
            if (point := face.points.get(name)) is not None and point.state != "missing"
        ]
        apart = [value for value in away if math.isfinite(value)]
        size = float(scheme.size_px(guess.points_px))
        return 100 * float(np.mean(apart)) / size if apart and size > 0 else 0.0
