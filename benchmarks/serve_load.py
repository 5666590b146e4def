"""How fast the endpoint is, beside what it could be: requests/s and latency with `box=` on one JPEG of about 30 KB.

python benchmarks/serve_load.py [--seconds 10] [--clients 1 8 32] [--rows loop plain fast uvicorn] [--litserve FOLDER]
    [--images face vga hd 12mp mix] [--detector NAME]

With --images whole photographs are sent without `box=`, a table for each: 640 x 480 with one face, 1920 x 1080 with 4, 12 megapixels with 8
faces, and a mix of 8 : 3 : 1 of them.

- loop: decode, crop and network in processes without HTTP, one a core: the limit
- plain, fast: the endpoint in its two profiles, one replica a core; "batched" is the same with batches across requests
- uvicorn: the same work behind FastAPI and uvicorn, one process a core
- litserve: the same behind LitServe, one process a core, where `pip install --target FOLDER litserve==0.2.19` has put it

All of one call run one after the other on the same cores, the clients on these cores too, so compare ratios.
Behind the table every figure that is asked for stands beside its limit, two of them of one core without any server.
The half-load row offers half of the endpoint's own highest rate: its p99 against its p50 is the latency figure.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from serve_client import Client

from fkp.common.ports import free_port
from fkp.vision.detect import OWN

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "fkp/serve/golden/face.jpg"
BUNDLE = ROOT / "saved_models/champion"
ROWS = ("loop", "plain", "plain batched", "fast", "fast batched", "uvicorn", "litserve")
IMAGES = ("face", "vga", "hd", "12mp", "mix")
CORES = os.cpu_count() or 1
#: Set for every process that is started, where the detector is to look.
_WHOLE = "SERVE_LOAD_WHOLE"
#: Likewise: by what the endpoint, the limit and uvicorn find faces.
_DETECTOR = "SERVE_LOAD_DETECTOR"


def main() -> None:
    """Print one table, and the figures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="connections at once")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--litserve", type=Path, metavar="FOLDER", help="where LitServe is installed, see above")
    parser.add_argument("--images", nargs="+", choices=IMAGES, default=["face"], help="what is sent (default: one face, with its box)")
    parser.add_argument("--detector", default=OWN, help="what finds the faces (default: %(default)s)")
    arguments = parser.parse_args()
    os.environ[_DETECTOR] = arguments.detector
    for kind in arguments.images:
        photos = photos_of(kind)
        os.environ.update({_WHOLE: "" if kind == "face" else "1"})
        kilobytes = np.mean([len(photo) for photo in photos]) / 1000
        print(f"{kind}: {CORES} cores, {kilobytes:.0f} KB an image, {arguments.seconds:g} s a figure")
        _table(photos, arguments)


def photos_of(kind: str) -> list[bytes]:
    """The JPEG files that are sent in turn."""
    if kind == "face":
        return [PHOTO.read_bytes()]
    from photographs import SCENES, make_scene

    from fkp.predict import Predictor
    from fkp.vision.image import encode_image

    shares = {"vga": (0, 1, 0, 0), "hd": (0, 0, 1, 0), "12mp": (0, 0, 0, 1), "mix": (0, 8, 3, 1)}[kind]
    predictor = Predictor(BUNDLE)
    files = [encode_image(make_scene(predictor, n, *row).image, ".jpg") if shares[n] else b"" for n, row in enumerate(SCENES)]
    mixed = [file for file, share in zip(files, shares, strict=True) for _ in range(share)]
    return [mixed[place] for place in np.random.default_rng(0).permutation(len(mixed))]


