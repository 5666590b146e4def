"""What stands beside the package: citation, security, the workflow of forks, the images of the documentation."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

import fkp
from fkp.serve import limits
from fkp.vision.image import decode_image, read_image
from tests import installed

REPO = Path(__file__).resolve().parents[1]
IMAGES = REPO / "docs/images"
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]


def test_the_citation_is_valid_and_of_this_version() -> None:
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    # Of the schema 1.2.0: what must be there, and the types of what is.
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    optional = {"abstract", "date-released", "doi", "identifiers", "keywords", "license", "repository-code", "type", "url", "version"}
    assert set(citation) <= {"cff-version", "message", "title", "authors"} | optional
    assert (citation["cff-version"], citation["type"], citation["license"]) == ("1.2.0", "software", PROJECT["license"])
    assert all(set(author) == {"name"} or {"family-names", "given-names"} <= set(author) for author in citation["authors"])
    assert citation["authors"][0]["name"].lower() in (REPO / "LICENSE").read_text().lower()
    assert len(set(citation["keywords"])) == len(citation["keywords"])
    assert citation["version"] == fkp.__version__ == PROJECT["version"]


def test_the_limits_in_the_security_policy_are_those_of_the_endpoint() -> None:
    text = (REPO / "SECURITY.md").read_text()
    assert f"{limits.BODY_BYTES >> 20} MiB a body, {limits.PIXELS:,} pixels and {limits.SIDE_PX} px a side" in text
    assert f"{limits.IMAGES} images a batch, {limits.REQUEST_S} s a request" in text
    assert f"at least {limits.TOKEN_CHARACTERS} characters" in text and limits.TOKENS == 2
    for path in re.findall(r"`((?:cluster|serve|benchmarks|fkp)/[\w/.]+)`", text):
        assert (REPO / path).exists(), path


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    return yaml.safe_load((REPO / ".github/workflows/test.yml").read_text())


def test_the_workflow_s_commands_exist(workflow: dict[str, Any]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), re.MULTILINE))
    commands = [step["run"].split() for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    made = [command[1] for command in commands if command[0] == "make"]
    assert {"install", "test"} == set(made) and set(made) <= targets
    (script,) = [command for command in commands if command[0] == "python"]
    assert (REPO / script[1]).is_file()
    told = subprocess.run([sys.executable, REPO / script[1], "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert all(flag in told for flag in script if flag.startswith("--")) and "--only" in script
    assert {command[0] for command in commands} == {"apt-get", "make", "python"}


def test_the_workflow_has_every_python_and_few_rights(workflow: dict[str, Any]) -> None:
    versions = workflow["jobs"]["wheel"]["strategy"]["matrix"]["python"]
    assert tuple(versions) == installed.VERSIONS
    named = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"])
    assert named and [f"3.{minor}" for minor in range(int(named[1]), int(named[2]))] == versions
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in (REPO / ".github/workflows/test.yml").read_text()


def test_every_image_has_its_origin_and_is_small() -> None:
    origin = (IMAGES / "ORIGIN.md").read_text()
    stored = sorted(path for path in IMAGES.rglob("*") if path.suffix in (".jpg", ".png"))
    assert len(stored) >= 12
    for path in stored:
        assert f"`{path.name}`" in origin, path.name
        assert min(decode_image(path.read_bytes()).shape[:2]) >= 350, path.name
        assert path.stat().st_size < 500_000, path.name
    assert sum(path.stat().st_size for path in IMAGES.glob("sfhq/*.jpg")) < 400_000
    licence = (IMAGES / "sfhq/LICENSE").read_text()
    assert licence.startswith("MIT License")
    assert all("Copyright (c) 2024 David Beniaguev" in text for text in (licence, origin))


@pytest.mark.over_5s("matplotlib and two predictors are loaded")
def test_the_images_are_what_the_shipped_models_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPO / "benchmarks")
    figures = importlib.import_module("figures")
    assert all((IMAGES / file).is_file() for file, _ in figures.FIGURES.values())
    for name in ("use", "synthetic"):
        file, make = figures.FIGURES[name]
        stored, anew = read_image(IMAGES / file), decode_image(make(None))
        assert stored.shape == anew.shape, name
        # Thin lines elsewhere would change a few percent of all pixels a lot; another libjpeg or font changes few, or all a little.
        changed = (np.abs(cv2.blur(stored, (3, 3)).astype(int) - cv2.blur(anew, (3, 3))).max(-1) > 40).mean()
        assert changed < 0.002, f"{file} is not of today's model: make figures"
