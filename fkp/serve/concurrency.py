"""How much a replica takes on at once: what is more is refused at once, so that nothing waits without bound.

Few at once keep those that are answered under overload quick. But a replica that stands still for a moment, because a model
is loaded or a process starts beside it, finds more than a few afterwards, although nobody asked too much. So for a moment
there is room for more: what comes above the limit is let in until too much of it has come within a second.

That holds for images up to `LARGE_PIXELS`, which cost about the same. Large ones are limited by their pixels and take none of these
places, so that one client's panoramas do not starve another's avatars.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from fkp.errors import FkpError
from fkp.serve.http.security import overloaded
from fkp.serve.http.uploads import HEADER
from fkp.serve.limits import BURST, CROWDED_PER_S, LARGE_PIXELS, LARGE_PIXELS_IN_PROGRESS, PIXELS
from fkp.serve.refusal import Refusal
from fkp.vision.header import Header, read_header

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: An image's size stands before this place, whatever a camera puts there first.
_HEAD_BYTES = 256 * 1024


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
        self.in_progress = self.large_pixels = 0
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
        places = pixels = 0
        head = bytearray()

        async def receive_and_count() -> Message:
            nonlocal places, pixels
            message = await receive()
            if places or pixels or message["type"] != "http.request":
                return message
            head.extend(message.get("body", b"")[: _HEAD_BYTES - len(head)])
            if not message.get("more_body", False):
                header = header_of(bytes(head))
                if header is not None and head[:2] != b"--":
                    scope.setdefault("state", {})[HEADER] = header
                size = header.pixels if header else 0
                if LARGE_PIXELS < size <= PIXELS:  # What is above that is refused by its header.
                    if self.large_pixels + size > LARGE_PIXELS_IN_PROGRESS:
                        raise overloaded(f"images of {self.large_pixels / 1e6:.0f} megapixels are in progress")
                    pixels = size
                else:
                    if self.in_progress >= self.burst * self.limit():
                        raise self._refusal()
                    places = 1
                self.in_progress += places
                self.large_pixels += pixels
            return message

        try:
            await self.app(scope, receive_and_count, send)
        finally:
            self.in_progress -= places
            self.large_pixels -= pixels

    def _refusal(self) -> Refusal:
        return overloaded(f"{self.in_progress} requests are in progress")


def header_of(body: bytes) -> Header | None:
    """What the (first) image of a request, raw or in a form, says of itself; None where nothing does: it is refused without work."""
    if body[:2] == b"--":
        body = body.partition(b"\r\n\r\n")[2]
    try:
        return read_header(body)
    except FkpError:
        return None
