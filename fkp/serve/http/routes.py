"""The routes of the endpoint. What they answer comes from an `Engine`; Ray is not known here."""

from __future__ import annotations

import mimetypes
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from fkp import __version__
from fkp.serve import limits
from fkp.serve.http import docs, schemas
from fkp.serve.http.page_landmarks import page_landmarks
from fkp.serve.http.security import SecurityMiddleware, route_of, token_digests
from fkp.serve.http.uploads import FIELD, Upload, read_uploads
from fkp.serve.model import Found, InferenceOptions, Model, face_json, places
from fkp.serve.refusal import Code, Refusal
from fkp.vision.crop import parse_box

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

Keypoints = Callable[[Request, schemas.KeypointsParams], Awaitable[Response]]

PAGE = Path(__file__).parents[1] / "page"
#: Routes that are counted by name; all else is "other", so that no client can invent series.
ROUTES = (
    "/v1/keypoints",
    "/v1/annotate",
    "/v1/keypoints:batch",
    "/v1/model",
    "/v1/landmarks",
    "/healthz",
    "/readyz",
    "/metrics",
    "/docs",
    "/",
)

_ABOUT = (
    "Finds faces and their landmarks in images; /v1/landmarks names them. All lengths are pixels of the displayed image. "
    "Images are not kept."
)
_MIB = limits.BODY_BYTES // 2**20
_CODES: dict[int, Code] = {404: "not_found", 405: "method_not_allowed"}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Error, "description": about}
    for status, about in {
        400: "No image in the request, or a form that cannot be read.",
        401: "A token is required.",
        408: "The request took too long.",
        413: f"The body is longer than {_MIB} MiB, or the image larger than {limits.PIXELS // 10**6} megapixels "
        f"or {limits.SIDE_PX} pixels a side.",
        415: "Not a JPEG, PNG or WebP file.",
        422: "A broken image or a parameter out of range.",
        429: "Too many requests: try again after the header Retry-After. This answer may be plain text.",
        503: "No model yet: try again after the header Retry-After.",
    }.items()
}
_NO_MODEL: dict[str, Any] = {"model": schemas.Error, "description": "No model yet."}
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def _body(several: bool = False) -> dict[str, Any]:
    one = {"type": "string", "format": "binary"}
    part = {"type": "array", "items": one, "maxItems": limits.IMAGES} if several else one
    form = {"multipart/form-data": {"schema": {"type": "object", "properties": {FIELD: part}, "required": [FIELD]}}}
    raw = {} if several else {"image/jpeg": _BINARY, "image/png": _BINARY, "image/webp": _BINARY}
    return {"required": True, "content": {**raw, **form}}


def _curl(path: str, more: str = "--data-binary @photo.jpg") -> str:
    return f"curl {more} '{docs.EXAMPLE_URL}{path.lstrip('/')}'"


