"""What was written under an old name and is still read: one table of aliases for each kind of it."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence

#: Modules whose classes a search of before has pickled: old name -> today's.
MODULES = {
    "tune": "fkp.tune",
    **{f"tune.{name}": f"fkp.tune.{name}" for name in ("algorithm", "results", "search", "space", "study", "trial")},
    **{
        f"{package}.{old}": f"fkp.tune.{new}"
        for package in ("tune", "fkp.tune")
        for old, new in {"follow": "pbt_callback", "live": "live_table", "placement": "resources", "settings": "options"}.items()
    },
}
#: Classes of those: old module -> old name -> today's name.
CLASSES: dict[str, dict[str, str]] = {}


def know_old_names() -> None:
    """Let pickled state of before find its classes, for the rest of this process."""
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        sys.meta_path.append(_OldModules())


class _OldModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a module that no other finder finds, by `MODULES`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname in MODULES else None

    def exec_module(self, module: types.ModuleType) -> None:
        today = importlib.import_module(MODULES[module.__name__])
        renamed = CLASSES.get(module.__name__, {})
        module.__path__ = []  # It may have modules of its own.
        module.__getattr__ = lambda name: getattr(today, renamed.get(name, name))  # type: ignore[method-assign]
