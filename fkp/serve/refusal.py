"""Why a request gets no faces: what every layer of the endpoint raises, the model as well as those around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

#: Why a request was refused; the HTTP status says it more coarsely.
Code = Literal[
    "empty_body",
    "body_too_large",
    "too_many_pictures",
    "too_many_pixels",
    "unsupported_format",
    "broken_picture",
    "invalid_parameter",
    "invalid_multipart",
    "unauthorized",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "timeout",
    "overloaded",
    "not_ready",
    "internal_error",
    "http_error",
]

#: Of an image that is wrapped in text.
TEXT = "the image is text, such as JSON, base64 or a data URL: send its own bytes, or a form with a part `file`"


class Refusal(Exception):
    """A request that gets an error envelope.

    Args:
        status: HTTP status.
        code: See `Code`.
        message: One sentence that says what to do.
        headers: More headers of the answer.
    """

    def __init__(self, status: int, code: Code, message: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, tuple(headers)

    def envelope(self, request_id: str) -> dict[str, str]:
        """The body of the answer."""
        return {"code": self.code, "message": self.message, "request_id": request_id}
