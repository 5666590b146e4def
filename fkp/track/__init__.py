"""The record of runs and the register of models: the only room that imports mlflow.

- store.py: the store's address, and what can be wrong with it
- record.py: one run, written directly
- outbox.py, delivery.py, journal.py: the runs of a search, written ahead, so that a lost server loses nothing
- registry.py, version.py, model.py: versions of the model, and which of them is the champion
- `fkp track` lists, registers, promotes, rolls back and uploads

Importing it imports no mlflow.
"""

from __future__ import annotations

from fkp.track.outbox import Outbox
from fkp.track.registry import ALIAS, MODEL_NAME, NotBetter, Registry
from fkp.track.run import Record, git_commit, recording
from fkp.track.store import tracking_uri
from fkp.track.version import Version

__all__ = ["ALIAS", "MODEL_NAME", "NotBetter", "Outbox", "Record", "Registry", "Version", "git_commit", "recording", "tracking_uri"]
