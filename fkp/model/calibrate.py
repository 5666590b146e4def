"""The scale of the error, set right on faces that were not trained on."""

from __future__ import annotations

import math

import numpy as np
import torch

from fkp.model.network import Network

_BATCH = 64


@torch.inference_mode()
def calibrate_scale(network: Network, crops_u8: np.ndarray, truth_px: np.ndarray) -> float:
    """Multiply the scales that a network states, so that their mean is the error's: 2 s is the expected error.

    A network knows its training faces better than any it will meet: after 60 epochs it states 8 % too little. The factor goes
    into the bias of the branch that gives the logarithm of the scale, so every copy of the network has it.

    Args:
        network: Changed in place, and left in evaluation mode.
        crops_u8: (N, C, S, S) uint8, held-out faces.
        truth_px: (N, K, 2) float32 in their pixels, NaN where a point is not labelled.

    Returns:
        The factor.
    """
    network.eval()
    errors, expected = [], []
    for first in range(0, len(crops_u8), _BATCH):
        batch = slice(first, first + _BATCH)  # Copied, for the crops may be a read-only memory map.
        points_px, scale_px = network(torch.tensor(crops_u8[batch]))
        error_px = (points_px - torch.tensor(truth_px[batch])).norm(dim=-1)
        known = ~error_px.isnan()
        errors.append(error_px[known])
        expected.append(2 * scale_px[known])
    factor = float(torch.cat(errors).mean() / torch.cat(expected).mean())
    network.head.log_scale.bias.data += math.log(factor)
    return factor
