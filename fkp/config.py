"""One frozen Config is one whole run. A flag, a YAML line and a search sample are the same dotted path."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from fkp.compat import SETTINGS
from fkp.errors import FkpError
from fkp.scheme import DEFAULT, Scheme, as_setting, load_scheme
from fkp.shipped import here_or_shipped

#: Where the packed form of a set lies by default, beside the set.
PACKED_SUFFIX = "-packed"


_AnySection = TypeVar("_AnySection", bound="_Section")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def updated(self: _AnySection, *changes: Mapping[str, Any]) -> _AnySection:
        """The same settings but for some, nested or dotted, later ones win; checked as `build_config` checks.

        Raises:
            FkpError: A name is unknown or a value is out of range.
        """
        return _merge(type(self), self.model_dump(), *changes)


def _whole_scheme(value: str | None) -> str | None:
    try:
        return None if value is None else as_setting(value)
    except FkpError as error:
        raise ValueError(str(error)) from error


class DataConfig(_Section):
    """Which faces, and which of them train, validate and test."""

    source: Literal["synthetic", "ytfaces", "folder"] = Field(
        "synthetic",
        description="synthetic: made here; ytfaces: `fkp data fetch`; folder: your own set (`fkp data import`, or the CSV layout)",
    )
    root: str | None = Field(
        None, description="folder of the set, or place of a packed one (also s3:// or gs://); by default data/synthetic or data/ytfaces"
    )
    extra: tuple[str, ...] = Field(
        (), description="folders of further label sets (`fkp data import`) whose faces all train and never validate or test"
    )
    backend: Literal["memory", "stream"] = Field(
        "memory",
        description="memory: decoded once into cache_dir; stream: a packed set (`fkp data pack`), decoded anew in each epoch",
    )
    split: Literal["identity", "published"] = Field(
        "identity", description="identity: whole persons by fold; published: the two CSV files, which share persons and clips"
    )
    test_fold: int = Field(0, ge=0, le=4, description="fold of persons that test (identity split)")
    val_fold: int = Field(1, ge=0, le=4, description="fold of persons held out of training to choose by")
    val_share: float = Field(
        1.0, gt=0.0, le=1.0, description="part of the persons of val_fold that is held out; the others train, once all else is chosen"
    )
    scheme: Annotated[str, AfterValidator(_whole_scheme)] = Field(
        DEFAULT, description="landmark scheme: ibug68, ibug51, wflw98, cofw29, five, mediapipe478, or a YAML file, see docs/extending.md"
    )
    label_bias_px: tuple[float, float] | None = Field(
        None, description="constant error of the labels (x, y) in image pixels, taken out when they are read; by default the source's own"
    )
    cache_dir: str = Field(".cache", description="where decoded crops are kept; shared by all workers of a machine")
    limit: int | None = Field(None, ge=1, description="use only the first N faces of each subset (a quick trial)")
    synthetic_faces: int = Field(3000, ge=10, description="size of the synthetic set")
    synthetic_seed: int = Field(0, ge=0, description="seed of the synthetic set")

    @model_validator(mode="after")
    def _folds_differ(self) -> DataConfig:
        if self.split == "identity" and self.test_fold == self.val_fold:
            raise ValueError(f"test_fold and val_fold are both {self.test_fold}: choose different folds")
        return self

    def under_split(self, split: str) -> DataConfig:
        """The same set under another split, to measure by it.

        Folds that the run's own split does not use may be equal, and nobody trains by these settings: that is not checked.
        """
        return self.model_copy(update={"split": split})


class InputConfig(_Section):
    """What the network sees of a face."""

    size_px: int = Field(128, ge=32, le=512, multiple_of=16, description="side of the square crop in pixels")
    # A flag is text, which a literal alone would not take for a number.
    channels: Annotated[Literal[1, 3], BeforeValidator(lambda value: int(value) if value in ("1", "3") else value)] = Field(
        1, description="1: grey; 3: RGB"
    )
    crop_scale: float = Field(1.3, ge=1.0, le=3.0, description="side of the crop as a multiple of the face box's longer side")


class AugmentConfig(_Section):
    """Random changes of the training crops, on whole batches. Ranges are at strength 1."""

    strength: float = Field(1.0, ge=0.0, le=3.0, description="multiplies every range and probability below; 0 turns all off")
    flip: float = Field(0.5, ge=0.0, le=0.5, description="probability of mirroring; not multiplied by strength, but off at 0")
    rotate_deg: float = Field(20.0, ge=0.0, le=90.0, description="standard deviation of the rotation, cut off at twice that")
    scale: float = Field(0.10, ge=0.0, le=0.5, description="standard deviation of the log of the zoom, cut off at twice that")
    shift: float = Field(0.05, ge=0.0, le=0.3, description="standard deviation of the shift as a part of the crop, cut off at twice that")
    stretch: float = Field(0.0, ge=0.0, le=0.5, description="standard deviation of the log of the stretch along a random direction")
    shade: float = Field(
        0.0, ge=0.0, le=1.0, description="standard deviation of the log of the light between the crop's middle and its border"
    )
    light: float = Field(0.25, ge=0.0, le=1.0, description="standard deviation of contrast, brightness and gamma")
    noise: float = Field(0.3, ge=0.0, le=1.0, description="probability of sensor noise")
    blur: float = Field(0.2, ge=0.0, le=1.0, description="probability of a blur")
    sharpen: float = Field(0.0, ge=0.0, le=1.0, description="probability of an unsharp mask")
    downscale: float = Field(0.2, ge=0.0, le=1.0, description="probability of a lower resolution")
    jpeg: float = Field(0.2, ge=0.0, le=1.0, description="probability of JPEG compression")
    occlude: float = Field(0.3, ge=0.0, le=1.0, description="probability of a covered rectangle")
    objects: float = Field(0.0, ge=0.0, le=1.0, description="probability of a drawn hand, mask, glasses or hair in front of the face")


class DetectConfig(_Section):
    """Training of a face detector (`task=detect`): scenes of labelled faces, see `fkp.data.scenes`."""

    size_px: int = Field(256, ge=64, le=640, multiple_of=32, description="side of a training scene in pixels")
    scenes: int = Field(8192, ge=1, description="scenes in an epoch; each is made anew")
    val_scenes: int = Field(512, ge=1, description="scenes to validate and to test on, the same in each epoch")
    drawn: int = Field(500, ge=0, description="drawn faces beside the labelled ones")
    backgrounds: tuple[str, ...] = Field((), description="folders of photographs without faces, for what is behind them")


class ModelConfig(_Section):
    """The network. The registry's names are checked where it is built: `fkp models` lists them."""

    arch: str = Field("resnet", description="name in the registry: slim, resnet, mobile, convnext, seed_cnn")
    width: int = Field(32, ge=8, le=256, multiple_of=8, description="channels of the first stage")
    depth: int = Field(2, ge=1, le=8, description="blocks in each stage")
    head: Literal["direct", "heatmap"] = Field("heatmap", description="direct: coordinates by regression; heatmap: soft-argmax")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="dropout before the last layer of a direct head")
    base_scheme: Annotated[str | None, AfterValidator(_whole_scheme)] = Field(
        None, description="scheme of the head where a map of the shape makes the landmarks of data.scheme of its own; `fkp adapt` sets it"
    )


