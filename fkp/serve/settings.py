"""What can be changed while the endpoint runs: the `user_config` of its deployment in config.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fkp.config import read_yaml
from fkp.errors import FkpError
from fkp.serve.limits import BURST
from fkp.shipped import shipped
from fkp.vision.detect import CHOICES, OWN

CONFIG = shipped("serve/config.yaml")
#: Crops that the network takes at once where it runs on a GPU.
GPU_BATCH_SIZE = 16
#: In place of an origin: each of them.
ANY_ORIGIN = "*"

# As a browser writes it: lower case, no path, and no port that its scheme has anyway.
_ORIGIN = re.compile(
    r"(?!http://[^/]*:80$|https://[^/]*:443$)[a-z][a-z0-9+.-]*://([a-z0-9]([a-z0-9_.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[1-9]\d{0,4})?"
)


def _check_origin(origin: str) -> str:
    if origin != ANY_ORIGIN and not _ORIGIN.fullmatch(origin):
        raise ValueError(f"{origin[:100]!r} is no origin: write it as a browser sends it, https://app.example or http://localhost:3000")
    return origin


class Settings(BaseModel):
    """Settings of every replica. Plain JSON, because Ray hands them to the replicas."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    bundle: str = Field(
        "",
        description="folder of a bundle, or models:/fkp@champion or models:/fkp/3; "
        "empty: the champion of the registry where MLFLOW_TRACKING_URI is set, else saved_models/champion",
    )
    detector: str | None = Field(
        None,
        min_length=1,
        description=f"what finds the faces: {CHOICES}, from the root (default: {OWN}, or what the model was calibrated with)",
    )
    max_batch_size: int | None = Field(
        None,
        ge=1,
        le=256,
        description="crops of several requests that the network takes at once; 1: each image is worked on in one go, by one "
        f"thread (default: 1 on a CPU, where batches gain nothing and cost a request 0.5 ms, {GPU_BATCH_SIZE} on a GPU)",
    )
    batch_wait_ms: float = Field(
        0.0, ge=0, le=100, description="how long the network waits for more crops; at 0 it takes what has come while it was busy"
    )
    max_in_progress: int = Field(
        2,
        ge=1,
        le=256,
        description=f"requests with images that a replica takes at once, {BURST} times as many for a moment; the next one is refused "
        "with 429, so that under overload those that are answered wait for no more than so many others; batches across requests want as "
        "many as max_batch_size",
    )
    network_threads: int = Field(1, ge=1, le=64, description="cores of the network: the num_cpus of a replica")
    decode_threads: int = Field(2, ge=1, le=64, description="images that are decoded at once")
    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto",
        description="where the network runs: gpu is torch in bfloat16 and needs `num_gpus: 1` in ray_actor_options, cpu is "
        "ONNX Runtime; auto: a GPU where Ray has given the replica one",
    )
    golden_nme_pct: float = Field(
        15.0,
        gt=0,
        description="a model that misses the stored face by more (mean error / distance of its outer eye corners, whatever the "
        "scheme) is not taken",
    )
    allowed_origins: tuple[Annotated[str, AfterValidator(_check_origin)], ...] = Field(
        (),
        description="origins of the web pages elsewhere that a browser lets ask this endpoint and read its answers, such as "
        f"https://app.example; {ANY_ORIGIN}: of all, where no token is needed (default: none but its own page)",
    )


def read_config(path: Path = CONFIG) -> dict[str, Any]:
    """Read config.yaml, which alone says how the endpoint is deployed."""
    return read_yaml(path)


def deployment_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the one deployment in a config.yaml, to be read or changed.

    Raises:
        FkpError: It has none, or several.
    """
    try:
        (deployment,) = config["applications"][0]["deployments"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise FkpError("config.yaml has to name one application with one deployment: compare it with the shipped one") from error
    return deployment


def read_settings(user_config: Mapping[str, Any], needs_token: bool = False) -> Settings:
    """Check a `user_config`.

    Args:
        user_config: Of the deployment.
        needs_token: Whether the endpoint asks for one.

    Raises:
        FkpError: A name is unknown, a value is out of range, or pages of any origin may ask although a token is needed: it would
            have to stand in all of them.
    """
    try:
        settings = Settings.model_validate(dict(user_config))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}" for fault in error.errors())
        raise FkpError(f"user_config of the endpoint: {faults}") from error
    if needs_token and ANY_ORIGIN in settings.allowed_origins:
        raise FkpError(f"user_config of the endpoint: allowed_origins: {ANY_ORIGIN} is for endpoints without a token: name the origins")
    return settings
