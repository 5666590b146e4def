"""The circle: label, adapt from the page, and go on with the model's new guesses; the endpoint answers with them, too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from selenium import webdriver

from fkp.bundle import open_bundle
from fkp.data.synthetic import render
from fkp.label.session import Session
from fkp.scheme import IBUG68
from tests.serve.local import application, post

from .browser import shown, until

SHIFT = 0.12
MOUTH = [*IBUG68.regions["mouth"]]


@pytest.mark.timeout(600)
@pytest.mark.slow("a model is adapted, by a process of its own")
def test_adapt_from_the_page_to_an_endpoint_that_answers_with_the_new_points(
    label: Callable[..., Session], driver: webdriver.Chrome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    folder = tmp_path / "drawn"
    folder.mkdir()
    for number in range(14):
        PIL.Image.fromarray(render.frame_of(number, seed=7)[2]).save(folder / f"{number}.jpg", quality=92)
    session = label(folder)
    rows = session.queue.window(0, 99)
    assert len(rows) >= 12
    *labelled, kept = [row["id"] for row in rows]
    for name in labelled:  # Another convention: each mouth lower.
        face = session.face(name)
        lower = {place: SHIFT * face["size_px"] * (place in MOUTH) for place in range(len(IBUG68))}
        places = {place: (p["x"], p["y"] + lower[place], p["state"]) for place, p in enumerate(face["points"])}
        session.set_points(name, 0, "shape", places, True)
    before = session.face(kept)
    with shown(session, driver) as page:
        page.find("#ways [value=map]").click()
        page.find("#adapt").click()
        until(lambda: "Adapting" in page.find("#adapting").text or "Done" in page.find("#adapting").text)
        until(lambda: session.adapting.state != "running", 280)
        assert session.adapting.to_json()["written"], session.adapting.to_json()
        until(lambda: "Done: the guesses" in page.find("#adapting").text)
        assert "gain" in page.find("#outcome").text and "fkp serve --bundle" in page.find("#serve").text
        until(lambda: session.finder.ready)
        changed = session.changed()
        assert len(changed) == 5 and [face["pct"] for face in changed] == sorted((face["pct"] for face in changed), reverse=True)
        assert all(1 < face["pct"] < 100 * SHIFT and len(face["before"]) == len(face["after"]) == len(IBUG68) for face in changed)
        shown_there = "return [...document.querySelectorAll('#changed button')].map((button) => button.textContent.split(',')[0])"
        until(lambda: page.driver.execute_script(shown_there) == [face["photo"] for face in changed])
        page.driver.execute_script("document.querySelector('#changed li:last-child button').click()")
        until(lambda: page.face()["id"] == changed[-1]["id"])
        after = session.face(kept)
        page.driver.get(page.url)
        until(lambda: "set-model-1" in page.find("#model").text)
    here, there = (np.array([[point["x"], point["y"]] for point in face["points"]]) for face in (before, after))
    moved = (there - here) / before["size_px"]
    assert moved[MOUTH].mean(0) == pytest.approx((0, SHIFT), abs=0.04)
    assert moved[:48].mean(0) == pytest.approx((0, 0), abs=0.04)
    place = tmp_path / "set-model-1"
    assert session.log.models[0].faces == len(labelled) and session.log.models[0].name == str(place)
    photo = session.known(kept).photo
    status, answer = asyncio.run(post(application(open_bundle(place)), "/v1/keypoints", (folder / photo).read_bytes()))
    (found,) = json.loads(answer)["faces"]
    assert status == 200
    apart = np.linalg.norm(np.array(found["keypoints"]) - there, axis=1)
    assert apart.mean() < 0.03 * before["size_px"], "it looks twice at what a detector has found"
    session.close()
    again = label(folder)
    assert again.model == str(place), "the next start goes on with the adapted model"
