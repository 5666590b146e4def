"""Free ports are free, and stay so while Ray opens its connections."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence

import pytest

from fkp.common import ports


def test_a_free_port_can_be_had_and_is_none_that_connections_get() -> None:
    found = {ports.free_port() for _ in range(20)}
    assert len(found) > 10
    for port in found:
        assert port in ports.RANGE
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as connection:
        assert connection.getsockname()[1] not in ports.RANGE


def test_serve_s_replicas_get_none_of_them() -> None:
    from ray.serve._private.constants import RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT

    assert ports.RANGE.stop <= RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT


def test_a_taken_port_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    taken_port, other_port = ports.free_port(), ports.free_port()

    def sample(_: random.Random, among: Sequence[int], count: int) -> list[int]:
        assert {taken_port, other_port} <= set(among)
        return [taken_port, other_port][:count]

    monkeypatch.setattr(random.SystemRandom, "sample", sample)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", taken_port))
        assert ports.free_port() == other_port
        monkeypatch.setattr(random.SystemRandom, "sample", lambda *_: [taken_port])
        with pytest.raises(OSError, match="no free port"):
            ports.free_port()
