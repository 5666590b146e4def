"""What tests need of the machine beside Python's packages."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip a test for what is not here, in one line that says how to get it. In CI (`CI=true`) it is a failure: nothing may be missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


def needed(module: str, what: str) -> ModuleType:
    """Import a package of requirements-dev.txt that is there for some tests only."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        missing(f"{what}: pip install -r requirements-dev.txt brings {error.name}")
