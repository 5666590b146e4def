"""The client of serve_load.py and serve_faults.py: HTTP/1.1 on loopback, as little of it as asks what these two ask.

It runs on the cores of what it measures. Of the 3.8 ms that a request took of two busy cores, 0.23 were aiohttp's; this takes
0.10.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit


class Client(asyncio.Protocol):
    """One kept connection: a request at a time."""

    def __init__(self, url: str, body: bytes) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname, parts.port
        self._head = f"POST {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: image/jpeg\r\nContent-Length: "
        self._request = self._with(body)
        self._transport: Any = None
        self._read = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def _with(self, body: bytes) -> bytes:
        return f"{self._head}{len(body)}\r\n\r\n".encode() + body

    async def post(self, body: bytes | None = None) -> tuple[int, bytes]:
        """Send the request, or one with another body; status and body of its answer.

        Raises:
            OSError: There is no connection, or it ended before the answer did.
        """
        loop = asyncio.get_running_loop()
        if self._transport is None or self._transport.is_closing():
            await loop.create_connection(lambda: self, *self._address)
        self._answer = answer = loop.create_future()
        self._transport.write(self._request if body is None else self._with(body))
        return await answer

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    # --- called by asyncio ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport
        self._read.clear()

    def data_received(self, data: bytes) -> None:
        """Gather an answer until it is whole."""
        self._read += data
        end = self._read.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._read[:end]).lower()
        _, stated, rest = head.partition(b"\r\ncontent-length:")
        if stated:
            length = int(rest.partition(b"\r\n")[0])
            if len(self._read) < end + 4 + length:
                return
        elif not self._read.endswith(b"\r\n0\r\n\r\n"):  # In chunks, as Ray's proxy refuses.
            return
        status, body = int(head[9:12]), bytes(self._read[end + 4 :])
        self._read.clear()
        if b"\r\nconnection: close" in head:
            self._transport.close()
        assert self._answer is not None
        self._answer.set_result((status, body))

    def connection_lost(self, error: Exception | None) -> None:
        """Whoever waits learns of it."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the connection ended without an answer"))