def _table(photos: list[bytes], arguments: argparse.Namespace) -> None:
    print(f"{'':16}{'clients':>8}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'failed':>8}")
    rates: dict[str, float] = {}
    tails: dict[str, float] = {}
    for row in arguments.rows:
        if row == "loop":
            rates[row] = bare_loop(arguments.seconds, photos)
            print(f"{row:16}{CORES:8}{rates[row]:12.1f}", flush=True)
        elif row == "litserve" and arguments.litserve is None:
            print(f"{row:16}is not measured: `pip install --target FOLDER litserve==0.2.19` and add --litserve FOLDER")
        else:
            with server(row, arguments.litserve) as url:
                rates[row], tails[row] = measure(row, url, photos, arguments)
    for what, found, holds, limit in figures(rates, tails):
        print(f"{what:44}{found:>9}   asked {limit:9}{'' if holds else 'MISSED'}")


def measure(row: str, url: str, photos: Sequence[bytes], arguments: argparse.Namespace) -> tuple[float, float]:
    """All client counts of one server, then half of its best rate.

    Returns:
        That rate, and p99 / p50 at the half of it.
    """
    asyncio.run(offer(url, photos, 4, 2.0))  # Warm: threads, caches, autoscaling.
    best = 0.0
    for clients in arguments.clients:
        times, failed = asyncio.run(offer(url, photos, clients, arguments.seconds))
        best = max(best, len(times) / arguments.seconds)
        line(row, clients, times, failed, arguments.seconds)
    times, failed = asyncio.run(offer(url, photos, max(arguments.clients), arguments.seconds, best / 2))
    p50, p99 = line(f"{row}, half", max(arguments.clients), times, failed, arguments.seconds)
    return best, p99 / p50


def line(row: str, clients: int, times: list[float], failed: int, seconds: float) -> tuple[float, float]:
    """One row of the table; its p50 and p99."""
    p50, p99 = np.percentile(times, [50, 99]) * 1000 if times else (np.nan, np.nan)
    print(f"{row:16}{clients:8}{len(times) / seconds:12.1f}{p50:9.1f}{p99:9.1f}{failed:8}", flush=True)
    return float(p50), float(p99)


def figures(rates: dict[str, float], tails: dict[str, float]) -> Iterator[tuple[str, str, bool, str]]:
    """What is asked, of the rows that were measured: what it is, the figure, whether it holds, the limit."""
    if "loop" in rates and not os.environ.get(_WHOLE):
        for name, network_limit_ms, whole_limit_ms in (("champion", 0.9, 1.5), ("tiny", 0.45, 1.5), ("large", 3.0, 4.0)):
            bundle = BUNDLE.with_name(name)
            network_ms, whole_ms = on_one_core_ms(bundle)
            for what, found, limit in (("network", network_ms, network_limit_ms), ("crop, network, undo", whole_ms, whole_limit_ms)):
                yield f"{bundle.name}: {what}", f"{found:.2f} ms", found <= limit, f"<= {limit} ms"
    for row in ("fast", "fast batched"):
        for other, least in (("loop", 0.6), ("uvicorn", 0.9), ("litserve", 1.1)):
            if row in rates and other in rates:
                ratio = rates[row] / rates[other]
                yield f"{row} : {other}", f"{ratio:.2f}", ratio >= least, f">= {least}"
        if row in tails:
            yield f"{row}, half of its rate: p99 : p50", f"{tails[row]:.1f}", tails[row] <= 4, "<= 4"


async def offer(url: str, photos: Sequence[bytes], clients: int, seconds: float, rate: float | None = None) -> tuple[list[float], int]:
    """Send requests from several connections, as fast as they are answered or at a fixed rate; seconds of the answered ones.

    At a fixed rate the time counts from when the request was due, so that a server that stalls cannot hide it.
    """
    end = time.perf_counter() + seconds
    due = time.perf_counter()
    times: list[float] = []
    failed = 0

    async def client(first: int) -> None:
        nonlocal due, failed
        connection = Client(url, photos[0])
        turns = itertools.cycle([*photos[first % len(photos) :], *photos[: first % len(photos)]])
        while (began := time.perf_counter()) < end:
            if rate is not None:
                began, due = due, due + 1 / rate
                if began >= end:
                    break
                await asyncio.sleep(max(began - time.perf_counter(), 0))
            status, body = await connection.post(next(turns) if len(photos) > 1 else None)
            if status == 200 and b"keypoints" in body:
                times.append(time.perf_counter() - began)
            else:
                failed += 1
        connection.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return times, failed


