"""What a command leaves behind: its exit status and what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from fkp.errors import FkpError, run_command


def run(command: Callable[[], int | None]) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        run_command(command)
    return caught.value.code


def raising(error: BaseException) -> Callable[[], int | None]:
    def command() -> int | None:
        raise error

    return command


def test_an_error_of_the_user_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(FkpError("disk /data is full: free some space"))) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: disk /data is full: free some space\n"


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (1, 1), (3, 3)])
def test_the_status_is_passed_on(returned: int | None, status: int) -> None:
    assert run(lambda: returned) == status


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(raising(ZeroDivisionError()))


def test_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "stopped: run the same command again\n"


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_went_away_is_no_error(lines: int) -> None:
    code = f"""
from fkp.errors import run_command
def command():
    input()  # until the reader is gone
    for _ in range({lines}):
        print("a line of output")
run_command(command)
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(b"go\n")
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 0
