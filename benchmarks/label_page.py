"""How fast the labelling page is: `python benchmarks/label_page.py [--photos 1000] [--faces 100000]`.

Photographs of 12 megapixels (one face of docs/images/sfhq each, as many hard links to six files) are opened in chromium; measured are the
time until the first face is there, until the next one is, and from a pointer's move to the frame that shows it. Then a set of very many
faces, whose guesses are copies of one, is opened, and single edits are timed beside the same with ten faces.
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

import cv2
import figures
import numpy as np
import psutil

from fkp.bundle import open_bundle
from fkp.errors import FkpError, run_command
from fkp.label.log import Log
from fkp.label.photos import face_id
from fkp.predict import DEFAULT_BUNDLE, Predictor
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
  const took = [];
  for (let step = 6; step < 46; step += 1) {
    await new Promise(requestAnimationFrame);
    const began = performance.now();
    at("pointermove", step);
    await new Promise(requestAnimationFrame); // Ours was asked for before this one, and has been drawn by now.
    took.push(performance.now() - began);
  }
  at("pointerup", 46);
  done(took);
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
            frames = driver.execute_async_script(_DRAG)
            print(f"drag: frame {np.median(frames):.1f} ms after the move, 95 % within {np.percentile(frames, 95):.1f} ms")


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
    """Time single edits in a set of so many faces."""
    name = figures.NOBODY[0]
    image = read_image(figures.FACES / name)
    bundle = open_bundle(DEFAULT_BUNDLE)
    (face,) = Predictor(bundle)(image)
    folder, out = work / f"photos-{faces}", work / f"set-{faces}"
    folder.mkdir()
    out.mkdir()
    shutil.copyfile(figures.FACES / name, folder / "a.jpg")
    ids = [face_id("a.jpg", number) for number in range(faces)]
    told = (folder / "a.jpg").stat()
    row = {"stamp": [told.st_size, told.st_mtime_ns], "size": list(image.shape[1::-1]), "print": None, "fault": ""}
    boxes = dict.fromkeys(ids, face.box_xyxy.tolist())
    (out / "found.jsonl").write_text(json.dumps(["a.jpg", row | {"boxes": boxes}]) + "\n")
    noise = np.random.default_rng(0)
    with (out / f"guesses-{bundle.digest[:16]}.jsonl").open("w") as file:
        for one in ids:
            error = face.expected_error_px * noise.uniform(0.5, 2)
            text = base64.b64encode(np.column_stack([face.points_px, error]).astype("<f4").tobytes()).decode()
            file.write(json.dumps([one, text]) + "\n")
    Log(out, bundle.config.scheme).close()
    with started(folder, out) as (address, _):
        base, token = address.split("#")
        while not ranked(base, token, faces // 2):
            time.sleep(0.2)
        took = []
        for version in range(60):
            body = json.dumps({"version": version, "points": {"8": [version, 2, "visible"]}}).encode()
            head = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            request = urllib.request.Request(f"{base}api/faces/{ids[faces // 2]}/points", body, head)
            before = time.monotonic()
            with urllib.request.urlopen(request) as answer:
                answer.read()
            took.append(1000 * (time.monotonic() - before))
        print(f"{faces} faces: an edit is saved and answered after {np.median(took[5:]):.1f} ms, 95 % {np.percentile(took[5:], 95):.1f} ms")


def ranked(base: str, token: str, place: int) -> bool:
    """Whether the server has put the faces in order."""
    request = urllib.request.Request(f"{base}api/queue?start={place}&count=1", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request) as answer:
            return any(face["pct"] is not None for face in json.load(answer)["faces"])
    except OSError:
        return False


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
