"""Small networks in ONNX Runtime."""

from __future__ import annotations

import onnxruntime


def small_session(model: bytes) -> onnxruntime.InferenceSession:
    """A network that takes windows of any size, on one core."""
    options = onnxruntime.SessionOptions()
    # The network is too small to gain from more threads, and servers run one detector a core.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # It would warn of each output that is not as long as for the size it was made for.
    options.enable_mem_pattern = False  # It would keep a plan of its memory for each shape.
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
