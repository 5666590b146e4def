"""What stands in Ray's HTTP proxy itself: it takes a request in whole before Ray sees it.

Ray's proxy reads a body into memory as fast as it comes, without a limit and whether or not a replica is free, and the
replica reads it again: a stream that the replica cut at 8 MiB cost the two 47 and 27 MiB. It also obeys headers by which any
client may switch its timeout off, and answers 500 where such a header is no UTF-8. Here a body that is too long or too slow
never reaches Ray, a slow upload holds no replica's place, and of the headers only those go on that the endpoint reads.

SecurityMiddleware in the replica checks everything once more: it may be reached without a proxy.

Ray calls `middlewares` where it starts a server; config.yaml names it in RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from fkp.common.ray_private import in_replica
from fkp.serve import limits
from fkp.serve.http.cross_origin import shared_with
from fkp.serve.http.security import declared_bytes, overloaded, refuse, request_id_of, route_of, too_large, too_slow
from fkp.serve.refusal import Refusal

if TYPE_CHECKING:
    from starlette.middleware import Middleware
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: All others are for Ray, or for nobody: X-Request-Timeout-Seconds, X-Request-Disconnect-Disabled, X-Session-Id ...
FORWARDED_HEADERS = frozenset(
    {b"accept", b"authorization", b"content-encoding", b"content-length", b"content-type", b"host", b"x-request-id"}
    | {b"origin", b"access-control-request-method", b"access-control-request-headers"}
)
#: So many origins are remembered; the settings name few, and `*` names all.
_ORIGINS = 64
#: Ray's own list of the applications, for which it wants no token. Load balancers need /-/healthz.
_CLOSED_PATHS = frozenset({"/-/routes"})


#: What Ray is told inside of a replica: neither watch the clock, which SecurityMiddleware does, nor wait for the client to
#: leave, which saves no more than the few milliseconds of one image. Both cost each request two tasks and a queue.
RAY_OVERRIDES = {b"x-request-timeout-seconds": b"0", b"x-request-disconnect-disabled": b"?1"}


def middlewares() -> list[Middleware]:
    """Called by Ray, in each of its proxies and with HAProxy in each replica."""
    from starlette.middleware import Middleware

    return [Middleware(ProxyMiddleware, internal_headers=RAY_OVERRIDES if in_replica() else {})]


class ProxyMiddleware:
    """The ASGI layer around Ray's server.

    Args:
        app: Ray's.
        body_limit_bytes: Longest body.
        held_limit_bytes: Of all bodies that are being uploaded.
        timeout_s: Longest time of an upload.
        internal_headers: Headers for Ray.
    """

    def __init__(
        self,
        app: ASGIApp,
        body_limit_bytes: int = limits.BODY_BYTES,
        held_limit_bytes: int = limits.UPLOADS_BYTES,
        timeout_s: float = limits.REQUEST_S,
        internal_headers: Mapping[bytes, bytes] = MappingProxyType({}),
    ) -> None:
        self.app = app
        self.body_limit_bytes, self.held_limit_bytes, self.timeout_s = body_limit_bytes, held_limit_bytes, timeout_s
        self.internal_headers = internal_headers
        self._held_bytes = 0
        self._allowed: dict[bytes, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request in."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"] if name.lower() in FORWARDED_HEADERS}
        headers[b"x-request-id"] = request_id_of(headers).encode()
        try:
            if (path := route_of(scope)) in _CLOSED_PATHS:
                raise Refusal(404, "not_found", f"{path}: Not Found; /docs lists what there is")
            if declared_bytes(headers) > self.body_limit_bytes:
                raise too_large(self.body_limit_bytes)
            body = await self._read_body(receive)
        except Refusal as refusal:
            refusal.headers += shared_with(self._allowed.get(headers.get(b"origin", b"")))
            await refuse(refusal, headers[b"x-request-id"].decode(), send, bare=True)
            return
        if body is None:
            return  # The client has left.
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        del body

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        if origin := headers.get(b"origin"):
            send = functools.partial(self._send_to_page, send, origin)
        await self.app({**scope, "headers": [*headers.items(), *self.internal_headers.items()]}, replay, send)

    async def _send_to_page(self, send: Send, origin: bytes, message: Message) -> None:
        """Send an answer. Whether pages of this origin may read it a replica knows, which has the settings: remember it, for the
        refusals from here and Ray's own. Before an image a browser has always asked.
        """
        if message["type"] == "http.response.start":
            told = {name.lower(): value for name, value in message["headers"]}
            if b"content-security-policy" not in told:  # Ray's own.
                shared = [(name.encode(), value.encode()) for name, value in shared_with(self._allowed.get(origin))]
                message = {**message, "headers": [*message["headers"], *shared]}
            else:
                self._allowed.pop(origin, None)
                if b"access-control-allow-origin" in told:
                    self._allowed[origin] = told[b"access-control-allow-origin"].decode("latin-1")
                if len(self._allowed) > _ORIGINS:
                    del self._allowed[next(iter(self._allowed))]
        await send(message)

    async def _read_body(self, receive: Receive) -> bytes | None:
        body = bytearray()
        try:
            async with asyncio.timeout(self.timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    piece = message.get("body", b"")
                    if len(body) + len(piece) > self.body_limit_bytes:
                        raise too_large(self.body_limit_bytes)
                    if self._held_bytes + len(piece) > self.held_limit_bytes:
                        raise overloaded("too many uploads at once")
                    self._held_bytes += len(piece)
                    body += piece
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError as error:
            raise too_slow(self.timeout_s) from error
        finally:
            self._held_bytes -= len(body)
