"""`fkp data`: real runs of the command (its downloads are in test_fetch.py)."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fkp.data import __main__ as cli
from fkp.errors import FkpError
from fkp.vision.image import write_image
from tests.faces import face

REPO = Path(__file__).parents[2]
REAL = REPO.parent / "shared" / "data" / "P1_Facial_Keypoints" / "data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the YouTube-Faces set is not there: P1_Facial_Keypoints/data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with data/manifest.csv and a whole set of two frames at data/ytfaces."""
    root = tmp_path / "data" / "ytfaces"
    lines = ["split,file,sha256,identity,video,frame,fold"]
    for part, name in (("training", "Ada_B_00.png"), ("test", "Cy_01.png")):
        (root / part).mkdir(parents=True)
        write_image(root / part / name, np.full((50, 40, 3), 9, np.uint8))
        points = ",".join(f"{value:g}" for value in face(20, 14, 14).ravel())
        (root / f"{part}_frames_keypoints.csv").write_text("," + ",".join(map(str, range(136))) + f"\n{name},{points}\n")
        identity, digits = name.removesuffix(".png").rsplit("_", 1)
        sha256 = hashlib.sha256((root / part / name).read_bytes()).hexdigest()
        lines.append(f"{part},{name},{sha256},{identity},{digits[0]},{digits[1]},0")
    (tmp_path / "data" / "manifest.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def command(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "fkp.data", *args], cwd=folder, capture_output=True, text=True, timeout=60)


def test_verify_of_a_whole_set(folder: Path) -> None:
    done = command(folder, "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "data/ytfaces: all 2 labelled frames are as in data/manifest.csv\n"


def test_verify_names_each_file_on_its_own_line(folder: Path) -> None:
    (folder / "data/ytfaces/training/Ada_B_00.png").write_bytes(b"changed")
    (folder / "data/ytfaces/test/Cy_01.png").unlink()
    done = command(folder, "verify")
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["training/Ada_B_00.png: differs", "test/Cy_01.png: missing"]
    assert done.stderr.startswith("error: data/ytfaces is not the set of data/manifest.csv (2 frames; differs: 1, missing: 1)")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["verify", "--manifest", "none.csv"], "manifest none.csv is missing: run this in the project's folder"),
        (["verify", "--root", "nowhere"], "there is no set at nowhere: `fkp data fetch` brings it"),
        (["stats", "--root", "nowhere"], "training_frames_keypoints.csv is missing"),
        (["stats", "--data.rot", "x"], "unknown setting data.rot: did you mean data.root?"),
        (["stats", "--source", "folder"], "data.source=folder needs data.root"),
        (["synth", "--faces", "3"], "setting data.synthetic_faces: Input should be greater than or equal to 10"),
        (["fetch", "--source", "a", "--url", "http://b"], "--source and --url exclude each other"),
        (["fetch", "--source", "nowhere"], "nowhere holds no set"),
        (["fetch", "--root", "new/set", "--url", "http://127.0.0.1:9/a.zip", "--retries", "0"], "127.0.0.1:9 cannot be reached"),
        (["fetch", "--root", "file/set", "--url", "http://127.0.0.1:9/a.zip", "--retries", "0"], "cannot write"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], says: str) -> None:
    monkeypatch.chdir(folder)
    (folder / "file").write_text("no folder")
    with pytest.raises(FkpError) as caught:
        cli.main(args)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_error_is_status_1_and_no_traceback(folder: Path) -> None:
    done = command(folder, "fetch", "--root", "new/set", "--url", "http://127.0.0.1:9/a.zip", "--retries", "0")
    assert done.returncode == 1 and done.stdout == ""
    assert "error: cannot download http://127.0.0.1:9/a.zip" in done.stderr and "Traceback" not in done.stderr
    assert list((folder / "new").iterdir()) == []


@pytest.mark.parametrize("args", [[], ["bring"], ["verify", "--unknown"], ["stats", "--source", "own"], ["fetch", "--retries", "-1"]])
def test_wrong_usage_is_status_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(args)
    assert caught.value.code == 2 and "usage:" in capsys.readouterr().err


def test_stats_by_root_and_by_config_flags(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    cli.main(["stats", "--root", "data/ytfaces"])
    short = capsys.readouterr().out
    assert "2 persons, 2 clips, 2 frames" in short and "frame width  40 to 40 px, median 40" in short
    cli.main(["stats", "--data.source", "ytfaces", "--data.test_fold", "2"])
    assert "2 persons, 2 clips, 2 frames" in capsys.readouterr().out


def test_fetch_from_a_folder_counts_other_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    write_image(folder / "data/ytfaces/test/Cy_01.png", np.zeros((50, 40, 3), np.uint8))
    cli.main(["fetch", "--source", "data/ytfaces", "--root", "data/copy"])
    assert capsys.readouterr().out == "data/copy: 2 labelled frames copied from data/ytfaces, all decode; 1 differ from upstream's bytes\n"


def test_synth_makes_a_set_that_stats_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("fkp.data.synthetic.render")
    cli.main(["synth", "--root", str(tmp_path / "synthetic"), "--faces", "10", "--seed", "3"])
    cli.main(["stats", "--root", str(tmp_path / "synthetic")])
    assert " 10 frames" in capsys.readouterr().out


def test_nothing_heavy_is_imported_for_help() -> None:
    heavy = ("pandas", "cv2", "requests", "torch", "ray")
    code = f"import sys; from fkp.data import __main__; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@needs_real
def test_stats_prints_the_known_facts(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["stats", "--source", "ytfaces", "--root", str(REAL)])
    out = capsys.readouterr().out
    for fact in (
        "347 persons, 1154 clips, 4232 frames",
        "width  72 to 494 px",
        "height 87 to 478 px",
        "20 points of 6 frames lie outside the frame; 16 coordinates are negative",
        "outer eye corners 43.0 px",
        "split identity: train 2348, val 911, test 973; 0 persons and 0 clips of test are in train or val",
        "split published: train 2718, val 744, test 770; 347 persons and 770 clips of test are in train or val",
    ):
        assert fact in out
