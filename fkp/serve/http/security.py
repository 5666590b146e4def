"""Limits and safety of the endpoint: one ASGI layer around everything.

No request reaches the routes without it: token, size of the body (declared and streamed), time. Every answer leaves with
a request id and security headers, every error in one envelope.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import hashlib
import hmac
import ipaddress
import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fkp.errors import FkpError
from fkp.serve import TOKEN_VARIABLE, limits
from fkp.serve.http.cross_origin import CrossOrigin
from fkp.serve.refusal import Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN_PATHS = frozenset({"/healthz", "/readyz"})

_CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'"
)
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", _CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

logger = logging.getLogger("ray.serve")


def token_digests(tokens: str | None) -> tuple[str, ...]:
    """Hex sha256 of each of the comma-separated tokens: what a deployment keeps instead of the tokens.

    Raises:
        FkpError: More than two, or one that is too short to be a secret.
    """
    found = [token.strip() for token in (tokens or "").split(",") if token.strip()]
    if len(found) > limits.TOKENS:
        raise FkpError(f"{TOKEN_VARIABLE} holds {len(found)} tokens: at most {limits.TOKENS} may be valid at once, the old and the new one")
    if any(len(token) < limits.TOKEN_CHARACTERS for token in found):
        raise FkpError(f"{TOKEN_VARIABLE} is shorter than {limits.TOKEN_CHARACTERS} characters: make one with `openssl rand -hex 24`")
    return tuple(hashlib.sha256(token.encode()).hexdigest() for token in found)


@functools.lru_cache(256)
def is_loopback(host: str | None) -> bool:
    """Whether an address can be reached from this machine only."""
    if host is None:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host(host: str | None, digests: Sequence[str]) -> None:
    """Refuse to listen where others can reach us without a token.

    Raises:
        FkpError: No token is set and the address is not loopback.
    """
    if not digests and not is_loopback(host):
        raise FkpError(f"serving on {host} needs a token: set {TOKEN_VARIABLE}, or listen on 127.0.0.1")


class SecurityMiddleware:
    """The ASGI layer around the routes.

    Args:
        app: The routes.
        digests: See `token_digests`; empty: no token is needed, and only clients on this machine are answered.
        timeout_s: Longest time of a request, its upload included.
        body_limit_bytes: Longest body.
        observe: Called after each request with its path, HTTP status and seconds.
        count_error: Called with the code of each refusal that is answered here.
        tell_request_id: Whether to add the header X-Request-ID; Ray's proxies add it themselves.
        origins: Returns those of the pages that may ask from elsewhere, see `Settings.allowed_origins`.
    """

    def __init__(
        self,
        app: ASGIApp,
        digests: Sequence[str] = (),
        timeout_s: float = limits.REQUEST_S,
        body_limit_bytes: int = limits.BODY_BYTES,
        observe: Callable[[str, int, float], None] | None = None,
        count_error: Callable[[str], None] | None = None,
        tell_request_id: bool = True,
        origins: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self.app = app
        self.observe = observe
        self.count_error = count_error
        self.tell_request_id = tell_request_id
        self.origins = origins
        self.digests = tuple(digests)
        self.timeout_s = timeout_s
        self.body_limit_bytes = body_limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # There is no other protocol here.
            await send({"type": "websocket.close", "code": 1008})
            return
        began = time.perf_counter()
        headers = {name.lower(): value for name, value in scope["headers"]}
        request_id = request_id_of(headers)
        head_only = scope.get("method") == "HEAD"  # Monitors and proxies ask so; it is answered as GET is, without the body.
        scope = {**scope, "method": "GET"} if head_only else scope
        scope.setdefault("state", {})["request_id"] = request_id
        exchange = _Exchange(receive, send, request_id if self.tell_request_id else None, self.body_limit_bytes, head_only)
        try:
            await self._answer(scope, headers, exchange, request_id)
        finally:
            if self.observe is not None:
                self.observe(route_of(scope), exchange.status, time.perf_counter() - began)

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes], exchange: _Exchange, request_id: str) -> None:
        send: Send = exchange.send
        try:
            async with asyncio.timeout(self.timeout_s):
                if b"origin" in headers:
                    cross_origin = CrossOrigin(self.app, scope, self.origins())
                    if cross_origin.is_preflight:  # Browsers send no token with it.
                        await cross_origin(scope, exchange.receive, exchange.send)
                        return
                    send = cross_origin.sharing(exchange.send)  # Refusals, too: a page may read why.
                self._admit(scope, headers)
                await self.app(scope, exchange.receive, send)
            return
        except Refusal as refusal:
            caught = refusal
        except TimeoutError:
            caught = too_slow(self.timeout_s)
        except Exception:
            # The trace is for the log alone; it holds no part of an image.
            logger.exception("request %s failed", request_id)
            caught = Refusal(500, "internal_error", "this is a defect of the server: report the request id")
        if self.count_error is not None:
            self.count_error(caught.code)
        if not exchange.status:
            await refuse(caught, request_id, send)
        elif not exchange.ended:
            raise RuntimeError(f"request {request_id} failed in the middle of its answer: {caught.code}")

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        if route_of(scope) not in OPEN_PATHS:
            self._check_token(scope, headers)
        if declared_bytes(headers) > self.body_limit_bytes:
            raise too_large(self.body_limit_bytes)
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in (b"", b"identity"):
            message = f"the body is encoded as {encoding.decode('latin-1')[:40]}: send the image's own bytes, without Content-Encoding"
            raise Refusal(415, "unsupported_format", message, (("Accept-Encoding", "identity"),))

    def _check_token(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        if self.digests:
            given = hashlib.sha256(_token(headers.get(b"authorization", b""))).hexdigest()
            # All are compared, so that the time does not tell which one was near.
            if not sum(hmac.compare_digest(given, digest) for digest in self.digests):
                challenge = (("WWW-Authenticate", 'Bearer realm="fkp"'), ("WWW-Authenticate", 'Basic realm="fkp", charset="UTF-8"'))
                raise Refusal(401, "unauthorized", "send a valid token in the header `Authorization: Bearer TOKEN`", challenge)
        elif (client := scope.get("client")) and not is_loopback(client[0]):
            # Whatever address a deployment was told to listen on, without a token it talks to this machine alone.
            raise Refusal(403, "forbidden", f"without {TOKEN_VARIABLE} only clients on this machine are answered: set it on the server")


class _Exchange:
    """The two ends of one request: counts what comes in, adds headers to what goes out."""

    def __init__(self, receive: Receive, send: Send, request_id: str | None, limit_bytes: int, head_only: bool) -> None:
        self._receive, self._send, self._head_only = receive, send, head_only
        self._request_id, self._limit_bytes = request_id, limit_bytes
        self._received_bytes = 0
        self.status = 0
        self.ended = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._received_bytes += len(message.get("body", b""))
        if self._received_bytes > self._limit_bytes:
            raise too_large(self._limit_bytes)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = [*SECURITY_HEADERS]
            if self._request_id is not None:
                own.append((b"x-request-id", self._request_id.encode()))
            given = {name.lower() for name, _ in message.get("headers", ())}
            added = [(name, value) for name, value in own if name not in given]
            if b"cache-control" not in given:
                added.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        elif self._head_only:
            message = {**message, "body": b""}
        await self._send(message)
        self.ended = message["type"] == "http.response.body" and not message.get("more_body", False)


async def refuse(refusal: Refusal, request_id: str, send: Send, bare: bool = False) -> None:
    """Send an error envelope.

    Args:
        refusal: Why.
        request_id: Of the request.
        send: Where the answer goes.
        bare: Whether the body was not read to its end, and nothing behind `send` adds the other headers of every answer.
    """
    body = json.dumps(refusal.envelope(request_id)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in refusal.headers]
    if bare or refusal.status in (408, 413):  # What is left of the body is not read.
        headers.append((b"connection", b"close"))
    if bare:
        headers += [*SECURITY_HEADERS, (b"cache-control", b"no-store"), (b"x-request-id", request_id.encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def route_of(scope: Scope) -> str:
    """The path behind the prefix under which the application is mounted (ASGI's root_path), whether or not the path holds it."""
    path, prefix = str(scope.get("path", "")), scope.get("root_path", "")
    return path[len(prefix) :] if path.startswith(prefix + "/") else path


def too_large(limit_bytes: int) -> Refusal:
    """The refusal of a long body."""
    return Refusal(413, "body_too_large", f"the body is longer than {limit_bytes} bytes: send a smaller image")


def too_slow(timeout_s: float) -> Refusal:
    """The refusal of what takes too long."""
    return Refusal(408, "timeout", f"the request took more than {timeout_s:g} s: send a smaller image or try again")


def overloaded(reason: str) -> Refusal:
    """The refusal of what is too much at once."""
    again_s = limits.RETRY_AFTER_S
    return Refusal(429, "overloaded", f"{reason}: try again in {again_s} s", (("Retry-After", str(again_s)),))


def declared_bytes(headers: Mapping[bytes, bytes]) -> int:
    """What Content-Length says; 0 where it says nothing: the bytes themselves are counted anyway."""
    length = headers.get(b"content-length", b"")
    # int() refuses numbers of thousands of digits with an exception of its own.
    return int(length) if length.isdigit() and len(length) < 20 else 0


def request_id_of(headers: Mapping[bytes, Any]) -> str:
    """The client's own id where it is a plain word, else a new one."""
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _token(authorization: bytes) -> bytes:
    """The token of `Bearer TOKEN`; also the password of Basic, which lets a browser open the page."""
    scheme, _, value = authorization.partition(b" ")
    if scheme.lower() == b"bearer":
        return value.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""