class LossConfig(_Section):
    """What training minimises."""

    kind: Literal["smooth_l1", "wing", "mse", "laplace"] = Field(
        "smooth_l1", description="loss of the landmarks; laplace is the likelihood that also trains the scale of the error"
    )
    heatmap_weight: float = Field(0.3, ge=0.0, le=10.0, description="weight of the heatmaps' cross-entropy beside it (heatmap head)")


class OptimConfig(_Section):
    """Optimizer, schedule, averaged weights."""

    optimizer: Literal["adamw", "adam"] = Field("adamw", description="adamw decays weights apart from the gradient")
    lr: float = Field(3e-3, gt=0, le=1.0, description="peak learning rate for the global batch")
    weight_decay: float = Field(0.02, ge=0.0, le=1.0, description="weight decay")
    schedule: Literal["onecycle", "cosine", "plateau", "constant"] = Field(
        "onecycle", description="learning rate over the run; plateau divides by 10 when the validation error stalls"
    )
    warmup: float = Field(0.1, ge=0.0, le=0.5, description="part of the run spent on warming up (onecycle, cosine)")
    global_batch_size: int = Field(64, ge=1, description="faces in a step over all workers")
    grad_clip: float = Field(1.0, ge=0.0, description="largest norm of the gradient; 0 turns it off")
    ema_decay: float = Field(
        0.99, ge=0.0, lt=1.0, description="decay per step of the averaged weights (EMA), which are validated and saved; 0: off"
    )


class TrainConfig(_Section):
    """How long to train and what to keep."""

    epochs: int = Field(60, ge=1, description="passes over the training faces")
    init: str | None = Field(
        None, min_length=1, description="begin from this model: a bundle's folder, models:/fkp/3, or champion for the registry's own"
    )
    max_minutes: float | None = Field(None, gt=0, description="stop after this time, whatever the epoch")
    early_stop_epochs: int | None = Field(None, ge=1, description="stop when the validation error has not improved for so many epochs")
    keep_checkpoints: int = Field(2, ge=1, description="how many of the best checkpoints to keep")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where it is faster on this machine")
    seed: int = Field(0, ge=0, description="seed of weights, order and augmentation")


