"""A running endpoint in the place of a `Predictor`: the same call, answered over HTTP."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from fkp.errors import FkpError
from fkp.predict import Face
from fkp.predict.belief import Belief
from fkp.scheme import Scheme, built_in, load_scheme
from fkp.vision.image import Image, encode_image

TOKEN_VARIABLE = "FKP_API_TOKEN"
_TIMEOUT_S = 30.0


class RemotePredictor:
    """Finds points by asking an endpoint (`fkp serve`).

    Args:
        url: Where it answers, `http://127.0.0.1:8000`. The token, if it wants one, is the first in FKP_API_TOKEN.

    Raises:
        FkpError: Nothing answers there, or it refuses. So do all methods.
    """

    def __init__(self, url: str) -> None:
        import requests

        self.url = url.rstrip("/")
        self._session = requests.Session()
        token = os.environ.get(TOKEN_VARIABLE, "").split(",")[0].strip()
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"
        # In this order: after a change in between, the answers are of another digest and refused.
        model = self._ask("GET", "/v1/model")
        self.digest: str = model["digest"]
        told = self._ask("GET", "/v1/landmarks")
        self.scheme = _scheme(told)
        ratio = told.get("unsure_ratio")  # Endpoints before 0.2 do not tell it.
        self._belief = Belief(0.0, model["min_quality"], unsure_ratio=math.inf if ratio is None else ratio)

    def __call__(self, image: Image, boxes_xyxy: Sequence[np.ndarray] | None = None, /) -> list[Face]:
        """Find the faces of an image, see `Predictor.__call__`.

        The image travels as PNG, which changes no pixel; coordinates come back rounded to hundredths of a pixel.
        """
        # A float32 in its shortest exact form, so that the endpoint crops at the very same place.
        boxes = [",".join(np.format_float_positional(value) for value in np.asarray(box, np.float32)) for box in boxes_xyxy or ()]
        if boxes_xyxy is not None and not boxes:
            return []
        answer = self._ask("POST", "/v1/keypoints", params={"box": boxes}, data=encode_image(image, ".png"))
        if answer["model"]["digest"] != self.digest:
            raise FkpError(f"{self.url} changed its model in between: begin again")
        return [
            Face(
                np.asarray(face["box"], np.float32),
                float(face["score"]),
                np.asarray(face["keypoints"], np.float32),
                np.asarray(face["expected_error_px"], np.float32),
                self.scheme,
                belief=self._belief,
            )
            for face in answer["faces"]
        ]

    def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        import requests

        try:
            answer = self._session.request(method, self.url + path, timeout=_TIMEOUT_S, **options)
            told: dict[str, Any] = answer.json()
        except requests.JSONDecodeError as error:
            raise FkpError(f"{self.url} answered {answer.status_code} without a reason: is it an fkp endpoint?") from error
        except requests.RequestException as error:
            raise FkpError(f"cannot reach the endpoint {self.url}: start it with `fkp serve`") from error
        if answer.status_code != 200:
            raise FkpError(f"{self.url} refused: {told.get('message', answer.status_code)}")
        return told


def _scheme(told: dict[str, Any]) -> Scheme:
    """The scheme of an endpoint's /v1/landmarks."""
    name = told["scheme"]
    if name in built_in() and list(load_scheme(name).landmarks) == told["landmarks"]:
        return load_scheme(name)
    fields = {key: told[key] for key in ("landmarks", "pairs", "groups", "edges", "normaliser", "yaw") if key in told}
    regions = {region["name"]: region["points"] for region in told["regions"]}
    return load_scheme(json.dumps({"name": name, **fields, "regions": regions}))
