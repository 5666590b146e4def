"""A torn list of checkpoints is replaced by the last whole one."""

from __future__ import annotations

from pathlib import Path

import fkp.cluster.capacity  # noqa: F401  Before ray: it sets what ray reads when it is imported.

from fkp.train.checkpoint_list import SNAPSHOT, KeepCheckpointList, repair  # isort: skip

WHOLE = '{"checkpoint_results": [1]}'


def keep(folder: Path) -> None:
    KeepCheckpointList(folder).after_report(None, [], None)


def test_a_torn_list_is_replaced_by_the_last_whole_one(tmp_path: Path) -> None:
    (tmp_path / SNAPSHOT).write_text(WHOLE)
    keep(tmp_path)
    for torn in ("", WHOLE[:10]):
        (tmp_path / SNAPSHOT).write_text(torn)
        keep(tmp_path)  # A torn one is never kept.
        repair(tmp_path)
        assert (tmp_path / SNAPSHOT).read_text() == WHOLE


def test_a_whole_list_stays(tmp_path: Path) -> None:
    (tmp_path / SNAPSHOT).write_text(WHOLE)
    keep(tmp_path)
    newer = WHOLE.replace("1", "1, 2")
    (tmp_path / SNAPSHOT).write_text(newer)
    repair(tmp_path)
    assert (tmp_path / SNAPSHOT).read_text() == newer


def test_a_run_that_was_torn_at_its_first_list_begins_anew(tmp_path: Path) -> None:
    repair(tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / SNAPSHOT).write_text("")
    repair(tmp_path)
    assert not (tmp_path / SNAPSHOT).exists()
