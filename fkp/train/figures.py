"""Lightning's figures, handed on step by step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

WriteFigures = Callable[[int, int, Mapping[str, float]], None]
"""Takes one step's figures: the step, when they were found in milliseconds since 1970, their values by name."""


class FiguresLogger(Logger):
    """Lightning's logger: hands figures on, of the first worker only.

    Args:
        write: Takes them.
    """

    def __init__(self, write: WriteFigures) -> None:
        super().__init__()
        self._write = write

    @property
    def name(self) -> None:
        """None: the run has its name elsewhere."""

    @property
    def version(self) -> None:
        """None, likewise."""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The driver has logged the settings."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Called by Lightning."""
        self._write(int(step or 0), int(time.time() * 1000), {name: float(value) for name, value in metrics.items()})
