"""A camera in the terminal; a file or a pipe of JPEGs stands for it, from which OpenCV reads as from one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from fkp.bundle import Bundle
from fkp.data.synthetic.clip import Motion, frames
from fkp.errors import FkpError
from fkp.predict.__main__ import main
from fkp.vision.video import open_clip
from tests.processes import Process

FRAMES = 6


@pytest.fixture(scope="module")
def jpegs() -> list[bytes]:
    return [cv2.imencode(".jpg", image[..., ::-1])[1].tobytes() for image, _ in frames(0, 7, FRAMES, 10.0, Motion())]


def test_a_line_of_json_a_frame(champion: Bundle, jpegs: list[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = tmp_path / "video0.mjpeg"
    device.write_bytes(b"".join(jpegs))
    assert main(["--camera", str(device), "--bundle", str(champion.path)]) == 1
    said = capsys.readouterr()
    assert f"error: camera {device} gave no more frames after {FRAMES}: connect it again" in said.err and "frame/s" in said.err
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    assert lines[0]["time_s"] == 0 and (np.diff([line["time_s"] for line in lines]) > 0).all()
    for line, (_, truth_px) in zip(lines, frames(0, 7, FRAMES, 10.0, Motion()), strict=True):
        (face,) = line["faces"]
        assert face["track"] == 0 and face["detected"] == (line["frame"] == 0) and len(face["expected_error_px"]) == 68
        eyes_px = np.linalg.norm(truth_px[36] - truth_px[45])
        assert np.linalg.norm(np.array(face["keypoints"]) - truth_px, axis=-1).mean() < 0.12 * eyes_px


def test_ctrl_c_ends_a_recording_in_order(
    champion: Bundle, jpegs: list[bytes], tmp_path: Path, start_process: Callable[..., Process]
) -> None:
    device, out = tmp_path / "video0", tmp_path / "mine.mp4"
    os.mkfifo(device)
    stop = threading.Event()

    pipe = os.open(device, os.O_RDWR | os.O_NONBLOCK)  # Opened to write alone it would wait for its reader.

    def film() -> None:
        waiting = b""
        while not stop.wait(0.01):
            waiting = waiting or b"".join(jpegs)
            with contextlib.suppress(BlockingIOError):
                waiting = waiting[os.write(pipe, waiting) :]

    thread = threading.Thread(target=film)
    thread.start()
    process = start_process("fkp.predict", "--camera", str(device), "--out", str(out), "--bundle", str(champion.path))
    try:
        draft = _until(lambda: next((path for path in tmp_path.glob(".mine.*.mp4") if path.stat().st_size), None), process)
        assert draft is not None
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, process.err
    finally:
        stop.set()
        thread.join()
        os.close(pipe)
    assert "stopped" not in process.err and "frame/s" in process.err
    count = len(list(open_clip(out)))
    assert count > 0 and f"{count} frames, 1 faces" in process.out
    assert set(pq.read_table(tmp_path / "mine.parquet")["frame"].to_pylist()) == set(range(count))
    assert sorted(path.name for path in tmp_path.glob("*mine*")) == ["mine.mp4", "mine.parquet"]


def _until(found: Callable[[], Path | None], process: Process) -> Path | None:
    for _ in range(600):
        if (place := found()) is not None:
            return place
        assert process.poll() is None, process.err
        threading.Event().wait(0.05)
    return None


@pytest.mark.parametrize("name", ["97", "/dev/absent", "rtsp://127.0.0.1:9/a"])
def test_no_camera(champion: Bundle, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FkpError, match=rf"camera {name}.*: connect one, or name another \(here: "):
        main(["--camera", name, "--out", str(tmp_path / "a.mp4"), "--bundle", str(champion.path)])
    assert capfd.readouterr().err == "" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["a.mp4", "--out", "b.mp4"], "leave sources, --box and --ray out"),
        (["--box=1,2,3,4"], "leave sources, --box and --ray out"),
        (["--out", "folder"], "end its name in .mp4, or leave --out out"),
    ],
)
def test_what_does_not_go_with_a_camera(more: list[str], told: str) -> None:
    with pytest.raises(FkpError, match=told):
        main(["--camera", "0", *more])


def test_something_to_read_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    for given in ([], ["a.jpg"], ["--out", "folder"]):
        with pytest.raises(SystemExit):
            main(given)
        assert "required: SOURCE and --out, or --camera" in capsys.readouterr().err
