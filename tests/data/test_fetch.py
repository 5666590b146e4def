"""Fetch against a real HTTP server on this machine that serves a small archive in upstream's layout, and misbehaves."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import resource
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from fkp.data import download, fetch, splits, unpack, verify
from fkp.errors import FkpError
from fkp.vision.image import read_image
from tests.faces import face

TOP = "P1_Facial_Keypoints-6e55adc6bd032d9fb1ad41a4c3e68aae847cdf81"
NAMES = {"training": ["Ada_B_00.jpg", "Ada_B_01.jpg", "Cy_02.jpg"], "test": ["Ada_B_10.jpg"]}
HEADER = "," + ",".join(str(column) for column in range(136))


def image(seed: int, suffix: str) -> bytes:
    """60 x 80 noise: it does not compress, so that the archive has pieces enough to cut."""
    pixels = np.random.default_rng(seed).integers(0, 256, (80, 60, 4 if suffix == ".png" else 3), np.uint8)
    return cv2.imencode(suffix, pixels)[1].tobytes()


def set_files() -> dict[str, bytes]:
    """A whole small set; the second frame is an RGBA PNG under a .jpg name, as all of upstream's are."""
    files: dict[str, bytes] = {}
    for part, names in NAMES.items():
        rows = [HEADER]
        for name in names:
            files[f"{part}/{name}"] = image(len(files), ".png" if name == "Ada_B_01.jpg" else ".jpg")
            rows.append(",".join([name, *(f"{value:g}" for value in face(30, 30, 20).ravel())]))
        files[f"{part}_frames_keypoints.csv"] = ("\n".join(rows) + "\n").encode()
    files["test/unlabelled.jpg"] = image(99, ".jpg")
    return files


def write_manifest(path: Path, files: dict[str, bytes]) -> Path:
    """A manifest of the labelled frames."""
    with path.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["split", "file", "sha256", "identity", "video", "frame", "fold"])
        for part, names in NAMES.items():
            for name in names:
                identity, digits = name.removesuffix(".jpg").rsplit("_", 1)
                sha256 = hashlib.sha256(files[f"{part}/{name}"]).hexdigest()
                rows.writerow([part, name, sha256, identity, digits[0], digits[1:], splits.fold_of(identity)])
    return path


def zipped(files: dict[str, bytes], more: dict[str | zipfile.ZipInfo, bytes] | None = None) -> bytes:
    """An archive like GitHub's: one top folder, data/ and other folders in it, a comment at the end."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{TOP}/", b"")
        archive.writestr(f"{TOP}/README.md", b"readme")
        archive.writestr(f"{TOP}/images/obamas.jpg", b"other")
        for name, content in files.items():
            archive.writestr(f"{TOP}/data/{name}", content)
        for entry, content in (more or {}).items():
            archive.writestr(entry, content)
        archive.comment = TOP.rsplit("-", 1)[1].encode()
    return out.getvalue()


class Server(ThreadingHTTPServer):
    """Serves `body`, or what `bodies` has for a path; the switches are its faults. `asked` holds the Range header of each request."""

    daemon_threads = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = body
        self.bodies: dict[str, bytes] = {}
        self.cuts_at: list[int] = []  # one for each of the first requests: break the connection at this byte of the body
        self.ranges = True
        self.says_length = True
        self.off_by = 0  # answer a Range with a piece that starts so many bytes later
        self.statuses: list[int] = []  # answers to the first requests
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        """Address of the archive."""
        return f"http://127.0.0.1:{self.server_port}/archive/{TOP}.zip"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_GET(self) -> None:
        """Answer as the server's switches say."""
        site = self.server
        wanted = self.headers.get("Range")
        site.asked.append(wanted)
        if site.statuses:
            self.send_error(site.statuses.pop(0))
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and site.ranges else 0  # type: ignore[index]
        start += site.off_by if start else 0
        body = site.bodies.get(self.path, site.body)
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if site.says_length:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = site.cuts_at.pop(0) if site.cuts_at else len(body)
        self.wfile.write(body[start:end])

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def files() -> dict[str, bytes]:
    return set_files()


@contextmanager
def serving(archive: bytes) -> Iterator[Server]:
    with Server(archive) as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.shutdown()
        thread.join()


