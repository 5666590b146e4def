"""A network as one ONNX file."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fkp.config import Config

if TYPE_CHECKING:
    from fkp.model.detection import DetectionNetwork
    from fkp.model.network import Network


def export_onnx(network: Network | DetectionNetwork, config: Config, path: Path) -> None:
    """Write the network as one ONNX file with a free batch size; a detector's takes images of any size, too."""
    import torch

    from fkp.model.detection import DetectionNetwork
    from fkp.model.network import Network
    from fkp.vision.detect.cells import STRIDES

    detects = config.task == "detect"
    height, width = (64, 96) if detects else (config.input.size_px, config.input.size_px)
    dims: dict[int, Any] = {0: torch.export.Dim("n", min=1)}
    if detects:
        dims |= {2: STRIDES[-1] * torch.export.Dim("lines", min=1), 3: STRIDES[-1] * torch.export.Dim("columns", min=1)}
    # Exported from a copy in plain layout, so that neither training mode nor channels_last leaks into the graph.
    plain = (DetectionNetwork if detects else Network)(config).eval()
    plain.load_state_dict(network.state_dict())
    example = torch.zeros(2, config.input.channels, height, width, dtype=torch.uint8)
    with _quiet_exporter(), torch.no_grad():
        torch.onnx.export(
            plain,
            (example,),
            path,
            input_names=["images_u8" if detects else "crops_u8"],
            output_names=["cells"] if detects else ["points_px", "scale_px"],
            dynamic_shapes=(dims,),
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    forget_source(path)


def forget_source(path: Path) -> None:
    """Take out what the exporter notes of every node: stack traces with paths of the machine that made it."""
    import onnx

    model = onnx.load(path)
    for part in (
        model.graph,
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
        *model.graph.initializer,
    ):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, path)


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Hold back the exporter's advice to developers of torch; its errors still raise."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