class ScaleConfig(_Section):
    """Workers, cores, GPUs, fault tolerance."""

    num_workers: int = Field(2, ge=0, description="Ray Train workers; 0 trains in this process without a cluster")
    min_workers: int | None = Field(None, ge=1, description="resume with so few when hosts are lost; by default training waits for all")
    cpus_per_worker: int = Field(1, ge=1, description="cores, and so threads, of a worker")
    decoders_per_worker: int = Field(1, ge=1, description="further cores for each worker, which decode with data.backend=stream")
    use_gpu: Literal["auto", "yes", "no"] = Field("auto", description="auto: a GPU for each worker when the cluster has enough")
    wait_minutes: float = Field(
        0.75, ge=0.0, description="on a running cluster: how long to wait for cores and GPUs; more where an autoscaler brings them"
    )
    max_failures: int = Field(3, ge=0, description="how often a lost worker is replaced before the run fails")

    @model_validator(mode="after")
    def _least_and_most(self) -> ScaleConfig:
        if self.min_workers is not None and self.min_workers > self.num_workers:
            raise ValueError(f"min_workers={self.min_workers} is more than num_workers={self.num_workers}")
        return self


class ExportConfig(_Section):
    """How the trained network is stored."""

    int8: bool = Field(False, description="ONNX in 8-bit integers: half the time")


class TrackConfig(_Section):
    """Names and places."""

    run_name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="name of the run; the same name continues a broken run"
    )
    experiment: str = Field("fkp", min_length=1, description="MLflow experiment")
    storage: str = Field("runs", min_length=1, description="checkpoints and bundles: a folder, or s3://BUCKET/PATH or gs://BUCKET/PATH")


