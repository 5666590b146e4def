"""Many images as one table: its rows, in this process and on Ray, and going on after an end of any kind."""

from __future__ import annotations

import dataclasses
import functools
import json
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fkp.bundle import Bundle
from fkp.common.files import exclusive
from fkp.errors import FkpError
from fkp.predict import Predictor, rows, table
from fkp.predict.__main__ import main
from fkp.predict.inputs import list_images
from fkp.predict.measures import COLUMNS, measures
from fkp.predict.rows import SCHEMA, rows_of
from fkp.vision import image as images
from fkp.vision.detect import OWN


@pytest.fixture(scope="module")
def folder(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images, three parts: one without a face, one broken, one inside a folder."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "deep").mkdir()
    for place, source in enumerate(sorted((synthetic_root / "training").iterdir())[:38]):
        shutil.copyfile(source, root / ("deep" if not place else "") / f"{place:02d}.jpg")
    images.write_image(root / "wall.png", np.full((90, 120, 3), 127, np.uint8))
    (root / "20.broken.jpg").write_bytes(b"this is no image")
    return root


def command(bundle: Bundle, folder: Path, out: Path, *more: str) -> int:
    return main([str(folder), "--out", str(out), "--bundle", str(bundle.path), *more])


@pytest.fixture(scope="module")
def written(tiny_bundle: Bundle, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of the folder, made in one go in this process."""
    out = tmp_path_factory.mktemp("tables") / "faces.parquet"
    assert command(tiny_bundle, folder, out) == 1
    return out


@pytest.fixture
def begun(tiny_bundle: Bundle, folder: Path, written: Path, tmp_path: Path) -> Path:
    """The same table with its first part done; returns its place."""
    out = tmp_path / "faces.parquet"
    parts = tmp_path / "faces.parquet.parts"
    parts.mkdir()
    paths = list_images([str(folder)])
    table._begin(parts, out, table._job_of(tiny_bundle, paths, OWN, 0.0))
    pq.write_table(rows_of(Predictor(tiny_bundle), "/", paths[:16], 0), parts / "part-000000000.parquet")
    return out


# --- rows -------------------------------------------------------------------------------------------------------


def test_rows_are_what_the_predictor_finds(written: Path, tiny_bundle: Bundle, folder: Path) -> None:
    rows = pq.read_table(written)
    assert rows.schema.equals(SCHEMA)
    predictor = Predictor(tiny_bundle)
    seen: dict[int, list[dict]] = {}
    for row in rows.to_pylist():
        assert row["model"] == tiny_bundle.digest
        seen.setdefault(row["picture"], []).append(row)
    assert list(seen) == list(range(40))
    assert [own[0]["path"] for own in seen.values()] == [str(folder / name) for name in sorted(p.name for p in folder.glob("*.*"))] + [
        str(folder / "deep/00.jpg")
    ]
    counts = set()
    for own in seen.values():
        if own[0]["error"]:
            continue
        image = images.read_image(own[0]["path"])
        faces = predictor(image)
        counts.add(len(faces))
        assert [row["face"] for row in own] == (list(range(len(faces))) or [None])
        assert {(row["width"], row["height"]) for row in own} == {image.shape[1::-1]}
        for row, face in zip(own, faces, strict=False):
            np.testing.assert_allclose(row["points_px"], face.points_px, atol=0.02)
            np.testing.assert_allclose(row["expected_error_px"], face.expected_error_px, rtol=1e-3)
            np.testing.assert_array_equal(np.float32(row["box_xyxy"]), face.box_xyxy)
            assert row["score"] == pytest.approx(face.score)
            assert row["quality"] == pytest.approx(face.quality, rel=1e-3)
            assert {name: row[name] for name in COLUMNS} == pytest.approx(measures(face.points_px, face.scheme), abs=0.1)
    assert {0, 1} <= counts


def test_what_is_not_believed_is_counted(
    champion: Bundle, unbelieved: np.ndarray, face: tuple[np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for name, image in {"doubtful": unbelieved, "plain": face[0], "wall": np.full((90, 120, 3), 127, np.uint8)}.items():
        images.write_image(tmp_path / f"in/{name}.png", image)
    (tmp_path / "in/torn.png").write_bytes(b"this is no image")
    least = Predictor(champion).min_quality
    told = "left out (--min-quality 0 keeps them)"
    for flags, faces, said in (
        ((), [None, 0, None, None], f", 1 detections below quality {least:.2f} {told}"),
        (("--min-quality=0",), [0, 0, None, None], ""),
    ):
        out = tmp_path / f"{len(said)}.parquet"
        for state in ("is written", "was finished before"):
            assert command(champion, tmp_path / "in", out, *flags) == 1
            printed = capsys.readouterr().out
            assert state in printed
            assert printed.endswith(f"1 that could not be read{said}\n")
        rows = pq.read_table(out).to_pylist()
        assert [row["face"] for row in rows] == faces
        assert [row["left_out"] for row in rows] == [bool(said), 0, None, 0]
        assert all((row["quality"] is None) == (row["face"] is None) for row in rows)
    assert rows[0]["quality"] < least < rows[1]["quality"]


def test_what_cannot_be_read_is_a_row(written: Path, folder: Path) -> None:
    (row,) = [row for row in pq.read_table(written).to_pylist() if row["error"]]
    assert row["path"] == str(folder / "20.broken.jpg")
    assert row["error"] == f"{row['path']} is not an image that can be decoded: replace it with a whole JPEG, PNG or WebP file"
    assert row["face"] is row["points_px"] is row["width"] is None


def test_relative_and_missing_paths(tiny_bundle: Bundle, folder: Path) -> None:
    rows = rows_of(Predictor(tiny_bundle), str(folder), ["absent.jpg", "wall.png"], 7).to_pylist()
    assert [(row["picture"], row["path"]) for row in rows] == [(7, "absent.jpg"), (8, "wall.png")]
    assert rows[0]["error"] == f"cannot read image {folder}/absent.jpg: No such file or directory"
    assert (rows[1]["error"], rows[1]["face"], rows[1]["width"], rows[1]["height"]) == (None, None, 120, 90)


def test_all_is_told(tiny_bundle: Bundle, folder: Path, written: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Asked again for a finished table, the command says the same and does nothing."""
    before = written.stat()
    assert command(tiny_bundle, folder, written) == 1
    said = capfd.readouterr()
    faces = pq.read_table(written)["face"].drop_null()
    assert f"{written} was finished before: {len(faces)} faces in {faces.to_pylist().count(0)} images" in said.out
    assert "1 that could not be read" in said.out
    assert said.err == f"error: 1 images could not be read: column error of {written} says why\n"
    assert written.stat().st_mtime_ns == before.st_mtime_ns
    assert list(written.parent.iterdir()) == [written]


# --- going on ---------------------------------------------------------------------------------------------------


def test_goes_on_after_ctrl_c(tiny_bundle: Bundle, folder: Path, written: Path, tmp_path: Path) -> None:
    out = tmp_path / "faces.parquet"
    arguments = [sys.executable, "-m", "fkp.predict", str(folder), "--out", str(out), "--bundle", str(tiny_bundle.path)]
    # A shell that starts things in the background has them ignore Ctrl-C, and its children inherit that.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as process:
        while not list(tmp_path.glob("*.parts/part-*")):
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "of 40 images are kept: the same command resumes" in said
    assert not out.exists()
    assert command(tiny_bundle, folder, out) == 1
    assert pq.read_table(out).equals(pq.read_table(written))


def test_finished_parts_are_not_done_again(
    begun: Path, tiny_bundle: Bundle, folder: Path, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    original = rows.read_bytes
    monkeypatch.setattr(rows, "read_bytes", lambda path: asked.append(str(path)) or original(path))
    assert command(tiny_bundle, folder, begun) == 1
    assert len(asked) == 24
    assert pq.read_table(begun).equals(pq.read_table(written))
    assert list(begun.parent.iterdir()) == [begun]


def test_another_model_is_refused(begun: Path, tiny_bundle: Bundle, champion: Bundle, folder: Path) -> None:
    with pytest.raises(FkpError, match=rf"begun with another model \({tiny_bundle.digest[:12]}, this is {champion.digest[:12]}\)"):
        command(champion, folder, begun)
    with pytest.raises(FkpError, match=r"begun with another detector \(fkp, this is dlib\)"):
        command(tiny_bundle, folder, begun, "--detector=dlib")
    with pytest.raises(FkpError, match=r"begun with another least quality \(0\.0, this is 0\.4\)"):
        command(tiny_bundle, folder, begun, "--min-quality=0.4")


def test_other_images_are_refused(begun: Path, tiny_bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FkpError, match=r"begun with other images \(40, these are 1\): choose another name for --out, or remove"):
        command(tiny_bundle, folder / "deep", begun)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with pytest.raises(FkpError, match="begun with other images"):
        command(tiny_bundle, copy, begun)


def test_a_changed_image_is_refused(written: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    image = tmp_path / "in/wall.png"
    image.parent.mkdir()
    images.write_image(image, np.full((90, 120, 3), 127, np.uint8))
    out = tmp_path / "faces.parquet"
    assert command(tiny_bundle, image.parent, out) == 0
    assert command(tiny_bundle, image.parent, out) == 0
    whole, note = out.read_bytes(), pq.read_schema(out).metadata[b"fkp.job"]
    older = {key: value for key, value in json.loads(note).items() if key != "columns"}
    pq.write_table(pq.read_table(out).replace_schema_metadata({b"fkp.job": json.dumps(older)}), out)
    with pytest.raises(FkpError, match="exists, of the columns of another version of fkp: choose another name"):
        command(tiny_bundle, image.parent, out)
    out.write_bytes(whole)
    images.write_image(image, np.full((91, 120, 3), 127, np.uint8))
    with pytest.raises(FkpError, match=r"exists, of other images \(as many, but names, sizes or times differ\): choose another name"):
        command(tiny_bundle, image.parent, out)


def test_other_files_are_left_alone(tiny_bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "faces.parquet"
    out.write_text("mine")
    with pytest.raises(FkpError, match=r"faces.parquet exists and is no table"):
        command(tiny_bundle, folder, out)
    pq.write_table(pa.table({"a": [1]}), out)
    with pytest.raises(FkpError, match=r"faces.parquet exists, of another model"):
        command(tiny_bundle, folder, out)
    out.unlink()
    (tmp_path / "faces.parquet.parts").mkdir()
    (tmp_path / "faces.parquet.parts/mine").touch()
    with pytest.raises(FkpError, match=r"faces.parquet.parts holds something else"):
        command(tiny_bundle, folder, out)


def test_two_at_once(tiny_bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "faces.parquet"
    with exclusive(tmp_path / "faces.parquet.parts", "it"), pytest.raises(FkpError, match="is being written by another process"):
        command(tiny_bundle, folder, out)


def test_a_place_that_cannot_be_written(tiny_bundle: Bundle, folder: Path) -> None:
    with pytest.raises(FkpError, match=r"cannot make the folder of .*Not a directory: choose another place"):
        command(tiny_bundle, folder, folder / "wall.png" / "faces.parquet")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "out", "--ray"], "--ray writes a table"),
        (["--out", "a.parquet", "--actors", "2"], "--actors is for --ray"),
        (["--out", "a.parquet", "--box", "1,2,3,4"], "--box is for images that are drawn"),
        (["b.mp4", "--out", "a.mp4"], "name one video"),
    ],
)
def test_flags_that_do_not_go_together(arguments: list[str], said: str) -> None:
    with pytest.raises(FkpError, match=said):
        main(["a", *arguments])


# --- Ray --------------------------------------------------------------------------------------------------------


def test_ray_writes_the_same_rows(
    ray_cluster: None, begun: Path, tiny_bundle: Bundle, folder: Path, written: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And continues with what this process has begun."""
    assert command(tiny_bundle, folder, begun, "--ray", "--actors", "2") == 1
    assert pq.read_table(begun).equals(pq.read_table(written))
    assert "Traceback" not in capfd.readouterr().err


def test_ray_tells_what_a_machine_lacks(ray_cluster: None, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fkp.predict import on_ray
    from fkp.predict.rows import Chunk

    part = Chunk(0, ["a.jpg"])
    with pytest.raises(FkpError, match=f"{platform.node()} has another model at .*: copy the bundle there again"):
        list(on_ray.tables(dataclasses.replace(tiny_bundle, digest="0" * 64), [part], 1))
    with pytest.raises(FkpError, match="999 actors need a core each and the cluster has 4: lower --actors"):
        list(on_ray.tables(tiny_bundle, [part], 999))
    monkeypatch.setattr(platform, "node", lambda: "elsewhere")  # So that the one machine there is counts as another.
    with pytest.raises(FkpError, match=f"does not see {tmp_path}/SHA256SUMS: the machines of a cluster read images and model themselves"):
        list(on_ray.tables(dataclasses.replace(tiny_bundle, path=tmp_path), [part], 1))
