"""The log of commands: what was answered is there after a restart, a kill and a full disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fkp.errors import FkpError
from fkp.label.face import Face
from fkp.label.log import LOG, Conflict, Log, NotSaved, Taken
from fkp.scheme import IBUG68, load_scheme

FACE = Face("a-0", "a.jpg", (0.0, 0.0, 10.0, 10.0))


def chin(x: float) -> dict[str, Any]:
    return {"points": {"chin": [x, 2.0, "visible", "set", [1.0, 2.0, 3.0]]}}


def test_a_log_that_is_opened_again_says_the_same(tmp_path: Path) -> None:
    log = Log(tmp_path, IBUG68, 0.25)
    face = log.change(FACE, "move", chin(5))
    face = log.change(face, "move", chin(6) | {"group": "Ada"})
    log.change(face, "accept", {"done": True, "box": [1, 2, 3, 4]})
    assert log.undo(log.last) == log.undo(log.last) == "a-0"
    assert log.redo(log.last) == "a-0"
    log.take_model(Taken("my_model", 12, None, 3.5))
    log.close()
    again = Log(tmp_path, None)
    assert again.faces == log.faces and again.last == log.last == 7
    assert (again.models, again.blind, again.scheme) == ([Taken("my_model", 12, None, 3.5, 7)], 0.25, IBUG68)
    assert again.faces["a-0"].points["chin"].x == 6 and again.faces["a-0"].group == "Ada" and not again.faces["a-0"].done
    assert again.redo(again.last) == "a-0" and again.faces["a-0"].done and again.faces["a-0"].box == (1, 2, 3, 4)
    again.close()


def test_undo_goes_back_to_the_untouched_face_and_a_command_ends_redo(tmp_path: Path) -> None:
    log = Log(tmp_path, IBUG68)
    log.change(FACE, "move", chin(5))
    log.undo(log.last)
    assert log.faces["a-0"].points == {} and not log.can_undo and log.can_redo
    assert log.undo(log.last) is None
    log.change(log.faces["a-0"], "move", chin(7))
    assert log.redo(log.last) is None and log.faces["a-0"].points["chin"].x == 7
    log.close()


def test_two_windows_do_not_overwrite_each_other(tmp_path: Path) -> None:
    log = Log(tmp_path, IBUG68)
    log.change(FACE, "move", chin(5))
    with pytest.raises(Conflict):
        log.change(FACE, "move", chin(6))
    with pytest.raises(Conflict):
        log.undo(log.last - 1)
    assert log.faces["a-0"].points["chin"].x == 5
    log.close()


@pytest.mark.parametrize("cut", [1, 20])
def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path: Path, cut: int) -> None:
    log = Log(tmp_path, IBUG68)
    face = log.change(FACE, "move", chin(5))
    whole = (tmp_path / LOG).read_bytes()
    log.change(face, "move", chin(6))
    log.close()
    (tmp_path / LOG).write_bytes((tmp_path / LOG).read_bytes()[: len(whole) + cut])
    again = Log(tmp_path, None)
    assert again.faces["a-0"].points["chin"].x == 5
    again.change(again.faces["a-0"], "move", chin(8))
    again.close()
    last = Log(tmp_path, None)
    assert last.faces["a-0"].points["chin"].x == 8
    last.close()


def test_a_full_disk_costs_only_what_it_did_not_take(tmp_path: Path, file_limit: Callable[[int], None]) -> None:
    log = Log(tmp_path, IBUG68)
    face = log.change(FACE, "move", chin(5))
    before = (tmp_path / LOG).read_bytes()
    file_limit(len(before) + 30)
    with pytest.raises(NotSaved, match=r"not saved: cannot write .*log\.jsonl: .*: free some space"):
        log.change(face, "move", chin(6))
    assert (tmp_path / LOG).read_bytes() == before and log.faces["a-0"] == face
    file_limit(len(before) + 10000)
    assert log.change(face, "move", chin(6)).points["chin"].x == 6
    log.close()
    again = Log(tmp_path, None)
    assert again.faces == log.faces
    again.close()


def test_what_is_no_log_of_this_set_is_refused(tmp_path: Path) -> None:
    log = Log(tmp_path, IBUG68)
    face = log.change(FACE, "move", chin(5))
    log.change(face, "move", chin(6))
    log.close()
    with pytest.raises(FkpError, match="was begun in scheme ibug68 and not in five"):
        Log(tmp_path, load_scheme("five"))
    lines = (tmp_path / LOG).read_text().splitlines()
    (tmp_path / LOG).write_text("\n".join([lines[0], lines[2], lines[1]]) + "\n")
    with pytest.raises(FkpError, match="line 2: command 2 stands behind 0"):
        Log(tmp_path, None)
    (tmp_path / LOG).write_text(json.dumps({"kind": "other"}) + "\n")
    with pytest.raises(FkpError, match="its kind is 'other'"):
        Log(tmp_path, None)
