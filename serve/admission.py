"""How much a replica takes on at once: what is more is refused at once, so that nothing waits without bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from serve.guard import Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

RETRY_AFTER_S = 1


class Admission:
    """The ASGI layer between guard and routes.

    A request counts from the end of its upload, so that slow clients do not take the place of others. Probes, figures and
    the page do not count: they answer under any load.

    Args:
        app: The routes.
        limit: Returns how many requests with pictures may be in progress.
    """

    def __init__(self, app: ASGIApp, limit: Callable[[], int]) -> None:
        self.app, self.limit = app, limit
        self.in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            Refusal: The limit is reached.
        """
        if scope.get("method") != "POST":
            await self.app(scope, receive, send)
            return
        self._check()
        counted = False

        async def receive_and_count() -> Message:
            nonlocal counted
            message = await receive()
            if not counted and message["type"] == "http.request" and not message.get("more_body", False):
                self._check()  # Others may have been faster meanwhile.
                counted = True
                self.in_progress += 1
            return message

        try:
            await self.app(scope, receive_and_count, send)
        finally:
            self.in_progress -= counted

    def _check(self) -> None:
        if self.in_progress >= self.limit():
            message = f"{self.in_progress} requests are in progress: try again in {RETRY_AFTER_S} s"
            raise Refusal(429, "overloaded", message, (("Retry-After", str(RETRY_AFTER_S)),))
