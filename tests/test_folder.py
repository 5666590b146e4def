"""Files and folders that appear whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from fkp.folder import write_json


def test_json_is_written_whole(tmp_path: Path) -> None:
    assert write_json(tmp_path / "metrics.json", {"a": 1.5}).read_text() == '{\n  "a": 1.5\n}\n'
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "metrics.json", {"a": float("nan")})
