"""The record of runs and the register of models: the only room that imports mlflow.

- store.py: the store's address, and whether it can be used
- trouble.py: what an error of the store means, and what mends it
- run.py: one run, written directly or ahead
- write_ahead_log.py, delivery.py: runs of a search and metrics of a training, written ahead, so that a lost server loses nothing
- registry.py, version.py, mlflow_model.py: versions of the model, and which of them is the champion
- `fkp track` lists, registers, promotes, rolls back and uploads

Importing it imports no mlflow.
"""

from __future__ import annotations

from fkp.track.registry import ALIAS, MODEL_NAME, NotBetter, Registry
from fkp.track.run import Record, git_commit, recording
from fkp.track.store import tracking_uri
from fkp.track.version import Version
from fkp.track.write_ahead_log import WriteAheadLog

__all__ = ["ALIAS", "MODEL_NAME", "NotBetter", "Record", "Registry", "Version", "WriteAheadLog", "git_commit", "recording", "tracking_uri"]
