"""The page in a real browser: Debian's chromium, driven by Selenium, against a small server with the real predictor.

The server sends the content security policy the page must live with, so that whatever breaks it shows in the console.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import cv2
import numpy as np
import PIL.Image
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from fkp.bundle import Bundle
from fkp.data.synthetic import render
from fkp.predict import Predictor
from fkp.scheme import IBUG68, Scheme
from fkp.serve.http.page_landmarks import page_landmarks
from fkp.vision.crop import box_of_points, parse_box
from fkp.vision.draw import region_colours
from fkp.vision.image import decode_image, read_image

from .local import application, listening

REPO = Path(__file__).resolve().parents[2]
PAGE = REPO / "fkp/serve/page"
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "style-src 'self'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
COLOUR_OF_POINT = {point: region_colours(IBUG68)[region] for region, points in IBUG68.regions.items() for point in points}


@dataclass
class Service:
    """What the server does and what it has seen; a test changes it for itself."""

    predictor: Predictor
    scheme: Scheme = IBUG68
    digest: str = "first"
    token: str | None = None
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    asked: list[list[np.ndarray]] = field(default_factory=list)
    doubted: int = -1
    waiting: int = 0
    most_waiting: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def keypoints(self, data: bytes, boxes_xyxy: list[np.ndarray]) -> tuple[int, dict[str, Any]]:
        if self.refusals:
            return self.refusals.pop(0)
        started = time.perf_counter()
        image = decode_image(data)
        quality = 0.1 if len(self.answers) == self.doubted else 0.8
        found, left_out = self.predictor.find_all(image, boxes_xyxy or None)
        faces = [{**face.to_json(), "quality": quality} for face in found]
        self.asked.append(boxes_xyxy)
        milliseconds = {"decode": 0.4, "detect": 5.0, "crop": 0.2, "network": 6.0, "total": 1000 * (time.perf_counter() - started)}
        answer = {
            "image": {"width": image.shape[1], "height": image.shape[0]},
            "faces": faces,
            "left_out": len(left_out),
            "left_out_faces": [face.outline_json() for face in left_out],
            "model": {"name": "champion", "version": "1", "digest": self.digest},
            "milliseconds": milliseconds,
            "request_id": "abc",
        }
        self.answers.append(answer)
        return 200, answer

    def model(self) -> dict[str, Any]:
        bundle = self.predictor.bundle
        # What a card says is text, whatever it looks like.
        card = bundle.card + "\n<img src=x onerror=alert(1)> [bad](javascript:alert(1))\n"
        return {"name": "champion", "version": "1", "digest": self.digest, "card": card, "metrics": bundle.metrics, "min_quality": 0.4}


@dataclass
class Browser:
    """The page in chromium."""

    driver: webdriver.Chrome
    origin: str
    downloads: Path

    def find(self, css: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def wait_for(self, text: str, css: str = "#status") -> None:
        wait = WebDriverWait(self.driver, 30, 0.03)
        wait.until(lambda _: text in self.find(css).text, f"{css} says {self.find(css).text!r}, not {text!r}")

    def choose(self, path: Path) -> None:
        self.find("#file").send_keys(str(path))

    def canvas(self) -> np.ndarray:
        """The canvas as (H, W, 3) uint8."""
        encoded = self.driver.execute_script("return document.getElementById('canvas').toDataURL()")
        return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(encoded.partition(",")[2]))).convert("RGB"))

    def colours_at(self, places_px: np.ndarray) -> np.ndarray:
        """(N, 3) colours of the canvas at (N, 2) places in pixels of the image."""
        answer = json.loads(self.find("#json").get_attribute("value"))
        canvas = self.canvas()
        # Integers are pixel centres in the image; each pixel of the canvas has its own middle.
        across, down = np.floor((places_px + 0.5) * canvas.shape[1] / answer["image"]["width"]).astype(int).T
        return canvas[down, across].astype(int)

    def console(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self) -> set[str]:
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return {message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"}

    def narrow(self, width_px: int) -> None:
        size = {"width": width_px, "height": 780, "deviceScaleFactor": 2, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, _, image, _ = render.frame_of(5, seed=7)  # One frame of `synthetic_root`, without making the other 159.
    path = tmp_path_factory.mktemp("pictures") / name
    PIL.Image.fromarray(image).save(path, quality=95)
    return path


@pytest.fixture(scope="module")
def server(driver: webdriver.Chrome) -> Iterator[tuple[str, Service]]:
    service = Service(Predictor(REPO / "saved_models/champion"))
    handler = type("Handler", (_Handler,), {"service": service})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}", service
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def browser(server: tuple[str, Service], driver: webdriver.Chrome, tmp_path: Path) -> Iterator[Browser]:
    """A fresh page. Afterwards its console must be as silent as the test says, and no request may have left the origin."""
    origin, service = server
    service.token, service.most_waiting, service.doubted = None, 0, -1
    service.refusals.clear()
    service.answers.clear()
    service.asked.clear()
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]})
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page = Browser(driver, origin, tmp_path)
    page.console(), page.requested()
    driver.get(origin + "/")
    yield page
    assert page.console() == []
    strangers = {url for url in page.requested() if not url.startswith((f"{origin}/", f"blob:{origin}/", "data:"))}
    assert not strangers


@pytest.fixture
def service(server: tuple[str, Service]) -> Service:
    return server[1]


def test_the_tables_are_those_of_the_scheme() -> None:
    tables = json.loads(json.dumps(page_landmarks(IBUG68)))
    assert tables["points"] == len(IBUG68)
    assert tables["edges"] == [list(edge) for edge in IBUG68.edges]
    assert {region["name"]: tuple(region["points"]) for region in tables["regions"]} == IBUG68.regions
    assert {region["name"]: tuple(bytes.fromhex(region["colour"][1:])) for region in tables["regions"]} == region_colours(IBUG68)


@pytest.mark.parametrize("orientation", [1, 6], ids=["upright", "turned by EXIF"])
def test_an_image_is_drawn_where_its_points_are(browser: Browser, service: Service, image: Path, tmp_path: Path, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stored = PIL.Image.open(image).rotate({1: 0, 6: 90}[orientation], expand=True)
    stored.save(tmp_path / "face.jpg", quality=95, exif=exif)
    browser.choose(tmp_path / "face.jpg")
    browser.wait_for("1 face found.")
    browser.driver.save_screenshot(str(tmp_path / "page.png"))

    [face] = json.loads(browser.find("#json").get_attribute("value"))["faces"]
    assert face == service.answers[0]["faces"][0]
    assert len(face["keypoints"]) == len(IBUG68)
    points_px = np.array(face["keypoints"])
    wanted = np.array([COLOUR_OF_POINT[point] for point in range(len(IBUG68))])
    assert np.abs(browser.colours_at(points_px) - wanted).max(axis=1).mean() < 4
    # The line is thin and its borders are blended with the image: one of the pixels about its middle is its colour.
    about_px = (points_px[0] + points_px[1]) / 2 + np.array([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)])
    assert np.abs(browser.colours_at(about_px) - COLOUR_OF_POINT[0]).max(axis=1).min() <= 8
    assert browser.find("#faces tbody").text.startswith("1 ")
    assert len(browser.driver.find_elements(By.CSS_SELECTOR, "#regions li")) == len(IBUG68.regions)


def test_another_model_s_landmarks_are_asked_for(browser: Browser, service: Service, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as before: the digest tells that they are others."""
    regions = len(IBUG68.regions)
    for digest, scheme in (("first", IBUG68), ("second", replace(IBUG68, regions={"all_points": tuple(range(68))}))):
        monkeypatch.setattr(service, "digest", digest)
        monkeypatch.setattr(service, "scheme", scheme)
        answered = len(service.answers)
        browser.choose(image)
        _until(lambda answered=answered: len(service.answers) > answered)
        browser.wait_for("1 face found.")
        _until(lambda regions=regions: len(browser.driver.find_elements(By.CSS_SELECTOR, "#regions li")) == regions)
        regions = 1


