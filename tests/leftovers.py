"""What a run of the tests leaves on the machine: processes, ports, files. The run fails for any of them; see `conftest.py`."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from multiprocessing.util import Finalize
from pathlib import Path

import psutil

#: Every process that a test starts inherits this variable, with the name of the run.
MARK = "FKP_TEST_RUN"

#: What tools write into the checkout, each named in .gitignore.
_TOOLS = {".git", ".venv", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis", ".import_linter_cache", ".coverage", "__pycache__"}
#: pytest keeps the folders of its last runs, Ray the logs of its sessions, torch a folder for compiled code, and `fkp serve` the lock
#: of its port; a worker that is ended while it hands a checkpoint over leaves it.
_TEMPORARY = ("pytest-of-", "ray", "_ray_lockfiles", "pymp-", "torchinductor_", f"fkp-{os.getuid()}-", "fkp-checkpoint-")
#: What Ray and chromium write at home.
_HOME = {".ray", ".cache", ".config", ".local", ".pki"}
_ENDING_S = 20.0
_HALF_WRITTEN = re.compile(r"\.checkpoint\.\d+\.ckpt")


class Leftovers:
    """What was there before the first test, and a home and a folder for temporary files that all processes of the run share.

    Attributes:
        temp: The folder for temporary files, with a name that is short enough for Ray's sockets in it.
        kept: Whether it stays.
    """

    def __init__(self, repo: Path) -> None:
        self._repo = repo
        self.kept = True
        self._before = self._files()
        self.temp = Path(tempfile.mkdtemp(prefix="fkp-"))
        self._home = self.temp / "home"
        self._home.mkdir()
        os.environ[MARK] = self.temp.name
        os.environ["SPT_NOENV"] = "1"  # Ray's processes rename themselves, and would write over the mark.
        os.environ.setdefault("MPLCONFIGDIR", str(Path.home() / ".cache/matplotlib"))  # Its list of fonts takes seconds.
        os.environ["TMPDIR"], os.environ["HOME"] = str(self.temp), str(self._home)
        tempfile.tempdir = None  # TMPDIR is read again.

    def find(self) -> list[str]:
        """A line for each thing that is still there; processes get some time to end."""
        until = time.monotonic() + _ENDING_S
        while (processes := self._processes()) and time.monotonic() < until:
            time.sleep(0.2)
        left = [path for path in self.temp.iterdir() if path != self._home and not path.name.startswith(_TEMPORARY)]
        # A process that a test kills, or Tune with its trial, leaves the folder of a checkpoint: empty, or with what it was writing.
        left = [path for path in left if not path.is_dir() or any(not _HALF_WRITTEN.fullmatch(file.name) for file in path.iterdir())]
        left += [path for path in self._home.iterdir() if path.name not in _HOME]
        return processes + [f"file {path}" for path in sorted([*left, *(self._files() - self._before)])]

    def remove(self) -> None:
        """Delete home and temporary files, those of the tests among them, when this process ends."""
        self.kept = False
        # After multiprocessing's own folder in there, whose priority is -100.
        Finalize(None, shutil.rmtree, args=(self.temp,), exitpriority=-200)

    def _processes(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) != os.environ[MARK] or process.pid == os.getpid():
                    continue
                command = " ".join(process.cmdline())
                # multiprocessing's two helpers end with this process.
                if not command or ("multiprocessing" in command and process.ppid() == os.getpid()):
                    continue
                listening = [c.laddr for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
            except psutil.Error:  # It has just ended, or belongs to somebody else.
                continue
            ports = "".join(f", listens on {address.ip}:{address.port}" for address in listening)
            found.append(f"process {process.pid}{ports}: {command[:200]}")
        return found

    def _files(self) -> set[Path]:
        """All names in the checkout but those of tools."""
        found: set[Path] = set()
        for folder, folders, files in os.walk(self._repo):
            folders[:] = [name for name in folders if name not in _TOOLS and not name.endswith(".egg-info")]
            found |= {Path(folder, name) for name in [*folders, *files] if not name.startswith(".coverage")}
        return found
