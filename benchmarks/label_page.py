"""How fast the labelling page is: `python benchmarks/label_page.py [--photos 1000] [--faces 100000]`.

Photographs of 12 megapixels (one face of docs/images/sfhq each, as many hard links to six files) are opened in chromium; measured are the
time until the first face is there, until the next one is, and from a pointer's move to the frame that shows it: at 60 frames a second that
is the next one 16.7 ms later, if our own work leaves it the time. Then a set of very many photographs with a face each is opened, whose
guesses are one with noise; single edits are timed while they are put in order and afterwards, beside the same with ten, and the ordering.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import figures
import numpy as np
import psutil

from fkp.bundle import Bundle, open_bundle
from fkp.errors import FkpError, run_command
from fkp.label.log import Log
from fkp.label.photos import Found, Photos, around, face_id, stamp_of
from fkp.label.session import Session
from fkp.predict import DEFAULT_BUNDLE, Predictor
from fkp.vision.fingerprint import Fingerprint
from fkp.vision.image import read_image, write_image

_SHOWN = "import('/page/main.js').then(({ store, page }) => arguments[0](store.face && page.picture ? store.face.id : null))"
#: From the key to the frame that shows the next face, in milliseconds, and how much of that the server's answers took.
_NEXT = """
const done = arguments[0];
import('/page/main.js').then(async ({ store, page }) => {
  performance.clearResourceTimings();
  const [before, began] = [store.face.id, performance.now()];
  document.querySelector('[data-do=next]').click();
  while (store.face.id === before || !page.picture) await new Promise((resolve) => setTimeout(resolve, 1));
  await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame); // Ours was asked for before this one, and has been drawn by now.
  const ended = performance.now();
  const waited = performance.getEntriesByType("resource").filter(({ name }) => /api\\/(next\\?step|faces)/.test(name)).slice(0, 2);
  done([ended - began, waited.reduce((sum, { duration }) => sum + duration, 0)]);
});
"""
_DRAG = """
const done = arguments[0];
import('/page/main.js').then(async ({ store, view }) => {
  const { canvas } = view, { left, top } = canvas.getBoundingClientRect();
  const [x, y] = view.toScreen([store.face.points[30].x, store.face.points[30].y]);
  const at = (kind, dx) => canvas.dispatchEvent(new PointerEvent(kind, { pointerId: 1, pointerType: "mouse", button: 0, isPrimary: true,
    clientX: left + x + dx, clientY: top + y, bubbles: true, cancelable: true }));
  canvas.setPointerCapture = () => {};
  at("pointerdown", 0);
  const [took, worked] = [[], []];
  for (let step = 6; step < 46; step += 1) {
    await new Promise(requestAnimationFrame);
    const began = performance.now();
    let drawing;
    requestAnimationFrame(() => { drawing = performance.now(); }); // Asked for before ours.
    at("pointermove", step);
    const handled = performance.now();
    await new Promise(requestAnimationFrame); // Ours was asked for before this one, and has been drawn by now.
    const ended = performance.now();
    took.push(ended - began);
    worked.push(handled - began + ended - drawing);
  }
  at("pointerup", 46);
  done([took, worked]);
});
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--faces", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        page(Path(work), arguments.photos)
        for faces in (10, arguments.faces):
            edits(Path(work), faces)


def page(work: Path, count: int) -> None:
    """Time the page with many large photographs."""
    folder = work / "photos"
    folder.mkdir()
    kinds = []
    for place, name in enumerate(figures.NOBODY):
        large = cv2.copyMakeBorder(cv2.resize(read_image(figures.FACES / name), (3000, 3000)), 0, 0, 500, 500, cv2.BORDER_REFLECT)
        kinds.append(work / f"{place}.jpg")
        write_image(kinds[-1], large)
    for place in range(count):
        os.link(kinds[place % len(kinds)], folder / f"{place:05}.jpg")
    with figures.browser(1400, 1000) as driver:
        began = time.monotonic()
        with started(folder, work / "set") as (address, process):
            ready = time.monotonic()
            driver.get(address)
            wait_for_face(driver)
            first_s, used = time.monotonic() - ready, spent(process)
            print(
                f"{count} photographs of 12 MP: address after {ready - began:.2f} s, first face {first_s:.2f} s after that; "
                f"processor time of the server {used:.2f} s until then, load {os.getloadavg()[0]:.1f}"
            )
            pairs = []
            for _ in range(12):
                time.sleep(1.5)  # Somebody looks at it.
                pairs.append(driver.execute_async_script(_NEXT))
            took, server = zip(*pairs, strict=True)
            print(f"next face: {np.median(took):.0f} ms, at most {max(took):.0f}; of these for the server {np.median(server):.0f}")
            frames, worked = driver.execute_async_script(_DRAG)
            print(
                f"drag: frame {np.median(frames):.1f} ms after the move, 95 % within {np.percentile(frames, 95):.1f} ms; "
                f"of these the page's own work {np.median(worked):.1f} ms, 95 % {np.percentile(worked, 95):.1f} ms"
            )


