"""JSON files of labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fkp.data.formats.source import Source
from fkp.errors import FkpError


def load(path: Path, source: Source) -> Any:
    """Content of a JSON file.

    Raises:
        FkpError: It cannot be read, or is no whole JSON.
    """
    try:
        return json.loads(source.read(path))
    except (ValueError, RecursionError) as error:
        raise FkpError(f"{source.short(path)} is no whole JSON file ({error}): export it again") from error


def starts_with(head: bytes, sign: bytes) -> bool:
    """Whether the first character of a file that is not empty is this one."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == sign
