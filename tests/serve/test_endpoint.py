"""The endpoint over real HTTP on a real Ray Serve: what it answers, what it refuses, and how it changes its model."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import psutil
import pytest
import requests
from PIL import Image as Pillow
from prometheus_client.parser import text_string_to_metric_families

from fkp.bundle import Bundle
from fkp.errors import FkpError
from fkp.predict import Predictor
from fkp.serve.http import schemas
from fkp.serve.limits import BURST
from fkp.vision.image import Image, decode_image

from .conftest import MAX_IN_PROGRESS, Endpoint
from .local import say

KEYPOINTS = "/v1/keypoints"
#: Ray's controller looks at what is asked of it every tenth of a second, on a starved machine every half minute.
_PATIENCE_S = 100


def flag(box: np.ndarray) -> str:
    return ",".join(repr(float(value)) for value in box)


def points_of(answer: requests.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array([face["keypoints"] for face in answer.json()["faces"]])


def encode(image: Image, kind: str, mode: str = "RGB", **options: Any) -> bytes:
    data = io.BytesIO()
    Pillow.fromarray(image).convert(mode).save(data, kind, **options)
    return data.getvalue()


def processes(*titles: str) -> list[psutil.Process]:
    """Those of this cluster whose titles begin so."""
    return [process for process in psutil.Process().children(recursive=True) if " ".join(process.cmdline()).startswith(titles)]


# --- answers ----------------------------------------------------------------------------------------------------


def test_a_box_gives_what_the_predictor_gives(
    endpoint: Endpoint, offline: Predictor, champion: Bundle, photo: bytes, image: Image, box: np.ndarray
) -> None:
    answer = endpoint.post(KEYPOINTS, photo, params={"box": [flag(box), flag(box + 7)]})
    told = schemas.Keypoints.model_validate(answer.json())
    assert (told.image.width, told.image.height) == image.shape[1::-1]
    assert told.model == schemas.ModelName(name="fkp", version=str(champion.config.track.run_name), digest=champion.digest)
    assert set(told.milliseconds) == {"read", "decode", "detect", "crop", "queue", "network", "total"}
    assert answer.headers["X-Request-ID"] == told.request_id
    expected = offline(image, [box, box + 7])
    for face, ours in zip(expected, told.faces, strict=True):
        np.testing.assert_allclose(ours.keypoints, face.points_px, atol=0.0051 + 1e-3)
        np.testing.assert_allclose(ours.expected_error_px, face.expected_error_px, atol=0.0051 + 1e-3)
        np.testing.assert_allclose(ours.box, face.box_xyxy, atol=0.0051)
        assert ours.score == 1 and 0 < ours.quality < 1


def test_without_a_box_the_detector_looks(endpoint: Endpoint, offline: Predictor, photo: bytes, image: Image) -> None:
    answer = endpoint.post(KEYPOINTS, photo)
    expected = offline(image)
    assert len(expected) == 1
    np.testing.assert_allclose(points_of(answer)[0], expected[0].points_px, atol=0.0061)
    assert answer.json()["faces"][0]["score"] == pytest.approx(expected[0].score, abs=1e-4)
    assert points_of(endpoint.post(KEYPOINTS, photo, params={"min_score": 1})).size == 0


def test_a_form_is_as_good_as_a_raw_body(endpoint: Endpoint, photo: bytes, box: np.ndarray) -> None:
    query = {"box": flag(box)}
    raw = points_of(endpoint.post(KEYPOINTS, photo, params=query))
    np.testing.assert_array_equal(points_of(endpoint.post(KEYPOINTS, files={"file": ("a/../b.jpg", photo)}, params=query)), raw)
    inner = points_of(endpoint.post(KEYPOINTS, photo, params={**query, "points": 51}))
    np.testing.assert_array_equal(inner, raw[:, 17:])


def test_max_faces_keeps_the_best(endpoint: Endpoint, offline: Predictor, image: Image) -> None:
    twice = np.concatenate([image, cv2.GaussianBlur(image, (9, 9), 0)], axis=1)
    data = encode(twice, "PNG")
    every = points_of(endpoint.post(KEYPOINTS, data))
    assert len(every) == len(offline(twice)) == 2
    np.testing.assert_array_equal(points_of(endpoint.post(KEYPOINTS, data, params={"max_faces": 1})), every[:1])


STORED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a.transpose(1, 0, 2), 2),
    8: lambda a: np.rot90(a, -1),
}


def test_all_exif_orientations_agree(endpoint: Endpoint, image: Image, box: np.ndarray) -> None:
    found = {}
    for orientation, stored in STORED.items():
        exif = Pillow.Exif()
        exif[0x0112] = orientation
        data = encode(np.ascontiguousarray(stored(image)), "JPEG", quality=95, exif=exif)
        answer = endpoint.post(KEYPOINTS, data, params={"box": flag(box)})
        found[orientation] = points_of(answer)[0]
        assert answer.json()["image"] == {"width": image.shape[1], "height": image.shape[0]}
    for orientation, points in found.items():
        assert np.abs(points - found[1]).max() < 1, orientation


@pytest.mark.parametrize(
    ("kind", "mode", "tolerance_px"),
    [("PNG", "RGBA", 1), ("PNG", "LA", 3), ("PNG", "L", 3), ("PNG", "P", 12), ("PNG", "1", 60), ("PNG", "I;16", 70), ("JPEG", "CMYK", 4),
     ("JPEG", "L", 3), ("WEBP", "RGB", 4), ("WEBP", "RGBA", 4)],
)  # fmt: skip
def test_every_kind_of_pixel_is_answered(
    endpoint: Endpoint, photo: bytes, image: Image, box: np.ndarray, kind: str, mode: str, tolerance_px: float
) -> None:
    query = {"box": flag(box)}
    found = points_of(endpoint.post(KEYPOINTS, encode(image, kind, mode), params=query))
    assert np.abs(found - points_of(endpoint.post(KEYPOINTS, photo, params=query))).mean() < tolerance_px


def test_of_an_animation_the_first_frame_is_taken(endpoint: Endpoint, photo: bytes, image: Image, box: np.ndarray) -> None:
    data = io.BytesIO()
    Pillow.fromarray(image).save(data, "WEBP", save_all=True, lossless=True, append_images=[Pillow.fromarray(np.zeros_like(image))])
    query = {"box": flag(box)}
    np.testing.assert_allclose(
        points_of(endpoint.post(KEYPOINTS, data.getvalue(), params=query)),
        points_of(endpoint.post(KEYPOINTS, photo, params=query)),
        atol=0.1,
    )


def test_annotate_draws_what_the_predictor_finds(
    endpoint: Endpoint, offline: Predictor, champion: Bundle, photo: bytes, image: Image, box: np.ndarray
) -> None:
    from fkp.vision.draw import draw_face

    answer = endpoint.post("/v1/annotate", photo, params={"box": flag(box)})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
    assert answer.headers["X-Model-Digest"] == champion.digest
    (face,) = offline(image, [box])
    expected = draw_face(image, face.points_px, face.box_xyxy)
    assert (np.abs(decode_image(answer.content).astype(int) - expected) > 3).mean() < 0.001


def test_a_broken_picture_of_a_batch_costs_only_itself(endpoint: Endpoint, photo: bytes) -> None:
    names = [("a.jpg", photo), ("b.jpg", b"junk"), ("c.jpg", photo[:3000]), ("d.jpg", photo)]
    answer = endpoint.post("/v1/keypoints:batch", files=[("file", named) for named in names])
    told = schemas.Batch.model_validate(answer.json())
    assert [entry.name for entry in told.pictures] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert [entry.error and entry.error.code for entry in told.pictures] == [None, "unsupported_format", "broken_picture", None]
    assert (
        told.pictures[0].faces == told.pictures[3].faces == schemas.Keypoints.model_validate(endpoint.post(KEYPOINTS, photo).json()).faces
    )


@pytest.mark.parametrize("batch", [16, 1])
def test_what_is_not_believed_is_left_out_and_counted(
    endpoint: Endpoint, offline: Predictor, champion: Bundle, photo: bytes, image: Image, unbelieved: Image, batch: int
) -> None:
    """And a face upside down is answered as it is offline, whether its crops are batched or not."""
    endpoint.deploy(max_batch_size=batch)
    upside_down = np.ascontiguousarray(image[::-1, ::-1])
    (expected,) = offline(upside_down)
    np.testing.assert_allclose(points_of(endpoint.post(KEYPOINTS, encode(upside_down, "PNG")))[0], expected.points_px, atol=0.03)
    before, data = numbers(endpoint), encode(unbelieved, "PNG")
    told = schemas.Keypoints.model_validate(endpoint.post(KEYPOINTS, data).json())
    assert (told.faces, told.left_out) == ([], 1)
    told = schemas.Keypoints.model_validate(endpoint.post(KEYPOINTS, data, params={"min_quality": 0}).json())
    assert told.left_out == 0
    (expected,) = Predictor(champion, min_quality=0)(unbelieved)
    np.testing.assert_allclose(told.faces[0].keypoints, expected.points_px, atol=0.03)
    assert told.faces[0].quality == pytest.approx(expected.quality, abs=1e-3)
    answer = endpoint.post("/v1/annotate", data)
    assert (answer.headers["X-Faces"], answer.headers["X-Faces-Left-Out"]) == ("0", "1")
    entries = endpoint.post("/v1/keypoints:batch", files=[("file", ("a", photo)), ("file", ("b", data))]).json()["pictures"]
    assert [(len(entry["faces"]), entry["left_out"]) for entry in entries] == [(1, 0), (0, 1)]
    grown = numbers(endpoint)["fkp_faces_left_out_total", ""] - before["fkp_faces_left_out_total", ""]
    assert grown == 3


# --- refusals ---------------------------------------------------------------------------------------------------

PROMISE = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 70000, 70000) + bytes(100)
REFUSED: dict[str, tuple[str, bytes, dict[str, Any], int, str]] = {
    "no body": (KEYPOINTS, b"", {}, 400, "empty_body"),
    "words": (KEYPOINTS, b"/etc/passwd", {}, 415, "unsupported_format"),
    "address": (KEYPOINTS, b"http://127.0.0.1/a.jpg", {}, 415, "unsupported_format"),
    "pickle": (KEYPOINTS, b"\x80\x04\x95" + bytes(40), {}, 415, "unsupported_format"),
    "many pixels": (KEYPOINTS, PROMISE, {}, 413, "too_many_pixels"),
    "long body": (KEYPOINTS, bytes(8 * 1024 * 1024 + 1), {}, 413, "body_too_large"),
    "box of words": (KEYPOINTS, b"x", {"box": "a,b,c,d"}, 422, "invalid_parameter"),
    "box of three": (KEYPOINTS, b"x", {"box": "1,2,3"}, 422, "invalid_parameter"),
    "box inside out": (KEYPOINTS, b"x", {"box": "9,9,1,1"}, 422, "invalid_parameter"),
    "box without area": (KEYPOINTS, b"x", {"box": "5,5,5,9"}, 422, "invalid_parameter"),
    "box not finite": (KEYPOINTS, b"x", {"box": "0,0,nan,inf"}, 422, "invalid_parameter"),
    "box far away": (KEYPOINTS, b"x", {"box": "0,0,1e30,1e30"}, 422, "invalid_parameter"),
    "many boxes": (KEYPOINTS, b"x", {"box": ["1,2,3,4"] * 33}, 422, "invalid_parameter"),
    "no faces": (KEYPOINTS, b"x", {"max_faces": 0}, 422, "invalid_parameter"),
    "quality": (KEYPOINTS, b"x", {"min_quality": -0.1}, 422, "invalid_parameter"),
    "quality in words": (KEYPOINTS, b"x", {"min_quality": "nan"}, 422, "invalid_parameter"),
    "score": (KEYPOINTS, b"x", {"min_score": 2}, 422, "invalid_parameter"),
    "points": (KEYPOINTS, b"x", {"points": 5}, 422, "invalid_parameter"),
    "other path": ("/v2/keypoints", b"x", {}, 404, "not_found"),
    "climbing": ("/page/..%2f..%2fapp.py", b"x", {}, 404, "not_found"),
    "other method": ("/v1/model", b"x", {}, 405, "method_not_allowed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_one_envelope(endpoint: Endpoint, case: str) -> None:
    path, data, query, status, code = REFUSED[case]
    answer = endpoint.post(path, data, params=query, headers={"X-Request-ID": "mine-1"})
    assert answer.status_code == status, answer.text
    if status != 200:
        told = schemas.Error.model_validate(answer.json())
        assert (told.code, told.request_id) == (code, "mine-1")
        assert told.message and "\n" not in told.message and "Traceback" not in told.message
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


def test_broken_forms_are_refused(endpoint: Endpoint, photo: bytes) -> None:
    kind = "multipart/form-data"
    for headers, body in (
        ({"Content-Type": kind}, b"x"),
        ({"Content-Type": f"{kind}; boundary=a"}, b"no boundary"),
        ({"Content-Type": f"{kind}; boundary=a"}, b""),
    ):
        assert endpoint.post(KEYPOINTS, body, headers=headers).status_code == 400
    for charset in ("undefined", "punycode", "nonsense", "unicode_escape"):
        form = b'--a\r\nContent-Disposition: form-data; name="file"; filename="\\ud800b.jpg"\r\n\r\n' + photo + b"\r\n--a--\r\n"
        headers = {"Content-Type": f"{kind}; boundary=a; charset={charset}"}
        assert endpoint.post("/v1/keypoints:batch", form, headers=headers).status_code in (200, 400), charset
    assert endpoint.post(KEYPOINTS, files={"picture": ("a.jpg", photo)}).json()["code"] == "empty_body"
    assert endpoint.post(KEYPOINTS, files=[("file", ("a", photo))] * 2).json()["code"] == "too_many_pictures"
    assert endpoint.post("/v1/keypoints:batch", files=[("file", ("a", b"x"))] * 33).json()["code"] == "too_many_pictures"


def test_a_stream_without_length_is_cut_before_it_fills_memory(endpoint: Endpoint, photo: bytes) -> None:
    """64 MiB in pieces: neither Ray's proxy nor the replica may grow by more than two bodies."""
    assert endpoint.post(KEYPOINTS, photo).status_code == 200  # What a first request loads is no growth of the stream.
    workers = processes("ray::ProxyActor", "ray::ServeReplica:fkp")
    assert len(workers) >= 2
    before = [process.memory_info().rss for process in workers]
    highest = 0
    address = urlsplit(endpoint.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(b"POST /v1/keypoints HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            for _ in range(1024):
                connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
                sent += 1
                highest = max(highest, *(process.memory_info().rss - first for process, first in zip(workers, before, strict=True)))
        assert sent < 1024, "the server hangs up in the middle of the stream"
        assert connection.recv(12) == b"HTTP/1.1 413"
    assert highest < 16 * 1024 * 1024
    assert endpoint.get("/healthz").status_code == 200


def test_the_memory_of_a_large_image_goes_back_to_the_system(endpoint: Endpoint) -> None:
    """30 MiB of pixels at a time. The C library would keep them for the next one, in each thread, and break them up between."""
    (replica,) = processes("ray::ServeReplica:fkp")
    large = encode(np.zeros((3200, 3200, 3), np.uint8), "PNG")
    resident = []
    for _ in range(4):
        assert endpoint.post(KEYPOINTS, large, params={"box": "10,10,90,90"}).status_code == 200
        resident.append(replica.memory_info().rss / 2**20)
    assert max(resident[1:]) - resident[0] < 8, resident


def test_no_header_steers_ray_and_its_own_page_is_closed(endpoint: Endpoint) -> None:
    for name in ("X-Request-Timeout-Seconds", "serve_multiplexed_model_id", "X-Session-Id"):
        assert endpoint.get("/healthz", headers={name: b"\xff"}).status_code == 200, "Ray's proxy alone answers 500"
    answer = endpoint.get("/-/routes", headers={"X-Request-ID": "x" * 300})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"] != "x" * 300


def test_a_web_app_may_ask_where_its_origin_is_allowed(endpoint: Endpoint, photo: bytes) -> None:
    page = {"Origin": "https://app.example"}
    preflight = {**page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}

    def ask() -> requests.Response:
        return endpoint.session.options(endpoint.url + KEYPOINTS, headers=preflight, timeout=30)

    assert (ask().status_code, ask().json()["code"]) == (403, "forbidden"), "none is by default"
    try:
        endpoint.deploy(allowed_origins=["https://app.example/"])
        wait_for_refusal(endpoint, "'https://app.example/' is no origin")
        assert endpoint.post(KEYPOINTS, photo).status_code == 200, "the old settings stay"
        endpoint.deploy(allowed_origins=["https://app.example"])
        until = time.monotonic() + _PATIENCE_S
        while (answer := ask()).status_code != 200:
            assert time.monotonic() < until, "the settings were not taken"
            time.sleep(0.05)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        answer = endpoint.post(KEYPOINTS, photo, headers=page)
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, "https://app.example")
        port = urlsplit(endpoint.url).port
        assert port is not None
        refused = say(port, "POST", KEYPOINTS, Expect="100-continue", Content_Length="9000000", **page)
        assert refused.startswith(b"HTTP/1.1 413 ") and b"access-control-allow-origin: https://app.example\r\n" in refused
    finally:
        endpoint.deploy(allowed_origins=[])


# --- state ------------------------------------------------------------------------------------------------------


def test_the_model_tells_its_card(endpoint: Endpoint, champion: Bundle) -> None:
    told = schemas.ModelCard.model_validate(endpoint.get("/v1/model").json())
    assert (told.digest, told.card, told.metrics, told.size_px) == (champion.digest, champion.card, champion.metrics, 128)
    assert told.min_quality == pytest.approx(Predictor(champion).min_quality, abs=1e-4)


def test_health_documents_and_page(endpoint: Endpoint) -> None:
    for path in ("/healthz", "/readyz"):
        assert endpoint.get(path).json() == {"status": "ok"}
    openapi = endpoint.get("/openapi.json").json()
    assert set(openapi["paths"]) >= {KEYPOINTS, "/v1/annotate", "/v1/keypoints:batch", "/v1/model", "/healthz", "/readyz", "/metrics"}
    schemas.Keypoints.model_validate(openapi["components"]["schemas"]["Keypoints"]["example"])
    page = endpoint.get("/docs")
    assert "<h2><code>POST /v1/keypoints</code></h2>" in page.text and "<script" not in page.text and "https://" not in page.text
    assert endpoint.get("/docs.css").headers["Content-Type"].startswith("text/css")
    landmarks = endpoint.get("/v1/landmarks").json()
    assert (landmarks["points"], landmarks["digest"]) == (68, endpoint.get("/v1/model").json()["digest"])
    assert endpoint.get("/").headers["Content-Type"].startswith("text/html")
    assert endpoint.get("/page/page.js").headers["Content-Type"].startswith("text/javascript")


def numbers(endpoint: Endpoint) -> dict[tuple[str, str], float]:
    """Sums over all labels but `le`, by name and, of requests, status."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(endpoint.get("/metrics").text):
        for sample in family.samples:
            key = sample.name, sample.labels.get("status", sample.labels.get("le", ""))
            found[key] = found.get(key, 0) + sample.value
    return found


@pytest.mark.parametrize("batch", [1, 16])
def test_concurrent_requests_are_answered_alike_and_counted(
    endpoint: Endpoint, offline: Predictor, photo: bytes, image: Image, box: np.ndarray, batch: int
) -> None:
    endpoint.deploy(max_batch_size=batch)
    before = numbers(endpoint)
    expected = points_of(endpoint.post(KEYPOINTS, photo, params={"box": flag(box)}))
    boxes = [flag(box + shift) for shift in range(8)]

    def ask(_: int) -> requests.Response:
        return requests.post(endpoint.url + KEYPOINTS, photo, params={"box": [flag(box), *boxes]}, timeout=30)

    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(ask, range(12)):
            np.testing.assert_allclose(points_of(answer)[0], expected[0], atol=0.02)
    after = numbers(endpoint)
    grown = {key: value - before.get(key, 0) for key, value in after.items()}
    assert grown["fkp_requests_total", "200"] >= 13
    assert grown["fkp_batch_crops_sum", ""] == grown["fkp_faces_total", ""] == grown["fkp_crop_brightness_count", ""] == 1 + 12 * 9
    if batch == 1:
        assert grown["fkp_batch_crops_count", ""] == 13, "each image's own crops"
    else:
        assert grown["fkp_batch_crops_count", ""] < 1 + 12 * 9, "crops are batched"
    assert after["fkp_pictures_in_progress", ""] == 0
    # Refined: a face of the detector, and one in a box that it does not fit.
    wide = box + np.float32([-40, -40, 40, 40])
    for query, expected in (({}, offline(image)), ({"box": [flag(wide), flag(box)]}, offline(image, [wide, box]))):
        found = points_of(endpoint.post(KEYPOINTS, photo, params=query))
        np.testing.assert_allclose(found, [face.points_px for face in expected], atol=0.0061)
    endpoint.deploy(max_batch_size=None)


# --- change -----------------------------------------------------------------------------------------------------


class Load:
    """Requests one after the other while something else happens."""

    def __init__(self, endpoint: Endpoint, photo: bytes, box: np.ndarray) -> None:
        self._ask = lambda: requests.post(endpoint.url + KEYPOINTS, photo, params={"box": flag(box)}, timeout=30)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.statuses: list[int] = []
        self.digests: list[str] = []

    def _run(self) -> None:
        while not self._stop.is_set():
            answer = self._ask()
            self.statuses.append(answer.status_code)
            self.digests.append(answer.json()["model"]["digest"])

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for(self, digest: str) -> None:
        until = time.monotonic() + _PATIENCE_S
        while digest not in self.digests[-1:]:
            assert time.monotonic() < until, "the model was not swapped"
            time.sleep(0.02)


def test_models_are_swapped_while_requests_run_and_bad_ones_refused(
    endpoint: Endpoint,
    champion: Bundle,
    tiny_bundle: Bundle,
    copy_of: Callable[[str], Bundle],
    photo: bytes,
    box: np.ndarray,
) -> None:
    other = copy_of("swap")
    with Load(endpoint, photo, box) as load:
        load.wait_for(champion.digest)
        endpoint.deploy(bundle=str(other.path))
        load.wait_for(other.digest)
        for bad, reason in ((tiny_bundle.path, "misses the golden face"), ("/nowhere", "is not a bundle")):
            endpoint.deploy(bundle=str(bad))
            refused = wait_for_refusal(endpoint, reason)
            assert refused["bundle"] == str(bad)
        seen = len(load.digests)
        time.sleep(0.5)
        assert set(load.digests[seen:]) == {other.digest}, "the old one stays"
        endpoint.deploy(bundle=str(champion.path))
        load.wait_for(champion.digest)
    assert set(load.statuses) == {200}, "no request failed"
    changes = [a for a, b in zip(load.digests, load.digests[1:], strict=False) if a != b]
    assert changes == [champion.digest, other.digest]
    assert numbers(endpoint)["fkp_model_swaps_total", ""] >= 5


def wait_for_refusal(endpoint: Endpoint, reason: str) -> dict[str, str]:
    until = time.monotonic() + _PATIENCE_S
    while True:
        refused = endpoint.get("/v1/model").json()["refused"]
        if refused is not None and reason in refused["reason"]:
            return refused
        assert time.monotonic() < until, f"no refusal: {refused}"
        time.sleep(0.05)


def test_the_detector_is_changed_while_it_runs(endpoint: Endpoint, champion: Bundle, photo: bytes, image: Image) -> None:
    pytest.importorskip("dlib", reason="needs dlib: pip install -r requirements-dev.txt")
    endpoint.deploy(detector="absent.onnx")
    wait_for_refusal(endpoint, "the face detector's file absent.onnx is missing")
    assert endpoint.post(KEYPOINTS, photo).json()["faces"], "the old one stays"
    endpoint.deploy(detector="dlib")
    (expected,) = Predictor(champion, detector="dlib")(image)
    until = time.monotonic() + _PATIENCE_S
    while (told := endpoint.post(KEYPOINTS, photo).json()["faces"][0])["score"] != round(expected.score, 4):
        assert time.monotonic() < until, "the detector was not changed"
        time.sleep(0.05)
    # Its points come from the second pass.
    np.testing.assert_allclose(told["keypoints"], expected.points_px, atol=0.0061)
    np.testing.assert_allclose(told["box"], expected.box_xyxy, atol=0.0061)
    endpoint.deploy(detector="fkp")


def test_the_endpoint_measures_as_the_bundle_does(
    endpoint: Endpoint, champion: Bundle, tiny_bundle: Bundle, synthetic_root: Path, tmp_path: Path
) -> None:
    from fkp.evaluation.__main__ import main

    flags = ["--bundle", str(champion.path), "--source", "synthetic", "--root", str(synthetic_root)]
    assert main([*flags, "--out", str(tmp_path / "offline")]) == 0
    assert main([*flags, "--out", str(tmp_path / "online"), "--endpoint", endpoint.url]) == 0
    offline, online = (json.loads((tmp_path / name / "metrics.json").read_text())["splits"]["identity"] for name in ("offline", "online"))
    for truth in ("raw", "corrected"):
        assert online[truth]["nme_interocular_pct"] == pytest.approx(offline[truth]["nme_interocular_pct"], abs=1e-3)
    with pytest.raises(FkpError, match=r"serves model .* name its bundle with --bundle"):
        main(["--bundle", str(tiny_bundle.path), "--endpoint", endpoint.url])
    with pytest.raises(FkpError, match=r"cannot reach the endpoint http://127\.0\.0\.1:9: start it"):
        main([*flags, "--endpoint", "http://127.0.0.1:9"])


def test_overload_is_429_with_retry_after(endpoint: Endpoint, photo: bytes) -> None:
    endpoint.deploy(max_in_progress=1)
    try:
        # More at once than the replica takes for a moment, however slow the machine is.
        with ThreadPoolExecutor(4 * BURST) as pool:
            answers = list(pool.map(lambda _: requests.post(endpoint.url + "/v1/annotate", photo, timeout=30), range(8 * BURST)))
    finally:
        endpoint.deploy(max_in_progress=MAX_IN_PROGRESS)
    assert {answer.status_code for answer in answers} == {200, 429}
    for answer in answers:
        if answer.status_code == 429:
            assert (answer.json()["code"], answer.headers["Retry-After"]) == ("overloaded", "1")
            assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert endpoint.post(KEYPOINTS, photo).status_code == 200


@pytest.mark.slow("the application is deployed twice; test_guard.py asks for tokens in this process")
def test_with_tokens_nothing_is_open_but_the_health(endpoint: Endpoint, photo: bytes) -> None:
    from fkp.serve.http.security import token_digests

    old, new = "the-old-token-0123456789", "the-new-token-0123456789"
    endpoint.application["args"]["token_digests"] = list(token_digests(f"{old},{new}"))
    endpoint.deploy()
    try:
        assert [endpoint.get(path).status_code for path in ("/", "/docs", "/metrics", "/v1/model", "/openapi.json")] == [401] * 5
        assert endpoint.post(KEYPOINTS, photo).json()["code"] == "unauthorized"
        assert [endpoint.get(path).status_code for path in ("/healthz", "/readyz")] == [200] * 2
        for token in (old, new):
            assert endpoint.post(KEYPOINTS, photo, headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert old not in json.dumps(endpoint.config)
    finally:
        endpoint.application["args"]["token_digests"] = []
        endpoint.deploy()
