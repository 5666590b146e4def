"""The endpoint without Ray: proxy, security, routes and model in this process, asked as ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal
from urllib.parse import urlencode

import uvicorn

from fkp.bundle import Bundle
from fkp.serve.app import _draw
from fkp.serve.bundle_source import Source
from fkp.serve.http.routes import build_api
from fkp.serve.http.security import token_digests
from fkp.serve.http.uploads import Upload
from fkp.serve.ingress.proxy_middleware import ProxyMiddleware
from fkp.serve.metrics import Metrics, render, total
from fkp.serve.model import Found, InferenceOptions, Model, load_model
from fkp.serve.settings import Settings

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class LocalEngine:
    """What a replica does without batches."""

    def __init__(self, bundle: Bundle) -> None:
        self.model: Model | None = load_model(Source(str(bundle.path)), 1, Settings().golden_nme_pct)
        self.metrics = Metrics()
        self._images = ThreadPoolExecutor(2)

    async def find(self, model: Model, upload: Upload, options: InferenceOptions, keep_image: bool = False) -> Found:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._images, model.find, upload.data, options, keep_image, upload.header)

    async def draw(self, found: Found) -> bytes:
        return _draw(found)

    async def metrics_text(self) -> str:
        return render(self.metrics, total([self.metrics.snapshot()]))

    def refused(self) -> dict[str, str] | None:
        return None

    def count_error(self, code: str) -> None:
        self.metrics.errors.labels(code).inc()

    def observe(self, path: str, status: int, seconds: float) -> None:
        self.metrics.requests.labels("other", status).inc()


def application(bundle: Bundle, token: str | None = None, origins: Sequence[str] = ()) -> ProxyMiddleware:
    """Everything that a request goes through."""
    return ProxyMiddleware(build_api(LocalEngine(bundle), token_digests(token), origins=lambda: origins))


@contextlib.contextmanager
def listening(app: Any, root_path: str = "", lifespan: Literal["on", "off"] = "on") -> Iterator[int]:
    """Serve an application over HTTP as Ray does; the port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan=lifespan, log_level="error", root_path=root_path))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def say(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """Send one request by the bytes; all that is answered.

    Args:
        port: On this machine.
        method: For instance POST.
        path: For instance /v1/keypoints.
        body: Sent at once or, where the headers say `Expect`, when the server asks for it.
        **headers: With _ for -.
    """
    lines = {"Host": "a.example", "Connection": "close", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (b"" if "Expect" in headers else body))
        while piece := connection.recv(65536):
            answer += piece
            if answer == CONTINUE:
                connection.sendall(body)
    return answer


async def post(app: Any, path: str, body: bytes, headers: Sequence[tuple[bytes, bytes]] = (), **query: Any) -> tuple[int, bytes]:
    """Send one request; its status and body."""
    status, _, answer = await ask(app, "POST", path, body, headers, **query)
    return status, answer


async def ask(
    app: Any, method: str, path: str, body: bytes = b"", headers: Sequence[tuple[bytes, bytes]] = (), **query: Any
) -> tuple[int, dict[str, str], bytes]:
    """Send one request; its status, headers and body."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": urlencode(query, doseq=True).encode(),
        "headers": list(headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:])