class Engine(Protocol):
    """What the routes need of a replica."""

    model: Model | None

    async def find(self, model: Model, upload: Upload, options: InferenceOptions, keep_image: bool = False) -> Found:
        """Find the faces of one encoded image."""
        ...

    async def draw(self, found: Found) -> bytes:
        """Draw the faces into their image, as a PNG file."""
        ...

    async def metrics_text(self) -> str:
        """Everything counted, in Prometheus's format."""
        ...

    def refused(self) -> dict[str, str] | None:
        """The last model that was not taken."""
        ...

    def count_error(self, code: str) -> None:
        """Count a refusal."""
        ...

    def observe(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        ...


def build_api(
    engine: Engine,
    digests: Sequence[str] | None = None,
    timeout_s: float = limits.REQUEST_S,
    origins: Callable[[], Sequence[str]] = tuple,
) -> SecurityMiddleware:
    """Make the ASGI application: the routes inside the security layer.

    Args:
        engine: Answers.
        digests: Of the valid tokens, see `http.security.token_digests`; by default those of the environment.
        timeout_s: Longest time of a request.
        origins: See `SecurityMiddleware`.
    """
    api = FastAPI(title="fkp", version=__version__, description=_ABOUT, docs_url=None, redoc_url=None)
    _add_errors(api, engine)
    keypoints = _add_images(api, engine)
    _add_state(api, engine)
    _add_page(api)
    app = _Direct(api, engine, keypoints)
    valid = token_digests(None) if digests is None else digests
    return SecurityMiddleware(
        app, valid, timeout_s, observe=engine.observe, count_error=engine.count_error, tell_request_id=False, origins=origins
    )


class _Direct:
    """Takes `POST /v1/keypoints`, which is most of the load, past FastAPI's layers: 0.15 of 1 ms that a request costs.

    The route of the same function stays in FastAPI, for its document.

    Args:
        app: All routes.
        engine: Counts errors.
        keypoints: Answers that one.
    """

    def __init__(self, app: ASGIApp, engine: Engine, keypoints: Keypoints) -> None:
        self.app, self.engine, self.keypoints = app, engine, keypoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if route_of(scope) != "/v1/keypoints" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        given = request.query_params
        try:
            params = schemas.KeypointsParams.model_validate({**given, "box": given.getlist("box")})
            response = await self.keypoints(request, params)
        except Refusal as refusal:
            response = _envelope(self.engine, request, refusal)
        except ValidationError as error:
            response = _envelope(self.engine, request, _invalid(error.errors()[0], 0))
        await response(scope, receive, send)


def _add_images(api: FastAPI, engine: Engine) -> Keypoints:

    @api.post(
        "/v1/keypoints",
        response_model=schemas.Keypoints,
        responses=_ERRORS,
        openapi_extra={"requestBody": _body(), "x-curl": _curl("/v1/keypoints?max_faces=5")},
    )
    async def keypoints(request: Request, params: Annotated[schemas.KeypointsParams, Query()]) -> Response:
        """Faces and points of one image: the raw bytes of a JPEG, PNG or WebP file, or a form's part `file`."""
        began = time.perf_counter()
        options = _options(params, params.box, params.points)
        places(_model(engine).predictor.scheme, options.points)  # Refused before the upload is read; the model may change meanwhile.
        (upload,) = await read_uploads(request)
        read = time.perf_counter()
        model = _model(engine)
        chosen = places(model.predictor.scheme, options.points)
        found = await engine.find(model, upload, options)
        answer = {
            "request_id": request.state.request_id,
            **_found_json(found, chosen),
            "model": model.name_json,
            "milliseconds": _milliseconds({"read": 1000 * (read - began), **found.milliseconds}, began),
        }
        return _json(answer)

    @api.post(
        "/v1/annotate",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}, "description": "The image with points, lines and boxes, as PNG."}, **_ERRORS},
        openapi_extra={"requestBody": _body(), "x-curl": _curl("/v1/annotate", "--data-binary @photo.jpg -o annotated.png")},
    )
    async def annotate(request: Request, params: Annotated[schemas.AnnotateParams, Query()]) -> Response:
        """Draw the faces of one image into it."""
        options = _options(params, params.box)
        (upload,) = await read_uploads(request)
        model = _model(engine)
        found = await engine.find(model, upload, options, keep_image=True)
        drawn = await engine.draw(found)
        counts = {"X-Faces": str(len(found.faces)), "X-Faces-Left-Out": str(found.left_out)}
        return Response(drawn, media_type="image/png", headers={"X-Model-Digest": model.digest, **counts})

    @api.post(
        "/v1/keypoints:batch",
        response_model=schemas.Batch,
        responses=_ERRORS,
        description=f"Faces and points of up to {limits.IMAGES} images, one part `file` each, {_MIB} MiB together. A broken one costs "
        "only itself.",
        openapi_extra={"requestBody": _body(several=True), "x-curl": _curl("/v1/keypoints:batch", "-F file=@a.jpg -F file=@b.jpg")},
    )
    async def batch(request: Request, params: Annotated[schemas.BatchParams, Query()]) -> Response:
        began = time.perf_counter()
        options = _options(params, points=params.points)
        places(_model(engine).predictor.scheme, options.points)  # Refused before there is work.
        uploads = await read_uploads(request, limits.IMAGES)
        model = _model(engine)
        # One after the other: other requests get their turn between them, and one image at a time is in memory.
        entries = [await _entry(engine, model, upload, options, request.state.request_id) for upload in uploads]
        answer = {
            "request_id": request.state.request_id,
            "pictures": entries,
            "model": model.name_json,
            "milliseconds": _milliseconds({}, began),
        }
        return _json(answer)

    return keypoints


async def _entry(engine: Engine, model: Model, upload: Upload, options: InferenceOptions, request_id: str) -> dict[str, Any]:
    try:
        found = await engine.find(model, upload, options)
    except Refusal as refusal:
        engine.count_error(refusal.code)
        return {"name": upload.name, "error": refusal.envelope(request_id)}
    return {
        "name": upload.name,
        **_found_json(found, places(model.predictor.scheme, options.points)),
        "milliseconds": {stage: round(value, 3) for stage, value in found.milliseconds.items()},
    }


def _found_json(found: Found, chosen: list[int] | None) -> dict[str, Any]:
    return {
        "image": {"width": found.width, "height": found.height},
        "faces": [face_json(face, chosen) for face in found.faces],
        "left_out": found.left_out,
        "left_out_faces": [face.outline_json() for face in found.left_out_faces],
    }


