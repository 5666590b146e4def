"""The page's server: routes over a `Session`, for one person on this machine.

Everything behind /api needs the token of the address. A client names faces and photographs by ids that the server has given; no path
reaches the disk. There are no answers for other origins, and none under another host name (against DNS rebinding).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import Field
from starlette.exceptions import HTTPException

from fkp.errors import FkpError
from fkp.label.bodies import About, Adapt, Last, New, Points
from fkp.label.log import Conflict, NotSaved
from fkp.label.photos import for_browser, photo_id
from fkp.label.session import Session
from fkp.serve.http.page_landmarks import page_landmarks

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE = Path(__file__).with_name("page")
#: Colours and controls are those of the endpoint's page.
BASE = PAGE.parents[1] / "serve/page/page.css"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = [
    (b"content-security-policy", b"default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
_MOST_FACES = 500


def build_app(session: Session, token: str, hosts: Callable[[], set[str]]) -> ASGIApp:
    """Make the ASGI application.

    Args:
        session: What it shows.
        token: Of the address.
        hosts: Returns the values of the header Host that are answered.
    """
    api = FastAPI(title="fkp label", docs_url=None, redoc_url=None, openapi_url=None)
    _add_errors(api)
    _add_page(api)
    _add_reading(api, session)
    _add_commands(api, session)
    return _Security(api, token, hosts)


class _Security:
    """What every request passes: host, token, and the headers of every answer."""

    def __init__(self, app: ASGIApp, token: str, hosts: Callable[[], set[str]]) -> None:
        self._app, self._token, self._hosts = app, token.encode(), hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message.get("headers", ())}
                kept = [] if b"cache-control" in given else [(b"cache-control", b"no-store")]
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS, *kept]}
            await send(message)

        headers = {name.lower(): value for name, value in scope["headers"]}
        host = headers.get(b"host", b"").decode("latin-1")
        given = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        refusal: Response | None = None
        if host not in self._hosts():
            refusal = _refusal(421, f"this server is not {host[:80]}: open the address that `fkp label` has printed")
        elif scope["path"].startswith("/api/") and not hmac.compare_digest(given, self._token):
            refusal = _refusal(401, "the address lacks its token: open the address that `fkp label` has printed")
        await (refusal or self._app)(scope, receive, with_headers)


def _refusal(status: int, message: str, **more: Any) -> JSONResponse:
    return JSONResponse({"message": message, **more}, status)


def _add_errors(api: FastAPI) -> None:
    @api.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _refusal(422, f"{'.'.join(str(part) for part in first['loc'][1:])}: {first['msg'].removeprefix('Value error, ')}")

    @api.exception_handler(Conflict)
    async def conflict(request: Request, error: Conflict) -> Response:
        return _refusal(409, "another window has changed this meanwhile")

    @api.exception_handler(NotSaved)
    async def not_saved(request: Request, error: NotSaved) -> Response:
        return _refusal(507, str(error))

    @api.exception_handler(FkpError)
    async def failed(request: Request, error: FkpError) -> Response:
        return _refusal(400, str(error))

    @api.exception_handler(KeyError)
    async def unknown(request: Request, error: KeyError) -> Response:
        return _refusal(404, "there is no such face or photograph: reload the page")

    @api.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        return _refusal(error.status_code, str(error.detail))


def _add_page(api: FastAPI) -> None:
    paths = [path for path in PAGE.iterdir() if path.suffix in _TYPES]
    files = {path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in paths}
    files["base.css"] = BASE.read_bytes(), _TYPES[".css"]

    def asset(name: str) -> Callable[[], Response]:
        content, kind = files[name]
        return lambda: Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    for name in files:
        api.add_api_route(f"/page/{name}", asset(name), methods=["GET"])
    api.add_api_route("/", asset("index.html"), methods=["GET"])


def _add_reading(api: FastAPI, session: Session) -> None:
    tables = page_landmarks(session.scheme)

    @api.get("/api/tables")
    def scheme_tables() -> dict[str, Any]:
        """The scheme."""
        return tables

    @api.get("/api/summary")
    def summary() -> dict[str, Any]:
        """What there is to say of the whole."""
        return session.summary()

    @api.get("/api/queue")
    def queue(start: int = 0, count: Annotated[int, Field(ge=1, le=_MOST_FACES)] = 60) -> dict[str, Any]:
        """Some faces in their order."""
        return {"faces": session.queue.window(start, count), "start": max(start, 0)}

    @api.get("/api/next")
    def following(after: str | None = None, step: Annotated[int, Field(ge=-1, le=1)] = 1, coming: str | None = None) -> dict[str, Any]:
        """The next face that is open."""
        return {"face": session.queue.next_open(after, step, coming)}

    @api.get("/api/changed")
    def changed() -> list[dict[str, Any]]:
        """The faces that the last adaptation has changed most."""
        return session.changed()

    @api.get("/api/without")
    def without() -> list[dict[str, str]]:
        """Photographs on which no face was found."""
        return [{"name": name, "photo_id": photo_id(name)} for name in session.queue.without()]

    @api.get("/api/faces/{name}")
    def face(name: str) -> dict[str, Any]:
        """One face."""
        return _face(session, session.face(name))

    @api.get("/api/photos/{name}")
    def photo(name: str, request: Request) -> Response:
        """A photograph as the browser shows it."""
        known = _photo(session, name)
        try:
            data, kind = for_browser(session.photos.read(known, session.out), known)
        except FkpError as error:
            return _refusal(404, f"{error}: your labels are kept")
        return Response(data, media_type=kind, headers={"cache-control": "private, max-age=3600"})


def _add_commands(api: FastAPI, session: Session) -> None:
    @api.post("/api/faces/{name}/points")
    def points(name: str, body: Points) -> dict[str, Any]:
        """Set points."""
        if any(place >= len(session.scheme) for place in body.points):
            raise KeyError(name)
        return _face(session, session.set_points(name, body.version, body.do, body.points, body.done))

    @api.post("/api/faces/{name}")
    def about(name: str, body: About) -> dict[str, Any]:
        """Say anything else of a face."""
        change = body.model_dump(exclude={"version"}, exclude_none=True)
        if "group" in change:
            change["group"] = change["group"].strip() or None
        return _face(session, session.tell(name, body.version, "tell", change))

    @api.post("/api/faces/{name}/again")
    def again(name: str) -> dict[str, Any]:
        """Label a finished face once more."""
        return _face(session, session.again(name))

    @api.post("/api/faces")
    def add(body: New) -> dict[str, Any]:
        """Add a face."""
        return _face(session, session.add(_photo(session, body.photo), body.box))

    @api.post("/api/undo")
    def undo(body: Last) -> dict[str, Any]:
        """Take the last command back."""
        found = session.undo(body.last)
        return {"face": found and _face(session, found)}

    @api.post("/api/redo")
    def redo(body: Last) -> dict[str, Any]:
        """Do it again."""
        found = session.undo(body.last, redo=True)
        return {"face": found and _face(session, found)}

    @api.post("/api/adapt")
    def adapt(body: Adapt) -> dict[str, Any]:
        """Begin to adapt."""
        session.adapt(tuple(body.ways))
        return session.adapting.to_json()

    @api.delete("/api/adapt")
    def stop() -> dict[str, Any]:
        """Stop it."""
        session.adapting.stop()
        return session.adapting.to_json()


def _photo(session: Session, name: str) -> str:
    """Name of a photograph by its id.

    Raises:
        KeyError: There is none.
    """
    return session.photo_names[name]


def _face(session: Session, face: dict[str, Any]) -> dict[str, Any]:
    return {**face, "photo_id": photo_id(face["photo"]), "place": session.queue.place(face["id"])}
