"""The labelling page in chromium, and the session behind it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from fkp.label.app import build_app
from fkp.label.session import Session
from tests.serve.local import listening

TOKEN = "a-token-of-the-tests"
ASK = "const done = arguments[arguments.length - 1]; import('/page/main.js').then((page) => done((%s)(page)), (e) => done(String(e)))"


@dataclass
class Browser:
    """The page in chromium, and the session behind it."""

    driver: webdriver.Chrome
    session: Session
    url: str

    def find(self, css: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def ask(self, script: str) -> Any:
        return self.driver.execute_async_script(ASK % script)

    def open(self) -> None:
        self.driver.get("about:blank")
        self.driver.get(self.url)
        until(lambda: "look at" in self.find("#live").text or "accept" in self.find("#live").text)

    def face(self) -> dict[str, Any]:
        return self.ask("({ store }) => store.face")

    def where(self, number: int) -> tuple[float, float]:
        """Where a point is in the window, in CSS pixels."""
        return tuple(
            self.ask(
                f"""({{ store, view }}) => {{
                    const {{ left, top }} = view.canvas.getBoundingClientRect();
                    const [x, y] = view.toScreen([store.face.points[{number}].x, store.face.points[{number}].y]);
                    return [x + left, y + top];
                }}"""
            )
        )

    def saved(self) -> None:
        until(lambda: self.ask("({ store, page }) => store.waiting === 0 && !page.pending"))

    def drag(self, start: tuple[float, float], step: tuple[float, float]) -> None:
        pointer = ActionChains(self.driver, duration=10)
        pointer.w3c_actions.pointer_action.move_to_location(round(start[0]), round(start[1]))
        pointer.w3c_actions.pointer_action.pointer_down()
        for part in (0.3, 1):
            pointer.w3c_actions.pointer_action.move_to_location(round(start[0] + part * step[0]), round(start[1] + part * step[1]))
        pointer.w3c_actions.pointer_action.pointer_up()
        pointer.perform()

    def press(self, *keys: str) -> None:
        ActionChains(self.driver, duration=0).send_keys(*keys).perform()


def until(true: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@contextlib.contextmanager
def shown(session: Session, driver: webdriver.Chrome) -> Iterator[Browser]:
    """The page of a session; its console stays silent."""
    hosts: set[str] = set()
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    with listening(build_app(session, TOKEN, lambda: hosts), lifespan="off") as port:
        hosts.add(f"127.0.0.1:{port}")
        page = Browser(driver, session, f"http://127.0.0.1:{port}/#{TOKEN}")
        driver.get_log("browser")
        page.open()
        yield page
        page.saved()
        assert [entry["message"] for entry in driver.get_log("browser") if " 409 " not in entry["message"]] == []
        driver.get("about:blank")  # It asks the server each second.