def _add_state(api: FastAPI, engine: Engine) -> None:
    @api.get("/v1/model", response_model=schemas.ModelCard, responses={401: _ERRORS[401]}, openapi_extra={"x-curl": _curl("/v1/model", "")})
    async def model() -> Response:
        """Card, figures and digest of the model that answers, and the last one that was refused."""
        return _json({**_model(engine).card_json(), "refused": engine.refused()})

    @api.get("/v1/landmarks", responses={401: _ERRORS[401], 503: _NO_MODEL})
    async def landmarks() -> dict[str, Any]:
        """The model's landmarks: names, pairs, regions with their colours, lines between them; and the digest of the model they are of."""
        model = _model(engine)
        return {**page_landmarks(model.predictor.scheme, model.predictor.belief), "digest": model.digest}

    @api.get("/healthz", response_model=schemas.Health)
    async def healthz() -> Response:
        """Whether a replica answers at all."""
        return _json({"status": "ok"})

    @api.get("/readyz", response_model=schemas.Health, responses={503: _NO_MODEL})
    async def readyz() -> Response:
        """Whether a model is loaded."""
        _model(engine)
        return _json({"status": "ok"})

    @api.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, 401: _ERRORS[401]})
    async def metrics() -> Response:
        """Counters and histograms over all replicas, for Prometheus."""
        return Response(await engine.metrics_text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_page(api: FastAPI) -> None:
    """The page and its files, read once: no path of a request ever reaches the file system."""
    files = {path.name: path.read_bytes() for path in sorted(PAGE.iterdir()) if path.is_file()} if PAGE.is_dir() else {}

    def answer(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(files[name], media_type=kind, headers={"Cache-Control": "no-cache"})

    @api.get("/", include_in_schema=False)
    async def page() -> Response:
        return answer("index.html")

    @api.get("/page/{name}", include_in_schema=False)
    async def page_file(name: str) -> Response:
        return answer(name)

    @api.get("/docs", include_in_schema=False)
    async def documentation(request: Request) -> Response:
        return HTMLResponse(docs.page(api.openapi(), str(request.base_url)))

    @api.get("/docs.css", include_in_schema=False)
    async def documentation_style() -> Response:
        return Response(docs.CSS, media_type="text/css")


def _envelope(engine: Engine, request: Request, refusal: Refusal) -> Response:
    engine.count_error(refusal.code)
    headers = dict(refusal.headers)
    if refusal.status in (408, 413):
        headers["Connection"] = "close"  # What is left of the body is not read.
    return JSONResponse(refusal.envelope(request.state.request_id), refusal.status, headers)


def _invalid(fault: Mapping[str, Any], place: int) -> Refusal:
    """What pydantic found wrong with a parameter, whose name stands at this place of its location."""
    name = str(fault["loc"][place]) if len(fault["loc"]) > place else "the request"
    return Refusal(422, "invalid_parameter", f"{name}: {fault['msg']}; /docs says what is possible")


def _add_errors(api: FastAPI, engine: Engine) -> None:
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return _envelope(engine, request, error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _envelope(engine, request, _invalid(error.errors()[0], 1))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path[:100]}: {error.detail}; /docs lists what there is"
        code = _CODES.get(error.status_code, "http_error")
        return _envelope(engine, request, Refusal(error.status_code, code, message, tuple((error.headers or {}).items())))

    async def defect(request: Request, error: Exception) -> Response:
        return _envelope(engine, request, Refusal(500, "internal_error", "this is a defect of the server: report the request id"))

    api.add_exception_handler(Refusal, refused)
    api.add_exception_handler(RequestValidationError, invalid)
    api.add_exception_handler(HTTPException, http)
    api.add_exception_handler(Exception, defect)


def _options(params: schemas.ImageParams, box: Sequence[str] = (), points: str = "all") -> InferenceOptions:
    return InferenceOptions(tuple(_box(text) for text in box), params.max_faces, params.min_score, params.min_quality, points)


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        return parse_box(text)
    except ValueError as error:
        raise Refusal(422, "invalid_parameter", f"box: {text[:60]!r} is not x0,y0,x1,y1 in pixels with x0 < x1 and y0 < y1") from error


def _model(engine: Engine) -> Model:
    if engine.model is None:
        raise Refusal(503, "not_ready", "no model is loaded yet: try again in a few seconds", (("Retry-After", "2"),))
    return engine.model


def _milliseconds(stages: dict[str, float], began: float) -> dict[str, float]:
    return {stage: round(value, 3) for stage, value in {**stages, "total": 1000 * (time.perf_counter() - began)}.items()}


def _json(answer: dict[str, Any]) -> Response:
    # Not by way of the schemas: checking 68 points of our own making costs more than finding them. The tests check. Nor by
    # the standard library's json, which takes 0.065 ms for a face where this takes 0.011.
    return Response(to_json(answer), media_type="application/json")
