"""What holds for OpenCV alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fkp.errors import FkpError
from fkp.vision.video import opencv
from tests.vision import movies


def test_a_clip_that_could_not_be_written_to_its_end(tmp_path: Path) -> None:
    """A frame of another size is not taken by the codec, as no frame is when the disk is full; OpenCV tells neither."""

    def fail() -> None:
        with opencv.written(tmp_path / "clip.mp4", tmp_path / "clip.mp4", 25, None) as write:
            write(movies.frame(0))
            write(np.zeros((32, 32, 3), np.uint8))

    with pytest.raises(FkpError, match="could not be written to its end"):
        fail()