def wait_for_face(driver: object) -> None:
    """Wait until the page shows a face."""
    end = time.monotonic() + 60
    while not driver.execute_async_script(_SHOWN):  # type: ignore[attr-defined]
        if time.monotonic() > end:
            raise FkpError("the page shows no face")


def spent(process: subprocess.Popen[str]) -> float:
    """Seconds of a processor that a process has used."""
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def edits(work: Path, faces: int) -> None:
    """Time single edits in a set of so many faces, and how long these are put in order."""
    bundle = open_bundle(DEFAULT_BUNDLE)
    folder, out = work / f"photos-{faces}", work / f"set-{faces}"
    ids = looked_at(bundle, folder, out, faces)
    with started(folder, out) as (address, process):
        base, token = address.split("#")
        took: dict[bool, list[float]] = {False: [], True: []}
        version, ready = 0, False
        while len(took[True]) < 60:
            body = {"version": version, "points": {"8": [version % 100, 2, "visible"]}}
            before = time.monotonic()
            version = ask(base, token, f"faces/{ids[faces // 2]}/points", body)["version"]
            took[ready].append(1000 * (time.monotonic() - before))
            if not ready and version % 10 == 0:
                told = ask(base, token, "summary")
                ready = told["looked"] == faces and told["ordering_pct"] is None
        print(
            f"{faces} faces: an edit is saved and answered after {np.median(took[True]):.1f} ms, 95 % {np.percentile(took[True], 95):.1f}; "
            f"while they are opened and put in order {np.median(took[False]):.1f} ms, 95 % {np.percentile(took[False], 95):.1f}, at most "
            f"{max(took[False]):.0f}; processor time of the server for all that {spent(process):.1f} s"
        )
    session = Session(Photos.of([str(folder)]), out, Log(out, None), bundle, str(DEFAULT_BUNDLE))
    quiet = 0
    while quiet < 5:  # The ordering after the last photograph begins a moment after it was looked at.
        time.sleep(0.2)
        quiet = quiet + 1 if session.finder.ready and session.queue.ordering_pct is None else 0
    began = time.process_time()
    session.queue.rank()
    print(f"{faces} faces: put in order in {time.process_time() - began:.1f} s of processor time")
    session.close()


def looked_at(bundle: Bundle, folder: Path, out: Path, faces: int) -> list[str]:
    """Photographs that a model has looked at, one face each: hard links of one that differ in their fingerprints; the faces' names."""
    source, noise = figures.FACES / figures.NOBODY[0], np.random.default_rng(0)
    image = read_image(source)
    (face,) = Predictor(bundle)(image)
    box = tuple(float(value) for value in face.box_xyxy)
    folder.mkdir()
    out.mkdir()
    ids = []
    with (out / "found.jsonl").open("w") as photographs, (out / f"guesses-{bundle.digest[:16]}.jsonl").open("w") as guesses:
        for number in range(faces):
            if number % 50_000 == 0:  # A file may have so many names.
                shutil.copyfile(source, copy := folder.with_name(f"{folder.name}-{number}.jpg"))
            name = f"{number:06}.jpg"
            os.link(copy, folder / name)
            ids.append(face_id(name, 0))
            looks = Fingerprint(*noise.integers(0, 2**16, (2, 8), np.uint16), noise.integers(0, 256, (16, 16), np.uint8))
            size = image.shape[1], image.shape[0]
            found = Found(stamp_of(folder / name), size, looks, {ids[-1]: box}, around=around(bundle.config.scheme))
            photographs.write(json.dumps([name, found.to_json()]) + "\n")
            error = face.expected_error_px * noise.uniform(0.5, 2)
            told = np.column_stack([face.points_px + noise.normal(0, 5, face.points_px.shape), error])
            guesses.write(json.dumps([ids[-1], base64.b64encode(told.astype("<f4").tobytes()).decode()]) + "\n")
    Log(out, bundle.config.scheme).close()
    return ids


def ask(base: str, token: str, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """An answer of the server."""
    head = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{base}api/{what}", None if body is None else json.dumps(body).encode(), head)
    with urllib.request.urlopen(request) as answer:
        return dict(json.load(answer))


@contextmanager
def started(photos: Path, out: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`fkp label` as a process: the address that it prints, and the process."""
    command = [sys.executable, "-m", "fkp", "label", str(photos), "--out", str(out), "--blind", "0"]
    with figures.running(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        address = next((line.split()[-1] for line in iter(process.stdout.readline, "") if line.startswith("open ")), None)
        if address is None:
            raise FkpError("the page did not start: `fkp label` says why")
        yield address, process


if __name__ == "__main__":
    run_command(main)
