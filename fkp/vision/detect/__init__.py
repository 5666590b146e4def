"""Where the faces are in a photograph.

`open_detector` makes a `FaceDetector` of one of four networks: the one that fkp trains, BlazeFace, dlib's, or a YuNet file of the
user's. What they share is here once: the windows an image is seen through, one box of each face, and the affine to the
box the landmark network was trained with.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fkp.common.checksums import SUMS
from fkp.errors import FkpError
from fkp.shipped import here_or_shipped

if TYPE_CHECKING:
    from fkp.vision.detect.box_map import AS_DETECTED, BoxMap
    from fkp.vision.detect.candidates import Candidates, iou, merge
    from fkp.vision.detect.detector import Detection, DetectorBackend, FaceDetector

__all__ = [
    "AS_DETECTED",
    "BLAZEFACE",
    "CHOICES",
    "DLIB",
    "OWN",
    "WHOLE",
    "BoxMap",
    "Candidates",
    "Detection",
    "DetectorBackend",
    "FaceDetector",
    "detector_name",
    "iou",
    "merge",
    "open_detector",
    "with_smallest_face",
]

OWN = "fkp"
BLAZEFACE = "blazeface"
DLIB = "dlib"
#: After the name of a detector: it sees an image as a whole only. In its place a number may stand, see `with_smallest_face`.
WHOLE = ":whole"
#: Bounds of the smallest face, as part of the image's longer side: below it 8,192 pixels show nothing of one.
SMALLEST_FACES = (0.001, 0.5)
CHOICES = (
    f"{OWN}, {BLAZEFACE}, {DLIB}, the folder of a detector that was trained here, or the path of a YuNet file (.onnx); with {WHOLE} "
    "after it no small faces are looked for in large images, with :0.05 none that is shorter than this part of the longer side"
)


#: Where the other names are: parsers want those above, and wait neither for NumPy nor for OpenCV.
_HOMES = {
    **dict.fromkeys(("AS_DETECTED", "BoxMap"), "box_map"),
    **dict.fromkeys(("Candidates", "iou", "merge"), "candidates"),
    **dict.fromkeys(("Detection", "FaceDetector", "DetectorBackend"), "detector"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def detector_name(name: str | None, box_maps: Mapping[str, Any]) -> str:
    """The detector that is named, or that of a landmark model: our own, or BlazeFace where the model was calibrated for that alone.

    Args:
        name: None: not named.
        box_maps: The rows of a `BoxMap` by the backend's name, as a bundle keeps them. Those of bundles that were written before there was
            a detector of our own know only BlazeFace; for points of another scheme its boxes are the only ones that fit.
    """
    if name is not None:
        return name
    return BLAZEFACE if BLAZEFACE in box_maps and OWN not in box_maps else OWN


def open_detector(name: str | None = None, box_maps: Mapping[str, Any] | None = None) -> FaceDetector:
    """Load a detector.

    Args:
        name: See `CHOICES`; none: see `detector_name`.
        box_maps: The rows of a `BoxMap` by the backend's name, as a bundle keeps them; for one that is missing the built-in
            calibration holds.

    Raises:
        FkpError: There is no such detector, what it needs is not installed, or a calibration cannot be used.
    """
    from fkp.vision.detect.box_map import BoxMap
    from fkp.vision.detect.detector import SMALLEST_FACE, FaceDetector

    name, smallest_face = _split(detector_name(name, box_maps or {}))
    backend = _finder(name.removesuffix(WHOLE))
    given = (box_maps or {}).get(backend.name)
    box_map = backend.box_map if given is None else BoxMap.from_json(given, backend.name, backend.facial_points)
    return FaceDetector(backend, box_map, not name.endswith(WHOLE), smallest_face or SMALLEST_FACE)


def with_smallest_face(name: str, part: float | None) -> str:
    """The name of a detector with the smallest face that is looked for, as part of the image's longer side; None: as it is.

    Raises:
        FkpError: The name says so already.
    """
    if part is None:
        return name
    if name.endswith(WHOLE) or _split(name)[1] is not None:
        raise FkpError(f"the face detector {name!r} already says what it looks for: leave out the smallest face, or what follows the name")
    return f"{name}:{part:g}"


def _split(name: str) -> tuple[str, float | None]:
    """A detector's name, and the smallest face that may stand behind it; a path may hold colons, too.

    Raises:
        FkpError: What stands there is none.
    """
    first, colon, last = name.rpartition(":")
    if not colon or colon + last == WHOLE or "/" in last or "\\" in last or last.endswith(".onnx"):
        return name, None
    try:
        part = float(last)
    except ValueError:
        part = 0.0
    if not SMALLEST_FACES[0] <= part <= SMALLEST_FACES[1]:
        bounds = "{:g} to {:g}".format(*SMALLEST_FACES)
        raise FkpError(f"the smallest face is a part of the image's longer side, {bounds}, and not {last!r}: name another")
    return first, part


def _finder(name: str) -> DetectorBackend:
    # Each brings a library of its own.
    if name == OWN or (here_or_shipped(name) / SUMS).is_file():
        from fkp.vision.detect.own import OwnDetector

        return OwnDetector(None if name == OWN else here_or_shipped(name))
    if name == BLAZEFACE:
        from fkp.vision.detect.blazeface import BlazeFace

        return BlazeFace()
    if name == DLIB:
        from fkp.vision.detect.dlib_hog import DlibHog

        return DlibHog()
    from fkp.vision.detect.yunet import YuNet

    return YuNet(name)
