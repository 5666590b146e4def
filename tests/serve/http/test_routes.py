"""Requests as monitors, proxies and other people's programs send them."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from fkp.bundle import Bundle

from ..local import application, ask

GOLDEN = Path(__file__).resolve().parents[3] / "fkp/serve/golden/face.jpg"


@pytest.fixture(scope="module")
def app(champion: Bundle) -> Any:
    return application(champion)


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/v1/model", "/v1/landmarks", "/metrics", "/", "/page/page.js", "/docs", "/openapi.json"]
)
def test_head_is_get_without_its_body(app: Any, path: str) -> None:
    status, headers, body = asyncio.run(ask(app, "HEAD", path))
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0 and headers["x-content-type-options"] == "nosniff"


def test_head_of_what_only_takes_images_is_none(app: Any) -> None:
    status, headers, body = asyncio.run(ask(app, "HEAD", "/v1/keypoints"))
    assert (status, headers["allow"], body) == (405, "POST", b"")


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("Deflate", zlib.compress), ("br", bytes)])
@pytest.mark.parametrize("path", ["/v1/keypoints", "/v1/annotate"])
def test_an_encoded_body_is_named(app: Any, path: str, encoding: str, pack: Any) -> None:
    headers = [(b"content-encoding", encoding.encode())]
    status, answered, body = asyncio.run(ask(app, "POST", path, pack(GOLDEN.read_bytes()), headers))
    assert (status, answered["accept-encoding"]) == (415, "identity")
    assert json.loads(body)["message"] == f"the body is encoded as {encoding.lower()}: send the image's own bytes, without Content-Encoding"


def test_identity_is_no_encoding(app: Any) -> None:
    status, _, body = asyncio.run(ask(app, "POST", "/v1/keypoints", GOLDEN.read_bytes(), [(b"content-encoding", b"identity")]))
    assert status == 200 and len(json.loads(body)["faces"]) == 1


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: json.dumps({"image": f"data:image/jpeg;base64,{text}"}),
        lambda text: json.dumps([text]),
        lambda text: f'\n "{text}"',
        lambda text: f"data:image/jpeg;base64,{text}",
    ],
    ids=["object", "list", "string", "data URL"],
)
def test_an_image_wrapped_in_text_is_told_how_to_come(app: Any, wrap: Any) -> None:
    text = wrap(base64.b64encode(GOLDEN.read_bytes()).decode()).encode()
    status, _, body = asyncio.run(ask(app, "POST", "/v1/keypoints", text, [(b"content-type", b"application/json")]))
    assert status == 415
    assert json.loads(body)["message"].endswith("send the image's own bytes, or a form with a part `file`")


def test_no_link_of_the_documents_leaves_a_path_prefix(app: Any) -> None:
    for path in ("/docs", "/"):
        _, _, body = asyncio.run(ask(app, "GET", path))
        assert re.findall(r"""(?:href|src)=["'](/[^"']*)""", body.decode()) == [], path
