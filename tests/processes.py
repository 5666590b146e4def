"""Commands as processes of their own, forked from one that has imported everything: they start in a tenth of a second.

A fork is a real process: it has its own number, working folder, environment, signals and exit status. What a fresh interpreter
imports is not tested this way; `test_imports.py` does that.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_PATIENCE_S = 120.0

#: What the commands import, torch, Lightning, Ray and MLflow among it. None of these starts a thread of Python's.
_PRELOADED = [
    "fkp.demo",
    "fkp.data.__main__",
    "fkp.evaluation.__main__",
    "fkp.predict.__main__",
    "fkp.evaluation.report",
    "fkp.label.app",
    "fkp.predict.torch_session",
    "fkp.track.__main__",
    "fkp.track.registry",
    "fkp.train.pipeline",
    "fkp.train.ray_backend",
    "mlflow.pyfunc",
    "onnxscript",
    "ray.serve",
    "ray.train.torch",
    "fkp.serve.launch",
    "fkp.tune.search",
]


class Process:
    """A command that was started; used like `subprocess.Popen`.

    Attributes:
        pid: Its number.
        args: A module, a script or `-c` and code, and what stands behind it on the command line.
    """

    def __init__(self, args: Sequence[str], cwd: Path, environment: Mapping[str, str], log: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        self.args = list(args)
        self._out, self._err = log.with_suffix(".out"), log.with_suffix(".err")
        self._process: ForkServerProcess = context.Process(
            target=_become, args=(self.args, str(cwd), dict(environment), str(self._out), str(self._err))
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def out(self) -> str:
        """What it has printed on stdout until now."""
        return self._out.read_text() if self._out.exists() else ""

    @property
    def err(self) -> str:
        """The same on stderr."""
        return self._err.read_text() if self._err.exists() else ""

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout_s: float = _PATIENCE_S) -> int:
        """Its exit status, as soon as it has ended."""
        self._process.join(timeout_s)
        status = self.poll()
        assert status is not None, f"still running after {timeout_s:g} s: {self.args}\n{self.out[-2000:]}\n{self.err[-2000:]}"
        return status

    def completed(self, timeout_s: float = _PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """Wait for the end; what `subprocess.run` returns."""
        status = self.wait(timeout_s)
        return subprocess.CompletedProcess(self.args, status, self.out, self.err)

    def wait_for_line(self, start: str, timeout_s: float = _PATIENCE_S) -> str:
        """The first whole line on stdout that starts so."""
        until = time.monotonic() + timeout_s
        while True:
            ended = self.poll() is not None
            whole = self.out.rpartition("\n")[0].splitlines()
            if found := [line for line in whole if line.startswith(start)]:
                return found[0]
            assert not ended, f"ended without a line {start}...: {self.args}\n{self.err[-2000:]}"
            assert time.monotonic() < until, f"no line {start}... after {timeout_s:g} s: {self.args}\n{self.err[-2000:]}"
            time.sleep(0.02)

    def send_signal(self, number: int) -> None:
        """As `kill -NUMBER` does; a process that has ended is left in peace."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def press(self, number: int = signal.SIGINT) -> None:
        """As a terminal does it for Ctrl-C: the signal goes to the command and to all that it has started in its group."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)
        self.wait()


def _become(args: list[str], cwd: str, environment: Mapping[str, str], out: str, err: str) -> None:
    """In the fork: do what the interpreter does with `-c CODE`, a script (its name ends with .py) or `-m MODULE`."""
    for target, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), target)
    os.setpgid(0, 0)  # As a shell does.
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = list(args)
    name = args[0]
    # Its code runs once more under another name, as it does with `python -m` when somebody else imports it.
    warnings.filterwarnings("ignore", "'.*' found in sys.modules", RuntimeWarning)
    if "coverage" in sys.modules:  # That of the process it is forked from; multiprocessing starts one for the fork.
        atexit.unregister(sys.modules["coverage"].process_startup.coverage._atexit)
    try:
        if name == "-c":
            sys.argv = ["-c", *args[2:]]
            exec(compile(args[1], "<string>", "exec"), {"__name__": "__main__"})
        elif name.endswith(".py"):
            sys.path.insert(0, str(Path(name).parent))
            runpy.run_path(name, run_name="__main__")
        else:
            sys.path.insert(0, cwd)
            runpy.run_module(name, run_name="__main__", alter_sys=True)
    finally:
        # The interpreter's end, which a fork of multiprocessing leaves out.
        atexit._run_exitfuncs()
        sys.stdout.flush()
