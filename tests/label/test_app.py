"""The routes of the labelling page, asked as ASGI, and the command that starts them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fkp.errors import FkpError
from fkp.label.__main__ import main
from fkp.label.app import build_app
from fkp.label.photos import photo_id
from fkp.label.session import Session
from tests.serve.local import ask

from .conftest import first

TOKEN, HOST = "a-token-of-the-tests", b"127.0.0.1:8123"


@pytest.fixture
def asked(label: Callable[..., Session]) -> Callable[..., tuple[int, Any]]:
    """`asked("GET", "/api/summary")`: status and answer, with token and host unless others are given."""
    session = label()
    app = build_app(session, TOKEN, lambda: {HOST.decode()})

    def go(method: str, path: str, body: Any = None, host: bytes = HOST, token: str | None = TOKEN, **query: Any) -> tuple[int, Any]:
        headers = [(b"host", host), (b"content-type", b"application/json")]
        headers += [(b"authorization", f"Bearer {token}".encode())] if token is not None else []
        data = b"" if body is None else json.dumps(body).encode()
        status, given, answer = asyncio.run(ask(app, method, path, data, headers, **query))
        assert "frame-ancestors 'none'" in given["content-security-policy"] and "access-control-allow-origin" not in given
        return status, json.loads(answer) if given["content-type"] == "application/json" else answer

    go.session = session  # type: ignore[attr-defined]
    return go


def test_nobody_without_the_token_or_under_another_name_is_answered(asked: Callable[..., tuple[int, Any]]) -> None:
    assert asked("GET", "/api/summary")[0] == 200
    for token in (None, "", "a-token-of-the-test", TOKEN + "x", "é"):
        assert asked("GET", "/api/summary", token=token)[0] == 401
        assert asked("POST", "/api/undo", {"last": 0}, token=token)[0] == 401
    for host in (b"evil.example:8123", b"127.0.0.1:8124", b"127.0.0.1", b""):
        assert asked("GET", "/api/summary", host=host)[0] == 421
        assert asked("GET", "/", host=host)[0] == 421
    assert asked("GET", "/", token=None)[0] == 200, "the page itself is no secret"


def test_no_path_of_a_client_reaches_the_disk(asked: Callable[..., tuple[int, Any]], photos: Path) -> None:
    status, data = asked("GET", f"/api/photos/{photo_id('a.jpg')}")
    assert status == 200 and data == (photos / "a.jpg").read_bytes()
    for name in ("a.jpg", "../log.jsonl", "..%2Flog.jsonl", str(photos / "a.jpg"), "0" * 16):
        assert asked("GET", f"/api/photos/{name}")[0] == 404
        assert asked("GET", f"/page/{name}")[0] == 404
        assert asked("POST", "/api/faces", {"photo": name, "box": [0, 0, 9, 9]})[0] == 404
    assert asked("GET", "/api/faces/nobody")[0] == 404


def test_commands_over_http(asked: Callable[..., tuple[int, Any]]) -> None:
    face = first(asked.session)  # type: ignore[attr-defined]
    where = f"/api/faces/{face['id']}"
    status, told = asked("POST", f"{where}/points", {"version": 0, "points": {"8": [10.5, 20, "occluded"], "9": None}})
    assert status == 200 and told["points"][8] == {"x": 10.5, "y": 20, "r": None, "state": "occluded", "how": "set"}
    status, told = asked("POST", f"{where}/points", {"version": 0, "points": {"8": [1, 2, "visible"]}})
    assert status == 409 and "another window" in told["message"]
    assert asked("GET", where)[1]["points"][8]["x"] == 10.5
    assert asked("POST", where, {"version": 1, "group": " Ada "})[1]["group"] == "Ada"
    assert asked("POST", "/api/undo", {"last": 1})[0] == 409
    assert asked("POST", "/api/undo", {"last": 2})[1]["face"]["group"] == ""
    assert asked("POST", "/api/redo", {"last": 3})[1]["face"]["group"] == "Ada"
    status, told = asked("POST", "/api/adapt", {})
    assert status == 400 and "no face is finished" in told["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"version": 0, "points": {"68": [1, 2, "visible"]}},
        {"version": 0, "points": {"-1": [1, 2, "visible"]}},
        {"version": 0, "points": {"8": [1e300, 2, "visible"]}},
        {"version": 0, "points": {"8": [1, 2, "gone"]}},
        {"version": 0, "points": {"8": [1, None, "visible"]}},
        {"version": 0, "points": {}, "more": 1},
        {"points": {}},
        [],
    ],
)
def test_what_is_no_command_is_refused_in_a_sentence(asked: Callable[..., tuple[int, Any]], body: Any) -> None:
    session: Session = asked.session  # type: ignore[attr-defined]
    status, told = asked("POST", f"/api/faces/{first(session)['id']}/points", body)
    assert status in (404, 422) and told["message"] and session.log.last == 0


def test_a_box_without_area_is_refused(asked: Callable[..., tuple[int, Any]]) -> None:
    status, told = asked("POST", "/api/faces", {"photo": photo_id("a.jpg"), "box": [5, 5, 5, 90]})
    assert status == 422 and "two pixels" in told["message"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{empty}", "--out", "{out}"], "holds no images"),
        (["{empty}/a.jpg", "--out", "{out}"], "a.jpg is not there"),
        (["{photos}", "--out", "{out}", "--host", "0.0.0.0"], "0.0.0.0 is no loopback address"),
        (["{photos}", "--out", "{photos}"], "was not made by `fkp label`"),
        (["{photos}", "--out", "{out}", "--scheme", "{scheme}"], "no landmark's name in common"),
        (["{photos}", "--out", "{out}", "--scheme", "nothing"], "unknown scheme nothing"),
        (["{photos}", "--out", "{out}", "--model", "{empty}"], "is not a bundle"),
        (["{photos}", "--out", "{out}", "--port", "{taken}"], "cannot listen on 127.0.0.1"),
    ],
)
def test_bad_input_is_one_sentence(
    photos: Path, tmp_path: Path, arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fkp.label.__main__ import listening

    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # As the command sets it for its own process.
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.yaml").write_text("name: other\nlandmarks: [ear, horn]\n")
    with listening("127.0.0.1", 0) as taken:
        names = {"photos": photos, "out": tmp_path / "out", "empty": tmp_path / "empty", "scheme": tmp_path / "other.yaml"}
        words = [word.format(**names, taken=taken.getsockname()[1]) for word in arguments]
        with pytest.raises(FkpError, match=sentence):
            main(words)
    assert not (tmp_path / "out/log.jsonl").exists()


def test_small_matrices_wait_for_no_other_core(tmp_path: Path) -> None:
    code = """
import os, sys
from fkp.errors import FkpError
from fkp.label.__main__ import main
assert "numpy" not in sys.modules, "it reads the number of threads when it is loaded"
try:
    main([".", "--out", "out"])
except FkpError as error:
    print(error, os.environ["OPENBLAS_NUM_THREADS"], "numpy" in sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=60)
    assert done.stdout.endswith(" 1 True\n"), done


def test_a_photograph_that_cannot_be_read_is_told_and_costs_the_others_nothing(
    label: Callable[..., Session], photos: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "a.jpg").write_bytes((photos / "a.jpg").read_bytes())
    (own / "b.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    told = label(own).summary()
    assert told["faces"] == 1 and told["broken"] == 1 and "b.jpg is not an image that can be decoded" in told["faults"][0]
