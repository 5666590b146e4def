"""Where the faces are in a photograph.

`open_detector` makes a `FaceDetector` of one of three networks: BlazeFace (the default), dlib's, or a YuNet file of the
user's. What they share is here once: the windows an image is seen through, one box of each face, and the affine to the
box the landmark network was trained with.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fkp.vision.detect.box_map import AS_DETECTED, BoxMap
    from fkp.vision.detect.candidates import Candidates, iou, merge
    from fkp.vision.detect.detector import Detection, DetectorBackend, FaceDetector

__all__ = [
    "AS_DETECTED",
    "BLAZEFACE",
    "CHOICES",
    "DLIB",
    "WHOLE",
    "BoxMap",
    "Candidates",
    "Detection",
    "DetectorBackend",
    "FaceDetector",
    "iou",
    "merge",
    "open_detector",
]

BLAZEFACE = "blazeface"
DLIB = "dlib"
#: After the name of a detector: it sees an image as a whole only.
WHOLE = ":whole"
CHOICES = f"{BLAZEFACE}, {DLIB}, or the path of a YuNet file (.onnx); with {WHOLE} after it no small faces are looked for in large ones"


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


def open_detector(name: str = BLAZEFACE, box_maps: Mapping[str, Any] | None = None) -> FaceDetector:
    """Load a detector.

    Args:
        name: See `CHOICES`.
        box_maps: The rows of a `BoxMap` by the backend's name, as a bundle keeps them; for one that is missing the built-in
            calibration holds.

    Raises:
        FkpError: There is no such detector, what it needs is not installed, or a calibration cannot be used.
    """
    from fkp.vision.detect.box_map import BoxMap
    from fkp.vision.detect.detector import FaceDetector

    backend = _finder(name.removesuffix(WHOLE))
    given = (box_maps or {}).get(backend.name)
    return FaceDetector(
        backend,
        backend.box_map if given is None else BoxMap.from_json(given, backend.name, backend.facial_points),
        not name.endswith(WHOLE),
    )


def _finder(name: str) -> DetectorBackend:
    # Each brings a library of its own.
    if name == BLAZEFACE:
        from fkp.vision.detect.blazeface import BlazeFace

        return BlazeFace()
    if name == DLIB:
        from fkp.vision.detect.dlib_hog import DlibHog

        return DlibHog()
    from fkp.vision.detect.yunet import YuNet

    return YuNet(name)
