"""What the README tells a person to type, typed: the demo, then its commands on the demo's results. What is only parsed: test_docs.py."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from fkp.common.ports import free_port
from tests import blocks
from tests.processes import Process

ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
README = blocks.blocks(ROOT / "README.md")

#: What a person at home has not set.
_UNSET = ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "FKP_API_TOKEN")

# One process runs them all: the demo is dear.
pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """A folder with what a checkout brings, where the demo has run once, smaller than `make demo` runs it.

    In the fast tier it trains without its two Ray workers: test_ray_backend.py has such.
    """
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("configs", "saved_models", "tune", "data/manifest.csv"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
    small = ["--data.synthetic_faces=120", "--input.size_px=64", "--model.width=8", "--train.epochs=2", "--optim.global_batch_size=16"]
    if "not slow" in pytestconfig.option.markexpr:
        small.append("--scale.num_workers=0")
    inherited = {key: value for key, value in os.environ.items() if key not in _UNSET}
    demo = Process(["fkp.demo", *small], folder, inherited, folder / "demo")
    try:
        done = demo.completed(280)
    finally:
        demo.kill()
    assert done.returncode == 0, done.stderr[-3000:]
    shutil.copytree(folder / "runs/demo", folder / "runs/first")
    shutil.copyfile(next((folder / "data/synthetic/test").iterdir()), folder / "photo.jpg")
    return folder


@pytest.fixture
def start(start_process: Callable[..., Process], place: Path) -> Callable[..., Process]:
    """Start a command there."""
    return functools.partial(start_process, cwd=place, without=_UNSET)


@pytest.fixture
def run(start: Callable[..., Process]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command there to its end."""
    return lambda *args, **environment: start(*args, **environment).completed()


def typed(start: str, page: str = "README.md") -> list[str]:
    """The one command of a page that begins so, as arguments of the interpreter: a module or a script first."""
    found = [words for block in blocks.blocks(ROOT / page) if block.language == "bash" for words in blocks.commands(block.text)]
    (command,) = (words for words in found if words[: len(start.split())] == start.split())
    return command[1:] if command[0] == "python" else command  # A module of the program's name.


def test_the_demo_says_where_everything_is(place: Path) -> None:
    lines = (place / "demo.out").read_text().splitlines()
    said = dict(line.split(maxsplit=1) for line in lines if re.match(r"(image|report|model|runs|endpoint) ", line))
    assert (place / said["image"]).stat().st_size > 1000
    assert (place / said["report"]).stat().st_size > 1000
    assert (place / said["model"] / "SHA256SUMS").is_file()
    assert said["runs"].startswith("sqlite:///")
    assert re.match(r"1 face, 68 points, by model [0-9a-f]{12}, ", said["endpoint"]), "the endpoint has answered for an image"


def test_evaluate_as_typed(place: Path, run: Run) -> None:
    done = run(*typed("fkp evaluate"))
    assert done.returncode == 0, done.stderr
    assert "held out" in done.stdout
    assert "contaminated" in done.stdout
    assert (place / "out/evaluation/report.html").is_file()


def test_predict_as_typed(place: Path, run: Run) -> None:
    done = run(*typed("fkp predict photo.jpg"))
    assert done.returncode == 0, done.stderr
    assert (place / "out/photo.annotated.png").is_file()
    assert (place / "out/faces.json").is_file()
    assert (place / "out/faces.csv").is_file()


@pytest.mark.slow("a cluster of its own; test_table.py writes tables on the shared one")
def test_a_table_as_typed(place: Path, run: Run) -> None:
    for folder in ("photos", "more/deep"):
        (place / folder).mkdir(parents=True)
        shutil.copyfile(place / "photo.jpg", place / folder / "one.jpg")
    done = run(*typed("fkp predict photos/"))
    assert done.returncode == 0, done.stderr
    assert "faces.parquet is written: 2 faces in 2 images" in done.stdout


def test_a_video_as_typed(place: Path, run: Run) -> None:
    frame = cv2.imread(str(place / "photo.jpg"))
    clip = cv2.VideoWriter(str(place / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, frame.shape[1::-1])
    for _ in range(5):
        clip.write(frame)
    clip.release()
    done = run(*typed("fkp predict clip.mp4"))
    assert done.returncode == 0, done.stderr
    assert "5 frames, 1 faces" in done.stdout
    assert (place / "clip.annotated.mp4").stat().st_size > 1000


@pytest.mark.slow("a cluster of its own; the demo starts the endpoint in the fast tier")
def test_the_endpoint_and_its_client_as_typed(start: Callable[..., Process], run: Run) -> None:
    port = free_port()
    (client,) = (block.text for block in blocks.blocks(ROOT / "docs/serving.md") if block.language == "python")
    server = start(*typed("fkp serve"), "--port", port)
    server.wait_for_line(f"http://127.0.0.1:{port} ")
    done = run("-c", client.replace(":8000", f":{port}"))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + 68
    server.press()
    assert server.wait() == 130
    # Ray Serve tells in a line of its own that it started, where its log is set up by then.
    told = [line for line in server.err.splitlines() if "Started Serve" not in line]
    assert told == ["stopped: the endpoint is down; the same command starts it again"]


def test_the_python_lines_run(place: Path, run: Run) -> None:
    (code,) = (block.text for block in README if block.language == "python")
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert "(68, 2)" in done.stdout


def test_stats_as_typed_name_the_missing_set(place: Path, run: Run) -> None:
    done = run(*typed("fkp data stats", "docs/data.md"))
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*training_frames_keypoints\.csv is missing: `fkp data fetch` .*\n", done.stderr)


def test_training_as_typed_without_the_set_is_one_sentence(place: Path, run: Run) -> None:
    before = set((place / "runs/first").rglob("*"))
    done = run(*typed("fkp train --config configs/ytfaces.yaml --track.run_name"))
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*training_frames_keypoints\.csv is missing.*\n", done.stderr)
    assert set((place / "runs/first").rglob("*")) == before


def test_a_search_as_typed_without_the_set_is_one_sentence(place: Path, run: Run) -> None:
    done = run(*typed("fkp tune"))
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*training_frames_keypoints\.csv is missing.*\n", done.stderr)
    assert not (place / "runs/first-search").exists()


def test_the_registry_as_typed(place: Path, run: Run) -> None:
    registered = run(*typed("fkp track register"))
    assert registered.returncode == 0, registered.stderr
    assert "version 1 is the champion: validation NME" in registered.stdout
    listed = run(*typed("fkp track list"))
    assert re.search(r"^ +1 .* champion$", listed.stdout, re.MULTILINE), listed.stdout
    unknown = run(*typed("fkp track promote"))
    assert unknown.returncode == 1
    assert "there is no version 2 of fkp" in unknown.stderr


def test_an_unreachable_record_is_one_sentence_and_nothing_is_begun(place: Path, run: Run) -> None:
    flags = ["--data.synthetic_faces=120", "--track.run_name=unreachable"]
    done = run("fkp.train", *flags, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot reach MLflow at http://127.0.0.1:9 ")
    assert done.stderr.count("\n") == 1


def test_mlflow_shows_the_runs(start: Callable[..., Process]) -> None:
    port = free_port()
    server = start(*typed("mlflow ui"), "--port", port, "--workers", 1, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    assert "fkp" in ask(f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get-by-name?experiment_name=fkp", server)
    server.send_signal(signal.SIGTERM)
    server.wait()


def ask(url: str, server: Process) -> str:
    """The answer of a server that is still starting."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        assert server.poll() is None, f"the server stopped: {server.err}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{url} did not answer: {server.err}")
