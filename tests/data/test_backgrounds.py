"""Photographs without faces, reduced, from a real HTTP server on this machine and from checkouts."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fkp.data import backgrounds
from fkp.errors import FkpError
from fkp.shipped import shipped
from fkp.vision.image import decode_image, encode_image, read_image
from tests.data.test_fetch import Server, serving

COMMITS = {"ada/rooms": "a" * 40, "cy/plants": "c" * 40}
#: Name in the set, repository, path there, size (width, height).
ROWS = [
    ("r-1.jpg", "ada/rooms", "images/in/one.jpg", (900, 300)),
    ("r-2.jpg", "ada/rooms", "top.png", (40, 60)),
    ("p-1.jpg", "cy/plants", "a b.jpg", (320, 800)),
]
HEADER = "name,repository,path,sha256,doubt"


def photograph(width: int, height: int) -> bytes:
    """A smooth picture, which JPEG changes little; small ones are PNG files."""
    ramp = np.linspace(0, 255, width)[None, :, None] * np.array([1.0, 0.5, 0.2]) + np.linspace(0, 60, height)[:, None, None]
    return encode_image(np.clip(ramp, 0, 255).astype(np.uint8), ".png" if width < 100 else ".jpg")


@pytest.fixture
def files() -> dict[str, dict[str, bytes]]:
    """The repositories; of each a file is not in the manifest."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    found = {name: {"unused.png": encode_image(noise, ".png")} for name in COMMITS}
    for _, repository, path, size in ROWS:
        found[repository][path] = photograph(*size)
    return found


@pytest.fixture
def manifest(tmp_path: Path, files: dict[str, dict[str, bytes]]) -> Path:
    lines = [f"# {commit}  {name}  CC0 1.0" for name, commit in COMMITS.items()] + [HEADER]
    for name, repository, path, _ in ROWS:
        lines.append(f"{name},{repository},{path},{hashlib.sha256(files[repository][path]).hexdigest()},0.31")
    (tmp_path / "manifest.csv.gz").write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    return tmp_path / "manifest.csv.gz"


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"top-1/{name}", content)
    return out.getvalue()


@pytest.fixture
def server(files: dict[str, dict[str, bytes]]) -> Iterator[Server]:
    with serving(b"no archive") as site:
        site.bodies = {f"/{name}/archive/{commit}.zip": zipped(files[name]) for name, commit in COMMITS.items()}
        yield site


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "sets" / "backgrounds"


@pytest.fixture
def checkouts(tmp_path: Path, files: dict[str, dict[str, bytes]]) -> Path:
    for name, content in files.items():
        for path, data in content.items():
            place = tmp_path / "checkouts" / name.partition("/")[2] / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
    return tmp_path / "checkouts"


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def get(server: Server, root: Path, manifest: Path, retries: int = 1) -> tuple[int, bool]:
    return backgrounds.fetch_photographs(root, manifest, None, address(server), retries, pause_s=0.01)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_fetch_reduces_the_photographs_into_a_plain_folder(
    server: Server, root: Path, manifest: Path, files: dict[str, dict[str, bytes]]
) -> None:
    assert get(server, root, manifest) == (3, True)
    assert os.listdir(root.parent) == ["backgrounds"]
    assert {*os.listdir(root)} == {"r-1.jpg", "r-2.jpg", "p-1.jpg", "ORIGIN.csv", "SHA256SUMS"}
    shapes = {name: read_image(root / name).shape for name, *_ in ROWS}
    assert shapes == {"r-1.jpg": (213, 640, 3), "r-2.jpg": (60, 40, 3), "p-1.jpg": (640, 256, 3)}
    for name, repository, path, _ in ROWS:
        data = (root / name).read_bytes()
        assert data.startswith(b"\xff\xd8\xff"), "JPEG, whatever it was"
        reduced = backgrounds.reduced(decode_image(files[repository][path]))
        assert np.abs(decode_image(data).astype(int) - reduced).mean() < 3
        assert data == encode_image(reduced, ".jpg", 90) != encode_image(reduced, ".jpg")
    assert (root / "ORIGIN.csv").read_bytes() == gzip.decompress(manifest.read_bytes()), "the licences travel with the photographs"


def test_what_is_whole_stays_and_what_is_damaged_is_made_again(server: Server, root: Path, manifest: Path) -> None:
    get(server, root, manifest)
    whole = tree(root)
    assert get(server, root, manifest) == (3, False) and len(server.asked) == 2
    for damage in (
        lambda: (root / "r-2.jpg").unlink(),
        lambda: (root / "p-1.jpg").write_bytes(whole["r-1.jpg"]),
        lambda: (root / "ORIGIN.csv").write_bytes(whole["ORIGIN.csv"].replace(b"0.31", b"0.32")),
        lambda: (root / "SHA256SUMS").write_text("nothing"),
    ):
        damage()
        assert get(server, root, manifest) == (3, True)
        assert tree(root) == whole


def test_the_next_command_goes_on_where_the_second_archive_broke(server: Server, root: Path, manifest: Path) -> None:
    first, second = (len(body) for body in server.bodies.values())
    assert first > 70_000 < second
    server.cuts_at = [first, 66_000]
    with pytest.raises(FkpError, match=r"connection broke after .* run the same command again"):
        get(server, root, manifest, retries=0)
    assert {*os.listdir(root.parent)} == {"backgrounds.rooms.zip.part", "backgrounds.plants.zip.part"}
    assert get(server, root, manifest, retries=0) == (3, True)
    assert server.asked == [None, None, "bytes=65536-"], "nothing came twice"
    assert os.listdir(root.parent) == ["backgrounds"]


