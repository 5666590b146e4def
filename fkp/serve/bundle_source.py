"""Which bundle to serve, and where it lies on this machine.

A bundle of the registry is downloaded by a process of its own (`python -m fkp.serve.bundle_source URI`): MLflow takes hundreds of
megabytes, which no replica should keep. On a cluster that process runs on the head, where MLflow's server listens on
loopback, and the bundle reaches the other hosts through Ray.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from fkp.bundle.bundle_cache import cache_folder, cached_bundle
from fkp.common.ray_private import HEAD_RESOURCE
from fkp.errors import FkpError
from fkp.shipped import DEFAULT_BUNDLE

CHAMPION = "models:/fkp@champion"
_DOWNLOAD_S = 120


@dataclass(frozen=True)
class Source:
    """A bundle on this machine.

    Attributes:
        path: Its folder.
        version: Its number in the registry; None where it comes from a folder.
    """

    path: str
    version: str | None = None


def find_bundle(bundle: str) -> Source:
    """Find the bundle that a setting names, see `Settings.bundle`.

    Raises:
        FkpError: There is none, or the registry cannot be reached.
    """
    if not bundle:
        bundle = CHAMPION if os.environ.get("MLFLOW_TRACKING_URI") else str(DEFAULT_BUNDLE)
    return _from_registry(bundle) if bundle.startswith("models:/") else Source(bundle)


def _from_registry(address: str) -> Source:
    return _download_on_head(address) if _on_another_host() else _download_here(address)


def _download_here(address: str) -> Source:
    command = [sys.executable, "-m", "fkp.serve.bundle_source", address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise FkpError(f"{address} was not downloaded within {_DOWNLOAD_S} s: look after the MLflow server") from error
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise FkpError(last[0].removeprefix("error: "))
    return Source(**json.loads(done.stdout.strip().splitlines()[-1]))


def _on_another_host() -> bool:
    """Whether this process belongs to a cluster and is not on its head."""
    import ray

    if not ray.is_initialized():
        return False
    here = ray.get_runtime_context().get_node_id()
    return not any(node["NodeID"] == here and HEAD_RESOURCE in node["Resources"] for node in ray.nodes())


def _download_on_head(address: str) -> Source:
    import ray

    fetch = ray.remote(_read_here).options(num_cpus=0, resources={HEAD_RESOURCE: 0.001})
    try:
        version, digest, files = ray.get(fetch.remote(address), timeout=2 * _DOWNLOAD_S)
    except ray.exceptions.GetTimeoutError as error:
        raise FkpError(f"the cluster's head did not download {address} within {2 * _DOWNLOAD_S} s: look after it") from error

    def write(part: Path) -> Path:
        for name, content in files.items():
            (part / name).write_bytes(content)
        return part

    return Source(str(cached_bundle(cache_folder(), digest, address, write)), version)


def _read_here(address: str) -> tuple[str | None, str, dict[str, bytes]]:
    """Version, digest and files of a bundle of the registry."""
    from fkp.bundle import open_bundle

    source = _download_here(address)
    return source.version, open_bundle(source.path).digest, {path.name: path.read_bytes() for path in Path(source.path).iterdir()}


def main(argv: list[str] | None = None) -> None:
    """Download one bundle and print where it lies."""
    (address,) = sys.argv[1:] if argv is None else argv
    from fkp.track.download import download

    path, version = download(address)
    print(json.dumps(asdict(Source(str(path), version))))


if __name__ == "__main__":
    from fkp.errors import run_command

    run_command(main)
