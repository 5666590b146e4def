"""How much a replica takes on at once: what is more is refused at once, so that nothing waits without bound.

Few at once keep those that are answered under overload quick. But a replica that stands still for a moment, because a model
is loaded or a process starts beside it, finds more than a few afterwards, although nobody asked too much. So for a moment
there is room for more: what comes above the limit is let in until too much of it has come within a second.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from fkp.serve.http.security import overloaded
from fkp.serve.limits import BURST, CROWDED_PER_S
from fkp.serve.refusal import Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ConcurrencyLimiter:
    """The ASGI layer between security and routes.

    A request counts from the end of its upload, so that slow clients do not take the place of others. (HAProxy in front counts
    one from its first 256 KiB on, and gives it as long as Ray's proxy does.) Probes, metrics and
    the page do not count: they answer under any load.

    Args:
        app: The routes.
        limit: Returns how many requests with images may be in progress.
        burst: For a moment, so many times more.
    """

    def __init__(self, app: ASGIApp, limit: Callable[[], int], burst: int = BURST) -> None:
        self.app, self.limit, self.burst = app, limit, burst
        self.in_progress = 0
        self._crowded: deque[float] = deque(maxlen=CROWDED_PER_S + 1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            Refusal: The limit is reached.
        """
        if scope.get("method") != "POST":
            await self.app(scope, receive, send)
            return
        if self.in_progress >= self.limit():
            self._crowded.append(time.monotonic())
            if len(self._crowded) > CROWDED_PER_S and self._crowded[-1] - self._crowded[0] < 1:
                raise self._refusal()
        counted = False

        async def receive_and_count() -> Message:
            nonlocal counted
            message = await receive()
            if not counted and message["type"] == "http.request" and not message.get("more_body", False):
                if self.in_progress >= self.burst * self.limit():
                    raise self._refusal()
                counted = True
                self.in_progress += 1
            return message

        try:
            await self.app(scope, receive_and_count, send)
        finally:
            self.in_progress -= counted

    def _refusal(self) -> Refusal:
        return overloaded(f"{self.in_progress} requests are in progress")
