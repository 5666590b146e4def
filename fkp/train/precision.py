"""Which number format a training computes in."""

from __future__ import annotations

import functools
import time

import torch
import torch.nn.functional as F

from fkp.config import Config

#: bf16 is taken from this speed-up on: below it the rounding buys nothing.
_WORTH_IT = 1.15


def precision(config: Config, on_gpu: bool) -> str:
    """Lightning's name of the precision; `auto` takes bf16 only where it is faster."""
    wanted = config.train.precision
    if wanted == "auto":
        gains = torch.cuda.is_bf16_supported() if on_gpu else bf16_speedup() >= _WORTH_IT
        wanted = "bf16" if gains else "fp32"
    return "bf16-mixed" if wanted == "bf16" else "32-true"


@functools.cache
def bf16_speedup() -> float:
    """How many times faster this processor trains a convolution in bf16 than in fp32; measured once, in a tenth of a second.

    What a processor says of itself does not tell: with AMX a whole step was 1.9 times faster, on one that has AVX512-BF16 and no
    AMX it took 1.4 times as long. Both lie far from `_WORTH_IT`, and the fastest of several turns counts, so that other
    work on the machine does not change the answer.
    """
    generator = torch.Generator().manual_seed(0)  # The seed of the training stays what it was.
    crops = torch.randn(16, 64, 16, 16, generator=generator).to(memory_format=torch.channels_last).requires_grad_()
    kernel = torch.randn(64, 64, 3, 3, generator=generator).to(memory_format=torch.channels_last).requires_grad_()

    def step_s(bf16: bool) -> float:
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            F.conv2d(crops, kernel, padding=1).float().square().sum().backward()
        return time.perf_counter() - began

    turns = [(step_s(False), step_s(True)) for _ in range(5)]
    return min(fp32 for fp32, _ in turns) / min(bf16 for _, bf16 in turns)
