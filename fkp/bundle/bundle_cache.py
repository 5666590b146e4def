"""Bundles of a registry on this machine, each under its digest."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from fkp.bundle.bundle import open_bundle
from fkp.common.files import install_dir
from fkp.errors import FkpError


def cache_folder() -> Path:
    """Where downloaded bundles are kept."""
    return Path(os.environ.get("FKP_CACHE") or Path.home() / ".cache" / "fkp") / "bundles"


def cached_bundle(cache: Path, digest: str, what: str, fetch: Callable[[Path], Path]) -> Path:
    """The folder of a bundle in the cache, fetched into it when it is not there or damaged.

    Args:
        cache: See `cache_folder`.
        digest: Of the bundle.
        what: Names it in an error.
        fetch: Brings it into a folder and returns its place there.

    Raises:
        FkpError: What was fetched is not the bundle of the digest.
    """
    place = cache / digest
    if not holds_bundle(place, digest):  # A disk may have lost a part of it.
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".part-") as folder:
            part = Path(folder, "bundle")
            part.mkdir()
            fetched = fetch(part)
            if open_bundle(fetched).digest != digest:
                raise FkpError(f"{what} is not the bundle that was registered: register it again")
            install_dir(fetched, place)
    return place


def holds_bundle(place: Path, digest: str) -> bool:
    """Whether a folder holds the whole bundle of the digest."""
    try:
        return open_bundle(place).digest == digest
    except FkpError:
        return False
