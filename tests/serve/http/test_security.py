"""What the security layer lets through: driven as ASGI, without a server, so that every message can be sent as it should not be."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from fkp.errors import FkpError
from fkp.serve.http.security import SecurityMiddleware, check_host, is_loopback, token_digests

OLD, NEW = "old-token-of-24-characters", "new-token-of-24-characters"
LIMIT = 1000


@dataclass
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes
    asked: int = 0
    counted: list[tuple[str, int]] = field(default_factory=list)

    @property
    def json(self) -> dict[str, str]:
        return json.loads(self.body)


def ask(
    app: Any,
    path: str = "/v1/keypoints",
    headers: dict[str, str] | None = None,
    chunks: Iterable[bytes] = (b"",),
    client: tuple[str, int] | None = ("127.0.0.1", 5),
    **options: Any,
) -> Answered:
    """Send one request through the layer around an application."""
    sent: list[dict[str, Any]] = []
    waiting = list(chunks)
    found = Answered(0, {}, b"")

    async def receive() -> dict[str, Any]:
        found.asked += 1
        body = waiting.pop(0) if waiting else b""
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    def observe(path: str, status: int, seconds: float) -> None:
        found.counted.append((path, status))

    options.setdefault("body_limit_bytes", LIMIT)
    raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {"type": "http", "path": path, "method": "POST", "headers": raw, "client": client}
    asyncio.run(SecurityMiddleware(app, observe=observe, **options)(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    found.status, found.body = sent[0]["status"], sent[1]["body"]
    found.headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return found


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Read the whole body and answer its length."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message["body"]), message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": str(length).encode()})


# --- body and time ----------------------------------------------------------------------------------------------


def test_a_body_at_the_limit_passes_and_is_counted() -> None:
    answer = ask(echo, chunks=[b"x" * 600, b"x" * 400])
    assert (answer.status, answer.body) == (200, b"1000")
    assert answer.counted == [("/v1/keypoints", 200)]


def test_a_declared_length_is_refused_before_a_byte_is_read() -> None:
    answer = ask(echo, headers={"Content-Length": str(LIMIT + 1)}, chunks=[b"x" * (LIMIT + 1)])
    assert (answer.status, answer.json["code"], answer.asked) == (413, "body_too_large", 0)
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "10"}, {"Content-Length": "-5"}, {"Content-Length": "many"}], ids=str)
def test_a_stream_is_cut_at_the_limit_whatever_it_declared(headers: dict[str, str]) -> None:
    answer = ask(echo, headers=headers, chunks=[b"x" * 300] * 1000)
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")
    assert answer.asked == 4, "nothing beyond the limit is read"


def test_time_is_limited() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(30)

    answer = ask(slow, timeout_s=0.05)
    assert (answer.status, answer.json["code"]) == (408, "timeout")
    assert "more than 0.05 s" in answer.json["message"]


def test_a_defect_is_an_envelope_without_its_trace() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("secret detail")

    answer = ask(broken)
    assert (answer.status, answer.json["code"]) == (500, "internal_error")
    assert b"secret" not in answer.body
    assert answer.counted == [("/v1/keypoints", 500)]


def test_what_the_layer_answers_itself_is_counted() -> None:
    codes: list[str] = []
    ask(echo, headers={"Content-Length": str(LIMIT + 1)}, count_error=codes.append)
    ask(echo, digests=token_digests(OLD), count_error=codes.append)
    ask(echo, count_error=codes.append)
    assert codes == ["body_too_large", "unauthorized"]


def test_other_protocols_are_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(SecurityMiddleware(echo)({"type": "websocket", "path": "/", "headers": []}, None, send))  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]


# --- headers ----------------------------------------------------------------------------------------------------


def test_every_answer_has_the_security_headers() -> None:
    for answer in (ask(echo), ask(echo, headers={"Content-Length": "9999"})):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(("given", "kept"), [("job-7.a_B", True), ("x" * 65, False), ("a b", False), ('"><script>', False), ("", False)])
def test_request_ids(given: str, kept: bool) -> None:
    answer = ask(echo, headers={"X-Request-ID": given, "Content-Length": "9999"})
    found = answer.headers["x-request-id"]
    assert answer.json["request_id"] == found
    assert (found == given) is kept
    if not kept:
        assert len(found) == 32


# --- tokens -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [OLD, NEW])
@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "Basic"])
def test_two_tokens_are_valid_at_once(token: str, form: str) -> None:
    value = "Basic " + base64.b64encode(f"me:{token}".encode()).decode() if form == "Basic" else form.format(token)
    answer = ask(echo, headers={"Authorization": value}, digests=token_digests(f"{OLD}, {NEW}"), client=("203.0.113.7", 1))
    assert answer.status == 200


@pytest.mark.parametrize(
    "value",
    [None, "", "Bearer", "Bearer ", f"Bearer {OLD}x", f"Bearer {OLD[:-1]}", f"Token {OLD}", OLD, "Basic %%%", "Basic bWU="],
    ids=str,
)
@pytest.mark.parametrize("path", ["/v1/keypoints", "/", "/metrics", "/docs", "/page/page.js", "/nowhere", "/healthz/", "//healthz"])
def test_without_a_valid_token_nothing_but_the_health_is_answered(value: str | None, path: str) -> None:
    headers = {} if value is None else {"Authorization": value}
    answer = ask(echo, path, headers, digests=token_digests(OLD))
    assert (answer.status, answer.json["code"]) == (401, "unauthorized")
    assert "www-authenticate" in answer.headers
    assert OLD.encode() not in answer.body
    for path in ("/healthz", "/readyz"):
        assert ask(echo, path, headers, digests=token_digests(OLD)).status == 200


def test_without_a_token_only_this_machine_is_answered() -> None:
    for client in (("203.0.113.7", 1), ("::ffff:203.0.113.7", 1), ("10.0.0.1", 1)):
        assert ask(echo, client=client).json["code"] == "forbidden"
    for client in (("127.0.0.1", 1), ("::1", 1), None):
        assert ask(echo, client=client).status == 200


def test_what_tokens_may_be() -> None:
    assert token_digests(None) == token_digests("") == token_digests(" , ") == ()
    assert len(token_digests(f"{OLD},{NEW}")) == 2
    with pytest.raises(FkpError, match="FKP_API_TOKEN is shorter than 16 characters"):
        token_digests("short")
    with pytest.raises(FkpError, match="holds 3 tokens: at most 2"):
        token_digests(f"{OLD},{NEW},{OLD}3")


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("10.1.2.3", False),
     ("example.org", False), (None, False), ("", False)],
)  # fmt: skip
def test_an_open_address_needs_a_token(host: str | None, local: bool) -> None:
    assert is_loopback(host) is local
    check_host(host, token_digests(OLD))
    if local:
        check_host(host, ())
    else:
        with pytest.raises(FkpError, match="needs a token: set FKP_API_TOKEN"):
            check_host(host, ())
