"""One model as a replica holds it: the parts of `fkp.predict.Predictor` with the stages of a request around them.

A request keeps the model it began with, so that a swap in the middle of it changes neither its crops nor its digest.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fkp.bundle import open_bundle
from fkp.bundle.drift import error_ratio
from fkp.errors import FkpError
from fkp.predict import Face, Predictor, face_of_answer, fits, of_both_looks, second_box
from fkp.predict.torch_session import open_gpu
from fkp.scheme import INNER_51, OUTER_EYE_CORNERS
from fkp.serve.bundle_source import Source
from fkp.serve.http.security import Refusal, check_picture
from fkp.vision import image as images
from fkp.vision.crop import Crop, box_of_points
from fkp.vision.detect import BLAZEFACE

NAME = "fkp"
_GOLDEN = Path(__file__).with_name("golden")
#: A crop must get the same points alone and beside others. ONNX Runtime differs by less than a thousandth, bfloat16 by less than
#: a tenth (it rounds as the chosen kernel adds up); crops that are mixed up differ by whole pixels.
_BATCH_TOLERANCE_PX = 0.25
#: Quality falls to 1/e where the mean expected error reaches this part of the box's longer side.
_QUALITY_SCALE = 0.05
#: Crops of one picture that the network takes at once: its memory grows with them.
_MOST_CROPS = 16


@dataclass(frozen=True)
class Query:
    """What a request asks beside its picture.

    Attributes:
        boxes_xyxy: Boxes that replace detection; none: the detector looks.
        max_faces: At most so many, the best first.
        min_score: Detected faces below it are left out.
        points: 68, or 51 without the jaw.
    """

    boxes_xyxy: tuple[tuple[float, float, float, float], ...] = ()
    max_faces: int = 20
    min_score: float = 0.0
    points: int = 68


@dataclass
class Prepared:
    """A picture on its way to the network.

    Attributes:
        width: Of the displayed picture.
        height: Likewise.
        boxes_xyxy: One (4,) a face.
        scores: One a face.
        crops: One a face.
        pixels_u8: (N, C, S, S), what the network sees.
        image: The picture itself as long as it is needed.
        detected: Whether a detector found the boxes.
        milliseconds: By stage.
    """

    width: int
    height: int
    boxes_xyxy: list[np.ndarray] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    crops: list[Crop] = field(default_factory=list)
    pixels_u8: list[np.ndarray] = field(default_factory=list)
    image: images.Image | None = None
    detected: bool = False
    milliseconds: dict[str, float] = field(default_factory=dict)


class Model:
    """A bundle that is ready to answer; safe to share between threads.

    Args:
        source: Where it lies.
        threads: Cores of the network.
        detector: See `Settings.detector`.
        gpu: Whether it runs on this process's GPU.

    Raises:
        FkpError: See `fkp.bundle.open_bundle`; or there is no GPU.
    """

    def __init__(self, source: Source, threads: int = 1, detector: str = BLAZEFACE, gpu: bool = False) -> None:
        self.bundle = open_bundle(source.path)
        self.predictor = Predictor(self.bundle, threads, detector, open_gpu(self.bundle) if gpu else None)
        self.version = source.version or self.bundle.config.track.run_name or "unnamed"

    @property
    def digest(self) -> str:
        """Names this exact bundle."""
        return self.bundle.digest

    @cached_property
    def name_json(self) -> dict[str, str]:
        """See `schemas.ModelName`."""
        return {"name": NAME, "version": self.version, "digest": self.digest}

    def card_json(self) -> dict[str, Any]:
        """See `schemas.ModelCard`, without what was refused."""
        config = self.bundle.config
        return {
            **self.name_json,
            "architecture": f"{config.model.arch}, width {config.model.width}, depth {config.model.depth}, {config.model.head} head",
            "size_px": config.input.size_px,
            "card": self.bundle.card,
            "metrics": self.bundle.metrics,
        }

    def find(self, data: bytes, query: Query, keep_image: bool = False) -> tuple[Prepared, list[Face]]:
        """Find the faces of one encoded picture, all in the thread that calls: its crops are one batch, with no other's.

        Args:
            data: The file's bytes.
            query: With boxes, the detector does not look.
            keep_image: Whether the picture is needed afterwards.

        Raises:
            Refusal: See `prepare`.
        """
        prepared = self.prepare(data, query)
        faces = self._run(prepared, range(len(prepared.crops)))
        if places := self.to_look_at_again(prepared, faces):
            self.prepare_again(prepared, faces, places)
            self.take_second_looks(faces, places, self._run(prepared, places))
        if not keep_image:
            prepared.image = None
        return prepared, faces

    def _run(self, prepared: Prepared, places: Sequence[int]) -> list[Face]:
        """Run the network on some faces of one picture."""
        began = time.perf_counter()
        crops = [prepared.pixels_u8[place] for place in places]
        answers = [
            answer
            for start in range(0, len(crops), _MOST_CROPS)
            for answer in zip(*self.predictor.run(np.stack(crops[start : start + _MOST_CROPS])), strict=True)
        ]
        prepared.milliseconds["network"] = prepared.milliseconds.get("network", 0.0) + 1000 * (time.perf_counter() - began)
        return self.finish(prepared, places, answers)

    def prepare(self, data: bytes, query: Query) -> Prepared:
        """Decode a picture, find its faces and cut them out. Runs in a thread of its own.

        Args:
            data: The file's bytes.
            query: With boxes, the detector does not look.

        Raises:
            Refusal: The picture is refused or broken, or a box cannot be used.
        """
        began = time.perf_counter()
        check_picture(data)
        try:
            image = images.decode(data, "the picture")
        except FkpError as error:
            raise Refusal(422, "broken_picture", str(error)) from error
        decoded = time.perf_counter()
        height, width = image.shape[:2]
        prepared = Prepared(width, height, image=image)
        if query.boxes_xyxy:
            prepared.boxes_xyxy = [np.asarray(box, np.float32) for box in query.boxes_xyxy]
            prepared.scores = [1.0] * len(query.boxes_xyxy)
            rolls_deg = [0.0] * len(query.boxes_xyxy)
        else:
            detector = self.predictor.detector
            found = [face for face in detector.detect(image) if face.score >= query.min_score][: query.max_faces]
            prepared.boxes_xyxy, prepared.scores = [face.box_xyxy for face in found], [face.score for face in found]
            rolls_deg = [face.roll_deg for face in found]
            prepared.detected = True
        detected = time.perf_counter()
        try:
            prepared.crops = [self.predictor.crop(*turned) for turned in zip(prepared.boxes_xyxy, rolls_deg, strict=True)]
        except ValueError as error:
            raise Refusal(422, "invalid_parameter", str(error)) from error
        prepared.pixels_u8 = [crop.apply(image, self.bundle.config.input.channels) for crop in prepared.crops]
        prepared.milliseconds = {
            "decode": 1000 * (decoded - began),
            "detect": 1000 * (detected - decoded),
            "crop": 1000 * (time.perf_counter() - detected),
        }
        return prepared

    def to_look_at_again(self, prepared: Prepared, faces: Sequence[Face]) -> list[int]:
        """Places of the faces that `Predictor` would look at twice, too."""
        if prepared.detected:
            return list(range(len(faces)))
        return [place for place, face in enumerate(faces) if not fits(face)]

    def prepare_again(self, prepared: Prepared, faces: Sequence[Face], places: Sequence[int]) -> None:
        """Cut some faces out anew where the first pass found their points. Runs in a thread of its own."""
        assert prepared.image is not None
        began = time.perf_counter()
        for place in places:
            if prepared.detected:
                prepared.boxes_xyxy[place] = second_box(faces[place])
            prepared.crops[place] = self.predictor.second_crop(faces[place], mirrored=True)
            prepared.pixels_u8[place] = prepared.crops[place].apply(prepared.image, self.bundle.config.input.channels)
        prepared.milliseconds["crop"] += 1000 * (time.perf_counter() - began)

    def take_second_looks(self, faces: list[Face], places: Sequence[int], again: Sequence[Face]) -> None:
        """Put what two looks say in place of what the first one said."""
        for place, face in zip(places, again, strict=True):
            faces[place] = of_both_looks(faces[place], face)

    def finish(self, prepared: Prepared, places: Sequence[int], answers: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Face]:
        """Take the network's answers back into the picture.

        Args:
            prepared: From `prepare` of this model.
            places: Which faces of it were asked for.
            answers: For each of them points (68, 2) and expected error (68,), in pixels of its crop.
        """
        return [
            face_of_answer(prepared.boxes_xyxy[place], prepared.scores[place], prepared.crops[place], *answer)
            for place, answer in zip(places, answers, strict=True)
        ]

    def check_golden(self, limit_pct: float) -> None:
        """Let the model find a stored face whose points are known.

        Args:
            limit_pct: Largest mean error of the points, in percent of the distance of the outer eye corners.

        Raises:
            FkpError: It misses the face, or answers a crop differently when others are beside it.
        """
        image = images.read(_GOLDEN / "face.jpg")
        truth_px = np.asarray(json.loads((_GOLDEN / "points.json").read_text(encoding="utf-8")), np.float32)
        crop = self.predictor.crop(box_of_points(truth_px))
        pixels_u8 = crop.apply(image, self.bundle.config.input.channels)
        try:
            alone_px, error_px = self.predictor.run(pixels_u8[None])
            beside_px, _ = self.predictor.run(np.stack([255 - pixels_u8, pixels_u8, pixels_u8]))
        except Exception as error:  # ONNX Runtime raises many kinds; each means that this file cannot be served.
            raise FkpError(f"model {self.digest[:12]} does not run ({' '.join(str(error).split())[:160]}): export it again") from error
        left, right = OUTER_EYE_CORNERS
        size_px = float(np.linalg.norm(truth_px[left] - truth_px[right]))
        nme_pct = 100 * float(np.linalg.norm(crop.undo(alone_px[0]) - truth_px, axis=-1).mean()) / size_px
        # Written so that numbers that are not finite fail, too.
        if not (nme_pct <= limit_pct and bool((error_px > 0).all()) and bool(np.isfinite(error_px).all())):
            raise FkpError(f"model {self.digest[:12]} misses the golden face by {nme_pct:.1f} % (limit {limit_pct:g} %): it is not served")
        if not float(np.abs(beside_px[1:] - alone_px).max()) <= _BATCH_TOLERANCE_PX:
            raise FkpError(f"model {self.digest[:12]} answers a crop differently in a batch: it is not served; export it again")


def face_json(face: Face, points: int) -> dict[str, Any]:
    """One face as `schemas.FaceAnswer`.

    Raises:
        ValueError: A number of it is not finite, which JSON cannot say.
    """
    if not (np.isfinite(face.points_px).all() and np.isfinite(face.expected_error_px).all()):
        raise ValueError("the network answered with a number that is not finite")
    plain = face.to_json()
    if points == len(INNER_51):
        for key in ("keypoints", "expected_error_px"):
            values = plain[key]
            assert isinstance(values, list)
            plain[key] = values[INNER_51[0] :]
    return {**plain, "quality": round(quality(face), 4)}


def quality(face: Face) -> float:
    """0 to 1, see `schemas.FaceAnswer.quality`."""
    return math.exp(-error_ratio(face.expected_error_px, face.box_xyxy) / _QUALITY_SCALE)


def load_model(source: Source, threads: int, golden_nme_pct: float, detector: str = BLAZEFACE, gpu: bool = False) -> Model:
    """Open a bundle and make sure that it can be served.

    Raises:
        FkpError: It is broken or fails its golden picture, or its detector cannot be loaded.
    """
    model = Model(source, threads, detector, gpu)
    _ = model.predictor.detector  # It is loaded when first needed, and a request must not be the first to learn that it fails.
    model.check_golden(golden_nme_pct)
    return model