def test_everything_is_reached_by_keyboard(browser: Browser, image: Path) -> None:
    _press(browser, Keys.TAB)
    assert _focused(browser) == "file"
    assert browser.find("label[for=file]").value_of_css_property("outline-style") == "solid"
    browser.choose(image)
    browser.wait_for("1 face found.")
    before = browser.canvas()
    reached: list[str] = []
    for _ in range(20):
        _press(browser, Keys.TAB)
        if (name := _focused(browser)) == "body":
            break
        reached.append(name)
        ring = browser.driver.switch_to.active_element.value_of_css_property("outline-style")
        assert ring == "solid", f"{name} shows no focus"
        if name == "edges":
            _press(browser, Keys.SPACE)
    # A div is a wide table, which scrolls by keyboard: the faces and those of the card, as many as it has.
    layers = ["edges", "points", "box", "errors", "filter"]
    assert [name for name, _ in itertools.groupby(reached)] == ["camera", "download", *layers, "div", "copy", "json", "div", "summary"]
    assert not np.array_equal(browser.canvas(), before), "the edges are still drawn"


def test_layers_are_shown_and_hidden(browser: Browser, image: Path) -> None:
    browser.choose(image)
    browser.wait_for("1 face found.")
    seen = [browser.canvas()]
    for name in ("edges", "points", "box", "errors"):
        browser.find(f"[name={name}]").click()
        seen.append(browser.canvas())
        assert (seen[-1] != seen[-2]).any(axis=2).sum() > 50, f"hiding {name} changed nothing"
    plain = read_image(image)
    shrunk = cv2.resize(seen[-1], plain.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - plain).mean() < 3, "with nothing drawn the image is itself"


