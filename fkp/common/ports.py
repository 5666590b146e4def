"""Free ports."""

from __future__ import annotations

import random
import socket

#: Above the ports that Ray gives its workers (10002 to 19999), below those of Serve's replicas (30000 to 31000), and below those that a
#: system gives to connections (from 32768 on Linux): Ray opens hundreds of these between the choice of a port and its use.
RANGE = range(20000, 30000)

_TRIES = 100


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at the moment, and that no connection will be given.

    Raises:
        OSError: All that were tried are taken.
    """
    for port in random.SystemRandom().sample(RANGE, _TRIES):
        try:
            probe("127.0.0.1", port)
        except OSError:  # Somebody has it: the next one.
            continue
        return port
    raise OSError(f"127.0.0.1 has no free port among {_TRIES} between {RANGE.start} and {RANGE.stop - 1}")


def probe(host: str, port: int) -> None:
    """Try whether a server can have an address, and leave it.

    Raises:
        OSError: It cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, port))
