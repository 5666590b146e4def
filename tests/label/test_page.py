"""The labelling page in a real browser, against its real server and model."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from fkp.bundle import open_bundle
from fkp.data import label_set
from fkp.label import order
from fkp.label.changed import most_changed
from fkp.label.finder import Finder
from fkp.label.guessing import Guessing
from fkp.label.session import Session
from fkp.scheme import IBUG68
from fkp.shipped import shipped
from tests.processes import Process

from .browser import Browser, shown, until


@pytest.fixture
def browser(label: Callable[..., Session], driver: webdriver.Chrome) -> Iterator[Browser]:
    """A fresh set and its page."""
    with shown(label(), driver) as page:
        yield page


def test_a_drag_is_saved_and_there_after_a_reload(browser: Browser) -> None:
    before = browser.face()
    zoom = browser.ask("({ view }) => view.scale")
    browser.drag(browser.where(30), (60, -40))
    browser.saved()
    assert browser.find("#live").text == "nose tip: set, visible", "and a screen reader hears it"
    after = browser.face()["points"][30]
    moved = after["x"] - before["points"][30]["x"], after["y"] - before["points"][30]["y"]
    assert moved == pytest.approx((60 / zoom, -40 / zoom), abs=2 / zoom), "the point follows the pointer"
    assert browser.session.log.faces[before["id"]].points["nose_tip"].x == after["x"]
    assert browser.face()["points"][29]["x"] != before["points"][29]["x"], "and its neighbour follows the point"
    browser.driver.refresh()
    until(lambda: browser.ask("({ store }) => store.face !== null"))
    assert browser.face()["id"] == before["id"] and browser.face()["points"][30] == after


def test_a_click_alone_moves_no_point_and_one_beside_places_the_selected(browser: Browser) -> None:
    x, y = browser.where(8)
    browser.drag((x, y), (0, 0))
    assert browser.ask("({ page }) => page.selected") == 8 and browser.session.log.last == 0
    browser.press("f")
    x, y = browser.where(8)
    browser.drag((x + 30, y + 25), (0, 0))
    browser.saved()
    assert browser.where(8) == pytest.approx((x + 30, y + 25), abs=1.5)


@pytest.mark.slow("a browser; a drag is tested fast")
def test_a_point_outside_the_photograph_is_grabbed(browser: Browser) -> None:
    face = browser.face()
    browser.session.set_points(face["id"], 0, "move", {8: (-30.0, 150.0, "visible")}, False)
    browser.driver.refresh()
    until(lambda: browser.ask("({ store }) => store.face?.points[8].x === -30"))
    browser.drag(browser.where(8), (70, 30))
    browser.saved()
    assert browser.face()["points"][8]["x"] > -30


def test_the_keyboard_alone_suffices(browser: Browser, tmp_path: Path) -> None:
    faces = [row["id"] for row in browser.session.queue.window(0, 9)]
    first = browser.face()
    browser.press(Keys.TAB)
    asked = browser.ask("({ page }) => page.selected")
    assert asked == first["next"] and IBUG68.landmarks[asked].replace("_", " ") in browser.find("#live").text
    circle = browser.ask("({ store, view, page }) => store.face.points[page.selected].r * view.scale")
    assert circle == pytest.approx(46, abs=1), "the circle has its size on the screen"
    before = browser.where(asked)
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert browser.where(asked) == pytest.approx((before[0] + 2, before[1] + 1), abs=0.1)
    until(lambda: browser.find("#live").text.endswith(": set, visible"))
    browser.press("v")
    browser.saved()
    point = browser.session.log.faces[first["id"]].points[IBUG68.landmarks[asked]]
    assert point.state == "occluded" and point.how == "set"
    browser.press("m", "x")
    browser.saved()
    browser.press("x", "?")
    assert browser.find("#sheet").is_displayed() and len(browser.driver.find_elements(By.CSS_SELECTOR, "#keys tr")) > 25
    browser.press(Keys.ESCAPE)
    for done in range(1, 4):
        shown = browser.face()["id"]
        browser.press(Keys.ENTER)
        until(lambda done=done: sum(face.done for face in browser.session.log.faces.values()) == done)
        until(lambda shown=shown, done=done: done == 3 or browser.face()["id"] != shown)
    until(lambda: "All faces are finished" in browser.find("#live").text)
    ActionChains(browser.driver).key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()
    until(lambda: sum(face.done for face in browser.session.log.faces.values()) == 2)
    ActionChains(browser.driver).key_down(Keys.CONTROL).send_keys("y").key_up(Keys.CONTROL).perform()
    until(lambda: sum(face.done for face in browser.session.log.faces.values()) == 3)
    browser.session.write()
    assert len(label_set.read(tmp_path / "set")) == len(faces) == 3


def test_the_next_face_is_the_one_whose_photograph_is_there_whatever_the_order_has_become(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    until(lambda: browser.ask("({ page }) => page.coming"))
    coming = browser.ask("({ page }) => page.coming")
    monkeypatch.setattr(order, "rank", lambda faces, *_: [*reversed(range(len(faces)))])
    browser.session.queue.rank()
    assert browser.session.queue.next_open(browser.face()["id"]) != coming
    browser.press("n")
    until(lambda: browser.face()["id"] == coming)


def test_faces_that_changed_most_are_shown_with_the_points_of_both_models(browser: Browser, tmp_path: Path) -> None:
    session, out = browser.session, tmp_path / "other"
    out.mkdir()
    other = open_bundle(shipped("saved_models/tiny"))
    finder = Finder(session.photos, out, other, lambda photo: session.finder.found[photo].boxes, detect=False)
    finder.start()
    until(lambda: finder.ready)
    faces = [session.known(name) for name in session.queue.some(9)]
    rows = most_changed(faces, session.guessing.guess, Guessing(session.scheme, other, finder, 3.0))
    assert len(rows) == 3 and 0 < rows[2]["pct"] <= rows[1]["pct"] <= rows[0]["pct"] < 20 and len(session.queue.some(2)) == 2
    script = """
      const [rows, done] = arguments;
      import('/page/changed.js').then(async ({ changedFaces }) => {
        let opened = null;
        const items = await changedFaces(rows, (id) => { opened = id; });
        items[1].querySelector("button").click();
        const canvas = items[1].querySelector("canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const is = (at, ...colour) => at % 4 === 0 && colour.every((value, channel) => data[at + channel] === value);
        const count = (...colour) => [...data.keys()].filter((at) => is(at, ...colour)).length;
        done([items.map((item) => item.textContent), opened, count(255, 159, 28), count(46, 196, 182), data[3]]);
      });"""
    texts, opened, before, after, opaque = browser.driver.execute_async_script(script, rows)
    assert [text.split(",")[0] for text in texts] == [row["photo"] for row in rows] and opened == rows[1]["id"]
    assert before > 100 and after > 1000 and opaque == 255


@pytest.mark.slow("a browser; a drag is tested fast")
def test_a_region_is_moved_by_its_handle_only(browser: Browser) -> None:
    browser.drag(browser.where(37), (0, 0))
    browser.press("g")
    before = browser.face()["points"]
    browser.drag(browser.where(40), (50, 50))
    assert browser.session.log.last == 0, "a point of the region is no handle"
    handle = browser.ask(
        """({ store, view, page }) => {
            const { left, top } = view.canvas.getBoundingClientRect();
            const [x, y] = view.handles(page.group.map((n) => [store.face.points[n].x, store.face.points[n].y])).move;
            return [x + left, y + top];
        }"""
    )
    zoom = browser.ask("({ view }) => view.scale")
    browser.drag(tuple(handle), (40, 20))
    browser.saved()
    after = browser.face()["points"]
    for number in IBUG68.regions["left_eye"]:
        assert after[number]["x"] - before[number]["x"] == pytest.approx(40 / zoom, abs=1.5 / zoom)
        assert after[number]["how"] == "set"
    assert browser.session.log.last == 1, "one command"


def test_a_tablet_drags_with_a_finger_and_nothing_is_cut_off(browser: Browser) -> None:
    driver = browser.driver
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 820, "height": 1180, "deviceScaleFactor": 2, "mobile": True})
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    browser.open()
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    small = "return [...document.querySelectorAll('#tools button')].filter((b) => b.getBoundingClientRect().height < 43).length"
    assert driver.execute_script(small) == 0
    x, y = browser.where(30)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": px, "y": py, "id": number} for number, (px, py) in enumerate(places)]
        driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (x + 9, y + 9))
    touch("touchMove", (x + 30, y + 30))
    touch("touchMove", (x + 59, y + 39))
    touch("touchEnd")
    browser.saved()
    assert browser.where(30) == pytest.approx((x + 50, y + 30), abs=1.5), "it does not jump under the finger"
    zoom = browser.ask("({ view }) => view.scale")
    touch("touchStart", (300, 400), (400, 400))
    touch("touchMove", (250, 400), (450, 400))
    touch("touchEnd")
    assert browser.ask("({ view }) => view.scale") == pytest.approx(2 * zoom, rel=0.05)
    assert browser.session.log.last == 1


@pytest.mark.slow("a browser; the log and the routes are tested fast")
def test_two_windows_settle_what_they_set(browser: Browser) -> None:
    face = browser.face()["id"]
    browser.session.set_points(face, 0, "move", {0: (3.0, 4.0, "visible")}, False)  # Another window.
    browser.drag(browser.where(30), (30, 0))
    browser.saved()
    points = browser.session.log.faces[face].points
    assert points["left_jaw_0"].x == 3 and "nose_tip" in points, "different points: both are kept"
    browser.session.set_points(face, browser.session.known(face).version, "move", {30: (5.0, 6.0, "visible")}, False)
    browser.drag(browser.where(30), (30, 0))
    browser.saved()
    assert browser.session.log.faces[face].points["nose_tip"].x == 5
    assert "Another window has set this point" in browser.find("#live").text and browser.face()["points"][30]["x"] == 5


@pytest.mark.slow("waits for the page to try again; the log is tested fast")
def test_what_a_full_disk_refuses_is_kept_by_the_page_until_it_is_saved(browser: Browser, file_limit: Callable[[int], None]) -> None:
    size = (browser.session.out / "log.jsonl").stat().st_size
    file_limit(size + 10)
    browser.drag(browser.where(30), (30, 0))
    until(lambda: "not saved" in browser.find("#trouble").text)
    assert browser.find("#saved").text == "Saving."
    file_limit(10**9)
    browser.saved()
    assert not browser.find("#trouble").is_displayed() and browser.session.log.last == 1
    browser.driver.get_log("browser")  # It names the refusal.


def test_a_killed_server_has_kept_what_it_answered(
    start_process: Callable[..., Process], photos: Path, looked: Path, tmp_path: Path
) -> None:
    def begin() -> tuple[Process, str, dict[str, str]]:
        process = start_process("fkp.label", photos, "--out", tmp_path / "my_set", "--blind", "0")
        url, token = re.findall(r"(http://\S+/)#(\S+)", process.wait_for_line("open "))[0]
        return process, url, {"Authorization": f"Bearer {token}"}

    process, url, headers = begin()
    found: list[str] = []
    until(lambda: found.extend(filter(None, [requests.get(f"{url}api/next", headers=headers, timeout=20).json()["face"]])) or found)
    where = f"{url}api/faces/{found[0]}/points"
    answered: list[float] = []
    ended = threading.Event()

    def work() -> None:
        version = 0
        while not ended.is_set():
            x = float(len(answered) + 1)
            try:
                told = requests.post(
                    where, json={"version": version, "points": {"8": [x, 2, "visible"]}}, headers=headers, timeout=20
                ).json()
            except requests.RequestException:
                return
            version = told["version"]
            answered.append(x)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: len(answered) > 20)
    process.send_signal(signal.SIGKILL)
    thread.join()
    ended.set()
    process, url, headers = begin()
    point = requests.get(f"{url}api/faces/{found[0]}", headers=headers, timeout=20).json()["points"][8]
    assert point["x"] in (answered[-1], answered[-1] + 1), "the last answer is on the disk; the one that was under way may be"
    process.press(signal.SIGINT)
    assert process.wait() == 130
    assert f"stopped: all that you have set is in {tmp_path / 'my_set'}" in process.err
    assert json.loads((tmp_path / "my_set/log.jsonl").read_text().splitlines()[0])["kind"]
