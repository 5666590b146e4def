"""Ctrl-C and SIGTERM: the first ends a command in order and with one line; a second one, while it tidies up, at once.

Python raises KeyboardInterrupt for Ctrl-C alone, and libraries put handlers of their own in its place: Ray and Lightning for both
signals, Ray Train and Ray Tune for Ctrl-C. Here both raise KeyboardInterrupt, and `received` tells which it was.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

#: What to say where nothing is kept.
ANEW = "run the same command again"

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: `timeout`, and whoever sends to a process and to its group, sends the same signal twice.
_SAME_S = 0.2
_AGAIN_S = 0.05

_heeded: tuple[int, ...] = ()
_received: int | None = None
_received_at = 0.0
_hints: list[Callable[[], str]] = []
_actions: list[Callable[[], object]] = []


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Raise KeyboardInterrupt in the main thread for either signal while the block runs.

    A signal that the process was started to ignore, as a shell has it for what runs in the background, stays ignored. After a signal
    the handlers stay: the interpreter's end can be broken off as well.
    """
    global _heeded, _received
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    hook = sys.unraisablehook
    _heeded = tuple(number for number in _SIGNALS if before[number] != signal.SIG_IGN)
    _received = None
    _hints.clear()
    _actions.clear()
    _take_over()
    sys.unraisablehook = lambda event: _dropped() if event.exc_type is KeyboardInterrupt else hook(event)
    try:
        yield
    finally:
        if _received is None:
            _heeded = ()
            sys.unraisablehook = hook
            for number, handler in before.items():
                if handler is not None:  # None: it is not Python's.
                    signal.signal(number, handler)


def received() -> int | None:
    """The signal that has come since `heeded` began; None for none."""
    return _received


def stops(error: BaseException) -> bool:
    """Whether an error ends a block because the command was stopped: whatever is raised after a signal comes of it."""
    return _received is not None or isinstance(error, KeyboardInterrupt)


def sentence() -> str:
    """What to say about the end: what is kept, and how to go on."""
    return _hints[0]() if _hints else ANEW


@contextlib.contextmanager
def hint(tell: str | Callable[[], str]) -> Iterator[None]:
    """What to say when the block is stopped; that of an outer block counts for more."""
    told = tell if callable(tell) else lambda: tell
    _hints.append(told)
    try:
        yield
    finally:
        if _received is None:  # It is said after the block.
            _hints.remove(told)


@contextlib.contextmanager
def instead(action: Callable[[], object]) -> Iterator[None]:
    """While the block runs, call this at the first signal and raise nothing: the block ends by itself."""
    _actions.append(action)
    try:
        yield
    finally:
        _actions.remove(action)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Around a call of a library that changes the handlers, or ends the process at a signal: afterwards they are ours again.

    Raises:
        KeyboardInterrupt: The library has turned a signal into SystemExit.
    """
    global _received, _received_at
    try:
        yield
    except SystemExit as error:
        if _heeded and _received is None and error.code == signal.SIGTERM:  # So Ray does.
            _received, _received_at = signal.SIGTERM, time.monotonic()
        if _received is not None:
            raise KeyboardInterrupt from None
        raise
    finally:
        _take_over()


def _take_over() -> None:
    for number in _heeded:
        signal.signal(number, _handle)


def _handle(number: int, frame: Any) -> None:
    global _received, _received_at
    if number in _SIGNALS:
        if _received is not None:
            if time.monotonic() - _received_at >= _SAME_S:
                with contextlib.suppress(OSError):  # A progress bar may stand there.
                    os.write(2, f"\nstopped at once: {sentence()}\n".encode())
                os._exit(128 + number)
            return
        _received, _received_at = number, time.monotonic()
        if _actions:
            _actions[-1]()
            return
    raise KeyboardInterrupt


def _dropped() -> None:
    """The interrupt came in a destructor or a callback, where Python drops what is raised: raise it again behind that."""
    signal.signal(signal.SIGALRM, _handle)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
