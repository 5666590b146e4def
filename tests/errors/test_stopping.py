"""Ctrl-C and SIGTERM: status, one line, a second one, and what libraries do with the handlers."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.processes import Process

HEAD = """
import os, signal, sys, threading, time
from fkp.errors import stopping
from fkp.errors import FkpError, run_command

def wait():
    print("ready", flush=True)
    time.sleep(30)

def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)
    time.sleep(30)
"""


@pytest.fixture
def run(start_process: Callable[..., Process]) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run code as a command that has `wait`, `send` and the modules of `HEAD`."""
    return lambda code: start_process("-c", f"{HEAD}\n{code}\nrun_command(main)").completed(60)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_either_signal_is_one_line_and_a_status(start_process: Callable[..., Process], number: int, status: int) -> None:
    code = """
def main():
    with stopping.hint("what was done is kept; continue with the same command"):
        try:
            wait()
        finally:
            print("tidy")
"""
    process = start_process("-c", f"{HEAD}\n{code}\nrun_command(main)")
    process.wait_for_line("ready")
    process.send_signal(number)
    assert process.wait(20) == status
    assert (process.out, process.err) == ("ready\ntidy\n", "stopped: what was done is kept; continue with the same command\n")


def test_a_second_one_ends_the_tidying_up_at_once(start_process: Callable[..., Process]) -> None:
    code = """
def main():
    with stopping.hint("the same command continues"):
        try:
            wait()
        finally:
            print("tidying", flush=True)
            time.sleep(30)
"""
    process = start_process("-c", f"{HEAD}\n{code}\nrun_command(main)")
    process.wait_for_line("ready")
    process.send_signal(signal.SIGINT)
    process.wait_for_line("tidying")
    time.sleep(0.5)  # Longer than what counts as one signal.
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert process.err == "\nstopped at once: the same command continues\n"


def test_one_that_is_sent_to_the_process_and_to_its_group_counts_once(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run("""
def main():
    try:
        send(signal.SIGTERM)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        print("tidy")
""")
    assert (done.returncode, done.stdout, done.stderr) == (143, "tidy\n", "stopped: run the same command again\n")


def test_the_outer_hint_counts_and_what_is_raised_afterwards_is_no_news(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run("""
def main():
    with stopping.hint("outer"), stopping.hint(lambda: "inner"):
        try:
            send()
        except KeyboardInterrupt:
            raise FkpError("the worker is gone")
""")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped: outer\n")


def test_an_interrupt_that_python_drops_is_raised_again(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run("""
class Thing:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

def main():
    thing = Thing()
    del thing
    time.sleep(30)
""")
    assert (done.returncode, done.stderr) == (130, "stopped: run the same command again\n")


def test_a_library_keeps_neither_the_handlers_nor_the_end(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run("""
def library():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)

def main():
    try:
        with stopping.kept():
            library()
    finally:
        print(stopping.received() == signal.SIGTERM, signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGTERM))
""")
    assert (done.returncode, done.stdout, done.stderr) == (143, "True True\n", "stopped: run the same command again\n")


def test_what_ends_by_itself_is_told_and_not_interrupted(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run("""
def main():
    over = threading.Event()
    with stopping.instead(over.set):
        os.kill(os.getpid(), signal.SIGINT)
        over.wait(30)
    print(over.is_set())
    raise KeyboardInterrupt
""")
    assert (done.returncode, done.stdout) == (130, "True\n")


def test_a_signal_that_the_process_was_started_to_ignore_stays_ignored(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run("""
signal.signal(signal.SIGINT, signal.SIG_IGN)

def main():
    os.kill(os.getpid(), signal.SIGINT)
    print("went on")
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")
