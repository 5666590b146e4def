"""What a replica takes on at once: driven as ASGI, so that each request can be held where it should be."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterable
from typing import Any

import pytest

from fkp.bundle import Bundle
from fkp.serve import concurrency, model
from fkp.serve.concurrency import ConcurrencyLimiter, header_of
from fkp.serve.http.routes import build_api
from fkp.serve.http.security import SecurityMiddleware
from fkp.serve.limits import BURST, CROWDED_PER_S, LARGE_PIXELS_IN_PROGRESS
from fkp.vision import encoded
from fkp.vision.header import Header, read_header
from tests.serve.local import LocalEngine, post


class Held:
    """Routes that read the body and answer when they may."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.reading = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.reading += 1
        while (await receive()).get("more_body"):
            pass
        if scope["method"] == "POST":
            await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def ask(app: Any, method: str = "POST", body: Iterable[bytes] = (b"x",), uploaded: asyncio.Event | None = None) -> Any:
    """Send one request; its last part comes when `uploaded` is set. Returns status, headers and body."""
    sent: list[dict[str, Any]] = []
    parts = list(body)

    async def receive() -> dict[str, Any]:
        part = parts.pop(0)
        if not parts and uploaded is not None:
            await uploaded.wait()
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/v1/keypoints", "method": method, "headers": [], "client": ("127.0.0.1", 5)}
    await app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_what_is_too_much_is_refused_at_once_and_probes_are_not() -> None:
    async def run() -> None:
        routes = Held()
        app = SecurityMiddleware(ConcurrencyLimiter(routes, lambda: 2, burst=1))
        first = [asyncio.create_task(ask(app)) for _ in range(2)]
        await settled()
        status, headers, body = await ask(app)
        assert (status, headers[b"retry-after"]) == (429, b"1")
        assert json.loads(body)["code"] == "overloaded"
        assert (await ask(app, "GET"))[0] == 200
        routes.may_answer.set()
        assert [status for status, _, _ in await asyncio.gather(*first)] == [200, 200]
        assert (await ask(app))[0] == 200, "there is room again"

    asyncio.run(run())


def test_for_a_moment_more_are_let_in_and_under_overload_no_more() -> None:
    async def run() -> None:
        routes = Held()
        app = SecurityMiddleware(ConcurrencyLimiter(routes, lambda: 3))
        waiting = [asyncio.create_task(ask(app)) for _ in range(3 + CROWDED_PER_S)]
        await settled()
        assert routes.reading == len(waiting) < 3 * BURST
        assert [(await ask(app))[0] for _ in range(3)] == [429] * 3
        assert routes.reading == len(waiting), "the refused ones did not reach the routes"
        await asyncio.sleep(1.1)
        waiting += [asyncio.create_task(ask(app)) for _ in range(3 * BURST - len(waiting))]
        await settled()
        assert routes.reading == len(waiting), "a second later there is room again, up to the last place"
        assert (await ask(app))[0] == 429
        routes.may_answer.set()
        assert {status for status, _, _ in await asyncio.gather(*waiting)} == {200}

    asyncio.run(run())


def test_a_slow_upload_takes_no_place() -> None:
    async def run() -> None:
        routes, uploaded = Held(), asyncio.Event()
        app = SecurityMiddleware(ConcurrencyLimiter(routes, lambda: 1, burst=1))
        slow = [asyncio.create_task(ask(app, body=(b"x", b"y"), uploaded=uploaded)) for _ in range(3)]
        await settled()
        quick = asyncio.create_task(ask(app))
        await settled()
        assert routes.reading == 4, "the quick one is at work while the slow ones upload"
        uploaded.set()
        assert [status for status, _, _ in await asyncio.gather(*slow)] == [429] * 3
        routes.may_answer.set()
        assert (await quick)[0] == 200

    asyncio.run(run())


def test_a_request_that_fails_gives_its_place_back() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ValueError("broken")

    async def run() -> None:
        app = SecurityMiddleware(ConcurrencyLimiter(broken, lambda: 1))
        assert [(await ask(app))[0] for _ in range(3)] == [500] * 3

    asyncio.run(run())


def png(width: int, height: int) -> bytes:
    """The head of one."""
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height)


def test_large_images_are_limited_by_their_pixels_and_take_nobodys_place() -> None:
    async def run() -> None:
        routes, large = Held(), png(4000, 3000)
        limiter = ConcurrencyLimiter(routes, lambda: 1, burst=1)
        app = SecurityMiddleware(limiter)
        most = LARGE_PIXELS_IN_PROGRESS // 12_000_000
        waiting = [asyncio.create_task(ask(app, body=(large[:11], large[11:]))) for _ in range(most)]
        await settled()
        assert (limiter.in_progress, limiter.large_pixels) == (0, most * 12_000_000)
        status, headers, body = await ask(app, body=(b"--x\r\nContent-Disposition: form-data\r\n\r\n", large))
        assert (status, headers[b"retry-after"]) == (429, b"1") and "megapixels" in json.loads(body)["message"]
        avatar = asyncio.create_task(ask(app, body=(png(640, 480),)))
        await settled()
        assert limiter.in_progress == 1 and routes.reading == most + 2, "it is at work beside them"
        routes.may_answer.set()
        assert {status for status, _, _ in await asyncio.gather(*waiting, avatar)} == {200}
        assert (limiter.in_progress, limiter.large_pixels) == (0, 0)
        assert (await ask(app, body=(large,)))[0] == 200, "there is room again"

    asyncio.run(run())


def test_what_has_no_header_counts_as_small() -> None:
    assert [header_of(body) for body in (b"", b"x" * 99, png(0, 5), b"--x\r\nno end")] == 4 * [None]
    assert header_of(png(30, 20)) == header_of(b"--x\r\nA: b\r\n\r\n" + png(30, 20)) == Header("png", 30, 20)


@pytest.mark.parametrize("path", ["/v1/keypoints", "/v1/annotate"])
def test_the_header_of_a_raw_image_is_read_once(champion: Bundle, photo: bytes, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    read: list[int] = []

    def count(data: bytes, name: str = "image") -> Header:
        read.append(len(data))
        return read_header(data, name)

    for module in (concurrency, model, encoded):
        monkeypatch.setattr(module, "read_header", count)
    app = build_api(LocalEngine(champion))
    app.app = ConcurrencyLimiter(app.app, lambda: 8)
    assert asyncio.run(post(app, path, photo))[0] == 200
    assert len(read) == 1
    # A form's first part need not be the image that is answered: its header is read where it is used.
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + photo + b"\r\n--x--\r\n"
    assert asyncio.run(post(app, path, form, [(b"content-type", b"multipart/form-data; boundary=x")]))[0] == 200
    assert len(read) == 3