def test_pose_openness_and_doubt_are_shown_and_a_filter_follows_the_face(
    browser: Browser, service: Service, image: Path, tmp_path: Path, unbelieved: np.ndarray
) -> None:
    browser.choose(image)
    browser.wait_for("1 face found.")
    [face] = service.answers[-1]["faces"]
    cells = [cell.text for cell in browser.driver.find_elements(By.CSS_SELECTOR, "#measures tbody td")]
    assert [float(cell.rstrip("°")) for cell in cells[1:4]] == pytest.approx(list(face["pose"].values()), abs=0.51)
    assert [float(cell) for cell in cells[4:]] == pytest.approx(list(face["openness"].values()), abs=0.006)

    for name in ("edges", "points", "box", "errors"):
        browser.find(f"[name={name}]").click()
    points_px, before = np.array(face["keypoints"]), browser.canvas()
    beside_px = np.array([points_px[36:42].mean(0), points_px[42:48].mean(0), (points_px[33] + points_px[51]) / 2, points_px[8]])
    plain = browser.colours_at(beside_px)
    browser.find("[name=filter]").click()
    changed = np.abs(browser.colours_at(beside_px) - plain).max(axis=1)
    assert (changed[:2] > 5).all(), changed
    assert changed[2] > 20 and changed[3] == 0, "lenses on the eyes, hair below the nose, none on the chin"
    browser.find("[name=filter]").click()
    assert np.array_equal(browser.canvas(), before)
    # It follows the camera's face, which is another place of the same one.
    browser.find("[name=filter]").click()
    browser.find("#camera").click()
    _until(lambda: service.answers[-1]["image"] != {"width": PIL.Image.open(image).width, "height": PIL.Image.open(image).height})
    browser.wait_for("1 face found.")
    browser.find("#camera").click()
    browser.wait_for("The camera is off.")
    with_filter = browser.canvas()
    browser.driver.save_screenshot(str(tmp_path / "filter.png"))
    browser.find("[name=filter]").click()
    assert (with_filter != browser.canvas()).any(axis=2).mean() > 0.005

    browser.find("[name=box]").click()
    PIL.Image.fromarray(unbelieved).save(tmp_path / "doubtful.png")
    browser.choose(tmp_path / "doubtful.png")
    browser.wait_for("No face was found: try an image in which a face is larger or turned more to the camera. 1 left out:")
    [outline] = service.answers[-1]["left_out_faces"]
    x0, y0, x1, _ = outline["box"]
    with_box = browser.canvas()
    browser.find("[name=box]").click()
    changed = (with_box != browser.canvas()).any(axis=2)
    zoom = changed.shape[1] / service.answers[-1]["image"]["width"]
    left, top, right = (round((value + 0.5) * zoom) for value in (x0, y0, x1))
    along = changed[top - 3 : top + 4, left:right].any(axis=0)
    assert 0.3 < along.mean() < 0.8 and np.count_nonzero(np.diff(along.astype(int))) > 6, "dashed"
    assert changed[:, : left - 4].sum() == 0


