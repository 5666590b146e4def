"""Faces that are cut out of mosaics, from a real HTTP server on this machine, a folder and an archive."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fkp.config import DataConfig
from fkp.data import label_set, mosaics
from fkp.data.download import BadArchive
from fkp.data.extra import load_extra
from fkp.errors import FkpError
from fkp.shipped import shipped
from fkp.vision.image import encode_image, read_image
from tests.data.test_fetch import Server, serving
from tests.faces import face

#: Name, mosaic, x, y, side; the last one reaches over the left and the upper border.
CUTS = [("a.png", "one two.png", 10, 20, 90), ("b.png", "three.png", 60, 5, 80), ("c.png", "one two.png", -15, -30, 100)]
TOP = "SFHQ-T2I-dataset-1"
SFHQ = mosaics.UPSTREAMS["sfhq"]


def pixels_of(name: str) -> np.ndarray:
    return np.random.default_rng(len(name)).integers(1, 256, (140, 150, 3), np.uint8)


def points_of(side: int) -> np.ndarray:
    return face(side / 2, side / 3, side / 3, side) + 0.3


@pytest.fixture
def files() -> dict[str, bytes]:
    return {name: encode_image(pixels_of(name), ".png") for name in ("one two.png", "three.png", "unused.png")}


@pytest.fixture
def manifest(tmp_path: Path, files: dict[str, bytes]) -> Path:
    lines = [f"# {hashlib.sha256(files[name]).hexdigest()}  {name}" for name in ("one two.png", "three.png")]
    lines.append("name,mosaic,x,y,side,spread_pct," + ",".join(f"x{point},y{point}" for point in range(68)))
    for name, mosaic, x, y, side in CUTS:
        lines.append(f"{name},{mosaic},{x},{y},{side},1.5," + ",".join(f"{value:.1f}" for value in points_of(side).ravel()))
    (tmp_path / "manifest.csv.gz").write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    return tmp_path / "manifest.csv.gz"


def archive_of(files: dict[str, bytes], path: Path, folder: str = "figures") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{TOP}/{folder}/{name}", content)
        archive.writestr(f"{TOP}/README.md", b"faces")
    return path


@pytest.fixture
def server(tmp_path: Path, files: dict[str, bytes]) -> Iterator[Server]:
    with serving(archive_of(files, tmp_path / "served.zip").read_bytes()) as site:
        yield site


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "sets" / "sfhq"


@pytest.fixture
def figures(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """A checkout of the repository."""
    (tmp_path / "checkout" / "figures").mkdir(parents=True)
    for name, content in files.items():
        (tmp_path / "checkout" / "figures" / name).write_bytes(content)
    return tmp_path / "checkout"


def get(server: Server, root: Path, manifest: Path) -> tuple[int, bool]:
    return mosaics.fetch_faces(root, manifest, SFHQ, None, server.url, retries=1, pause_s=0.01)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_fetch_cuts_the_squares_and_labels_them(server: Server, root: Path, manifest: Path) -> None:
    server.cuts_at = [70_000]
    assert get(server, root, manifest) == (3, True)
    assert server.asked == [None, "bytes=65536-"], "a broken download goes on"
    assert os.listdir(root.parent) == ["sfhq"]
    assert set(tree(root)) == {"set.json", "labels.jsonl", "SHA256SUMS", "images/a.png", "images/b.png", "images/c.png"}
    labels = label_set.read(root)
    for number, (name, mosaic, x, y, side) in enumerate(CUTS):
        image, whole = read_image(root / labels.images[number]), np.pad(pixels_of(mosaic), ((50, 50), (50, 50), (0, 0)))
        assert labels.images[number] == f"images/{name}"
        np.testing.assert_array_equal(image, whole[y + 50 : y + 50 + side, x + 50 : x + 50 + side])
        np.testing.assert_allclose(labels.points_px[number], points_of(side), atol=0.051)
    assert not image[:30].any() and not image[:, :15].any() and image[30:, 15:].all(), "black beyond the border"
    assert len(set(labels.groups)) == 3
    head = label_set.read_head(root)
    assert (head["license"], head["source"]) == ("MIT", "https://github.com/SelfishGene/SFHQ-T2I-dataset at a8064474a09c")
    (catalog,) = load_extra(DataConfig(extra=(str(root),)))
    assert len(catalog) == 3


def test_what_is_whole_stays_and_what_is_damaged_is_made_again(server: Server, root: Path, manifest: Path) -> None:
    get(server, root, manifest)
    whole = tree(root)
    assert get(server, root, manifest) == (3, False) and len(server.asked) == 1
    for damage in (
        lambda: (root / "images" / "b.png").unlink(),
        lambda: (root / "labels.jsonl").write_bytes(whole["labels.jsonl"] * 2),
        lambda: (root / "SHA256SUMS").write_text("nothing"),
    ):
        damage()
        assert get(server, root, manifest) == (3, True)
        assert tree(root) == whole


def test_another_manifest_makes_another_set(figures: Path, root: Path, manifest: Path) -> None:
    mosaics.fetch_faces(root, manifest, SFHQ, figures)
    plain = manifest.with_name("fewer.csv")
    plain.write_text("\n".join(gzip.decompress(manifest.read_bytes()).decode().splitlines()[:-1]) + "\n")
    assert mosaics.fetch_faces(root, plain, SFHQ, figures) == (2, True)
    assert len(label_set.read(root)) == 2


def test_a_checkout_its_figures_and_an_archive_give_the_same(figures: Path, root: Path, manifest: Path, files: dict[str, bytes]) -> None:
    archive = archive_of(files, figures / "copy.zip")
    trees = []
    for source in (figures, figures / "figures", archive):
        assert mosaics.fetch_faces(root.with_name(source.name), manifest, SFHQ, source) == (3, True)
        trees.append(tree(root.with_name(source.name)))
    assert trees[0] == trees[1] == trees[2] and archive.exists()


def test_another_mosaic_is_named_and_nothing_is_installed(
    server: Server, root: Path, manifest: Path, figures: Path, files: dict[str, bytes]
) -> None:
    server.body = archive_of({**files, "three.png": files["unused.png"]}, figures / "other.zip").read_bytes()
    with pytest.raises(BadArchive, match=r"the download has not the mosaics of the manifest, .* other ones: three\.png; nothing"):
        get(server, root, manifest)
    assert os.listdir(root.parent) == []
    (figures / "figures" / "one two.png").unlink()
    with pytest.raises(FkpError, match=r"checkout has not the mosaics .* one two\.png; nothing was installed"):
        mosaics.fetch_faces(root, manifest, SFHQ, figures)
    with pytest.raises(FkpError, match="there is no nowhere: --source is the folder of the mosaics, or a zip archive"):
        mosaics.fetch_faces(root, manifest, SFHQ, Path("nowhere"))
    assert os.listdir(root.parent) == []


@pytest.mark.parametrize("name", ["notes.txt", "set.json"])
def test_something_else_at_the_target_is_refused(figures: Path, root: Path, manifest: Path, name: str) -> None:
    root.mkdir(parents=True)
    (root / name).write_text('{"kind": "fkp set 1", "scheme": "ibug68"}')
    with pytest.raises(FkpError, match="holds something else: move it away or name another --root"):
        mosaics.fetch_faces(root, manifest, SFHQ, figures)
    assert os.listdir(root) == [name]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("name,mosaic", "file,mosaic", "is not a manifest of cut faces"),
        ("a.png,", "../a.png,", "'../a.png' is no plain file name"),
        ("b.png,", "a.png,", "a name stands twice"),
        (",three.png,", ",four.png,", "no line before the header has the sha256 of four.png"),
        (",60,5,80,", ",60,5.5,80,", "a place is not in whole pixels"),
        (",60,5,80,", ",60,5,0,", "a place is not in whole pixels"),
        (",60,5,80,", ",,5,80,", "a cell is not a finite number"),
        ("b.png,", ",", "a name is missing"),
        (f"{points_of(80)[30, 0]:.1f},{points_of(80)[30, 1]:.1f}", "9e4,9e4", "b.png: the points form no face"),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path: Path, manifest: Path, figures: Path, old: str, new: str, says: str) -> None:
    text = gzip.decompress(manifest.read_bytes()).decode()
    assert old in text
    path = tmp_path / "broken.csv"
    path.write_text(text.replace(old, new))
    with pytest.raises(FkpError) as caught:
        mosaics.fetch_faces(tmp_path / "set", path, SFHQ, figures)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_mosaics_that_lie_deeper_in_a_repository(root: Path, manifest: Path, files: dict[str, bytes], tmp_path: Path) -> None:
    congress = mosaics.UPSTREAMS["congress"]
    for name, content in files.items():
        (tmp_path / "checkout" / congress.folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "checkout" / congress.folder / name).write_bytes(content)
    trees = []
    for source in (archive_of(files, tmp_path / "congress.zip", congress.folder), tmp_path / "checkout"):
        assert mosaics.fetch_faces(root.with_name(source.name), manifest, congress, source) == (3, True)
        trees.append(tree(root.with_name(source.name)))
    assert trees[0] == trees[1] and b"https://github.com/voteview/member_photos at " in trees[0]["set.json"]
    with pytest.raises(FkpError, match="none of the wanted files"):
        mosaics.fetch_faces(root, manifest, congress, archive_of(files, tmp_path / "other.zip"))
    assert not root.exists()


@pytest.mark.parametrize("name", mosaics.UPSTREAMS)
def test_the_shipped_manifests(name: str) -> None:
    found = mosaics.read_manifest(shipped(f"data/{name}_manifest.csv.gz"))
    assert len(found.faces) > 1000 and {*found.faces["mosaic"]} == {*found.mosaics}
    inside = (found.points_px >= 0) & (found.points_px < found.faces["side"].to_numpy()[:, None, None])
    assert inside.mean() > 0.99


def test_the_command(
    run_process: Callable[..., subprocess.CompletedProcess[str]], server: Server, figures: Path, manifest: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    done = run_process("fkp.data", "fetch", "--set", "sfhq", "--manifest", manifest, "--url", server.url, cwd=here)
    told = f"data/sfhq: 3 faces, cut and labelled as in {manifest}"
    assert (done.returncode, done.stdout) == (0, f"{told}; train with them: --data.extra data/sfhq\n")
    done = run_process("fkp.data", "fetch", "--set", "sfhq", "--manifest", manifest, "--source", figures, cwd=here)
    assert done.stdout == f"{told}; it was whole already, nothing was downloaded; train with them: --data.extra data/sfhq\n"
    done = run_process("fkp.data", "fetch", "--set", "sfhq", "--source", figures, "--root", "other", cwd=here)
    assert done.returncode == 1 and "has not the mosaics of the manifest" in done.stderr, "the shipped manifest is of other mosaics"
