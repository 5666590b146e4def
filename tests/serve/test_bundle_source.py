"""Bundles of a real registry, fetched by a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from fkp.bundle import Bundle, open_bundle
from fkp.errors import FkpError
from fkp.serve.bundle_source import CHAMPION, find_bundle


@pytest.mark.slow("five processes that import MLflow")
def test_champion_and_versions_are_downloaded_once(
    store: tuple[str, list[Bundle]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, bundles = store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("FKP_CACHE", str(tmp_path))
    source = find_bundle("")
    assert (open_bundle(source.path).digest, source.version) == (bundles[0].digest, "1")
    assert Path(source.path) == tmp_path / "bundles" / bundles[0].digest
    before = Path(source.path).stat().st_mtime_ns
    assert find_bundle(CHAMPION) == source
    assert Path(source.path).stat().st_mtime_ns == before
    second = find_bundle("models:/fkp/2")
    assert (open_bundle(second.path).digest, second.version) == (bundles[1].digest, "2")
    with pytest.raises(FkpError, match=r"^there is no version 9 of fkp in sqlite.*: there is 1, 2$"):
        find_bundle("models:/fkp/9")
    weights = Path(source.path) / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    assert find_bundle("models:/fkp/1") == source, "what a disk has damaged is fetched again"
    assert weights.read_bytes() == whole
    assert sorted(path.name for path in (tmp_path / "bundles").iterdir()) == sorted(bundle.digest for bundle in bundles)
