"""README and docs/: what they tell a person to type runs or is parsed, their numbers are the code's, their links lead somewhere."""

from __future__ import annotations

import functools
import importlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import cv2
import pytest
import uvicorn
import yaml

from fkp.cli import VERBS
from fkp.config import build_config, read_yaml
from fkp.serve import limits, settings
from fkp.serve.refusal import Code
from tests import blocks, settings_page
from tests.blocks import DOCUMENTS, PAGES, ROOT, Block
from tests.needs import missing

BLOCKS = [block for page in DOCUMENTS for block in blocks.blocks(page)]
LANGUAGES = {"bash", "python", "yaml", "text"}
TAGS = {"", "run", "endpoint", "settings", "space", "deployment", "scheme", "scrape"}


def marked(*found: Block) -> list[Any]:
    return [pytest.param(block, id=str(block)) for block in found]


def tagged(language: str, tag: str) -> list[Block]:
    return [block for block in BLOCKS if (block.language, block.tag) == (language, tag)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader's: a photograph and the models that ship."""
    folder = tmp_path_factory.mktemp("reader")
    face = cv2.imread(str(ROOT / "fkp/serve/golden/face.jpg"))
    wide = cv2.copyMakeBorder(face, 80, 80, 80, 80, cv2.BORDER_REPLICATE)
    cv2.imwrite(str(folder / "photo.jpg"), wide)
    shutil.copytree(ROOT / "saved_models", folder / "saved_models")
    return folder


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of an endpoint in this process, without Ray, that serves the shipped champion."""
    from fkp.bundle import open_bundle
    from fkp.common.ports import free_port
    from tests.serve.local import application

    found = free_port()
    server = uvicorn.Server(
        uvicorn.Config(application(open_bundle(ROOT / "saved_models/champion")), port=found, log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the endpoint did not start"
        threading.Event().wait(0.01)
    yield found
    server.should_exit = True
    thread.join()


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_every_block_says_what_it_is() -> None:
    assert len(BLOCKS) > 50
    for block in BLOCKS:
        assert block.language in LANGUAGES, f"{block}: {block.language}"
        assert block.tag in TAGS, f"{block}: {block.tag}"


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS if block.language == "python"}), ids=lambda page: page.name)
def test_the_python_of_a_page_runs(
    page: Path, place: Path, port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fkp.model import network, registry  # noqa: F401  The built-in architectures are registered before those of a page.

    monkeypatch.chdir(place)
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks.blocks(page):
        if block.language == "python":
            code = block.text.replace(":8000", f":{port}") if block.tag == "endpoint" else block.text
            exec(compile("\n" * block.line + code, str(page), "exec", dont_inherit=True), names)
    printed = capsys.readouterr().out
    assert printed.strip()
    if "Predictor()" in page.read_text():
        assert "(68, 2)" in printed


@pytest.mark.parametrize("block", marked(*(block for block in BLOCKS if block.language == "bash")))
def test_every_program_reads_the_flags_that_a_page_gives_it(block: Block) -> None:
    for words in blocks.commands(block.text):
        try:
            blocks.check(words)
        except SystemExit as error:
            pytest.fail(f"{block}: {' '.join(words)}: {error}")


@pytest.mark.parametrize("block", marked(*tagged("bash", "run")))
def test_a_command_runs_as_typed(block: Block, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    ran = 0
    for words in blocks.commands(block.text):
        assert words[0] == "fkp"
        assert not importlib.import_module(VERBS[words[1]].module).main(words[2:]), words
        ran += 1
    assert ran


@pytest.mark.parametrize("block", marked(*tagged("bash", "endpoint")))
def test_a_request_is_answered_as_typed(block: Block, place: Path, port: int) -> None:
    if shutil.which("curl") is None:
        missing("no curl: apt-get install curl")
    script = re.sub(r"\bcurl\b", "curl --silent --show-error --fail", block.text.replace(":8000", f":{port}"))
    done = subprocess.run(["bash", "-ec", script], cwd=place, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"keypoints"') >= 2
    assert (place / "annotated.png").stat().st_size > 1000


def test_settings_on_a_page_are_settings(tmp_path: Path) -> None:
    from fkp.scheme import load_scheme
    from fkp.tune.space import read_space

    tags = ("settings", "space", "scheme", "deployment", "scrape")
    (run,), (space,), (scheme,), (deployment,), (scrape,) = (tagged("yaml", tag) for tag in tags)
    path = tmp_path / "block.yaml"
    path.write_text(run.text)
    build_config(read_yaml(path))
    path.write_text(space.text)
    assert len(read_space(path, build_config()).entries) == 4
    path.write_text(scheme.text)
    assert len(load_scheme(str(path))) == 5
    settings.read_settings(yaml.safe_load(deployment.text))
    assert yaml.safe_load(scrape.text)["scrape_configs"][0]["job_name"] == "fkp"
    assert len([block for block in BLOCKS if block.language == "yaml"]) == len(tags)


# --- what the pages say -----------------------------------------------------------------------------------------------


def test_the_readme_fits_on_its_screens_and_a_page_on_its_own() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 140
    for page in PAGES:
        assert page.name == "api.md" or len(page.read_text().splitlines()) <= 200, page


def table(page: str) -> list[list[str]]:
    lines = (ROOT / "docs" / page).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ") and "---" not in line]


def number(text: str) -> float:
    value, _, unit = text.partition(" ")
    return float(value) * {"": 1, "MiB": 2**20, "GiB": 2**30, "s": 1, "px": 1, "%": 1}[unit]


def value_of(name: str) -> float:
    """What the code has under the name that a page gives it."""
    file, _, path = name.partition(": ")
    if path:
        tree: Any = settings.deployment_of(read_yaml(ROOT / file))
        return functools.reduce(lambda node, key: node[key], path.split("."), tree)
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:  # A field of a model.
        module, _, model = module.rpartition(".")
        field = getattr(importlib.import_module(module), model).model_fields[attribute]
        bounds = [bound for item in field.metadata for bound in (getattr(item, "le", None), getattr(item, "max_length", None)) if bound]
        return bounds[0] if bounds else field.default


def test_every_limit_on_the_page_is_the_code_s() -> None:
    rows = [row for row in table("limits.md") if row[-1].startswith("`")]
    assert len(rows) > 25
    for row in rows:
        assert number(row[1]) == value_of(row[-1].strip("`")), row
    named = {row[-1].strip("`") for row in rows}
    missing_ones = {name for name in vars(limits) if name.isupper() and f"fkp.serve.limits.{name}" not in named}
    assert not missing_ones, f"docs/limits.md leaves out {missing_ones}"


def test_the_serving_page_has_every_code_route_and_parameter() -> None:
    from fkp.serve.http.routes import ROUTES
    from fkp.serve.http.schemas import KeypointsParams

    page = (ROOT / "docs/serving.md").read_text()
    assert not [code for code in get_args(Code) if f"`{code}`" not in page]
    assert not [route for route in ROUTES if f"{route}`" not in page]
    assert not [name for name in KeypointsParams.model_fields if f"`{name}=" not in page]


def test_every_metric_of_the_endpoint_is_on_the_page_and_no_other() -> None:
    from fkp.serve.metrics import Metrics

    page = (ROOT / "docs/monitoring.md").read_text()
    own = {f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in Metrics().registry.collect()}
    of_render = {"fkp_proxy_refused_total", "fkp_reference_ratio", "fkp_drift"}
    assert set(re.findall(r"`(fkp_\w+)`", page)) == own | of_render


def test_every_setting_is_on_its_page() -> None:
    assert settings_page.PAGE.read_text() == settings_page.page(), "write it anew: python -m tests.settings_page"


def test_every_format_of_labels_is_on_its_page() -> None:
    from fkp.data.formats import FORMATS

    assert {row[0].strip("`") for row in table("own-faces.md") if re.match("`[^-]", row[0])} == set(FORMATS)


def test_every_scheme_is_on_the_page_of_the_data() -> None:
    from fkp.scheme import built_in

    rows = {row[0].split()[0].strip("`"): row for row in table("data.md") if row[0].startswith("`")}
    assert not [name for name in built_in() if name not in rows]


def test_every_room_is_in_the_one_table_of_rooms() -> None:
    start, end = "<!-- --8<-- [start:rooms] -->", "<!-- --8<-- [end:rooms] -->"
    table_of_rooms = (ROOT / "CONTRIBUTING.md").read_text().partition(start)[2].partition(end)[0]
    rooms = {path.name for path in (ROOT / "fkp").iterdir() if (path / "__init__.py").is_file()}
    assert len(rooms) > 10 and not [room for room in rooms if f"| `{room}/`" not in table_of_rooms]
    assert '--8<-- "CONTRIBUTING.md:rooms"' in (ROOT / "docs/architecture.md").read_text()


def test_the_results_of_the_readme_are_those_of_the_shipped_models() -> None:
    from fkp.bundle import open_bundle

    readme = (ROOT / "README.md").read_text()
    for name in ("champion", "tiny", "large"):
        found = open_bundle(ROOT / f"saved_models/{name}").metrics["test"]["identity"]["corrected"]
        (row,) = (line for line in readme.splitlines() if line.startswith("|") and f"saved_models/{name}`" in line)
        cells = [cell.strip(" *") for cell in row.split("|")]
        keys = ("nme_interocular_pct", "nme_inner51_interocular_pct", "failure_08_pct")
        assert [float(cell) for cell in cells[2:5]] == [round(found[key], digits) for key, digits in zip(keys, (2, 2, 1), strict=True)]


# --- links and the site -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}, f"{page}: {link}"


def test_the_reference_names_what_there_is() -> None:
    names = re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert len(names) > 25
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            module, _, attribute = name.rpartition(".")
            assert getattr(importlib.import_module(module), attribute).__doc__


@pytest.mark.slow("builds the site")
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None:
        missing("no MkDocs: pip install -r requirements-dev.txt brings it")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING" not in done.stderr
    built = {path.name for path in (tmp_path / "site").glob("*.html")}
    assert {page.with_suffix(".html").name for page in PAGES} <= built
    for path in (tmp_path / "site").glob("*.html"):
        assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(?:https?:)?//[^"]*"', path.read_text()), path
    assert "Predictor" in (tmp_path / "site/api.html").read_text()