@pytest.fixture
def server(files: dict[str, bytes]) -> Iterator[Server]:
    with serving(zipped(files)) as site:
        yield site


@pytest.fixture
def manifest(tmp_path: Path, files: dict[str, bytes]) -> Path:
    return write_manifest(tmp_path / "manifest.csv", files)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "sets" / "ytfaces"


def part_of(root: Path) -> Path:
    return root.with_name("ytfaces.zip.part")


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def get(server: Server, root: Path, manifest: Path, retries: int = 3) -> bool:
    return fetch.fetch(root, manifest, server.url, retries, pause_s=0.01)


# --- a download that works, at last -----------------------------------------------------------------------------


def test_fetch_unpacks_data_only_and_leaves_nothing_else(server: Server, root: Path, manifest: Path, files: dict[str, bytes]) -> None:
    assert get(server, root, manifest)
    assert tree(root) == files
    assert os.listdir(root.parent) == ["ytfaces"]
    assert server.asked == [None]


def test_an_rgba_png_under_a_jpg_name_is_read(server: Server, root: Path, manifest: Path) -> None:
    get(server, root, manifest)
    path = root / "training" / "Ada_B_01.jpg"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert read_image(path).shape == (80, 60, 3)


def test_second_fetch_downloads_nothing(server: Server, root: Path, manifest: Path) -> None:
    get(server, root, manifest)
    assert not get(server, root, manifest)
    assert len(server.asked) == 1


def test_cut_download_resumes_at_the_byte_it_stopped(server: Server, root: Path, manifest: Path, files: dict[str, bytes]) -> None:
    server.body = zipped({**files, "test/padding.jpg": bytes(300_000)})
    server.cuts_at = [200_000]
    assert get(server, root, manifest)
    # Whole pieces of 64 KiB are kept of what came before the cut.
    assert server.asked == [None, f"bytes={3 * 65536}-"]
    assert tree(root) == {**files, "test/padding.jpg": bytes(300_000)}


def test_next_command_resumes_what_the_last_one_left(server: Server, root: Path, manifest: Path, files: dict[str, bytes]) -> None:
    server.body = zipped({**files, "test/padding.jpg": bytes(300_000)})
    server.cuts_at = [200_000]
    with pytest.raises(FkpError, match=r"connection broke after .*run the same command again"):
        get(server, root, manifest, retries=0)
    have = part_of(root).stat().st_size
    assert os.listdir(root.parent) == ["ytfaces.zip.part"] and have > 0
    assert get(server, root, manifest, retries=0)
    assert server.asked == [None, f"bytes={have}-"]


@pytest.mark.parametrize("says_length", [True, False])
def test_server_that_ignores_range_starts_again(
    server: Server, root: Path, manifest: Path, files: dict[str, bytes], says_length: bool
) -> None:
    server.body = zipped({**files, "test/padding.jpg": bytes(300_000)})
    server.ranges, server.says_length, server.cuts_at = False, says_length, [200_000]
    assert get(server, root, manifest)
    # Without a length the last, broken piece is kept too, as the end cannot be told from a cut.
    assert len(server.asked) == 2 and server.asked[1] is not None
    assert "test/padding.jpg" in tree(root)


def test_part_that_the_server_cannot_continue_is_dropped(server: Server, root: Path, manifest: Path) -> None:
    root.parent.mkdir()
    part_of(root).write_bytes(b"PK\x03\x04" + bytes(len(server.body)))  # longer than the archive: 416
    assert get(server, root, manifest)
    assert server.asked[-1] is None


def test_piece_from_another_place_is_not_appended(server: Server, root: Path, manifest: Path, files: dict[str, bytes]) -> None:
    root.parent.mkdir()
    part_of(root).write_bytes(server.body[:1000])
    server.off_by = 10
    assert get(server, root, manifest)
    assert server.asked == ["bytes=1000-", None] and tree(root) == files


def test_whole_part_is_not_asked_for_again(server: Server, root: Path, manifest: Path) -> None:
    root.parent.mkdir()
    part_of(root).write_bytes(server.body)
    assert get(server, root, manifest)
    assert server.asked == []


def test_busy_server_is_asked_again(server: Server, root: Path, manifest: Path) -> None:
    server.statuses = [503, 429]
    assert get(server, root, manifest)
    assert len(server.asked) == 3


