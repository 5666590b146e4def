"""Files and folders that appear whole, and locks that end with their process."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fkp.common import files
from fkp.common.files import atomic_replace_dir, exclusive, install_dir, locked, put_back, write_json
from fkp.errors import FkpError


def test_json_is_written_whole(tmp_path: Path) -> None:
    assert write_json(tmp_path / "metrics.json", {"a": 1.5}).read_text() == '{\n  "a": 1.5\n}\n'
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "metrics.json", {"a": float("nan")})


# --- folders ----------------------------------------------------------------------------------------------------


def make(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "file").write_text(text)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["one step", "two steps"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An old folder, with and without a system that can exchange two of them."""
    if request.param == "two steps":
        monkeypatch.setattr(sys, "platform", "darwin")
    elif sys.platform != "linux":
        pytest.skip("only Linux exchanges two folders")
    return make(tmp_path / "place", "old")


def test_a_folder_takes_the_place_of_another(place: Path) -> None:
    install_dir(make(place.with_name("new"), "new"), place)
    assert (place / "file").read_text() == "new" and names(place.parent) == ["place"]
    install_dir(make(place.with_name("new"), "other"), place, keep=True)
    assert (place / "file").read_text() == "new" and names(place.parent) == ["place"]


def test_a_link_is_replaced_and_what_it_names_stays(place: Path) -> None:
    link = place.with_name("link")
    link.symlink_to(place)
    install_dir(make(place.with_name("new"), "new"), link)
    assert (link / "file").read_text() == "new" and not link.is_symlink()
    assert (place / "file").read_text() == "old" and names(place.parent) == ["link", "place"]


def test_a_draft_that_is_not_finished_goes(place: Path) -> None:
    with pytest.raises(UnicodeEncodeError), atomic_replace_dir(place) as draft:
        (draft / "file").write_text("new and \ud800", encoding="utf-8")
    assert (place / "file").read_text() == "old" and names(place.parent) == ["place"]
    with atomic_replace_dir(place.parent / "above" / "other") as draft:
        (draft / "file").write_text("new")
    assert (place.parent / "above/other/file").read_text() == "new" and names(place.parent / "above") == ["other"]


def test_a_step_that_fails_puts_the_old_folder_back(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "linux":
        monkeypatch.setattr(files.os, "fsencode", lambda path: b"/nowhere/else")
    rename = os.rename

    def refuse(old: Path, new: Path) -> None:
        if Path(old).name == "new" and not place.exists():
            raise OSError(errno.EIO, "Input/output error")
        rename(old, new)

    monkeypatch.setattr(files.os, "rename", refuse)
    with pytest.raises(OSError, match=r"No such file|Input/output error"):
        install_dir(make(place.with_name("new"), "new"), place)
    assert (place / "file").read_text() == "old"
    assert names(place.parent) == ["new", "place"]


def test_what_a_kill_between_two_steps_left_aside_is_put_back(place: Path) -> None:
    aside = place.rename(place.with_name(".place.replaced"))
    put_back(place)
    assert (place / "file").read_text() == "old" and names(place.parent) == ["place"]
    make(aside, "older")  # Killed after the second step.
    put_back(place)
    assert (place / "file").read_text() == "old" and names(place.parent) == ["place"]


#: Puts one folder after the other into a place, for ever; each has the same number in two files.
INSTALLER = """
import sys
from pathlib import Path
from fkp.common.files import atomic_replace_dir
number = int(sys.argv[2])
while True:
    number += 2
    with atomic_replace_dir(Path(sys.argv[1])) as draft:
        (draft / "first").write_text(str(number))
        (draft / "second").write_text(str(number))
    print(number, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two folders")
def test_two_processes_that_are_killed_never_leave_none_or_half(tmp_path: Path) -> None:
    place = tmp_path / "place"
    for _ in range(5):
        commands = [[sys.executable, "-c", INSTALLER, str(place), first] for first in ("0", "1")]
        installers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
        for installer in installers:
            assert installer.stdout is not None
            assert installer.stdout.readline()
        until, looks = time.monotonic() + 0.1, 0
        while time.monotonic() < until:
            descriptor = os.open(place, os.O_RDONLY)  # A name is always there, of a whole folder.
            os.close(descriptor)
            looks += 1
        assert looks > 100
        for installer in installers:
            assert installer.poll() is None, "both were still at work, neither was broken by the other"
            installer.send_signal(signal.SIGKILL)
            installer.communicate()
        assert (place / "first").read_text() == (place / "second").read_text() != ""


# --- locks ------------------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from fkp.common.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_the_process_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "some.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(TimeoutError):
        locked(path)
    holder.kill()
    holder.communicate()
    with locked(path), pytest.raises(TimeoutError):
        locked(path)
    with locked(path, wait=True):
        assert path.exists()


def test_a_claimed_folder_is_refused_to_a_second_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with exclusive(run, "it"), pytest.raises(FkpError, match=r"^it is being trained by another process: wait for it"), exclusive(run, "it"):
        pass
    with exclusive(run, "it"):
        (tmp_path / "file").touch()
    lost = tmp_path / "file" / "run"
    with pytest.raises(FkpError, match=r"^cannot make the folder of it, .*: Not a directory: set track.storage"), exclusive(lost, "it"):
        pass