def test_a_point_that_the_model_is_unsure_of_is_hollow(
    browser: Browser, service: Service, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here all are, by a limit of nothing: another digest brings it to the page."""
    monkeypatch.setattr(service.predictor, "belief", replace(service.predictor.belief, unsure_ratio=0.0))
    monkeypatch.setattr(service, "digest", "unsure")
    browser.choose(image)
    browser.wait_for("1 face found.")
    for name in ("edges", "box", "errors"):
        browser.find(f"[name={name}]").click()
    points_px = np.array(service.answers[-1]["faces"][0]["keypoints"])
    inside = browser.colours_at(points_px)
    wanted = np.array([COLOUR_OF_POINT[point] for point in range(len(IBUG68))])
    assert np.median(np.abs(inside - wanted).max(axis=1)) > 40
    assert (browser.canvas()[..., :3].reshape(-1, 3) == COLOUR_OF_POINT[0]).all(-1).sum() > 10, "the rings are there"


def test_the_drawing_is_saved_as_a_png(browser: Browser, image: Path) -> None:
    browser.choose(image)
    browser.wait_for("1 face found.")
    browser.find("#download").click()
    browser.wait_for("is saved.")
    saved = browser.downloads / f"{image.stem}.landmarks.png"
    _until(saved.is_file)
    assert saved.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    drawn, plain = read_image(saved), read_image(image)
    assert drawn.shape == plain.shape
    assert (np.abs(drawn.astype(int) - plain).max(axis=2) > 40).sum() > 100


def test_the_json_is_copied(browser: Browser, image: Path) -> None:
    permission = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": browser.origin}
    browser.driver.execute_cdp_cmd("Browser.grantPermissions", permission)
    browser.choose(image)
    browser.wait_for("1 face found.")
    browser.find("#copy").click()
    browser.wait_for("The JSON is copied.")
    copied = browser.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0], (e) => arguments[0](String(e)))")
    assert json.loads(copied)["request_id"] == "abc"


def test_an_image_may_be_dropped(browser: Browser, image: Path) -> None:
    script = """
        const [bytes, name] = arguments, transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
        document.getElementById("stage").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    """
    browser.driver.execute_script(script, list(image.read_bytes()), image.name)
    browser.wait_for("1 face found.")


def test_the_camera_sends_one_image_at_a_time_and_stops_in_a_hidden_tab(browser: Browser, service: Service) -> None:
    driver = browser.driver
    browser.find("#camera").click()
    _until(lambda: len(service.answers) >= 4)
    browser.wait_for("1 face found.")
    assert browser.find("#camera").text == "Stop camera"
    assert service.most_waiting == 1
    first = driver.current_window_handle
    driver.switch_to.new_window("tab")
    driver.close()
    driver.switch_to.window(first)
    browser.wait_for("was stopped because the page was hidden")
    assert browser.find("#camera").text == "Start camera"
    assert not driver.execute_script("return document.getElementById('video').srcObject")
    answered = len(service.answers)
    time.sleep(0.3)
    assert len(service.answers) == answered
    # The last image stays, and so does what can be done with it. The screen is a mirror; the file fits the JSON.
    browser.find("#download").click()
    browser.wait_for("camera.landmarks.png is saved.")
    saved = browser.downloads / "camera.landmarks.png"
    _until(saved.is_file)
    drawn = read_image(saved).astype(int)
    shown = cv2.resize(browser.canvas(), drawn.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shown[:, ::-1] - drawn).mean() < 8 < np.abs(shown - drawn).mean()


def test_the_camera_follows_faces(browser: Browser, service: Service) -> None:
    """The last answer's box goes along with the next image, and the whole image is searched twice a second and where a face is lost."""
    service.doubted = 6
    began = time.monotonic()
    browser.find("#camera").click()
    browser.wait_for("frames/s", "#rate")
    _until(lambda: len(service.answers) >= 12)
    browser.find("#camera").click()
    seconds = time.monotonic() - began
    browser.wait_for("The camera is off.")
    alone = [number for number, boxes_xyxy in enumerate(service.asked) if not boxes_xyxy]
    assert alone[0] == 0 and 7 in alone and 8 not in alone and len(alone) <= 3 + 2 * seconds
    followed = [number for number, boxes_xyxy in enumerate(service.asked) if boxes_xyxy]
    assert len(followed) >= 3
    for number in followed:
        (face,), (box_xyxy,) = service.answers[number - 1]["faces"], service.asked[number]
        np.testing.assert_allclose(box_xyxy, box_of_points(np.array(face["keypoints"])), atol=0.01)
    assert float(browser.find("#rate").text.split()[0]) > 0


ASK = """
const [url, token, sent, done] = arguments;
const headers = { "Content-Type": "image/jpeg", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
const body = Uint8Array.from(atob(sent), (letter) => letter.charCodeAt(0));
fetch(url, { method: "POST", body, headers })
  .then(async (answer) => done([answer.status, (await answer.json()).code ?? "faces"]))
  .catch((error) => done([0, error.message]));
"""


def test_an_app_of_another_origin_asks_where_it_is_allowed(driver: webdriver.Chrome, champion: Bundle, image: Path) -> None:
    """The endpoint itself, asked by a browser."""

    async def blank(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
            await send({"type": "http.response.body", "body": b"<!doctype html><title>app</title>"})

    token, sent = "a-token-of-the-tests", base64.b64encode(image.read_bytes()).decode()
    with listening(blank, lifespan="off") as app, listening(application(champion, token, [f"http://127.0.0.1:{app}"])) as endpoint:
        url = f"http://127.0.0.1:{endpoint}/v1/keypoints"
        found = {}
        for name in ("127.0.0.1", "localhost"):  # The same server, and two origins.
            driver.get(f"http://{name}:{app}/")
            found[name] = [driver.execute_async_script(ASK, url, given, sent) for given in (token, None)]
    assert found["127.0.0.1"] == [[200, "faces"], [401, "unauthorized"]], "it reads also why it is refused"
    assert found["localhost"] == [[0, "Failed to fetch"]] * 2


def test_a_busy_server_is_waited_for(browser: Browser, service: Service) -> None:
    service.refusals += [(503, {"code": "overloaded", "message": "The server is full.", "request_id": "r"})]
    browser.find("#camera").click()
    browser.wait_for("1 face found.")
    browser.find("#camera").click()
    browser.wait_for("The camera is off.")
    assert _complaints(browser, 503) == []


def test_a_token_is_asked_for_once_and_not_stored(browser: Browser, service: Service, image: Path) -> None:
    service.token = "s3cret"
    browser.driver.refresh()
    for given in ("wrong", "s3cret"):
        _until(lambda: browser.driver.switch_to.active_element.get_attribute("id") == "token")
        browser.find("#token").send_keys(given, Keys.ENTER)
        if given == "wrong":
            browser.wait_for("refused", "#token-note")
    browser.wait_for("champion", "#model")
    browser.choose(image)
    browser.wait_for("1 face found.")
    stored = browser.driver.execute_script("return localStorage.length + sessionStorage.length + document.cookie.length")
    assert stored == 0
    assert _complaints(browser, 401) == []


def test_errors_are_said_in_words(browser: Browser, service: Service, image: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    browser.choose(tmp_path / "broken.jpg")
    browser.wait_for("cannot show broken.jpg")
    (tmp_path / "notes.txt").write_text("words")
    browser.choose(tmp_path / "notes.txt")
    browser.wait_for("notes.txt is not an image")
    service.refusals += [(413, {"code": "too_many_pixels", "message": "Send a smaller image.", "request_id": "r7"})]
    browser.choose(image)
    browser.wait_for("Send a smaller image. (413, request r7)")
    assert not browser.find("#result").is_displayed()
    PIL.Image.new("RGB", (64, 64), "grey").save(tmp_path / "empty.png")
    browser.choose(tmp_path / "empty.png")
    browser.wait_for("No face was found")
    assert _complaints(browser, 413) == []


def test_the_card_is_text_and_its_metrics_stand_below(browser: Browser, service: Service) -> None:
    browser.wait_for("Limits", "#card")
    card = browser.find("#card")
    assert [heading.text for heading in card.find_elements(By.TAG_NAME, "h4")] == ["Data", "Limits"]
    assert card.find_elements(By.CSS_SELECTOR, "thead th")[0].text == "split"
    assert "<img src=x onerror=alert(1)> [bad](javascript:alert(1))" in card.text
    assert not card.find_elements(By.CSS_SELECTOR, "img, a, script")
    browser.find("#metrics summary").click()
    nme_pct = service.predictor.bundle.metrics["test"]["identity"]["raw"]["nme_interocular_pct"]
    browser.wait_for(f"test.identity.raw.nme_interocular_pct {nme_pct:.4g} %", "#metrics")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scroll_and_text_has_contrast(browser: Browser, image: Path, tmp_path: Path, scheme: str) -> None:
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.narrow(360)
    browser.choose(image)
    browser.wait_for("1 face found.")
    browser.find("#metrics summary").click()
    browser.driver.save_screenshot(str(tmp_path / f"phone-{scheme}.png"))
    assert browser.driver.execute_script("return document.documentElement.scrollWidth") == 360
    texts = browser.driver.execute_script(_TEXT_COLOURS)
    assert len(texts) > 60
    weak = {text: round(ratio, 2) for text, front, back in texts if (ratio := _contrast(front, back)) < 4.5}
    assert weak == {}


#: [[text, its colour, the colour behind it]] of all elements that show text; nothing on the page is half transparent.
_TEXT_COLOURS = """
    const behind = (e) => { while (e && getComputedStyle(e).backgroundColor === "rgba(0, 0, 0, 0)") e = e.parentElement;
                            return getComputedStyle(e).backgroundColor; };
    return [...document.body.querySelectorAll("*")]
      .filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
      .map((e) => [e.textContent.slice(0, 40), getComputedStyle(e).color, behind(e)].map(String));
"""


def _contrast(first: str, second: str) -> float:
    """Contrast ratio of two `rgb(r, g, b)` (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        values = np.array([int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]) / 255
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


def _press(browser: Browser, key: str) -> None:
    ActionChains(browser.driver).send_keys(key).perform()


def _focused(browser: Browser) -> str:
    focused = browser.driver.switch_to.active_element
    return focused.get_attribute("id") or focused.get_attribute("name") or focused.tag_name


def _complaints(browser: Browser, status: int) -> list[str]:
    """The console without chromium's own line for each answer of that status."""
    return [line for line in browser.console() if f"responded with a status of {status}" not in line]


def _until(test: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


class _Handler(BaseHTTPRequestHandler):
    service: Service
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = PAGE / (self.path.removeprefix("/page/") if self.path.startswith("/page/") else "index.html")
        if self.path == "/v1/model":
            self._answer(*self._guarded(lambda: (200, self.service.model())))
        elif self.path == "/v1/landmarks":
            self._answer(200, {**page_landmarks(self.service.scheme, self.service.predictor.belief), "digest": self.service.digest})
        elif self.path == "/" or (self.path.startswith("/page/") and path.is_file()):
            self._send(200, path.read_bytes(), TYPES[path.suffix])
        else:
            self._answer(404, {"code": "not_found", "message": "There is nothing here.", "request_id": "r"})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        service = self.service
        with service.lock:
            service.waiting += 1
            service.most_waiting = max(service.most_waiting, service.waiting)
        try:
            path, _, query = self.path.partition("?")
            boxes_xyxy = [np.array(parse_box(box), np.float32) for box in parse_qs(query).get("box", [])]
            assert path == "/v1/keypoints" and self.headers["Content-Type"].startswith("image/")
            status, answer = self._guarded(lambda: service.keypoints(data, boxes_xyxy))
        finally:
            with service.lock:
                service.waiting -= 1
        self._answer(status, answer)

    def _guarded(self, act: Callable[[], tuple[int, dict[str, Any]]]) -> tuple[int, dict[str, Any]]:
        token = self.service.token
        if token is not None and self.headers["Authorization"] != f"Bearer {token}":
            return 401, {"code": "unauthorized", "message": "Send a token.", "request_id": "r"}
        return act()

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        self._send(status, json.dumps(answer).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        if status == 503:
            self.send_header("Retry-After", "0.1")
        self.end_headers()
        try:
            self.wfile.write(body)
        except BrokenPipeError:  # The page has ended a request it no longer needs.
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output quiet."""
