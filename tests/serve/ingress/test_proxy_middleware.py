"""What Ray's proxy gets to see: driven as ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from ray.serve._private.http_util import parse_disconnect_disabled_header, parse_request_timeout_header

from fkp.serve.ingress.proxy_middleware import RAY_OVERRIDES, ProxyMiddleware, middlewares

LIMIT = 1000


class Ray:
    """Reads what it is given, as Ray's proxy does, and answers."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}
        self.messages: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        self.messages = [await receive(), await receive()]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


@dataclass
class Knocked:
    status: int
    headers: dict[bytes, bytes]
    body: bytes
    read: int

    @property
    def json(self) -> dict[str, str]:
        return json.loads(self.body)


async def through(
    proxy: ProxyMiddleware,
    headers: Sequence[tuple[bytes, bytes]] = (),
    chunks: Sequence[bytes] = (b"",),
    path: str = "/v1/keypoints",
    pause_s: float = 0.0,
    leave: bool = False,
) -> Knocked:
    """Send one request through Ray's proxy: what came back, and how many messages were read."""
    sent: list[dict[str, Any]] = []
    read = 0

    async def receive() -> dict[str, Any]:
        nonlocal read
        await asyncio.sleep(pause_s)
        read += 1
        if read > len(chunks):
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunks[read - 1], "more_body": leave or read < len(chunks)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await proxy({"type": "http", "path": path, "method": "POST", "headers": list(headers)}, receive, send)
    assert [message["type"] for message in sent] == ([] if leave else ["http.response.start", "http.response.body"])
    return Knocked(sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"], read) if sent else Knocked(0, {}, b"", read)


def knock(ray: Any, *arguments: Any, timeout_s: float = 10.0, **options: Any) -> Knocked:
    return asyncio.run(through(ProxyMiddleware(ray, LIMIT, 3 * LIMIT, timeout_s), *arguments, **options))


def test_a_body_at_the_limit_arrives_whole_and_at_once() -> None:
    ray = Ray()
    answer = knock(ray, chunks=[b"x" * 600, b"y" * 400])
    assert (answer.status, answer.body) == (200, b"done")
    body = {"type": "http.request", "body": b"x" * 600 + b"y" * 400, "more_body": False}
    assert ray.messages == [body, {"type": "http.disconnect"}], "and then Ray hears when the client leaves"


@pytest.mark.parametrize("declared", [b"10", b"-5", b"many", b"9" * 5000], ids=len)
def test_a_longer_one_is_read_no_further_and_never_reaches_ray(declared: bytes) -> None:
    ray = Ray()
    answer = knock(ray, [(b"X-Request-ID", b"mine-1"), (b"Content-Length", declared)], chunks=[b"x" * 300] * 100)
    assert (answer.read, ray.scope) == (4, {})
    assert (answer.status, answer.headers[b"connection"], answer.headers[b"x-request-id"]) == (413, b"close", b"mine-1")
    assert b"default-src 'self'" in answer.headers[b"content-security-policy"]
    assert (answer.json["code"], answer.json["request_id"]) == ("body_too_large", "mine-1")


def test_a_declared_length_is_refused_before_a_byte_is_read() -> None:
    answer = knock(Ray(), [(b"content-length", b"1001")], chunks=[b"x" * 1001])
    assert (answer.status, answer.read) == (413, 0)


def test_a_slow_upload_is_cut_and_holds_no_replica() -> None:
    ray = Ray()
    answer = knock(ray, chunks=[b"x"] * 1000, pause_s=0.02, timeout_s=0.1)
    assert (answer.status, answer.json["code"], answer.headers[b"connection"], ray.scope) == (408, "timeout", b"close", {})


def test_of_a_client_that_leaves_nothing_is_kept() -> None:
    ray = Ray()
    proxy = ProxyMiddleware(ray, LIMIT, LIMIT)
    for _ in range(3):
        asyncio.run(through(proxy, chunks=[b"x" * 900], leave=True))
    assert ray.scope == {}
    assert asyncio.run(through(proxy, chunks=[b"x" * LIMIT])).status == 200, "what it held is free again"


def test_uploads_together_are_bounded() -> None:
    proxy = ProxyMiddleware(Ray(), LIMIT, 3 * LIMIT)

    async def crowd(clients: int) -> list[Knocked]:
        return await asyncio.gather(*(through(proxy, chunks=[b"x" * 300] * 3) for _ in range(clients)))

    answers = asyncio.run(crowd(8))
    assert {answer.status for answer in answers} == {200, 429}
    assert {answer.headers[b"retry-after"] for answer in answers if answer.status == 429} == {b"1"}
    assert {answer.status for answer in asyncio.run(crowd(3))} == {200}, "and are forgotten"


@pytest.mark.parametrize(
    ("name", "value"),
    [(b"x-request-timeout-seconds", b"0"), (b"x-request-timeout-seconds", b"\xff"), (b"x-request-disconnect-disabled", b"?1"),
     (b"serve_multiplexed_model_id", b"\xff"), (b"x-session-id", b"\xff"), (b"x-forwarded-for", b"127.0.0.1"), (b"cookie", b"a=b")],
)  # fmt: skip
def test_no_header_of_a_client_steers_ray(name: bytes, value: bytes) -> None:
    ray = Ray()
    knock(ray, [(b"Content-Type", b"image/png"), (name, value), (b"Authorization", b"Bearer x")])
    kept = dict(ray.scope["headers"])
    assert set(kept) == {b"content-type", b"authorization", b"x-request-id"}
    assert (kept[b"content-type"], kept[b"authorization"]) == (b"image/png", b"Bearer x")


class Answers:
    """Answers as it is told: a replica, which has the settings, or Ray in its place."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": b""})


def test_a_page_that_a_replica_allows_reads_the_refusals_from_here_and_rays_own() -> None:
    answers, page = Answers(), (b"Origin", b"https://app.example")
    proxy = ProxyMiddleware(answers, LIMIT, 3 * LIMIT)
    replica, allows = (b"content-security-policy", b"x"), (b"access-control-allow-origin", b"https://app.example")

    def shared(*headers: tuple[bytes, bytes]) -> list[str]:
        found = asyncio.run(through(proxy, headers)).headers
        return sorted(name.decode().lower() for name in found if name.lower().startswith((b"access", b"vary")))

    too_long = (b"Content-Length", b"9999")
    assert shared(page) == shared(page, too_long) == [], "nobody is known"
    answers.headers = [replica, allows]
    assert shared(page) == ["access-control-allow-origin"]
    told = ["access-control-allow-origin", "access-control-expose-headers", "vary"]
    assert shared(page, too_long) == told and shared((b"Origin", b"https://b.example"), too_long) == shared(too_long) == []
    answers.headers = [(b"content-type", b"text/plain")]
    assert shared(page) == told, "Ray's own answer, such as 503, changes nothing"
    answers.headers = [replica, (b"access-control-allow-origin", b"*")]
    for number in range(1000):
        shared((b"Origin", b"https://%d.example" % number))
    assert len(proxy._allowed) == 64
    assert shared(page, too_long) == [] and shared((b"Origin", b"https://999.example"), too_long) == told
    answers.headers = [replica]
    assert shared((b"Origin", b"https://999.example")) == shared((b"Origin", b"https://999.example"), too_long) == [], "allowed no more"


def test_inside_of_a_replica_ray_neither_watches_the_clock_nor_the_client() -> None:
    ray = Ray()
    asyncio.run(
        through(
            ProxyMiddleware(ray, internal_headers=RAY_OVERRIDES),
            [(b"x-request-timeout-seconds", b"5"), (b"x-request-disconnect-disabled", b"?0")],
        )
    )
    headers = dict(ray.scope["headers"])
    assert parse_request_timeout_header(headers, 12.0) is None and parse_disconnect_disabled_header(headers)
    assert middlewares()[0].kwargs["internal_headers"] == {}, "but in a proxy it does"


@pytest.mark.parametrize("given", [b"x" * 65, b"a b", b"\xff", b"<b>", b"a\x0bb", b""])
def test_an_id_that_is_no_plain_word_is_replaced(given: bytes) -> None:
    ray = Ray()
    knock(ray, [(b"x-request-id", given)])
    (found,) = (value for name, value in ray.scope["headers"] if name == b"x-request-id")
    assert len(found) == 32 and found.isalnum()


def test_rays_own_page_is_closed() -> None:
    ray = Ray()
    answer = knock(ray, path="/-/routes")
    assert (answer.status, answer.json["code"], ray.scope) == (404, "not_found", {})


def test_other_protocols_go_on_to_be_closed() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    asyncio.run(ProxyMiddleware(app)({"type": "websocket", "path": "/"}, None, None))  # type: ignore[arg-type]
    assert seen == [{"type": "websocket", "path": "/"}]


def test_ray_finds_it_by_its_path() -> None:
    from ray.serve._private.http_util import validate_http_proxy_callback_return
    from ray.serve._private.utils import call_function_from_import_path

    from fkp.serve import launch

    variables = launch.settings(launch.CONFIG, "127.0.0.1", 1, "", ())["controller_options"]["runtime_env"]["env_vars"]
    (found,) = validate_http_proxy_callback_return(call_function_from_import_path(variables["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]))
    assert found.cls is ProxyMiddleware is middlewares()[0].cls
