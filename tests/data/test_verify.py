"""The manifest, the comparison with it, and the figures of a set."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fkp.config import DataConfig
from fkp.data import verify
from fkp.data.labels import CSV_FILES, load_labels
from fkp.errors import FkpError
from fkp.vision.image import write_image
from tests.faces import face

REPO = Path(__file__).parents[2]
MANIFEST = REPO / "data" / "manifest.csv"
REAL = REPO.parent / "shared" / "data" / "P1_Facial_Keypoints" / "data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the YouTube-Faces set is not there: P1_Facial_Keypoints/data")

COLUMNS = "split,file,sha256,identity,video,frame,fold"
FRAMES = {"training": ["Ada_B_00.png", "Ada_B_11.png", "Cy_00.png"], "test": ["Ada_B_01.png", "Di_00.png"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A set of five real images 40 to 60 px wide and 50 px high; the eyes are 20 px apart, one point of Cy is outside."""
    folder = tmp_path / "set"
    for part, names in FRAMES.items():
        (folder / part).mkdir(parents=True)
        rows = ["," + ",".join(map(str, range(136)))]
        for number, name in enumerate(names):
            write_image(folder / part / name, np.full((50, 40 + 10 * number, 3), number, np.uint8))
            points = face(20, 12, 16)
            points[[36, 45]] = (10, 12), (30, 12)
            if name.startswith("Cy"):
                points[3] = -2, 50
            rows.append(",".join([name, *map(str, points.ravel())]))
        (folder / f"{part}_frames_keypoints.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def listed(root: Path) -> dict[str, str]:
    return {f"{part}/{name}": hashlib.sha256((root / part / name).read_bytes()).hexdigest() for part in FRAMES for name in FRAMES[part]}


def found(root: Path, listed: dict[str, str]) -> list[str]:
    return [str(fault) for fault in verify.check(root, listed)]


def test_whole_set_has_no_fault(root: Path, listed: dict[str, str]) -> None:
    assert found(root, listed) == []


def test_each_fault_is_named(root: Path, listed: dict[str, str]) -> None:
    content = bytearray((root / "training/Cy_00.png").read_bytes())
    content[-1] ^= 1
    (root / "training/Cy_00.png").write_bytes(content)
    (root / "test/Di_00.png").unlink()
    del listed["training/Ada_B_11.png"]
    assert found(root, listed) == ["training/Cy_00.png: differs", "test/Di_00.png: missing", "training/Ada_B_11.png: not in the manifest"]


def test_missing_label_file_and_missing_folder_are_named(root: Path, listed: dict[str, str], tmp_path: Path) -> None:
    (root / "test_frames_keypoints.csv").unlink()
    assert found(root, listed) == ["test_frames_keypoints.csv: missing"]
    assert len(found(tmp_path / "nowhere", listed)) == len(listed) + 2


def test_frame_that_is_a_folder(root: Path, listed: dict[str, str]) -> None:
    (root / "test/Di_00.png").unlink()
    (root / "test/Di_00.png").mkdir()
    with pytest.raises(FkpError, match=r"cannot read .*Di_00\.png: Is a directory"):
        verify.check(root, listed)


def test_manifest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f"{COLUMNS}\ntest,A_00.jpg,ab12,A,0,0,3\n")
    assert verify.read_manifest(path) == {"test/A_00.jpg": "ab12"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"file,sha256\na,b\n", "is not a manifest: its first line must be split,file,sha256"),
        (b"", "is not a manifest"),
        (f"{COLUMNS}\n".encode(), "lists no frame"),
        (b"\xff\xfe\xff", "cannot read manifest"),
        (None, r"is missing: run this in the project's folder, or name the manifest with --manifest"),
    ],
)
def test_broken_manifest_is_one_sentence(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "m.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FkpError, match=says):
        verify.read_manifest(path)


def test_shipped_manifest_pins_the_label_files_too(tmp_path: Path) -> None:
    listed = verify.read_manifest(MANIFEST)
    for part in CSV_FILES:
        (tmp_path / f"{part}_frames_keypoints.csv").write_text("other labels")
    labels = [name for name in found(tmp_path, listed) if "csv" in name]
    assert labels == [f"{part}_frames_keypoints.csv: differs" for part in CSV_FILES]


def test_figures(root: Path) -> None:
    stats = verify.describe(DataConfig(source="folder", root=str(root)))
    assert (stats.persons, stats.clips, stats.frames) == (3, 4, 5)
    assert stats.width_px == (40, 50, 60) and stats.height_px == (50, 50, 50)
    assert (stats.points_outside, stats.frames_with_outside, stats.negative_coordinates) == (1, 1, 1)
    assert stats.eye_distance_px == 20
    assert stats.shared == {"identity": (0, 0), "published": (1, 1)}
    assert all(sum(sizes) == 5 for sizes in stats.splits.values()) and stats.splits["published"][2] == 2


def test_figures_of_a_set_with_a_broken_frame_name_it(root: Path) -> None:
    (root / "training/Ada_B_11.png").write_bytes(b"no image")
    with pytest.raises(FkpError, match=r"Ada_B_11\.png is not an image"):
        verify.describe(DataConfig(source="folder", root=str(root)))


@needs_real
def test_real_frames_are_upstreams_or_named() -> None:
    """This copy is re-encoded but for the first 12 rows of each CSV: exactly the others differ, and nothing else."""
    faces = load_labels(DataConfig(source="ytfaces", root=str(REAL)))
    same = {f"{part}/{name}" for part in CSV_FILES for name in faces.table["file"][faces.table["part"] == part][:12]}
    listed = verify.read_manifest(MANIFEST)
    faults = verify.check(REAL, listed)
    assert len(same) == 24
    assert {fault.path for fault in faults} == set(listed) - same
    assert {fault.what for fault in faults} == {"differs"}
    assert all((REAL / path).read_bytes().startswith(b"\x89PNG") for path in same)
