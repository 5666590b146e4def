"""A network in ONNX, from 32-bit floats to 8-bit integers: twice as fast on a processor that multiplies those (VNNI, dot product).

Static quantisation (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018) by ONNX Runtime's own tool: weights per output channel, activations per tensor, their ranges seen on
calibration crops. Convolutions and what lies between them; the head's soft-argmax stays in floats, where a hundredth of a
pixel is at stake. So does the first convolution: with one input channel it takes 25 microseconds in floats and 150 in integers.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

#: Crops the ranges are taken from; four times as many moved the shipped model's validation NME by 0.002.
CALIBRATION_CROPS = 256

_QUANTISED = ["Conv", "Add", "Relu", "Resize"]


def quantize(onnx_path: Path, crops_u8: np.ndarray, exact_outputs: bool = False) -> None:
    """Replace a network of floats by one of integers; its input and its outputs stay what they were.

    Args:
        onnx_path: The file, rewritten in place.
        crops_u8: (N, C, S, S) uint8, training crops that nothing was changed in.
        exact_outputs: Whether the last convolutions stay in floats: what they tell is used as it is. A detector's scores and boxes in one
            range of 256 steps are a quarter of a stride, or a quarter of a side, apart.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    graph = onnx.load(onnx_path).graph
    name = graph.input[0].name

    class Crops(CalibrationDataReader):
        def __init__(self) -> None:
            self._crops: Iterator[np.ndarray] = iter(crops_u8)

        def get_next(self) -> dict[str, np.ndarray] | None:
            crop = next(self._crops, None)
            return None if crop is None else {name: crop[None]}

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(onnx_path, prepared, skip_symbolic_shape=True)
        nodes = onnx.load(prepared).graph.node
        convolutions = [node.name for node in nodes if node.op_type == "Conv"]
        in_floats = convolutions[:1] + (_last(nodes) if exact_outputs else [])
        level = logging.root.level
        logging.root.setLevel(logging.ERROR)  # The tool advises by the root logger what was just done.
        try:
            quantize_static(
                prepared,
                onnx_path,
                Crops(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_QUANTISED,
                nodes_to_exclude=in_floats,
                per_channel=True,
                # One bit less for the weights: processors without VNNI add pairs of products in 16 bits, which would overflow.
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            logging.root.setLevel(level)


def _last(nodes: Any) -> list[str]:
    """Names of the convolutions that no other one comes after."""
    further: set[str] = set()  # Tensors that a convolution is made of.
    last = []
    for node in reversed(nodes):
        reaches = any(name in further for name in node.output)
        if node.op_type == "Conv" and not reaches:
            last.append(node.name)
        if node.op_type == "Conv" or reaches:
            further.update(node.input)
    return last
