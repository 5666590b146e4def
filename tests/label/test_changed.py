"""The faces that an adaptation has changed most, after a restart, too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fkp.errors import FkpError
from fkp.label.session import Session
from fkp.shipped import shipped
from tests.label.browser import until

SPAN = {"nme_pct": 4.0, "low": 3.5, "high": 4.5}


def take(session: Session, place: Path) -> None:
    """What happens at the end of an adaptation that has written this model, here another one that ships."""
    shutil.copytree(shipped("saved_models/tiny"), place)
    report = {"faces": 12, "before": SPAN, "after": SPAN, "gain": SPAN, "helps": True}
    place.with_name(f"{place.name}-report.json").write_text(json.dumps(report))
    session.adapting.resume(place)
    session._adapted()
    until(lambda: session.finder.ready)


def test_what_changed_most_and_the_outcome_are_there_after_a_restart(label: Callable[..., Session], tmp_path: Path) -> None:
    session = label()
    assert session.changed() == [] and session.summary()["adapting"]["state"] == "idle"
    take(session, tmp_path / "set-model-1")
    rows, told = session.changed(), session.summary()["adapting"]
    assert len(rows) == 3 and all(row["pct"] > 0.3 for row in rows)
    assert told["written"] and told["spans"]["after"] == SPAN
    session.close()
    again = label()
    assert again.model == str(tmp_path / "set-model-1")
    assert again.changed() == rows and again.summary()["adapting"] == told


def test_what_is_lost_of_the_model_before_is_not_shown(label: Callable[..., Session], tmp_path: Path) -> None:
    session = label()
    take(session, tmp_path / "set-model-1")
    before = json.loads((tmp_path / "set/before.jsonl").read_text())[1]["guesses"]
    session.close()
    (tmp_path / "set-model-1-report.json").write_text("{")
    (tmp_path / "set" / before).unlink()
    again = label()
    assert again.changed() == [] and again.summary()["adapting"]["state"] == "idle"


def test_a_model_is_not_taken_where_the_disk_does_not_take_what_it_replaces(
    label: Callable[..., Session], tmp_path: Path, file_limit: Callable[[int], None]
) -> None:
    session = label()
    session.adapting.out = tmp_path / "set-model-1"
    file_limit(10)
    with pytest.raises(FkpError, match=r"before\.jsonl: File too large: free some space and adapt again"):
        session._adapted()
    file_limit(10**9)
    assert session.log.models == [] and not session.finder.ending
