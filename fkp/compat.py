"""What was written under an old name and is still read: one table of aliases for each kind of it."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

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
_STUDY = {"TellStudy": "StudyCallback", "WhenTimeIsOver": "TimeBudgetStopper"}
#: Classes of those, and of modules that kept their name: old module -> old name -> today's name.
CLASSES: dict[str, dict[str, str]] = {"tune.study": _STUDY, "fkp.tune.study": _STUDY}

#: Settings: dotted path of before -> today's.
SETTINGS = {
    "data.label_shift_px": "data.label_bias_px",
    "model.loss": "loss.kind",
    "model.code_weight": "loss.heatmap_weight",
    "model.int8": "export.int8",
}


#: Tags of registered models: today's name -> the one of before.
OLD_TAGS = {"test_identity_corrected_nme_": "test_identity_unshifted_nme_"}

#: Keys of a bundle's metrics.json: of before -> today's.
METRICS = {"unshifted": "corrected", "exposure": "leakage", "label_shift_px": "label_bias_px", "part": "subset"}


def with_todays_metrics(metrics: Any) -> Any:
    """A copy of a bundle's metrics with today's keys, at any depth."""
    if not isinstance(metrics, Mapping):
        return metrics
    return {METRICS.get(key, key): with_todays_metrics(value) for key, value in metrics.items()}


def with_todays_settings(state: Any) -> Any:
    """A copy of any JSON in which settings stand under today's names, whether sections are nested or dotted, at any depth."""
    if isinstance(state, list):
        return [with_todays_settings(value) for value in state]
    if not isinstance(state, Mapping):
        return state
    today: dict[str, Any] = {SETTINGS.get(str(key), str(key)): with_todays_settings(value) for key, value in state.items()}
    for old, new in SETTINGS.items():
        (section, name), (new_section, new_name) = old.split("."), new.split(".")
        if isinstance(today.get(section), dict) and name in today[section]:
            today.setdefault(new_section, {}).setdefault(new_name, today[section].pop(name))
    return today


def know_old_names() -> None:
    """Let pickled state of before find its classes, for the rest of this process."""
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        sys.meta_path.append(_OldModules())
    for name, classes in CLASSES.items():
        if name not in MODULES:
            module = importlib.import_module(name)
            for old, new in classes.items():
                setattr(module, old, getattr(module, new))


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