def bare_loop(seconds: float, photos: list[bytes]) -> float:
    """The same work in one process a core, without HTTP: images a second."""
    with multiprocessing.get_context("spawn").Pool(CORES) as pool:
        return sum(pool.starmap(_loop, [(seconds, photos)] * CORES))


def on_one_core_ms(bundle: Path, runs: int = 300) -> tuple[float, float]:
    """Median milliseconds of one face in one thread: of the network alone, and from the decoded image to its points."""
    import cv2

    from fkp.predict import Predictor
    from fkp.vision.image import decode_image

    cv2.setNumThreads(1)
    predictor, image, box = Predictor(bundle), decode_image(PHOTO.read_bytes()), np.array(box_of_photo(), np.float32)
    crop_u8 = predictor.crop(box).apply(image, predictor.config.input.channels)[None]
    network, whole = (_median_ms(work, runs) for work in (lambda: predictor.run(crop_u8), lambda: predictor(image, [box])))
    return network, whole


def _median_ms(work: Callable[[], object], runs: int) -> float:
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times))


def _loop(seconds: float, photos: list[bytes]) -> float:
    work = worker()
    turns = itertools.cycle(photos)
    for _ in range(50 if len(photos[0]) < 100_000 else 3):
        work(next(turns))
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        work(next(turns))
        count += 1
    return count / seconds


def worker():  # type: ignore[no-untyped-def]
    """Bytes to answer, one image at a time: what every server of this table does."""
    import cv2

    from fkp.predict import Predictor
    from fkp.serve.model import face_json
    from fkp.vision.image import decode_image

    cv2.setNumThreads(1)
    predictor = Predictor(BUNDLE, detector=os.environ.get(_DETECTOR, OWN))
    boxes = None if os.environ.get(_WHOLE) else [np.array(box_of_photo(), np.float32)]
    return lambda photo: json.dumps({"faces": [face_json(face, None) for face in predictor(decode_image(photo), boxes)]})


def box_of_photo() -> list[float]:
    """The tight box of the golden face."""
    points = np.array(json.loads(PHOTO.with_name("points.json").read_text(encoding="utf-8")))
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


@contextlib.contextmanager
def server(row: str, litserve: Path | None = None) -> Iterator[str]:
    """A server of this row in processes of its own; its address with the box."""
    port = free_port()
    profile, _, batching = row.partition(" ")
    if profile in ("plain", "fast"):
        command = [
            sys.executable,
            "-m",
            "fkp.serve",
            "--port",
            str(port),
            "--profile",
            profile,
            # As many as there are clients: none of them is to be refused here. serve_faults.py measures overload.
            "--max-in-progress",
            "64",
            "--bundle",
            str(BUNDLE),
            "--detector",
            os.environ.get(_DETECTOR, OWN),
        ]
        command += ["--replicas", str(CORES), *(["--max-batch-size", "16"] if batching else [])]
    else:
        command = [sys.executable, str(Path(__file__).with_name(f"serve_{row}.py")), str(port), *([str(litserve)] if litserve else [])]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    path = "/v1/keypoints"
    if not os.environ.get(_WHOLE):
        path += "?box=" + ",".join(f"{value:.2f}" for value in box_of_photo())
    try:
        _wait(f"http://127.0.0.1:{port}{path}", process)
        yield f"http://127.0.0.1:{port}{path}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    import requests

    until = time.monotonic() + 180
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with status {process.returncode}")
        with contextlib.suppress(requests.RequestException):
            if requests.post(url, PHOTO.read_bytes(), timeout=10).status_code == 200:
                return
        time.sleep(0.5)
    raise SystemExit("the server did not answer within three minutes")


if __name__ == "__main__":
    main()
