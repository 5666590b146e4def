"""One progress bar on the driver, wherever the workers are."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tqdm import tqdm


class ProgressBar:
    """Steps done, validation error, images per second and the time left, on stderr.

    Args:
        name: Of the run.
        error: Of what the error is.
    """

    def __init__(self, name: str, error: str = "NME") -> None:
        self._error = error
        # Without a terminal (a log file, CI) a line every half minute is enough.
        pause = 0.5 if sys.stderr.isatty() else 30.0
        self._bar = tqdm(total=0, desc=name, unit="step", mininterval=pause, dynamic_ncols=True)
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def update(self, progress: Mapping[str, float]) -> None:
        """Show what `loop.ProgressReport` told."""
        bar = self._bar
        if not self._started:
            # A resumed run begins in the middle; its earlier steps must not count as this process's speed.
            bar.reset(total=int(progress["steps"]))
            bar.initial = bar.n = int(progress["step"])
            self._started = True
        error = "" if math.isnan(progress["nme"]) else f"{self._error} {progress['nme']:.2f} %, "  # None yet in the first epoch.
        bar.set_postfix_str(f"epoch {int(progress['epoch']) + 1}, {error}{progress['images_per_s']:.0f} images/s", refresh=False)
        bar.update(int(progress["step"]) - bar.n)
