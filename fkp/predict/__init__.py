"""Images, folders and videos to faces with a bundle: `Predictor` in Python, `fkp predict` as a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fkp.shipped import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from fkp.predict.face import Face
    from fkp.predict.key_points import to_key_points
    from fkp.predict.predictor import Predictor

__all__ = ["DEFAULT_BUNDLE", "Face", "Predictor", "to_key_points"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `--help` waits neither for OpenCV nor for ONNX Runtime.
    if name not in __all__:
        raise AttributeError(f"module 'fkp.predict' has no attribute {name!r}")
    from fkp.predict import face, key_points, predictor

    return {"Face": face.Face, "Predictor": predictor.Predictor, "to_key_points": key_points.to_key_points}[name]
