"""The images of the documentation, made from what ships: python benchmarks/figures.py [NAME ...] [--root DIR] [--photographs FOLDER ...]

`make figures` makes all of them. One whose needs are missing stays as it is, with a sentence that says what it needs; the others are
made, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ced
import cv2
import numpy as np
import outlines
import robustness

from fkp.common.files import write
from fkp.common.ports import free_port
from fkp.config import DataConfig
from fkp.data.labels import load_labels
from fkp.data.synthetic import render
from fkp.errors import FkpError, run_command
from fkp.evaluation.evaluate import evaluate
from fkp.evaluation.report import prediction_grid
from fkp.predict import Face, Predictor
from fkp.vision.draw import draw_face
from fkp.vision.image import Image, read_image

REPO = Path(__file__).resolve().parents[1]
FACES = REPO / "docs/images/sfhq"
#: In the order of the images; the last one is a profile, whose error the model expects to be large.
NOBODY = (
    "SDXL_image_0037893.jpg",
    "SDXL_image_0041359.jpg",
    "FLUX1_schnell_image_0018409.jpg",
    "SDXL_image_0045532.jpg",
    "FLUX1_schnell_image_0046860.jpg",
    "FLUX1_schnell_image_0004659.jpg",
)
#: Rows of `robustness.changes` in the grid, and what stands above them.
CHANGES = {
    "none": "as it is",
    "turned by 30 degrees to either side": "turned by 30 degrees",
    "a third of the resolution": "a third of the pixels",
    "0.3 of the light": "0.3 of the light",
    "blurred by 2.5 % of the face": "blurred",
    "a square of 0.3 of the face covered": "covered",
}
SEARCH = (
    *("--trials=16", "--epochs=9", "--seed=1", "--name=figure", "--data.synthetic_faces=300", "--input.size_px=64"),
    *("--model.width=8", "--optim.global_batch_size=32"),
)
_SEARCH_S = 900


def main() -> None:
    """Make the images that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(FIGURES)} (default: all)")
    parser.add_argument("--root", default=None, help="the YouTube-Faces set, for `ced` (default: data/ytfaces)")
    parser.add_argument("--photographs", type=Path, nargs="+", metavar="FOLDER", help="with .pts files beside them, for `convention`")
    parser.add_argument("--out", type=Path, default=REPO / "docs/images", help="folder (default: docs/images of the checkout)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(FIGURES):
        raise FkpError(f"there is no figure {', '.join(sorted(unknown))}: choose from {', '.join(FIGURES)}")
    failed = []
    for name in arguments.names or FIGURES:
        file, make = FIGURES[name]
        try:
            print(write(arguments.out / file, make(arguments)), flush=True)
        except FkpError as error:
            print(f"error: {name}: {error}", file=sys.stderr, flush=True)
            failed.append(name)
    if failed:
        raise FkpError(f"not made: {', '.join(failed)}")


def use(_: object) -> bytes:
    """Photoreal faces of nobody with points and expected errors."""
    predictor = Predictor(REPO / "saved_models/champion")
    found = [(image := read_image(FACES / name), one_face(predictor, image, name)) for name in NOBODY]
    captions = [f"expected error {expected_pct(face):.1f} % of the eye distance" for _, face in found]
    return sheet([drawn(image, face) for image, face in found], captions, columns=3, cell_px=400)


def grid(_: object) -> bytes:
    """Some of them changed as in `robustness.py`, each found anew by the detector."""
    predictor = Predictor(REPO / "saved_models/champion")
    images = [read_image(FACES / name) for name in NOBODY[1:5]]
    truth_px = np.stack([one_face(predictor, image, "a face").points_px for image in images])
    changed = {name: frames for name, frames, _, _ in robustness.changes(images, truth_px) if name in CHANGES}
    tiles, captions = [], []
    for row in range(len(images)):
        for name, head in CHANGES.items():
            face = one_face(predictor, changed[name][row], name)
            tiles.append(drawn(changed[name][row], face))
            captions.append((f"{head}: " if not row else "") + f"{expected_pct(face):.1f} %")
    return sheet(tiles, captions, len(CHANGES), cell_px=220)


def synthetic(_: object) -> bytes:
    """Drawn faces of the test fold: the prediction in colours, the exact truth in white."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "set"
        render.write_set(root, faces=400, seed=0)
        data = DataConfig(source="synthetic", root=str(root), synthetic_faces=400)
        return jpeg(prediction_grid(evaluate(Predictor(REPO / "saved_models/champion"), load_labels(data), data), 12))


def cumulative(arguments: argparse.Namespace) -> bytes:
    """The error of the shipped models on the test persons."""
    return ced.curves([str(REPO / "saved_models" / name) for name in ("champion", "tiny", "large")], arguments.root, "test")


def page(_: object) -> bytes:
    """The page of the endpoint with one face."""
    port = free_port()
    command = [sys.executable, "-m", "fkp", "serve", "--port", str(port), "--replicas", "1"]
    with browser(1280, 1000) as driver, running(command, stdout=subprocess.PIPE) as process:
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.ui import WebDriverWait

        assert process.stdout is not None
        if not any(line.startswith("http://") for line in iter(process.stdout.readline, "")):
            raise FkpError("the endpoint did not start: `fkp serve` says why")
        driver.get(f"http://127.0.0.1:{port}/")
        driver.find_element(By.ID, "file").send_keys(str(FACES / NOBODY[1]))
        WebDriverWait(driver, 60).until(lambda _: "1 face found." in driver.find_element(By.ID, "status").text)
        return bytes(driver.get_screenshot_as_png())


def label(_: object) -> bytes:
    """The labelling page with one face, at the first point that it asks for."""
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "fkp", "label", str(FACES), "--out", f"{work}/my_set", "--blind", "0"]
        with browser(1400, 1010) as driver, running(command, stdout=subprocess.PIPE) as process:
            from selenium.webdriver.common.action_chains import ActionChains
            from selenium.webdriver.common.by import By
            from selenium.webdriver.support.ui import WebDriverWait

            assert process.stdout is not None
            address = next((line.split()[-1] for line in iter(process.stdout.readline, "") if line.startswith("open ")), None)
            if address is None:
                raise FkpError("the page did not start: `fkp label` says why")
            driver.get(address)
            wait = WebDriverWait(driver, 60)
            wait.until(lambda _: f"of {len(NOBODY)} faces are finished. Set" in driver.find_element(By.ID, "progress").text)
            driver.refresh()  # The list is of when the page was opened.
            row = f"//ol[@id='queue']//button[contains(., '{NOBODY[4]}')]"
            wait.until(lambda _: driver.find_elements(By.XPATH, row))[0].click()
            wait.until(lambda _: NOBODY[4] in driver.find_element(By.ID, "live").text)
            # As somebody sees it who has put the tip of the nose right.
            place = "import('/page/main.js').then(({ store, view }) => { const { x, y } = store.face.points[30]; arguments[0]([x, y]); })"
            x, y = driver.execute_async_script(place)
            where = f"const done = arguments[0]; import('/page/main.js').then(({{ view }}) => done(view.toScreen([{x}, {y}])))"
            across, down = driver.execute_async_script(where)
            canvas = driver.find_element(By.ID, "canvas")
            middle = canvas.size["width"] / 2, canvas.size["height"] / 2
            ActionChains(driver).move_to_element_with_offset(
                canvas, round(across - middle[0]), round(down - middle[1])
            ).click_and_hold().move_by_offset(6, 4).release().perform()
            saved = "import('/page/main.js').then(({ store }) => arguments[0](store.face.points[30].how === 'set' && !store.waiting))"
            wait.until(lambda _: driver.execute_async_script(saved))
            shot = cv2.imdecode(np.frombuffer(driver.get_screenshot_as_png(), np.uint8), cv2.IMREAD_COLOR)
            return bytes(cv2.imencode(".png", cv2.resize(shot, None, fx=0.66, fy=0.66, interpolation=cv2.INTER_AREA))[1])


def search(_: object) -> bytes:
    """The page of a search on synthetic faces, which is run for it: minutes."""
    with tempfile.TemporaryDirectory() as name, browser(1180, 1500) as driver:
        folder = Path(name)
        own = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "RAY_ADDRESS": ""}
        command = [sys.executable, "-m", "fkp", "tune", *SEARCH, f"--track.storage={folder}/runs", f"--data.cache_dir={folder}/cache"]
        with (folder / "log").open("w") as log, running(command, cwd=folder, env=own, stdout=log, stderr=log) as process:
            try:
                failed = process.wait(_SEARCH_S)
            except subprocess.TimeoutExpired as error:
                raise FkpError(f"the search took more than {_SEARCH_S} s: try again on a quiet machine") from error
        pages = sorted(folder.rglob("search.html"))
        if failed or not pages:
            raise FkpError(f"the search failed: {' '.join((folder / 'log').read_text().splitlines()[-1:])}")
        driver.get(pages[0].as_uri())
        driver.execute_script("document.querySelectorAll('details').forEach((e) => { e.open = false })")
        return bytes(driver.get_screenshot_as_png())


#: Name -> file and what makes it from the arguments.
FIGURES: dict[str, tuple[str, Callable[[Any], bytes]]] = {
    "use": ("use.jpg", use),
    "grid": ("grid.jpg", grid),
    "synthetic": ("synthetic.jpg", synthetic),
    "ced": ("ced.png", cumulative),
    "convention": ("convention.png", outlines.convention),
    "page": ("page.png", page),
    "label": ("label.png", label),
    "search": ("search.png", search),
}


def one_face(predictor: Predictor, image: Image, name: str) -> Face:
    """The face of an image that has one.

    Raises:
        FkpError: The detector finds none.
    """
    faces = predictor(image)
    if not faces:
        raise FkpError(f"no face is found in {name}")
    return faces[0]


def drawn(image: Image, face: Face) -> Image:
    """At twice the size, so that thin lines stay thin when the image is made smaller."""
    large = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    return draw_face(large, 2 * face.points_px + 0.5, scheme=face.scheme, expected_error_px=2 * face.expected_error_px)


def expected_pct(face: Face) -> float:
    """The mean expected error in percent of what errors are divided by here: the distance of the outer eye corners."""
    return float(100 * face.expected_error_px.mean() / face.scheme.size_px(face.points_px))


def sheet(tiles: Sequence[Image], captions: Sequence[str], columns: int, cell_px: int) -> bytes:
    """JPEG: square images side by side, each with a line of text below it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dpi, text_px, gap_px = 100, 26, 6
    rows = -(-len(tiles) // columns)
    width, height = columns * (cell_px + gap_px) - gap_px, rows * (cell_px + text_px)
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    for place, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        row, column = divmod(place, columns)
        left, top = column * (cell_px + gap_px), row * (cell_px + text_px)
        cell = cv2.resize(tile, (cell_px, cell_px), interpolation=cv2.INTER_AREA)
        figure.figimage(cell, left, height - top - cell_px)
        figure.text((left + cell_px / 2) / width, 1 - (top + cell_px + text_px / 2) / height, caption, ha="center", va="center", fontsize=9)
    canvas.draw()
    return jpeg(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))


def jpeg(image: Image) -> bytes:
    """Quality 85 with full chroma: half of it would smear thin coloured lines."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 85, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes())


@contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process, with the options of Popen, that ends with the block, as after Ctrl-C."""
    process = subprocess.Popen(command, text=True, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)


@contextmanager
def browser(width: int, height: int) -> Iterator[Any]:
    """Debian's chromium under Selenium.

    Raises:
        FkpError: One of the two is not there.
    """
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ModuleNotFoundError as error:
        raise FkpError("this needs Selenium: pip install -r requirements-dev.txt") from error
    if None in programs:
        raise FkpError("this needs a browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    # As in tests/conftest.py: containers and root have no sandbox to offer, and the browser sees our own pages only.
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", f"--window-size={width},{height}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    try:
        yield driver
    finally:
        driver.quit()


if __name__ == "__main__":
    run_command(main)