# --- downloads that fail ----------------------------------------------------------------------------------------


def test_wrong_byte_is_named_and_nothing_is_installed(server: Server, root: Path, manifest: Path, files: dict[str, bytes]) -> None:
    right = server.body
    at = right.index(files["training/Cy_02.jpg"]) + 100
    server.body = right[:at] + bytes([right[at] ^ 1]) + right[at + 1 :]
    with pytest.raises(fetch.BadArchive, match=r"training/Cy_02\.jpg; nothing was installed"):
        get(server, root, manifest)
    assert os.listdir(root.parent) == []
    server.body = right
    assert get(server, root, manifest)
    assert server.asked == [None, None]


def test_other_frame_in_a_sound_archive_is_named(server: Server, root: Path, manifest: Path, files: dict[str, bytes]) -> None:
    server.body = zipped({**files, "test/Ada_B_10.jpg": image(7, ".jpg")})
    with pytest.raises(fetch.BadArchive, match=r"other ones: test/Ada_B_10\.jpg;"):
        get(server, root, manifest)
    assert os.listdir(root.parent) == []


def test_missing_frame_and_labels_of_other_frames_are_named(server: Server, root: Path, manifest: Path, files: dict[str, bytes]) -> None:
    labels = files["training_frames_keypoints.csv"].replace(b"Cy_02.jpg", b"Di_02.jpg")
    server.body = zipped({**{name: files[name] for name in files if "Cy_" not in name}, "training_frames_keypoints.csv": labels})
    with pytest.raises(fetch.BadArchive, match=r"training/Cy_02\.jpg, training/Di_02\.jpg;"):
        get(server, root, manifest)


def test_labels_that_cannot_be_read_are_not_installed(server: Server, root: Path, manifest: Path, files: dict[str, bytes]) -> None:
    server.body = zipped({**files, "test_frames_keypoints.csv": files["test_frames_keypoints.csv"].replace(b",50\n", b",nan\n")})
    with pytest.raises(fetch.BadArchive, match="not a finite number"):
        get(server, root, manifest)
    assert os.listdir(root.parent) == []


def test_failed_fetch_leaves_the_old_set_as_it_was(
    server: Server, root: Path, manifest: Path, files: dict[str, bytes], tmp_path: Path
) -> None:
    get(server, root, manifest)
    newer = {**files, "training/Cy_02.jpg": image(8, ".jpg")}
    new_manifest = write_manifest(tmp_path / "new.csv", newer)
    with pytest.raises(fetch.BadArchive, match=r"training/Cy_02\.jpg"):
        get(server, root, new_manifest)  # the server still has the old one
    assert tree(root) == files
    server.body = zipped(newer)
    assert get(server, root, new_manifest)
    assert tree(root) == newer and os.listdir(root.parent) == ["ytfaces"]


def test_damaged_set_is_replaced(server: Server, root: Path, manifest: Path, files: dict[str, bytes]) -> None:
    get(server, root, manifest)
    (root / "training" / "Cy_02.jpg").unlink()
    (root / "test" / "Ada_B_10.jpg").write_bytes(b"")
    assert get(server, root, manifest)
    assert tree(root) == files


def test_set_is_put_back_after_a_kill_between_the_two_renames(server: Server, root: Path, manifest: Path, files: dict[str, bytes]) -> None:
    get(server, root, manifest)
    root.rename(root.parent / ".ytfaces.replaced")
    (root.parent / ".ytfaces.fetching").mkdir()
    assert not get(server, root, manifest)
    assert tree(root) == files and os.listdir(root.parent) == ["ytfaces"]


@pytest.mark.parametrize("content", ["notes.txt", "training_frames_keypoints.csv"])
def test_folder_with_something_else_is_refused(server: Server, root: Path, manifest: Path, content: str) -> None:
    root.mkdir(parents=True)
    (root / content).write_text("mine")
    with pytest.raises(FkpError, match="move it away or name another --root"):
        get(server, root, manifest)
    assert (root / content).read_text() == "mine" and server.asked == []


def test_another_set_is_refused(server: Server, root: Path, manifest: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.replace(b"Cy_02", b"Me_00"))
    before = tree(root)
    with pytest.raises(FkpError, match=r"holds another set \(it labels training/Me_00\.jpg\)"):
        get(server, root, manifest)
    assert tree(root) == before


