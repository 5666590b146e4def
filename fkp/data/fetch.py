"""Bring the YouTube-Faces keypoint set to `data/ytfaces`: download, unpack, check, install; or adopt a copy on disk.

Everything unfinished lies beside the target: `<root>.zip.part` is the download, which a later fetch continues, and
the hidden folder `.<root>.fetching` the set that is not yet checked. The target itself changes in one step, after the
check, so a set that was whole stays whole whatever goes wrong.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from fkp.common.files import install_dir, locked, put_back, remove
from fkp.config import DataConfig
from fkp.data import verify
from fkp.data.download import BadArchive, clear_disk_errors, download
from fkp.data.labels import CSV_FILES, Catalog, check_label, load_labels
from fkp.data.unpack import unpack
from fkp.errors import FkpError
from fkp.vision.image import decode_image, read_bytes

UPSTREAM_URL = "https://github.com/udacity/P1_Facial_Keypoints/archive/6e55adc6bd032d9fb1ad41a4c3e68aae847cdf81.zip"

#: Tries after the first one, and the pause before the first of them; each further pause is twice as long.
RETRIES = 4
PAUSE_S = 2.0


def fetch(root: Path, manifest: Path, url: str = UPSTREAM_URL, retries: int = RETRIES, pause_s: float = PAUSE_S) -> bool:
    """Download the set, check it against the manifest and install it at `root`.

    Args:
        root: Folder of the set. An older or damaged copy there is replaced, any other content is refused.
        manifest: See `fkp.data.verify.read_manifest`.
        url: Zip archive with one top folder that has the set in its `data/`.
        retries: Tries after the first one when the transfer breaks.
        pause_s: Seconds before the first retry; doubles each time.

    Returns:
        False if the set at `root` was whole already and nothing was downloaded.

    Raises:
        FkpError: `root` holds something else, the server cannot be reached or has no such file, the disk is full,
            or (`BadArchive`) the archive is no zip, has unsafe entries, or differs from the manifest.
    """
    listed = verify.read_manifest(manifest)
    with workplace(root) as (target, new):
        if _check_target(target, set(listed)) and not verify.check(target, listed):
            return False
        with downloaded(url, target, retries, pause_s) as archive:
            damaged = unpack(archive, new)
            _refuse_faults(_faults_of(new, listed), damaged)
            with clear_disk_errors(target):
                install_dir(new, target)
    return True


def adopt(source: Path, root: Path, manifest: Path) -> tuple[int, int]:
    """Install a set that is already on disk; its frames may be re-encoded, but each must decode.

    The labelled frames are copied, not linked: a hard link shares its bytes with the source, so that whoever edits
    one set would change the other. What is written are the very bytes that were decoded.

    Args:
        source: Folder with the two CSV files, or its parent when the folder is called `data`.
        root: See `fetch`.
        manifest: Only compared with, for the second number of the result.

    Returns:
        Labelled frames, and how many of them differ from the manifest's bytes.

    Raises:
        FkpError: No set at `source`, a labelled frame is missing, no image or has points far outside, or see `fetch`.
    """
    listed = verify.read_manifest(manifest)
    folder = _find_set(source)
    if folder.resolve().is_relative_to(root.resolve()):
        raise FkpError(f"{folder} lies in the target {root} itself: name another --root, or use the set where it is")
    faces = load_labels(DataConfig(source="ytfaces", root=str(folder)))
    names = [f"{part}/{file}" for part, file in zip(faces.table["part"], faces.table["file"], strict=True)]
    with workplace(root) as (target, new):
        _check_target(target, {*listed, *names})
        with clear_disk_errors(new):
            _copy_checked(faces, names, new)
            for part in CSV_FILES:
                shutil.copyfile(folder / f"{part}_frames_keypoints.csv", new / f"{part}_frames_keypoints.csv")
            differing = sum(verify.sha256_of(new / name) != listed.get(name) for name in names)
            install_dir(new, target)
    return len(names), differing


@contextlib.contextmanager
def downloaded(url: str, target: Path, retries: int, pause_s: float) -> Iterator[Path]:
    """The archive at an address, beside the target. It goes when the block ends well or finds that it is bad, and otherwise stays.

    Raises:
        FkpError: See `fkp.data.download.download`.
    """
    part = target.with_name(f"{target.name}.zip.part")
    download(url, part, retries, pause_s)
    try:
        yield part
    except BadArchive:
        part.unlink()
        raise
    part.unlink()


# --- check what was downloaded ----------------------------------------------------------------------------------


def _faults_of(new: Path, listed: dict[str, str]) -> list[verify.Fault]:
    try:
        return verify.check(new, listed)
    except FkpError as error:
        # Labels that nobody can read: the same bytes would fail again, so the download has to go.
        raise BadArchive(f"the downloaded set cannot be used: {error}") from error


def _refuse_faults(faults: list[verify.Fault], damaged: Iterable[str]) -> None:
    names = list(dict.fromkeys([*damaged, *(fault.path for fault in faults)]))
    if names:
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        raise BadArchive(
            f"the download is not the set of the manifest, these files are damaged, missing or other ones: {shown}; "
            "nothing was installed and the download was thrown away: run the same command again"
        )


# --- copy a set that is on disk ---------------------------------------------------------------------------------


def _find_set(source: Path) -> Path:
    for folder in (source, source / "data"):
        if (folder / "training_frames_keypoints.csv").is_file():
            return folder
    raise FkpError(f"{source} holds no set: --source is the folder with training_frames_keypoints.csv, or the one above its data/")


def _copy_checked(faces: Catalog, names: list[str], new: Path) -> None:
    for part in CSV_FILES:
        (new / part).mkdir()
    faults = []
    for row, name in enumerate(tqdm(names, desc="copy", unit="frame", disable=None)):
        try:
            content = read_bytes(faces.path(row))
            height, width, _ = decode_image(content, str(faces.path(row))).shape
            check_label(faces.points_raw_px[row], height, width, str(faces.path(row)))
        except FkpError as error:
            faults.append(str(error))
        else:
            (new / name).write_bytes(content)
    if faults:
        shown = "; ".join(faults[:10]) + (f"; and {len(faults) - 10} more" if len(faults) > 10 else "")
        raise FkpError(f"{len(faults)} of {len(names)} labelled frames cannot be used, nothing was installed: {shown}")


# --- the target and what lies beside it -------------------------------------------------------------------------


@contextlib.contextmanager
def workplace(root: Path) -> Iterator[tuple[Path, Path]]:
    """The absolute target and an empty folder beside it (same disk, so that a rename installs it), for one user."""
    target = Path(os.path.abspath(root))
    new, lock = target.with_name(f".{target.name}.fetching"), target.with_name(f".{target.name}.lock")
    with contextlib.ExitStack() as stack:
        with clear_disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(locked(lock))
                # While it is held: one who has just opened it sees that it has no name any more, and makes another.
                stack.callback(lock.unlink, missing_ok=True)
            except TimeoutError as error:
                raise FkpError(f"another fetch is writing {target}: wait until it is done") from error
            except OSError:
                pass  # A network file system without locks: better fetch unlocked than not at all.
            put_back(target)
            remove(new)  # What a killed run left.
            new.mkdir()
        stack.callback(remove, new)
        yield target, new


def _check_target(target: Path, known: set[str]) -> bool:
    """Whether a set with no other labels than `known` lies at the target; False if nothing does.

    Raises:
        FkpError: Something else is there that installing would destroy.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    if not (target / "training_frames_keypoints.csv").is_file():
        raise FkpError(f"{target} exists and holds no set: move it away or name another --root")
    try:
        foreign = [name for name in verify.labelled(target) if name not in known]
    except FkpError as error:
        raise FkpError(f"{target} holds a set whose labels cannot be read: move it away or name another --root ({error})") from error
    if foreign:
        raise FkpError(f"{target} holds another set (it labels {foreign[0]}): move it away or name another --root")
    return True
