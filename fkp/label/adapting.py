"""`fkp adapt` in the background of the page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fkp.errors import FkpError

_BAR = re.compile(r"^(?P<about>[^|]*?):\s*(?P<pct>\d+)%\|")


class Adapting:
    """One adaptation at a time, by a process of its own.

    Attributes:
        state: "idle", "running", "done" or "failed".
        step: What it is at.
        pct: Part of that step that is done; None: not known.
        lines: What it has printed.
        report: Content of its JSON report, once it is done.
        out: Where the model goes.
    """

    def __init__(self) -> None:
        self.state, self.step = "idle", ""
        self.pct: int | None = None
        self.lines: list[str] = []
        self.report: dict[str, Any] | None = None
        self.out: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def start(self, folder: Path, model: str, out: Path, ended: Callable[[], None], ways: Sequence[str] = ()) -> None:
        """Begin.

        Args:
            folder: The set.
            model: To begin from.
            out: For the model.
            ended: Called when a model was written.
            ways: See `fkp adapt`; none: all.

        Raises:
            FkpError: One runs already, or no process can be started.
        """
        if self.state == "running":
            raise FkpError("a model is being adapted: wait for it, or stop it")
        command = [sys.executable, "-m", "fkp", "adapt", str(folder), "--model", model, "--out", str(out)]
        try:
            self._process = subprocess.Popen(
                command + (["--ways", *ways] if ways else []), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise FkpError(f"cannot start `fkp adapt`: {error.strerror or error}: end other programs and try again") from error
        self.state, self.step, self.pct, self.lines, self.report, self.out = "running", "starting", None, [], None, out
        self._stopped = False
        self._thread = threading.Thread(target=self._follow, args=(self._process, ended), name="adapt", daemon=True)
        self._thread.start()

    def resume(self, out: Path) -> None:
        """What the adaptation that has written this model has said, where its report is still there: nothing else needs it."""
        try:
            self.report = json.loads(_report_of(out).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        self.state, self.out = "done", out

    def stop(self) -> None:
        """End it, and wait for that."""
        if self._process is not None and self.state == "running":
            self._stopped = True
            self._process.terminate()
        if self._thread is not None:
            self._thread.join()

    def to_json(self) -> dict[str, Any]:
        """What the page shows."""
        spans = {name: self.report.get(name) for name in ("before", "after", "gain")} if self.report else None
        helps = self.report["helps"] if self.report else None
        own = {"state": self.state, "step": self.step, "pct": self.pct, "lines": self.lines[-12:], "spans": spans, "helps": helps}
        written = self.out is not None and self.state == "done" and self.out.is_dir()
        return {**own, "out": str(self.out) if self.out else None, "written": written}

    def _follow(self, process: subprocess.Popen[bytes], ended: Callable[[], None]) -> None:
        assert process.stderr is not None
        assert process.stdout is not None
        assert self.out is not None
        printed: list[bytes] = []
        reader = threading.Thread(target=lambda: printed.append(process.stdout.read()), daemon=True)  # type: ignore[union-attr]
        reader.start()
        rest = b""
        said: list[str] = []
        while piece := process.stderr.read1():  # type: ignore[attr-defined]
            *whole, rest = re.split(rb"[\r\n]+", rest + piece)
            for line in (one.decode(errors="replace").strip() for one in whole):
                if bar := _BAR.match(line):
                    self.step, self.pct = bar["about"], int(bar["pct"])
                elif line:
                    said.append(line)
                    if not line.startswith(("warning", "error", "Traceback", " ")):
                        self.step, self.pct = line, None
        status = process.wait()
        reader.join()
        process.stderr.close()
        process.stdout.close()
        said += [line for line in (rest.decode(errors="replace").strip(),) if line and not _BAR.match(line)]
        self.lines = b"".join(printed).decode(errors="replace").splitlines()
        if status:
            why = "stopped" if self._stopped else next((line for line in reversed(said) if line.startswith("error: ")), f"status {status}")
            self.step, self.state = why.removeprefix("error: "), "failed"
            return
        self.report = json.loads(_report_of(self.out).read_text(encoding="utf-8"))
        if self.out.is_dir():
            try:
                ended()
            except FkpError as error:
                self.step, self.state = str(error), "failed"
                return
        self.step, self.state = "", "done"


def _report_of(model: Path) -> Path:
    return model.with_name(f"{model.name}-report.json")
