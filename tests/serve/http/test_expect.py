"""Clients that ask before they send: `Expect: 100-continue`, as curl does with more than a megabyte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fkp.bundle import Bundle
from fkp.serve.limits import BODY_BYTES

from ..local import CONTINUE, application, listening, say

GOLDEN = Path(__file__).resolve().parents[3] / "fkp/serve/golden/face.jpg"


@pytest.fixture(scope="module")
def port(champion: Bundle) -> Iterator[int]:
    with listening(application(champion)) as found:
        yield found


@pytest.mark.parametrize("length", [BODY_BYTES + 1, 9_000_000, 10**18])
@pytest.mark.parametrize("path", ["/v1/keypoints", "/v1/keypoints:batch", "/nowhere"])
def test_what_is_too_long_is_refused_before_it_is_sent(port: int, length: int, path: str) -> None:
    answer = say(port, "POST", path, b"never sent", Expect="100-continue", Content_Length=str(length))
    assert answer.startswith(b"HTTP/1.1 413 ") and CONTINUE not in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "body_too_large"


@pytest.mark.parametrize("expect", ["100-continue", "100-Continue"])
def test_an_image_is_asked_for(port: int, expect: str) -> None:
    image = GOLDEN.read_bytes()
    answer = say(port, "POST", "/v1/keypoints", image, Expect=expect, Content_Length=str(len(image)))
    assert answer.startswith(CONTINUE + b"HTTP/1.1 200 ")