def test_a_bad_archive_goes_and_the_others_stay(server: Server, root: Path, manifest: Path, files: dict[str, dict[str, bytes]]) -> None:
    plants = f"/cy/plants/archive/{COMMITS['cy/plants']}.zip"
    right = server.bodies[plants]
    for body, says in (
        (
            zipped({**files["cy/plants"], "a b.jpg": b"other"}),
            r"the download of cy/plants has not the photographs .* a b\.jpg; nothing was",
        ),
        (zipped({"README.md": b"moved"}), r"the archive has none of the wanted files in its top folder"),
        (b"<html>log in", r"the download is no zip archive"),
    ):
        server.bodies[plants] = body
        with pytest.raises(FkpError, match=says) as caught:
            get(server, root, manifest)
        assert "\n" not in str(caught.value)
        assert os.listdir(root.parent) == ["backgrounds.rooms.zip.part"]
    server.bodies[plants] = right
    assert get(server, root, manifest) == (3, True)
    assert len(server.asked) == 5 and os.listdir(root.parent) == ["backgrounds"]


def test_checkouts_give_the_same_and_what_is_missing_there_is_named(server: Server, root: Path, manifest: Path, checkouts: Path) -> None:
    get(server, root, manifest)
    other = root.with_name("other")
    assert backgrounds.fetch_photographs(other, manifest, checkouts) == (3, True)
    assert tree(other) == tree(root)
    (checkouts / "rooms" / "top.png").unlink()
    (other / "r-1.jpg").unlink()
    with pytest.raises(FkpError, match=r"rooms has not the photographs of the manifest, .* other ones: top\.png; nothing was installed"):
        backgrounds.fetch_photographs(other, manifest, checkouts)
    assert {*tree(other)} == {*tree(root)} - {"r-1.jpg"}, "as it was"


def test_something_else_at_the_target_is_refused(root: Path, manifest: Path, checkouts: Path) -> None:
    root.mkdir(parents=True)
    (root / "mine.jpg").write_text("mine")
    with pytest.raises(FkpError, match="holds something else: move it away or name another --root"):
        backgrounds.fetch_photographs(root, manifest, checkouts)
    assert os.listdir(root) == ["mine.jpg"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "name,repository",
            "file,repository",
            "is not a manifest of photographs: its header must be name,repository,path,sha256,doubt, and",
        ),
        ("r-1.jpg,", "../r-1.jpg,", "name '../r-1.jpg' is no plain name of a .jpg file"),
        ("r-1.jpg,", "r-1.png,", "name 'r-1.png' is no plain name of a .jpg file"),
        ("r-1.jpg,", "r-2.jpg,", "a name stands twice"),
        (",top.png,", ",../top.png,", "path '../top.png' leaves its repository"),
        (",top.png,", ",/top.png,", "path '/top.png' leaves its repository"),
        (",top.png,", ",,", "a cell is empty"),
        (",0.31\np-1", "0,0.31\np-1", "is no sha256"),
        (",cy/plants,", ",cy/stones,", "no line before the header has the commit and the licence of cy/stones"),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path: Path, manifest: Path, checkouts: Path, old: str, new: str, says: str) -> None:
    text = gzip.decompress(manifest.read_bytes()).decode()
    assert old in text
    path = tmp_path / "broken.csv"
    path.write_text(text.replace(old, new))
    with pytest.raises(FkpError) as caught:
        backgrounds.fetch_photographs(tmp_path / "set", path, checkouts)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_the_shipped_manifest_names_the_licence_of_each_photograph() -> None:
    found = backgrounds.read_manifest(shipped("data/backgrounds_manifest.csv.gz"))
    rows = found.photographs
    assert len(rows) > 1000 and {*rows["repository"]} == {repository.name for repository in found.repositories}
    assert {repository.license.partition(",")[0] for repository in found.repositories} == {"CC BY 2.0", "CC0 1.0", "MIT"}
    assert not rows["sha256"].duplicated().any() and rows["doubt"].between(0, 1).all()
    # Of Open Images a photograph's file name is its id there: whose it is can be looked up.
    rooms = rows[rows["repository"] == "MiguelARD/DoorDetect-Dataset"]
    assert rooms["path"].str.fullmatch(r"images/[0-9a-f]{16}\.jpg").all()


def test_the_command(
    run_process: Callable[..., subprocess.CompletedProcess[str]], server: Server, checkouts: Path, manifest: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    done = run_process("fkp.data", "fetch", "--set", "backgrounds", "--manifest", manifest, "--url", address(server), cwd=here)
    assert (done.returncode, done.stdout) == (0, f"data/backgrounds: 3 photographs without faces, as in {manifest}\n")
    done = run_process("fkp.data", "fetch", "--set", "backgrounds", "--source", checkouts, "--root", "other", cwd=here)
    assert done.returncode == 1 and "DoorDetect-Dataset has not the photographs of the manifest" in done.stderr, "the shipped manifest"
    assert not (here / "other").exists()
