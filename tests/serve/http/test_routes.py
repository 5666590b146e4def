"""Requests as monitors, proxies and other people's programs send them."""

from __future__ import annotations

import asyncio
import base64
import gzip
import html
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin

import pytest
import requests

from fkp.bundle import Bundle

from ..local import application, ask, listening

TOKEN = "a-token-of-the-tests"
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


WRAPS = {
    "object": lambda text: json.dumps({"image": f"data:image/jpeg;base64,{text}"}),
    "list": lambda text: json.dumps([text]),
    "string": lambda text: f'\n "{text}"',
    "data URL": lambda text: f"data:image/jpeg;base64,{text}",
    "data URL in capitals": lambda text: f"DATA:image/jpeg;base64,{text}",
    "bare base64": lambda text: text,
    "base64 of mail": lambda text: "\r\n".join(text[place : place + 76] for place in range(0, len(text), 76)),
    "UTF-8 with its mark": lambda text: "\ufeff" + json.dumps({"image": text}),
    "an address": lambda text: "https://example.com/photo.jpg",
    "a form of text": lambda text: urlencode({"image": text}),
    "a page": lambda text: "<!doctype html><html></html>",
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("path", ["/v1/keypoints", "/v1/keypoints:batch"])
def test_an_image_wrapped_in_text_is_told_how_to_come(app: Any, wrap: str, path: str) -> None:
    text = WRAPS[wrap](base64.b64encode(GOLDEN.read_bytes()).decode()).encode()
    status, _, body = asyncio.run(ask(app, "POST", path, text, [(b"content-type", b"application/json")]))
    assert status == 415
    assert json.loads(body)["message"].endswith("send its own bytes, or a form with a part `file`")


def test_nor_may_the_part_of_a_form_be_text(app: Any) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    form = head + base64.b64encode(GOLDEN.read_bytes()) + b"\r\n--x--\r\n"
    status, _, body = asyncio.run(ask(app, "POST", "/v1/keypoints", form, [(b"content-type", b"multipart/form-data; boundary=x")]))
    assert (status, json.loads(body)["code"]) == (415, "unsupported_format") and "base64" in json.loads(body)["message"]


def test_an_image_that_curl_took_for_text_is_told_so(app: Any) -> None:
    """As `curl -d @face.jpg` sends it; with --data-binary it has the same type and all its bytes."""
    headers = [(b"content-type", b"application/x-www-form-urlencoded")]
    lost = GOLDEN.read_bytes().translate(None, b"\0\r\n")
    status, _, body = asyncio.run(ask(app, "POST", "/v1/keypoints", lost, headers))
    assert (status, json.loads(body)["message"].partition(": ")[2]) == (415, "with curl, say --data-binary and not -d")
    assert asyncio.run(ask(app, "POST", "/v1/keypoints", GOLDEN.read_bytes(), headers))[0] == 200
    assert json.loads(asyncio.run(ask(app, "POST", "/v1/keypoints", b"", headers))[2])["code"] == "empty_body"


@pytest.fixture(scope="module", params=["", "/faces", "/a/b"])
def behind(request: pytest.FixtureRequest, champion: Bundle) -> Iterator[tuple[str, str]]:
    """An endpoint with a token behind a path prefix, which the path holds, as Ray has it for a route prefix; its address and the prefix."""
    inner, prefix = application(champion, TOKEN), request.param

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "root_path": prefix}, receive, send)

    with listening(mounted) as port:
        yield f"http://127.0.0.1:{port}", prefix


def test_behind_a_path_prefix_all_is_as_without(behind: tuple[str, str]) -> None:
    address, prefix = behind
    url, token = address + prefix, {"Authorization": f"Bearer {TOKEN}"}
    assert [requests.get(url + path, timeout=20).status_code for path in ("/healthz", "/readyz", "/v1/model", "/")] == [200, 200, 401, 401]
    for path in ("/v1/keypoints", "/v1/annotate"):
        assert requests.post(url + path, GOLDEN.read_bytes(), headers=token, timeout=20).status_code == 200
    for page in ("/docs", "/"):
        answer = requests.get(url + page, headers=token, timeout=20)
        links = re.findall(r"""(?:href|src)=["']([^"'#]+)""", answer.text)
        assert len(links) >= 3
        for link in links:
            found = requests.get(urljoin(answer.url, link), headers=token, timeout=20)
            assert found.status_code == 200 and urljoin(answer.url, link).startswith(url + "/"), link
    documents = requests.get(f"{url}/docs", headers=token, timeout=20).text
    assert html.escape(f"--data-binary @photo.jpg '{url}/v1/keypoints?max_faces=5'") in documents
    openapi = requests.get(f"{url}/openapi.json", headers=token, timeout=20).json()
    assert openapi.get("servers", [{"url": ""}]) == [{"url": prefix}]
    assert requests.get(url, headers=token, timeout=20).url == f"{url}/", "relative links start in the folder"


def test_a_proxy_may_have_taken_the_prefix_off(champion: Bundle) -> None:
    """As uvicorn and Ray tell it with `root_path`."""
    with listening(application(champion, TOKEN), root_path="/faces") as port:
        url, token = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {TOKEN}"}
        asked = [requests.get(url + path, timeout=20) for path in ("/healthz", "/-/routes", "/v1/model")]
        assert [answer.status_code for answer in asked] == [200, 404, 401]
        assert "'http://127.0.0.1" in html.unescape(documents := requests.get(f"{url}/docs", headers=token, timeout=20).text)
        assert "/faces/v1/keypoints" in documents, "commands are for who is outside of the proxy"
