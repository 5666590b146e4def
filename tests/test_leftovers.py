"""The tests' own rules: what is left behind is found, and nothing is missing in CI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import missing, needed

REPO = Path(__file__).resolve().parents[1]

#: A run whose tests leave a server, a file in the checkout, a temporary file and one at home; and pytest's own folder.
RUN = """
import pathlib, subprocess, sys, tempfile
from tests import leftovers
leftovers._ENDING_S = 0.5
repo = pathlib.Path(sys.argv[1])
run = leftovers.Leftovers(repo)
print(run.find())
code = "import http.server as h; s = h.HTTPServer(('127.0.0.1', 0), None); print(s.server_port, flush=True); s.serve_forever()"
server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
print(server.stdout.readline(), end="")
for path in (repo / "inner/new", pathlib.Path(tempfile.gettempdir(), "new"), pathlib.Path.home() / "new"):
    path.touch()
pathlib.Path(tempfile.gettempdir(), "pytest-of-me").mkdir()
for name, file in (("tmpdead", ".checkpoint.4618.ckpt"), ("tmpleft", "checkpoint.ckpt")):
    folder = pathlib.Path(tempfile.gettempdir(), name)
    folder.mkdir()
    (folder / file).touch()
print(*run.find(), sep="\\n")
server.kill()
server.wait()
run.remove()
print(run.temp)
"""


def test_processes_ports_and_files_that_are_left_are_named(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/old").touch()
    done = subprocess.run([sys.executable, "-c", RUN, str(tmp_path)], cwd=REPO, capture_output=True, text=True, timeout=60, check=True)
    before, port, server, *files, temp = done.stdout.splitlines()
    assert before == "[]"
    assert server.startswith("process ") and f", listens on 127.0.0.1:{port}: {sys.executable} -c import http.server" in server
    assert f"file {tmp_path}/inner/new" in files
    # What a killed process was writing is no fault of a test; a whole checkpoint is.
    assert sorted(Path(line).name for line in files) == ["new"] * 3 + ["tmpleft"]
    assert not Path(temp).exists()


def test_what_is_missing_is_skipped_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, outcome in (("", pytest.skip.Exception), ("true", pytest.fail.Exception)):
        monkeypatch.setenv("CI", value)
        with pytest.raises(outcome, match=r"^no browser: apt-get install chromium$"):
            missing("no browser: apt-get install chromium")
        with pytest.raises(outcome, match=r"^no S3 server: pip install -r requirements-dev.txt brings absent_package$"):
            needed("absent_package.server", "no S3 server")
    with pytest.raises(ModuleNotFoundError):
        needed("moto.absent", "no S3 server")
