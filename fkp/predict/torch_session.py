"""The network of a bundle in torch, for a GPU: the same call as the ONNX session of `fkp.predict`, from the same weights.

They come from weights.safetensors, never from a pickle. Nothing here is imported where the CPU answers: torch alone takes
hundreds of megabytes, and ONNX Runtime is faster there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fkp.bundle import Bundle, load_network
from fkp.errors import FkpError

if TYPE_CHECKING:
    import torch


def open_gpu(bundle: Bundle) -> TorchSession:
    """The bundle's network on the GPU of this process, in bfloat16.

    Raises:
        FkpError: torch finds no GPU here.
    """
    import torch

    if not torch.cuda.is_available():
        raise FkpError("device gpu: torch finds no GPU here: give each replica one (ray_actor_options: num_gpus: 1), or set device: cpu")
    return TorchSession(bundle, torch.device("cuda"))


class TorchSession:
    """Runs the network on one device; safe to share between threads.

    Args:
        bundle: Whose weights.
        device: Where.
        bf16: Whether convolutions and products are computed in bfloat16, which GPUs have units for. Against ONNX Runtime in
            floats the points of the first shipped model move by 0.02 crop pixels of 128 on average and 0.09 at most (152
            validation faces, on the CPU), the expected errors by 1.2 % at most; in float32 by less than 1e-4 pixels.
    """

    def __init__(self, bundle: Bundle, device: torch.device, bf16: bool = True) -> None:
        import torch

        self._device, self._bf16 = device, bf16
        self._network = load_network(bundle).to(device)
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # Missing in torch's stubs.

    def run(self, crops_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run the network.

        Args:
            crops_u8: (N, C, S, S) uint8.

        Returns:
            points_px (N, K, 2) and scale_px (N, K), float32 in crop pixels, as `model.onnx` gives them.
        """
        import torch

        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            points_px, scale_px = self._network(torch.from_numpy(crops_u8).to(self._device))
        return points_px.float().cpu().numpy(), scale_px.float().cpu().numpy()