def test_404_is_one_sentence_and_not_asked_again(server: Server, root: Path, manifest: Path) -> None:
    server.statuses = [404]
    with pytest.raises(FkpError, match=r"answered 404 Not Found: check --url, or use a copy of the set with --source"):
        get(server, root, manifest)
    assert len(server.asked) == 1


def test_page_instead_of_a_zip(server: Server, root: Path, manifest: Path) -> None:
    server.body = b"<!DOCTYPE html><html>please log in</html>"
    with pytest.raises(fetch.BadArchive, match=r"no zip archive \(it starts with b'<!DOCTYPE html>.'\): check --url"):
        get(server, root, manifest)
    assert os.listdir(root.parent) == []


def test_broken_zip_directory(server: Server, root: Path, manifest: Path) -> None:
    at = server.body.index(b"PK\x01\x02")
    server.body = server.body[:at] + b"XX" + server.body[at + 2 :]
    with pytest.raises(fetch.BadArchive, match="no readable zip archive"):
        get(server, root, manifest)
    assert os.listdir(root.parent) == []


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a.zip", "archive.zip", "http://"])
def test_no_address(root: Path, manifest: Path, url: str) -> None:
    with pytest.raises(FkpError, match="must start with https:// or http://"):
        fetch.fetch(root, manifest, url, retries=0)


