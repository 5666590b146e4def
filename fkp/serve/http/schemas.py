"""What the endpoint is asked and answers: the models behind the OpenAPI document. Every length is in pixels of the displayed image."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fkp.serve import limits
from fkp.serve.refusal import Code

#: [x0, y0, x1, y1].
Box = Annotated[list[float], Field(min_length=4, max_length=4)]
Point = Annotated[list[float], Field(min_length=2, max_length=2)]


class ImageParams(BaseModel):
    """Parameters of every route of images; others are ignored."""

    max_faces: int = Field(20, ge=1, le=limits.FACES, description="at most so many faces, the best first")
    min_score: float = Field(0.0, ge=0, le=1, description="detected faces below it are left out; the detector's own floor is 0.6")

    min_quality: float | None = Field(
        None,
        ge=0,
        le=1,
        description="detected faces of a lower quality are left out and counted; 0 keeps all; by default the model's own, see /v1/model",
    )


class AnnotateParams(ImageParams):
    """Where an image's faces are known."""

    box: list[str] = Field([], max_length=32, description="x0,y0,x1,y1: box roughly around a face's points; repeatable; replaces detection")


class BatchParams(ImageParams):
    """Which points are wanted."""

    points: str = Field(
        "all",
        max_length=500,
        description="all, or regions, groups or landmarks by name with commas between, see /v1/landmarks; of ibug68 also 68, or 51: no jaw",
    )


class KeypointsParams(AnnotateParams, BatchParams):
    """Parameters of /v1/keypoints."""


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Error(_Answer):
    """The one form of every error."""

    code: Code
    message: str = Field(description="one sentence that says what to do")
    request_id: str = Field(description="also in the header X-Request-ID")


class ImageSize(_Answer):
    """Size of the image as displayed: its EXIF orientation is applied."""

    width: int
    height: int


class Outline(_Answer):
    """A detection that is left out."""

    box: Box = Field(description="where the model looked for a face")
    score: float = Field(description="the detector's confidence")
    quality: float = Field(description="see a face's")


class Pose(_Answer):
    """How a head is turned from facing the camera, in degrees: first by its yaw, then its pitch, then its roll."""

    yaw_deg: float = Field(description="positive turns the nose to the viewer's right")
    pitch_deg: float = Field(description="positive lowers it")
    roll_deg: float = Field(description="positive turns the head clockwise in the image")


class FaceAnswer(_Answer):
    """One face."""

    box: Box = Field(description="tight around the landmarks, as the crop had it: the box given, or the one found")
    score: float = Field(description="the detector's confidence; 1 for a box that was given")
    keypoints: list[Point] = Field(description="the landmarks that were asked for, in the order of /v1/landmarks")
    expected_error_px: list[float] = Field(description="for each point, how far from the truth the network expects it to be")
    quality: float = Field(
        description="0 to 1, whatever the face's size and pose: exp(-(mean expected error of all points) / (5 % of the box's longer side))"
    )
    believed: bool = Field(description="whether the quality reaches the model's own limit; a detection that is not believed is left out")
    pose: Pose | None = Field(description="null where the model's landmarks do not tell it, see measures of /v1/landmarks")
    openness: dict[Literal["left_eye", "right_eye", "mouth"], float] = Field(
        description="mean distance of the lids' or lips' facing points by that of the corners; without those that the landmarks do not tell"
    )


class ModelName(_Answer):
    """Which model made an answer."""

    name: str
    version: str = Field(description="version in the registry, or the name of the training run")
    digest: str = Field(description="sha256 that names this exact bundle")


class Keypoints(_Answer):
    """Answer of /v1/keypoints."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "request_id": "2f1c8a0e6b7d4c55",
                "image": {"width": 640, "height": 480},
                "faces": [
                    {
                        "box": [201.5, 96.0, 371.2, 289.9],
                        "score": 0.97,
                        "keypoints": [[203.1, 151.7], [204.9, 176.2]],
                        "expected_error_px": [3.2, 2.9],
                        "quality": 0.71,
                        "believed": True,
                        "pose": {"yaw_deg": -12.3, "pitch_deg": 4.1, "roll_deg": 2.0},
                        "openness": {"left_eye": 0.31, "right_eye": 0.29, "mouth": 0.05},
                    }
                ],
                "left_out": 1,
                "left_out_faces": [{"box": [12.0, 310.5, 61.7, 360.2], "score": 0.64, "quality": 0.18}],
                "model": {"name": "fkp", "version": "ytfaces", "digest": "3f6c"},
                "milliseconds": {"read": 0.2, "decode": 1.9, "detect": 5.8, "crop": 0.2, "queue": 0.1, "network": 1.0, "total": 9.6},
            }
        },
    )

    request_id: str
    image: ImageSize
    faces: list[FaceAnswer]
    left_out: int = Field(description="detections left out because of min_quality; of given boxes none is")
    left_out_faces: list[Outline] = Field(description="these detections")
    model: ModelName
    milliseconds: dict[str, float] = Field(description="time of each stage: read, decode, detect, crop, queue, network, total")


class BatchEntry(_Answer):
    """One image of a batch: faces, or why there are none."""

    name: str = Field(description="file name it was sent under")
    image: ImageSize | None = None
    faces: list[FaceAnswer] | None = None
    left_out: int | None = Field(None, description="as in /v1/keypoints")
    left_out_faces: list[Outline] | None = Field(None, description="as in /v1/keypoints")
    error: Error | None = None
    milliseconds: dict[str, float] = {}


class Batch(_Answer):
    """Answer of /v1/keypoints:batch, in the order of the images. A broken image costs only itself."""

    request_id: str
    pictures: list[BatchEntry]
    model: ModelName
    milliseconds: dict[str, float]


class Refused(_Answer):
    """The last model that was offered and not taken."""

    bundle: str
    reason: str
    at: str = Field(description="UTC, ISO 8601")


class SchemeNames(_Answer):
    """What the landmarks are."""

    name: str
    landmarks: list[str] = Field(description="name of each, in the order of the answers")


class ModelCard(_Answer):
    """Answer of /v1/model."""

    name: str
    version: str
    digest: str
    architecture: str
    size_px: int = Field(description="side of the square crop that the network sees")
    min_quality: float = Field(description="of detected faces: what a request gets that names none")
    scheme: SchemeNames
    card: str = Field(description="Markdown")
    metrics: dict[str, Any]
    refused: Refused | None = None


class Health(_Answer):
    """Answer of /healthz and /readyz."""

    status: Literal["ok"]