class Config(_Section):
    """A whole run as plain JSON: `Config.model_validate(json)` and `config.model_dump(mode="json")` are inverse."""

    task: Literal["landmarks", "detect"] = Field("landmarks", description="landmarks: points of a face; detect: where the faces are")
    data: DataConfig = Field(default_factory=DataConfig)
    input: InputConfig = Field(default_factory=InputConfig)
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
    detect: DetectConfig = Field(default_factory=DetectConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    loss: LossConfig = Field(default_factory=LossConfig)
    optim: OptimConfig = Field(default_factory=OptimConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    scale: ScaleConfig = Field(default_factory=ScaleConfig)
    export: ExportConfig = Field(default_factory=ExportConfig)
    track: TrackConfig = Field(default_factory=TrackConfig)

    @property
    def scheme(self) -> Scheme:
        """What the landmarks are."""
        return load_scheme(self.data.scheme)

    @property
    def inner_scheme(self) -> Scheme:
        """What the network's head finds; the same but for a model with a map of the shape, see `ModelConfig.base_scheme`."""
        return self.scheme if self.model.base_scheme is None else load_scheme(self.model.base_scheme)

    @property
    def val_nme_key(self) -> str:
        """What is monitored, kept and searched for, in percent, less is better.

        The error of the validation subset, corrected labels; of a detector what its average precision lacks.
        """
        if self.task == "detect":
            return "val_ap_lack_pct"
        return f"val_{self.scheme.nme_key}"

    @property
    def least_workers(self) -> int:
        """The number of workers without which training waits."""
        return self.scale.min_workers or self.scale.num_workers

    @property
    def decoders_per_worker(self) -> int:
        """Cores that decode for each worker: none where the crops are in memory."""
        return self.scale.decoders_per_worker if self.data.backend == "stream" else 0

    def as_params(self) -> dict[str, Any]:
        """Dotted path -> value, for a record of the run; a scheme of the user's own stands by its name alone."""
        named = {"data.scheme": self.scheme.name}
        if self.model.base_scheme is not None:
            named["model.base_scheme"] = self.inner_scheme.name
        return {**dict(dotted(self.model_dump(mode="json"))), **named}

    def digest(self) -> str:
        """Twelve hex digits that change with every setting but the name of the run."""
        plain = self.model_dump(mode="json")
        plain["track"].pop("run_name")
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def build_config(*layers: Mapping[str, Any]) -> Config:
    """Merge nested or dotted settings, later ones first in rank, and validate them.

    Raises:
        FkpError: A key is unknown or a value is out of range; every fault is named by its dotted path.
    """
    return _merge(Config, *layers)


def _merge(section: type[_AnySection], *layers: Mapping[str, Any]) -> _AnySection:
    merged: dict[str, Any] = {}
    for layer in layers:
        for path, value in dotted(layer):
            _put(merged, (SETTINGS.get(path, path) if section is Config else path).split("."), value)
    try:
        return section.model_validate(merged)
    except ValidationError as error:
        prefix = "".join(f"{name}." for name, field in Config.model_fields.items() if field.annotation is section)
        raise FkpError("; ".join(_explain(fault, prefix) for fault in error.errors())) from error


class _OnceLoader(yaml.SafeLoader):
    """YAML's own rule, to which PyYAML does not hold: a key stands once. What `<<` merges may still be overridden."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys = [(key.tag, key.value, key.start_mark.line + 1) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for tag, name, line in keys:
            if sum((tag, name) == key[:2] for key in keys) > 1 and name != "<<":
                raise FkpError(f"{name} stands twice, first in line {line}: keep one")
        return node


def once(paths: Iterable[str], where: str | Path) -> None:
    """Refuse a setting that a file says twice, such as `optim.lr` and `lr` under `optim`."""
    for path, count in Counter(paths).items():
        if count > 1:
            raise FkpError(f"{where}: {path} stands twice: keep one")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises:
        FkpError: The file cannot be read, is not a mapping, or says a key twice.
    """
    try:
        content = yaml.load(here_or_shipped(path).read_text(encoding="utf-8"), _OnceLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise FkpError(f"cannot read settings {path}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise FkpError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    except FkpError as error:
        raise FkpError(f"{path}: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise FkpError(f"{path} must hold names and values, such as `optim: {{lr: 0.003}}` in a file of settings")
    once((SETTINGS.get(name, name) for name, _ in dotted(content)), path)
    return content


def config_from_args(argv: list[str], prog: str, about: str) -> Config:
    """Make the Config of a command line: `[--config FILE.yaml] [--section.key VALUE ...]`.

    Flags win over the file. `--help` prints every setting with the text that stands beside its field.

    Raises:
        FkpError: See `build_config` and `read_yaml`.
        SystemExit: After `--help`.
    """
    from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict, SettingsError

    class CommandLine(Config, BaseSettings):
        model_config = SettingsConfigDict(frozen=True, extra="forbid")
        config: str | None = Field(None, description="YAML file of settings; flags win over it")

    CommandLine.__doc__ = about
    try:
        given: dict[str, Any] = dict(
            CliSettingsSource(
                CommandLine,
                cli_prog_name=prog,
                cli_parse_args=[_todays_flag(word) for word in argv],
                cli_exit_on_error=False,
                cli_avoid_json=True,
                cli_hide_none_type=True,
                cli_parse_none_str="null",
            )()
        )
    except SettingsError as error:
        message = str(error).removeprefix("error parsing CLI: ")
        stray = message.removeprefix("unrecognized arguments: ")
        raise FkpError(unknown_setting(stray.split()[0].lstrip("-").split("=")[0]) if stray != message else message) from error
    # A flag of several numbers turns `null` into a list that holds it.
    given = {path: None if value == [None] else value for path, value in dotted(given)}
    path = given.pop("config", None)
    layers = [read_yaml(path)] if path else []
    layers.append(given)
    return build_config(*layers)


def _todays_flag(word: str) -> str:
    name, equals, value = word.partition("=")
    return f"--{SETTINGS.get(name[2:], name[2:])}{equals}{value}" if name.startswith("--") else word


def dotted(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten nested settings to pairs of dotted path and value."""
    for key, value in settings.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from dotted(value, f"{path}.")
        else:
            yield path, value


def known_paths() -> list[str]:
    """Every dotted path of a Config."""
    return [path for path, _ in dotted(Config().model_dump())]


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise FkpError(f"setting {'.'.join(path)} lies inside a plain value: write one or the other")
    tree[path[-1]] = value


def unknown_setting(path: str) -> str:
    """One sentence about a path that no setting has, with the nearest one that exists."""
    paths: Iterable[str] = known_paths()
    near = difflib.get_close_matches(path, paths, n=1, cutoff=0.6)
    return f"unknown setting {path}" + (f": did you mean {near[0]}?" if near else ": --help lists them all")


def _explain(fault: Any, prefix: str) -> str:
    path = (prefix + ".".join(str(part) for part in fault["loc"])).removesuffix(".")
    if fault["type"] == "extra_forbidden":
        return unknown_setting(path)
    message = fault["msg"].removeprefix("Value error, ")
    return f"setting {path}: {message} (got {fault['input']!r})" if not isinstance(fault["input"], dict) else f"setting {path}: {message}"
