"""Checkpoints of a training without Ray: each appears whole, and a run resumes from the newest that can be read.

Lightning writes one into the machine's folder for temporary files and moves it from there, which between two disks is a copy: a
process that is killed meanwhile, or a full disk, leaves half a file under the final name.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from fkp.common.files import write
from fkp.errors import FkpError

LAST_CHECKPOINT = "last.ckpt"
_KEYS = {"epoch", "global_step", "loops", "optimizer_states", "state_dict"}


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place, onto the disk, and renames it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Called by Lightning.

        Raises:
            FkpError: It cannot be written; what was there still is.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write(Path(path), content.getbuffer())


def newest(folder: Path) -> Path | None:
    """The newest checkpoint of a folder that can be read, None where there is none; those that cannot are told on stderr."""
    found = sorted(folder.glob("*.ckpt"), key=lambda path: (path.stat().st_mtime_ns, path.name == LAST_CHECKPOINT), reverse=True)
    return next((path for path in found if _is_whole(path)), None)


def best(keep: ModelCheckpoint) -> Path:
    """The best checkpoint of those that are kept and can be read.

    Raises:
        FkpError: There is none.
    """
    scored = sorted(keep.best_k_models, key=lambda path: float(keep.best_k_models[path]))
    found = next((Path(path) for path in (*scored, keep.best_model_path) if path and _is_whole(Path(path))), None)
    if found is None:
        raise FkpError(f"no checkpoint in {keep.dirpath} can be read: remove the run's folder and train again")
    return found


def _is_whole(path: Path) -> bool:
    try:
        if set(torch.load(path, map_location="cpu", weights_only=True)) >= _KEYS:
            return True
        reason = "it is no checkpoint of a training"
    except Exception as error:  # Of a damaged file torch raises whatever its parser stumbles over.
        reason = getattr(error, "strerror", None) or "it is cut off or damaged"
    print(f"checkpoint {path} is not used: {reason}", file=sys.stderr)
    return False
