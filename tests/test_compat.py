"""What was written under an old name is still read."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.over_5s("Tune is imported, in a fork that is the first of its process")
def test_what_a_search_pickled_under_old_names_is_found(
    run_process: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    code = """
import importlib, pickle
from fkp import compat
from fkp.tune import options, study
compat.know_old_names()
for name, today in compat.MODULES.items():
    assert importlib.import_module(name) and importlib.import_module(today)
assert pickle.loads(b"ctune.settings\\nSettings\\n.") is options.Settings
assert pickle.loads(b"cfkp.tune.settings\\nSettings\\n.") is options.Settings
assert pickle.loads(b"ctune.study\\nTellStudy\\n.") is study.TellStudy
"""
    done = run_process("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
