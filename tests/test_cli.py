"""`fkp VERB`: one word for every command, what it says without its extra, and what it costs."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fkp import cli
from fkp.errors import missing_extra

REPO = Path(__file__).resolve().parents[1]

#: What the core does not bring, in the words of an import.
NOT_IN_CORE = (
    *("torch", "pytorch_lightning", "ray", "mlflow", "pandas", "pyarrow", "scipy", "tqdm", "pydantic_settings", "requests", "onnx"),
    *("safetensors", "matplotlib", "jinja2", "sqlalchemy", "psutil", "optuna", "plotly", "rich", "fastapi", "starlette"),
)

#: Stands before a program: as if only the core were installed.
CORE_ONLY = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {NOT_IN_CORE!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def fkp(*words: str, cwd: Path = REPO, before: str = "") -> subprocess.CompletedProcess[str]:
    """Type a command."""
    code = f"{before}\nfrom fkp.cli import main\nmain({list(words)!r})"
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def test_one_word_for_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for name, verb in cli.VERBS.items():
        assert f"  {name} " in printed
        assert callable(importlib.import_module(verb.module).main)
    with pytest.raises(SystemExit) as caught:
        cli.main(["sreve"])
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: there is no verb sreve: did you mean serve?\n"


@pytest.mark.parametrize("verb", cli.VERBS)
def test_each_verb_has_help_under_its_own_name(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([verb, "--help"])
    assert caught.value.code == 0
    assert f"usage: fkp {verb} " in capsys.readouterr().out


@pytest.mark.parametrize("words", [["tune/search.py"], ["-m", "fkp.train"], ["-m", "fkp.track"], ["-m", "fkp.data"], ["-m", "fkp.predict"]])
def test_what_documents_type_starts_in_a_fresh_interpreter(words: list[str]) -> None:
    """The other tests run commands in forks of a process that has imported everything."""
    done = subprocess.run([sys.executable, *words, "--help"], cwd=REPO, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


def test_help_loads_nothing_heavy() -> None:
    heavy = ("torch", "ray", "mlflow", "pytorch_lightning", "pandas", "pyarrow", "optuna", "matplotlib", "scipy")
    for verb in cli.VERBS:
        code = f"import atexit, sys\natexit.register(lambda: print(sys.modules.keys() & set({heavy})))\nfrom fkp.cli import main\n"
        code += f"main([{verb!r}, '--help'])"
        done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.endswith("\nset()\n"), (verb, done.stdout[-200:])


def test_the_core_alone_annotates_an_image_in_an_empty_folder(tmp_path: Path) -> None:
    image = REPO / "fkp/serve/golden/face.jpg"
    done = fkp("predict", str(image), "--out", "out", cwd=tmp_path, before=CORE_ONLY)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1 faces in 1 images")
    assert (tmp_path / "out/faces.json").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train"], r"pydantic_settings is not installed, which this needs: pip install 'fkp[train]'"),
        (["evaluate"], r"pandas is not installed, which this needs: pip install 'fkp[train]'"),
        (["tune"], r"pydantic_settings is not installed, which this needs: pip install 'fkp[tune]'"),
        (["serve"], r"starlette is not installed, which this needs: pip install 'fkp[serve]'"),
        (["data", "verify"], r"pyarrow is not installed, which this needs: pip install 'fkp[train]'"),
        (["models"], r"torch is not installed, which this needs: pip install 'fkp[train]'"),
        (["track", "list"], r"mlflow is not installed, which this needs: pip install 'fkp[train]'"),
        (["cluster", "cluster.yaml"], r"ray is not installed, which this needs: pip install 'fkp[train]'"),
        (["demo"], r"pydantic_settings is not installed, which this needs: pip install 'fkp[all]'"),
        (["predict", "a.jpg", "--out", "a.parquet"], r"pyarrow is not installed, which this needs: pip install 'fkp[bulk]'"),
        (["predict", "a.mp4", "--out", "b.mp4"], r"pyarrow is not installed, which this needs: pip install 'fkp[bulk]'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_missing_extra_is_one_sentence(words: list[str], sentence: str) -> None:
    done = fkp(*words, before=CORE_ONLY)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {sentence}\n")


def test_a_module_that_no_extra_brings_is_no_missing_extra() -> None:
    assert missing_extra("fkp.nothing") is None
    assert missing_extra(None) is None
    assert missing_extra("ray.serve", "serve") == "ray is not installed, which this needs: pip install 'fkp[serve]'"
    assert missing_extra("mlflow.client", "serve") == "mlflow is not installed, which this needs: pip install 'fkp[train]'"


def test_the_old_name_of_the_search_is_understood() -> None:
    assert cli.VERBS[cli._OLD["search"]].module == "fkp.tune.search"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fkp pre", {"predict "}),
        ("fkp predict --det", {"--detector "}),
        ("fkp data ve", {"verify "}),
        ("fkp train --optim.warm", {"--optim.warmup "}),
    ],
)
def test_the_shell_completes(line: str, offered: set[str], tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    environment = os.environ | asked
    subprocess.run([sys.executable, "-m", "fkp"], cwd=REPO, env=environment, capture_output=True, timeout=60, check=False)
    assert set(answer.read_text().split("\013")) == offered
