"""Free ports."""

from __future__ import annotations

import random
import socket

#: Above those that Ray gives its workers (10002 to 19999) and below those that a system gives to connections (from 32768 on Linux):
#: Ray opens hundreds of these between the choice of a port and its use, and one of them may be the chosen one.
RANGE = range(20000, 32768)

_TRIES = 100


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at the moment, and that no connection will be given.

    Raises:
        OSError: All that were tried are taken.
    """
    for port in random.SystemRandom().sample(RANGE, _TRIES):
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:  # Somebody has it: the next one.
                continue
            return port
    raise OSError(f"127.0.0.1 has no free port among {_TRIES} between {RANGE.start} and {RANGE.stop - 1}")
