"""Bundles of the registry, brought to this machine."""

from __future__ import annotations

import re
from pathlib import Path

from fkp.bundle.bundle_cache import cache_folder, cached_bundle, holds_bundle
from fkp.errors import FkpError
from fkp.track.registry import ALIAS, MODEL_NAME, Registry

_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:@champion|/(?P<number>\d+))")


def registry_address(name: str) -> str | None:
    """The address of a model in the registry, `champion` in short; None for what is a folder."""
    if name == ALIAS and not Path(name).exists():
        return f"models:/{MODEL_NAME}@{ALIAS}"
    return name if name.startswith("models:/") else None


def download(address: str, cache: Path | None = None) -> tuple[Path, str]:
    """Bring a registered bundle to this machine; one that is here already is not fetched again.

    Args:
        address: models:/NAME@champion or models:/NAME/VERSION.
        cache: Folder of downloaded bundles, each under its digest; by default `cache_folder()`.

    Returns:
        Its folder, and the number of its version.

    Raises:
        FkpError: It is no address, there is no such version, the store fails, or the bundle is not the registered one.
    """
    parts = _ADDRESS.fullmatch(address)
    if parts is None:
        raise FkpError(f"{address} names no model: write models:/NAME@champion or models:/NAME/VERSION")
    registry = Registry(parts["name"])
    version = registry.version(int(parts["number"])) if parts["number"] else registry.champion()

    def fetch(part: Path) -> Path:
        fetched = registry.fetch(version, part)
        if not holds_bundle(fetched, digest):
            raise registry.lost(version, "damaged")
        return fetched

    digest = version.digest
    place = cached_bundle(cache or cache_folder(), digest, f"version {version.number} of {parts['name']}", fetch)
    return place, str(version.number)
