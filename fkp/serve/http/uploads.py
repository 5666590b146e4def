"""The images of a request: its raw body, or the `file` parts of a form. They stay in memory and are never written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fkp.serve import limits
from fkp.serve.refusal import TEXT, Refusal
from fkp.vision.header import Header, is_text

if TYPE_CHECKING:
    from starlette.requests import Request

FIELD = "file"
#: Where a request's state keeps the header of an image that is its raw body, so that it is read once.
HEADER = "header"


@dataclass(frozen=True)
class Upload:
    """One image as it was sent; nothing more is known of it yet.

    Attributes:
        name: The client's file name, for the answer only: nothing is opened by it.
        data: The bytes.
        header: Where the limiter has read it already.
    """

    name: str
    data: bytes
    header: Header | None = None


async def read_uploads(request: Request, most: int = 1) -> list[Upload]:
    """Read the images of a request.

    Args:
        request: With a raw body (any content type) or multipart/form-data with parts named `file`.
        most: How many images it may hold.

    Raises:
        Refusal: No image, too many, a broken form, or an image that is wrapped in text or lost bytes because it was sent so.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "multipart/form-data":
        data = await request.body()
        if is_text(data):
            raise Refusal(415, "unsupported_format", TEXT)
        # `curl -d @photo.jpg` takes these three bytes out; an image's header holds one of them at least.
        if data and kind == "application/x-www-form-urlencoded" and not any(byte in data for byte in b"\0\r\n"):
            raise Refusal(415, "unsupported_format", "the image was sent as text and lost bytes: with curl, say --data-binary and not -d")
        return [Upload("", data, getattr(request.state, HEADER, None))]
    uploads = await _read_form(request, most)
    if not uploads:
        raise Refusal(400, "empty_body", f"the form has no part named `{FIELD}`: send the image in one")
    if len(uploads) > most:
        raise Refusal(422, "too_many_pictures", f"the form holds more than {most} images: send fewer")
    return uploads


async def _read_form(request: Request, most: int) -> list[Upload]:
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    parser = MultiPartParser(request.headers, request.stream(), max_files=most + 1, max_fields=16)
    parser.spool_max_size = limits.BODY_BYTES + 1  # Above it the parser would write to disk; no such body comes here.
    try:
        form = await parser.parse()
    except KeyError as error:
        raise Refusal(400, "invalid_multipart", "the form has no boundary: send multipart/form-data or the raw bytes") from error
    except (MultiPartException, LookupError, ValueError) as error:  # The client also names the encoding of its names.
        reason = getattr(error, "message", "its names are in no encoding that is known")
        if "Too many files" in reason:
            raise Refusal(422, "too_many_pictures", f"the form holds more than {most} images: send fewer") from error
        raise Refusal(400, "invalid_multipart", f"the form cannot be read ({reason}): send multipart/form-data or the raw bytes") from error
    try:
        parts = form.getlist(FIELD)
        if any(not isinstance(part, UploadFile) for part in parts):
            raise Refusal(400, "invalid_multipart", f"the part `{FIELD}` has no file name: send it as a file")
        return [Upload(_text(part.filename), await part.read()) for part in parts if isinstance(part, UploadFile)]
    finally:
        await form.close()


def _text(name: str | None) -> str:
    """A name that can be answered: an encoding may give half characters."""
    return (name or "").encode(errors="replace").decode()
