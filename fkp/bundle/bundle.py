"""A trained model as a folder: weights, ONNX, config, metrics, card and checksums. No pickle anywhere.

- weights.safetensors: state of the Network
- model.onnx: crops_u8 (N, C, S, S) uint8 -> points_px (N, K, 2) and scale_px (N, K), for any N; with `export.int8` in
  8-bit integers, see `fkp.bundle.quantize`. A detector's (`task=detect`) is images_u8 (N, 3, H, W) uint8 -> cells (N, A, 15), see
  `fkp.model.detection`
- config.json: the whole run
- metrics.json: whatever was measured, by name
- card.md: what a reader must know
- face_boxes.json, where it was measured: by face detector, the affine from its boxes to those of the labels
- joint_errors.json, where it was measured: how the errors of a face's points hang together, see `fkp.bundle.joint_errors`
- SHA256SUMS: of all the others, in the format of sha256sum
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fkp.common.checksums import SUMS, check_sums, write_sums
from fkp.common.files import atomic_replace_dir
from fkp.compat import with_todays_metrics
from fkp.config import Config, build_config
from fkp.errors import FkpError
from fkp.shipped import here_or_shipped

if TYPE_CHECKING:
    import numpy as np

    from fkp.model.detection import DetectionNetwork
    from fkp.model.network import Network

FILES = ("weights.safetensors", "model.onnx", "config.json", "metrics.json", "card.md")
FACE_BOXES, JOINT_ERRORS = "face_boxes.json", "joint_errors.json"
_MODELS = {"landmarks": "a landmark model", "detect": "a face detector"}
#: What a bundle may lack: those of before do.
OPTIONAL = (FACE_BOXES, JOINT_ERRORS)


@dataclass(frozen=True)
class Bundle:
    """A bundle whose checksums held when it was opened.

    Attributes:
        path: The folder.
        config: The run that made it.
        metrics: Content of metrics.json.
        digest: Hex sha256 of SHA256SUMS: names this exact model.
        face_boxes: Content of face_boxes.json, see `vision.detect.open_detector`; empty where the bundle has none.
        joint_errors: Content of joint_errors.json, see `joint_errors.JointErrors.of`; empty where the bundle has none.
    """

    path: Path
    config: Config
    metrics: dict[str, Any]
    digest: str
    face_boxes: dict[str, Any] = field(default_factory=dict)
    joint_errors: dict[str, Any] = field(default_factory=dict)

    @property
    def onnx_path(self) -> Path:
        """The network for ONNX Runtime."""
        return self.path / "model.onnx"

    @property
    def card(self) -> str:
        """Content of card.md."""
        return (self.path / "card.md").read_text(encoding="utf-8")


def open_bundle(path: str | Path, task: str | None = "landmarks") -> Bundle:
    """Open a bundle and check every file against its checksum.

    Args:
        path: The folder.
        task: What the model must be for, see `Config.task`; None: for any.

    Raises:
        FkpError: It is no bundle, a file is missing or changed, its config is of another version, or the model is for another task.
    """
    folder = here_or_shipped(path)
    listed, digest = check_sums(folder, FILES, OPTIONAL)
    config = build_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    if task is not None and config.task != task:
        raise FkpError(f"{folder} is {_MODELS[config.task]}, and {_MODELS[task]} is wanted: name another bundle")
    metrics = with_todays_metrics(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))
    known = [json.loads((folder / name).read_text(encoding="utf-8")) if name in listed else {} for name in OPTIONAL]
    return Bundle(folder, config, metrics, digest, *known)


def write_bundle(
    path: str | Path,
    network: Network | DetectionNetwork,
    config: Config,
    metrics: dict[str, Any],
    card: str,
    face_boxes: dict[str, Any] | None = None,
    calibration_u8: np.ndarray | None = None,
) -> Bundle:
    """Write a bundle in one step: it appears whole, or what was at `path` before stays untouched.

    Args:
        path: Folder to make or to replace; one that is no bundle is refused.
        network: The trained network.
        config: The run.
        metrics: JSON-able measurements.
        card: Markdown.
        face_boxes: Calibrations by face detector, see `vision.detect.open_detector`; none: the built-in ones hold.
        calibration_u8: (N, C, S, S) uint8, training crops for `export.int8`.

    Raises:
        FkpError: The disk is full or the place cannot be written, or `export.int8` is set and there is no training crop.
    """
    folder = Path(path).resolve()  # What a link names is replaced, not the link.
    if folder.exists() and not (folder / SUMS).is_file():
        raise FkpError(f"{folder} exists and is not a bundle: choose another place")
    if config.export.int8 and calibration_u8 is None:
        raise FkpError(f"bundle {folder}: export.int8 needs training crops to find the ranges of its integers")
    with _replacing(folder) as unfinished:
        from safetensors.torch import save

        from fkp.bundle.export import export_onnx, forget_source

        _write_json(unfinished / "config.json", config.model_dump(mode="json"), sort_keys=False)
        _write_told(unfinished, metrics, card, {FACE_BOXES: face_boxes or {}})
        state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
        # Not by save_file: it makes the file private, and a full disk would not be an OSError.
        (unfinished / "weights.safetensors").write_bytes(save(state))
        export_onnx(network, config, unfinished / "model.onnx")
        if config.export.int8 and calibration_u8 is not None:
            from fkp.bundle.quantize import quantize

            quantize(unfinished / "model.onnx", calibration_u8, exact_outputs=config.task == "detect")
            forget_source(unfinished / "model.onnx")
        write_sums(unfinished, (*FILES, *OPTIONAL))
    return open_bundle(folder, config.task)


def update_bundle(
    path: str | Path,
    metrics: dict[str, Any],
    card: str,
    face_boxes: dict[str, Any] | None = None,
    joint_errors: dict[str, Any] | None = None,
) -> Bundle:
    """Replace the metrics and the card of a bundle, and what else is given of what was measured, as atomically as `write_bundle`.

    Raises:
        FkpError: See `open_bundle` and `write_bundle`.
    """
    bundle = open_bundle(path, None)
    with _replacing(bundle.path.resolve()) as unfinished:
        for name in FILES:
            shutil.copyfile(bundle.path / name, unfinished / name)
        kept = {FACE_BOXES: bundle.face_boxes, JOINT_ERRORS: bundle.joint_errors}
        given = {FACE_BOXES: face_boxes, JOINT_ERRORS: joint_errors}
        _write_told(unfinished, metrics, card, kept | {name: content for name, content in given.items() if content is not None})
        write_sums(unfinished, (*FILES, *OPTIONAL))
    return open_bundle(path, None)


def load_network(bundle: Bundle) -> Network:
    """Rebuild the network from config.json and weights.safetensors, in evaluation mode."""
    from safetensors.torch import load_file

    from fkp.model.network import Network

    network = Network(bundle.config)
    network.load_state_dict(load_file(bundle.path / "weights.safetensors"))
    return network.eval()


@contextlib.contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A folder that takes the place of a bundle when the block ends well."""
    try:
        with atomic_replace_dir(folder) as unfinished:
            yield unfinished
    except OSError as error:
        reason = error.strerror or error
        raise FkpError(f"cannot write bundle {folder}: {reason}: nothing was changed; free some space or choose another place") from error


def _write_told(folder: Path, metrics: dict[str, Any], card: str, measured: dict[str, dict[str, Any]]) -> None:
    """Write what is known of the network; `measured` is the content of `OPTIONAL` files, of which empty ones are left out."""
    _write_json(folder / "metrics.json", metrics, sort_keys=True)
    (folder / "card.md").write_text(card, encoding="utf-8")
    for name, content in measured.items():
        if content:
            _write_json(folder / name, content, sort_keys=True)


def _write_json(path: Path, content: dict[str, Any], sort_keys: bool) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=sort_keys) + "\n", encoding="utf-8")
