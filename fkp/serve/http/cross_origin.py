"""Which web pages elsewhere may ask, and what they may read of an answer: CORS, as Starlette speaks it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware

from fkp.serve.refusal import Refusal

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Scope, Send

_METHODS = ("GET", "HEAD", "POST")
_HEADERS = ("Authorization", "Content-Type", "X-Request-ID")
EXPOSED = ("Retry-After", "X-Request-ID", "X-Model-Digest", "X-Faces", "X-Faces-Left-Out")


def shared_with(allowed: str | None) -> tuple[tuple[str, str], ...]:
    """Headers of an answer that pages may read.

    Args:
        allowed: Their origin, or `*`; None: none may.
    """
    if allowed is None:
        return ()
    return ("Access-Control-Allow-Origin", allowed), ("Access-Control-Expose-Headers", ", ".join(EXPOSED)), ("Vary", "Origin")


class CrossOrigin(CORSMiddleware):
    """Answers one request of a page.

    A token comes in a header that the page sets, so the browser is not asked to send what it knows itself (credentials).

    Args:
        app: Behind it.
        scope: Of the request, with a header Origin.
        origins: That may ask, see `Settings.allowed_origins`.
    """

    def __init__(self, app: ASGIApp, scope: Scope, origins: Sequence[str]) -> None:
        super().__init__(app, origins, _METHODS, _HEADERS, expose_headers=EXPOSED)
        self._asked = Headers(scope=scope)
        self.is_preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in self._asked

    def preflight_response(self, request_headers: Headers) -> Response:
        """Say what the page may send.

        Raises:
            Refusal: It may not ask, or not so.
        """
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200:
            return answer
        origin = request_headers["origin"]
        if not self.is_allowed_origin(origin):
            place = "allowed_origins in serve/config.yaml, or to --allowed-origins"
            raise Refusal(403, "forbidden", f"pages of {origin[:100]} may not ask: add it to {place}")
        raise Refusal(403, "forbidden", f"pages may ask with {', '.join(_METHODS)} and set the headers {', '.join(_HEADERS)}, no others")

    def sharing(self, send: Send) -> Send:
        """Let the page read the answer, if its origin may."""
        return (
            functools.partial(self.send, send=send, request_headers=self._asked) if self.is_allowed_origin(self._asked["origin"]) else send
        )
