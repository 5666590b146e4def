"""One model as a replica holds it: `fkp.predict.Predictor` with the stages of a request around it.

A request keeps the model it began with, so that a swap in the middle of it changes neither its crops nor its digest.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fkp.bundle import open_bundle
from fkp.errors import FkpError
from fkp.predict import Face, Predictor
from fkp.predict.predictor import Search, advance, given_boxes
from fkp.predict.torch_session import open_gpu
from fkp.scheme import IBUG68, Scheme
from fkp.serve import limits
from fkp.serve.bundle_source import Source
from fkp.serve.refusal import TEXT, Refusal
from fkp.vision.crop import box_of_points
from fkp.vision.encoded import EncodedImage
from fkp.vision.header import Header, is_text, read_header
from fkp.vision.image import Image, read_image

NAME = "fkp"
_GOLDEN = Path(__file__).with_name("golden")
#: A crop must get the same points alone and beside others. ONNX Runtime differs by less than a thousandth, bfloat16 by less than
#: a tenth (it rounds as the chosen kernel adds up); crops that are mixed up differ by whole pixels.
_BATCH_TOLERANCE_PX = 0.25
#: Landmarks of a scheme that the golden face's labels must have by name for the model to be measured on it.
_GOLDEN_POINTS = 15
#: What `points=` may say beside names.
_NUMBERS = {"68": ("ibug68", "all"), "51": ("ibug68", "inner51")}


@dataclass(frozen=True)
class InferenceOptions:
    """What a request asks beside its image.

    Attributes:
        boxes_xyxy: Boxes that replace detection; none: the detector looks.
        max_faces: At most so many, the best first.
        min_score: Detected faces below it are left out.
        min_quality: Detected faces that the network believes less are left out; None: the model's own limit.
        points: Which landmarks: `all`, or names of regions, groups and landmarks with commas between.
    """

    boxes_xyxy: tuple[tuple[float, float, float, float], ...] = ()
    max_faces: int = 20
    min_score: float = 0.0
    min_quality: float | None = None
    points: str = "all"


@dataclass(frozen=True)
class Found:
    """What was found in an image.

    Attributes:
        width: Of the displayed image.
        height: Likewise.
        faces: Best first, or in the order of their boxes.
        left_out_faces: Detections that the network does not believe.
        crops_u8: (N, C, S, S), the first crop of each face.
        milliseconds: By stage; whoever runs the network adds its own. Where a large image is decoded in full after all, that counts to the
            stage that needs it.
        image: The image itself where it was asked for.
    """

    width: int
    height: int
    faces: list[Face]
    left_out_faces: list[Face]
    crops_u8: np.ndarray
    milliseconds: dict[str, float]
    image: Image | None

    @property
    def left_out(self) -> int:
        """How many detections are left out."""
        return len(self.left_out_faces)


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

    def __init__(self, source: Source, threads: int = 1, detector: str | None = None, gpu: bool = False) -> None:
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
            "min_quality": round(self.predictor.min_quality, 4),
            "scheme": {"name": config.scheme.name, "landmarks": list(config.scheme.landmarks)},
            "card": self.bundle.card,
            "metrics": self.bundle.metrics,
        }

    def find(self, data: bytes, options: InferenceOptions, keep_image: bool = False, header: Header | None = None) -> Found:
        """Find the faces of one encoded image, all in the thread that calls: its crops are one batch, with no other's.

        See `search`.
        """
        search = self.search(data, options, keep_image, header)
        step, network_s = advance(search), 0.0
        while isinstance(step, np.ndarray):
            began = time.perf_counter()
            answer = self.predictor.run(step)
            network_s += time.perf_counter() - began
            step = advance(search, answer)
        step.milliseconds["network"] = 1000 * network_s
        return step

    def search(self, data: bytes, options: InferenceOptions, keep_image: bool = False, header: Header | None = None) -> Search[Found]:
        """Find the faces of one encoded image; whoever drives this runs the network, see `Predictor.search`.

        Args:
            data: The file's bytes.
            options: With boxes, the detector does not look.
            keep_image: Whether the image is needed afterwards.
            header: See `check_image`.

        Raises:
            Refusal: The image is refused or broken.
        """
        checked = check_image(data, header=header)
        try:
            return (yield from self._search(data, options, keep_image, checked))
        except FkpError as error:  # Of the decoder: a large image is decoded in full when a small face asks for it.
            raise Refusal(422, "broken_picture", str(error)) from error

    def _search(self, data: bytes, options: InferenceOptions, keep_image: bool, header: Header) -> Search[Found]:
        began = time.perf_counter()
        image = EncodedImage(data, "the image", header)
        decoded = time.perf_counter()
        if options.boxes_xyxy:
            found = given_boxes(options.boxes_xyxy)
        else:
            found = [face for face in self.predictor.detector.detect(image) if face.score >= options.min_score]
            # Each that is left out costs searches of its own: `max_faces=1&min_quality=1` must not look at a hundred, one by one.
            found = found[: min(limits.FACES, 2 * options.max_faces)]
        detected = time.perf_counter()
        given = bool(options.boxes_xyxy)
        faces: list[Face] = []
        left_out_faces: list[Face] = []
        crops_u8: list[np.ndarray] = []
        looked_at, crop_s = 0, 0.0
        # For each that is left out the next one is looked at, so that a false detection takes no face's place.
        while todo := found[looked_at:] if given else found[looked_at:][: options.max_faces - len(faces)]:
            resumed = time.perf_counter()
            search = self.predictor.judge(image, todo, given, options.min_quality)
            step = advance(search)
            first_u8 = step if isinstance(step, np.ndarray) else np.empty(0)
            crop_s += time.perf_counter() - resumed
            while isinstance(step, np.ndarray):
                answer = yield step
                resumed = time.perf_counter()
                step = advance(search, answer)
                crop_s += time.perf_counter() - resumed
            for (face, kept), crop_u8 in zip(step, first_u8, strict=True):
                (faces if kept else left_out_faces).append(face)
                crops_u8 += [crop_u8] if kept else []
            looked_at += len(todo)
        stages_s = {"decode": decoded - began, "detect": detected - decoded, "crop": crop_s}
        milliseconds = {stage: 1000 * seconds for stage, seconds in stages_s.items()}
        return Found(*image.size, faces, left_out_faces, np.array(crops_u8), milliseconds, image.full if keep_image else None)

    def check_golden(self, limit_pct: float) -> None:
        """Let the model find a stored face whose points are known.

        Args:
            limit_pct: Largest mean error of the points, in percent of the distance of the stored face's outer eye corners,
                whatever the scheme's normaliser is: a box's diagonal would allow three times as much. A scheme that shares fewer than
                15 names with the stored face's points is only held to answers that are finite, and the same in a batch.

        Raises:
            FkpError: It misses the face, or answers a crop differently when others are beside it.
        """
        image = read_image(_GOLDEN / "face.jpg")
        golden_px = np.asarray(json.loads((_GOLDEN / "points.json").read_text(encoding="utf-8")), np.float32)
        scheme = self.predictor.scheme
        truth_px = scheme.convert(golden_px, IBUG68)
        named = np.isfinite(truth_px).all(-1)
        measured = named.sum() >= _GOLDEN_POINTS
        box_xyxy = box_of_points(truth_px[named] if measured else golden_px)
        crop = self.predictor.crop(box_xyxy)
        pixels_u8 = crop.apply(image, self.bundle.config.input.channels)
        try:
            alone_px, error_px = self.predictor.run(pixels_u8[None])
            beside_px, _ = self.predictor.run(np.stack([255 - pixels_u8, pixels_u8, pixels_u8]))
        except Exception as error:  # ONNX Runtime raises many kinds; each means that this file cannot be served.
            raise FkpError(f"model {self.digest[:12]} does not run ({' '.join(str(error).split())[:160]}): export it again") from error
        found_px = crop.undo(alone_px[0])
        if not np.isfinite(found_px).all():
            raise FkpError(f"model {self.digest[:12]} answers with numbers that are not finite: it is not served; train it again")
        if measured:  # By the way of every request, which looks again where the named points are a part of the scheme's face.
            found_px = self.predictor(image, [box_xyxy])[0].points_px
        nme_pct = 100 * float(np.linalg.norm((found_px - truth_px)[named], axis=-1).mean() / IBUG68.size_px(golden_px)) if measured else 0.0
        # Written so that numbers that are not finite fail, too.
        if not (nme_pct <= limit_pct and bool((error_px > 0).all()) and bool(np.isfinite(error_px).all())):
            raise FkpError(f"model {self.digest[:12]} misses the golden face by {nme_pct:.1f} % (limit {limit_pct:g} %): it is not served")
        if not float(np.abs(beside_px[1:] - alone_px).max()) <= _BATCH_TOLERANCE_PX:
            raise FkpError(f"model {self.digest[:12]} answers a crop differently in a batch: it is not served; export it again")


def check_image(data: bytes, name: str = "the image", header: Header | None = None) -> Header:
    """Refuse what must not be decoded, by its first bytes.

    Raises:
        Refusal: Empty, another format, or too large.
    """
    if not data:
        raise Refusal(400, "empty_body", f"{name} is empty: send the bytes of a JPEG, PNG or WebP file")
    try:
        header = header or read_header(data, name)
    except FkpError as error:
        raise Refusal(415, "unsupported_format", TEXT if is_text(data) else str(error)) from error
    if header.pixels > limits.PIXELS or max(header.width, header.height) > limits.SIDE_PX:
        most = f"{limits.PIXELS // 10**6} megapixels with sides up to {limits.SIDE_PX} pixels"
        raise Refusal(
            413, "too_many_pixels", f"{name} has {header.width} x {header.height} pixels and the limit is {most}: make it smaller"
        )
    return header


def places(scheme: Scheme, points: str) -> list[int] | None:
    """Numbers of the landmarks that a request asks for; None: all of them.

    Raises:
        Refusal: The model has none of that name.
    """
    name, group = _NUMBERS.get(points, ("", points))
    if points == str(len(scheme)) or group == "all":
        return None
    try:
        if name and name != scheme.name:
            raise FkpError(
                f"scheme {scheme.name} has {len(scheme)} landmarks: ask for all, or for {', '.join([*scheme.regions, *scheme.groups])}"
            )
        return scheme.find([part.strip() for part in group.split(",")])
    except FkpError as error:
        raise Refusal(422, "invalid_parameter", f"points: {error}") from error


def face_json(face: Face, chosen: list[int] | None) -> dict[str, Any]:
    """One face as `schemas.FaceAnswer`, with all landmarks or those of some numbers.

    Raises:
        ValueError: A number of it is not finite, which JSON cannot say.
    """
    if not (np.isfinite(face.points_px).all() and np.isfinite(face.expected_error_px).all()):
        raise ValueError("the network answered with a number that is not finite")
    plain = face.to_json()
    if chosen is not None:
        for key in ("keypoints", "expected_error_px"):
            values = plain[key]
            assert isinstance(values, list)
            plain[key] = [values[place] for place in chosen]
    return plain


def load_model(source: Source, threads: int, golden_nme_pct: float, detector: str | None = None, gpu: bool = False) -> Model:
    """Open a bundle and make sure that it can be served.

    Raises:
        FkpError: It is broken or fails its golden image, or its detector cannot be loaded.
    """
    model = Model(source, threads, detector, gpu)
    _ = model.predictor.detector  # It is loaded when first needed, and a request must not be the first to learn that it fails.
    model.check_golden(golden_nme_pct)
    return model
