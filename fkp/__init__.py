"""fkp: train, search, track and serve facial landmark models on a Ray cluster."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Three libraries that fkp uses report to their makers how they are used, unless this is set before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

if TYPE_CHECKING:
    from fkp.model.lightning_module import Net
    from fkp.predict import Predictor
    from fkp.vision.image import read_image

__version__ = "0.2.0"
__all__ = ["Net", "Predictor", "__version__", "read_image"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `import fkp` stays free of torch, Lightning, Ray and MLflow.
    if name == "Net":
        from fkp.model.lightning_module import Net

        return Net
    if name == "Predictor":
        from fkp.predict import Predictor

        return Predictor
    if name == "read_image":
        from fkp.vision.image import read_image

        return read_image
    raise AttributeError(f"module 'fkp' has no attribute {name!r}")
