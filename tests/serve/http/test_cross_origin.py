"""Web pages of other origins, over real HTTP as browsers ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from fkp.bundle import Bundle
from fkp.errors import FkpError
from fkp.serve.settings import read_settings

from ..local import application, listening, say

GOLDEN = Path(__file__).resolve().parents[3] / "fkp/serve/golden/face.jpg"
APP, OTHER, TOKEN = "https://app.example", "https://app.example.evil", "a-token-of-the-tests"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


@pytest.fixture(scope="module")
def url(champion: Bundle) -> Iterator[str]:
    """Of an endpoint that asks for a token and lets one origin ask."""
    with listening(application(champion, TOKEN, [APP, "http://localhost:3000"])) as port:
        yield f"http://127.0.0.1:{port}"


def preflight(url: str, origin: str, path: str = "/v1/keypoints", **headers: str) -> requests.Response:
    asked = {**PREFLIGHT, "Origin": origin, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return requests.options(url + path, headers=asked, timeout=20)


@pytest.mark.parametrize("origin", [APP, "http://localhost:3000"])
@pytest.mark.parametrize("path", ["/v1/keypoints", "/v1/keypoints:batch", "/v1/model"])
def test_a_browser_may_send_the_token_and_an_image(url: str, origin: str, path: str) -> None:
    answer = preflight(url, origin, path)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, origin)
    assert {"authorization", "content-type"} <= set(answer.headers["Access-Control-Allow-Headers"].lower().split(", "))
    assert "POST" in answer.headers["Access-Control-Allow-Methods"] and "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_reads_the_faces(url: str) -> None:
    headers = {"Origin": APP, "Authorization": f"Bearer {TOKEN}", "Content-Type": "image/jpeg"}
    answer = requests.post(url + "/v1/annotate", GOLDEN.read_bytes(), headers=headers, timeout=20)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, APP)
    assert {"X-Faces", "X-Request-ID", "Retry-After"} <= set(answer.headers["Access-Control-Expose-Headers"].split(", "))


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({}, b"x", "unauthorized"),
        ({"Authorization": f"Bearer {TOKEN}"}, b"x", "unsupported_format"),
        ({}, bytes(9_000_000), "body_too_large"),
    ],
    ids=["no token", "no image", "too long"],
)
def test_the_page_reads_why_it_is_refused(url: str, headers: dict[str, str], body: bytes, code: str) -> None:
    preflight(url, APP)
    port = int(url.rpartition(":")[2])
    answer = say(port, "POST", "/v1/keypoints", body[:10], Origin=APP, Content_Length=str(len(body)), **headers)
    assert code in answer.decode() and f"access-control-allow-origin: {APP}\r\n" in answer.decode().lower()
    assert b"retry-after" in answer.lower(), "it is told which headers it may read"


@pytest.mark.parametrize("origin", [OTHER, "http://app.example", "https://app.example:8443", "null"])
def test_pages_of_other_origins_may_not(url: str, origin: str) -> None:
    answer = preflight(url, origin)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert (
        answer.json()["message"]
        == f"pages of {origin} may not ask: add it to allowed_origins in serve/config.yaml, or to --allowed-origins"
    )
    asked = requests.get(url + "/healthz", headers={"Origin": origin}, timeout=20)
    for found in (answer, asked):
        assert not [name for name in found.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "asked", [{"Access_Control_Request_Method": "DELETE"}, {"Access_Control_Request_Headers": "x-requested-with"}], ids=["method", "header"]
)
def test_nor_what_the_endpoint_does_not_read(url: str, asked: dict[str, str]) -> None:
    answer = preflight(url, APP, **asked)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert answer.json()["message"].startswith("pages may ask with GET, HEAD, POST and set the headers Authorization, Content-Type")


def test_by_default_none_may_and_all_only_where_it_is_said(champion: Bundle) -> None:
    for origins, allowed in (((), None), (("*",), "*")):
        with listening(application(champion, origins=origins)) as port:
            answer = preflight(f"http://127.0.0.1:{port}", APP)
            assert (answer.status_code, answer.headers.get("Access-Control-Allow-Origin")) == (200 if origins else 403, allowed)


@pytest.mark.parametrize(
    "origin",
    ["https://app.example/", "app.example", "https://app.example:443", "http://app.example:80", "https://App.example", "https://*.example",
     "https://a b", "https://user@app.example", "null", "", "https://app.example\n", "https://", "//app.example"],
)  # fmt: skip
def test_what_is_no_origin_is_one_sentence(origin: str) -> None:
    with pytest.raises(FkpError) as caught:
        read_settings({"allowed_origins": [APP, origin]})
    assert str(caught.value) == (
        f"user_config of the endpoint: allowed_origins.1: {origin!r} is no origin: write it as a browser sends it, "
        "https://app.example or http://localhost:3000"
    )


def test_origins_as_browsers_send_them() -> None:
    origins = [
        APP,
        "http://localhost:3000",
        "http://[::1]:8080",
        "https://10.1.2.3",
        "capacitor://localhost",
        "http://xn--bcher-kva.example",
    ]
    assert list(read_settings({"allowed_origins": origins}, needs_token=True).allowed_origins) == origins
    assert read_settings({"allowed_origins": ["*"]}).allowed_origins == ("*",)
    with pytest.raises(FkpError, match=r"allowed_origins: \* is for endpoints without a token: name the origins"):
        read_settings({"allowed_origins": ["*"]}, needs_token=True)
    with pytest.raises(FkpError, match="allowed_origins: Input should be a valid tuple"):
        read_settings({"allowed_origins": APP})
