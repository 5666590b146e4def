"""Ray Train's list of a run's checkpoints, kept whole.

Ray writes it in place. A driver that is killed in that very moment leaves an empty or cut file, with which the same
command fails for ever. So the last whole one is kept beside it: Ray deletes a checkpoint only after the list without it
is written, hence all that the kept one names are still there when the newer one is torn.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ray.train import UserCallback

from fkp.common.files import write
from fkp.common.ray_private import TRAIN_SNAPSHOT as SNAPSHOT

_KEPT = "checkpoint_manager_snapshot.kept.json"


class KeepCheckpointList(UserCallback):
    """Copies the list after each report, in Ray's controller, which is the one that writes it.

    Args:
        folder: Of the run, as the controller sees it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:
        """Called by Ray once all workers have reported."""
        text = _whole(self._folder / SNAPSHOT)
        if text is not None:
            write(self._folder / _KEPT, text)


def repair(folder: Path) -> None:
    """Put the kept list in the place of a torn one; without one the run begins anew, for it had not ended its first epoch."""
    torn = folder / SNAPSHOT
    if not torn.is_file() or _whole(torn) is not None:
        return
    kept = _whole(folder / _KEPT)
    if kept is None:
        torn.unlink()
    else:
        write(torn, kept)


def _whole(path: Path) -> str | None:
    """The content of a JSON file; None where there is no file or a torn one."""
    try:
        text = path.read_text(encoding="utf-8")
        json.loads(text)
    except (FileNotFoundError, ValueError):
        return None
    return text