def test_too_long_a_download_is_stopped(server: Server, root: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    with pytest.raises(fetch.BadArchive, match="longer than"):
        get(server, root, manifest)
    assert os.listdir(root.parent) == []


def test_two_fetches_at_once(server: Server, root: Path, manifest: Path) -> None:
    with fetch.workplace(root), pytest.raises(FkpError, match="another fetch is writing"):
        get(server, root, manifest)


# --- archives that would do harm --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [f"{TOP}/data/../../evil.txt", "../evil.txt", "/evil.txt", f"{TOP}/data/..\\evil.txt", "C:/evil.txt", f"{TOP}/images/../../../evil"],
)
def test_entry_that_leaves_the_folder(
    server: Server, root: Path, manifest: Path, files: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    server.body = zipped(files, {name: b"evil"})
    with pytest.raises(fetch.BadArchive, match="would leave its folder"):
        get(server, root, manifest)
    assert not list(tmp_path.rglob("*evil*")) and os.listdir(root.parent) == []


def test_symbolic_link_in_the_archive(server: Server, root: Path, manifest: Path, files: dict[str, bytes]) -> None:
    link = zipfile.ZipInfo(f"{TOP}/data/training/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    server.body = zipped(files, {link: b"/etc/passwd"})
    with pytest.raises(fetch.BadArchive, match="is a link or encrypted"):
        get(server, root, manifest)
    assert os.listdir(root.parent) == []


def test_one_name_as_file_and_folder(tmp_path: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(files, {f"{TOP}/data/test": b"a file"}))
    with pytest.raises(fetch.BadArchive, match="as a file and as a folder"):
        unpack.unpack(tmp_path / "a.zip", tmp_path / "new")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice(tmp_path: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(files, {f"{TOP}/data/test/Ada_B_10.jpg": b"other"}))
    with pytest.raises(fetch.BadArchive, match="twice"):
        unpack.unpack(tmp_path / "a.zip", tmp_path / "new")


def test_archive_without_data(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({}))
    with pytest.raises(fetch.BadArchive, match="no folder data/"):
        unpack.unpack(tmp_path / "a.zip", tmp_path / "new")


def test_zip_bomb(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{TOP}/data/training/a.jpg", bytes(3_000_000))
    (tmp_path / "new").mkdir()
    with pytest.raises(fetch.BadArchive, match="would unpack to"):
        unpack.unpack(tmp_path / "a.zip", tmp_path / "new", max_bytes=2_000_000)
    assert not os.listdir(tmp_path / "new")


def test_entry_larger_than_declared_never_fills_the_disk(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{TOP}/data/a.jpg", bytes(3_000_000))
    lying = (tmp_path / "a.zip").read_bytes().replace((3_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    (tmp_path / "a.zip").write_bytes(lying)
    (tmp_path / "new").mkdir()
    assert unpack.unpack(tmp_path / "a.zip", tmp_path / "new", max_bytes=2_000_000) == ["a.jpg"]
    assert not os.listdir(tmp_path / "new")


# --- the command ------------------------------------------------------------------------------------------------


def command(*args: str, file_limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run `fkp data fetch` for real. `file_limit`: longest file in bytes, the kernel's refusal like a full disk's."""

    def limit() -> None:
        if file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    repo = Path(__file__).parents[2]
    # The limit would also be that of what coverage writes.
    environment = {name: value for name, value in os.environ.items() if file_limit is None or not name.startswith("COVERAGE_")}
    return subprocess.run(
        [sys.executable, "-m", "fkp.data", "fetch", *args],
        cwd=repo,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=limit,
    )


def test_command_fetches(server: Server, root: Path, manifest: Path, files: dict[str, bytes]) -> None:
    done = command("--root", str(root), "--url", server.url, "--manifest", str(manifest))
    assert done.returncode == 0, done.stderr
    assert "every labelled frame is as in" in done.stdout
    assert tree(root) == files


def test_full_disk_is_one_sentence_and_the_old_set_stays(server: Server, root: Path, manifest: Path, files: dict[str, bytes]) -> None:
    get(server, root, manifest)
    (root / "test" / "Ada_B_10.jpg").unlink()
    before = tree(root)
    done = command("--root", str(root), "--url", server.url, "--manifest", str(manifest), file_limit=20_000)
    assert done.returncode == 1
    assert "the disk is full: free some space and run the same command again" in done.stderr and "Traceback" not in done.stderr
    assert tree(root) == before
    assert get(server, root, manifest)
    assert tree(root) == files


def test_too_little_room_to_unpack_is_said_first(tmp_path: Path) -> None:
    with pytest.raises(FkpError, match=r"MB free and the set needs .* MB: free some space"):
        unpack._check_free(tmp_path, 1 << 60)


def test_unreachable_host_is_one_sentence(server: Server, root: Path, manifest: Path) -> None:
    server.server_close()  # its port now refuses
    with pytest.raises(FkpError, match=r"127\.0\.0\.1:\d+ cannot be reached \(2 tries\): check network and proxy") as caught:
        get(server, root, manifest, retries=1)
    assert "\n" not in str(caught.value)
    assert os.listdir(root.parent) == []


# --- a set that is on disk already ------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path, files: dict[str, bytes]) -> Path:
    folder = tmp_path / "copy" / "data"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("above", [False, True])
def test_source_is_copied_without_unlabelled_frames(source: Path, root: Path, manifest: Path, files: dict[str, bytes], above: bool) -> None:
    (source / "training" / "Cy_02.jpg").write_bytes(image(5, ".jpg"))
    assert fetch.adopt(source.parent if above else source, root, manifest) == (4, 1)
    assert set(tree(root)) == set(files) - {"test/unlabelled.jpg"}
    assert not os.path.samefile(source / "training" / "Cy_02.jpg", root / "training" / "Cy_02.jpg")
    assert [str(fault) for fault in verify.check(root, verify.read_manifest(manifest))] == ["training/Cy_02.jpg: differs"]
    assert fetch.adopt(source, root, manifest) == (4, 1)  # twice


def test_source_with_bad_frames_names_each_and_installs_nothing(source: Path, root: Path, manifest: Path) -> None:
    (source / "training" / "Cy_02.jpg").write_bytes(b"no image")
    (source / "test" / "Ada_B_10.jpg").unlink()
    with pytest.raises(FkpError, match=r"2 of 4 labelled frames .*Cy_02\.jpg is not an image.*Ada_B_10\.jpg: No such file"):
        fetch.adopt(source, root, manifest)
    assert os.listdir(root.parent) == []


def test_source_without_a_set(tmp_path: Path, root: Path, manifest: Path) -> None:
    with pytest.raises(FkpError, match=r"holds no set: --source is the folder with training_frames_keypoints\.csv"):
        fetch.adopt(tmp_path, root, manifest)


def test_source_inside_the_target(source: Path, manifest: Path) -> None:
    for target in (source, source.parent):
        with pytest.raises(FkpError, match="lies in the target"):
            fetch.adopt(source, target, manifest)
    assert (source / "training" / "Cy_02.jpg").exists()
