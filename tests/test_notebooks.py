"""The notebooks: stored with outputs that show nothing of the machine that made them, and executed."""

from __future__ import annotations

import base64
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from fkp.vision.image import decode_image
from tests.needs import needed

REPO = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))

#: Folders of somebody's machine, temporary files, colours of a terminal.
_FOREIGN = re.compile(r"/(?:home|root|Users|tmp|work|var|opt|usr)/|[A-Z]:\\\\|file://|\x1b\[")

#: What a run on any machine shows.
SHOWN = {
    "evaluate": ("400 faces; held out for the test: 111",),
    "quickstart": ("the same landmarks as above: True", "ended with status 130, as after Ctrl-C", "50 frames, 1 faces"),
}


def cells_of(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def text_of(output: dict[str, Any]) -> str:
    """What an output shows as text: lists of lines, as the format stores them, joined."""
    parts = [output.get("text", ""), *(part for kind, part in output.get("data", {}).items() if kind.startswith("text/"))]
    return "\n".join("".join(part) for part in parts)


def kinds_of(cells: list[dict[str, Any]]) -> list[list[list[str]]]:
    """For each cell the kinds of its outputs; in how many pieces printed lines come is a matter of time."""
    kinds = [[sorted(output.get("data", [output.get("name")])) for output in cell["outputs"]] for cell in cells]
    return [[kind for kind, _ in itertools.groupby(cell)] for cell in kinds]


def test_both_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["evaluate", "quickstart"]
    assert sum(path.stat().st_size for path in NOTEBOOKS) < 1_500_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_as_one_run_from_top_to_bottom_made_it(path: Path) -> None:
    cells = cells_of(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert sum(bool(cell["outputs"]) for cell in cells) > len(cells) / 2
    images = [data for output in outputs for kind, data in output.get("data", {}).items() if kind.startswith("image/")]
    assert len(images) >= 3
    assert all(decode_image(base64.b64decode("".join(data))).std() > 10 for data in images)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_outputs_name_no_machine(path: Path) -> None:
    shown = [text_of(output) for cell in cells_of(path) for output in cell["outputs"]]
    assert len("".join(shown)) > 500
    assert [found for text in shown for found in _FOREIGN.findall(text)] == []
    assert set(json.loads(path.read_text())["metadata"]) <= {"kernelspec", "language_info"}


@pytest.mark.slow("whole notebooks, one with an endpoint")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    nbformat = needed("nbformat", "no notebooks")
    nbclient = needed("nbclient", "no notebooks")
    needed("ipykernel", "no notebooks")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        cell.outputs = []
    nbclient.NotebookClient(notebook, timeout=280, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    cells = [cell for cell in json.loads(nbformat.writes(notebook))["cells"] if cell["cell_type"] == "code"]
    assert kinds_of(cells) == kinds_of(cells_of(path))
    shown = "\n".join(text_of(output) for cell in cells for output in cell["outputs"])
    for line in SHOWN[path.stem]:
        assert line in shown
