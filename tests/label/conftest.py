"""Photographs of faces of nobody, and a labelling of them by the shipped model."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fkp.label.__main__ import open_log
from fkp.label.photos import Photos
from fkp.label.session import Session

REPO = Path(__file__).resolve().parents[2]
FACES = sorted((REPO / "docs/images/sfhq").glob("*.jpg"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs with a face each, one of them in a folder. Read only: a test that changes them copies them first."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "day 2").mkdir()
    for place, path in enumerate(FACES[3:]):
        shutil.copyfile(path, folder / ("day 2" if place == 2 else "") / f"{'abc'[place]}.jpg")
    return folder


@pytest.fixture(scope="session")
def looked(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set in which the shipped model has looked at the photographs, and nobody has done anything."""
    out = tmp_path_factory.mktemp("sets") / "looked"
    out.mkdir()
    log, bundle, model = open_log(out, None, None, 0.0, None)
    session = Session(Photos.of([str(photos)]), out, log, bundle, model)
    wait(session)
    session.close()
    return out


@pytest.fixture
def label(photos: Path, looked: Path, tmp_path: Path) -> Iterator[Callable[..., Session]]:
    """`label()` opens the set `tmp_path/set`, which begins as `looked`; each further call after `close` goes on with it."""
    opened: list[Session] = []

    def begin(folder: Path = photos, scheme: str | None = None, imported: Any = None, **options: Any) -> Session:
        out = tmp_path / "set"
        if not out.exists():
            out.mkdir()
            for path in looked.glob("*.jsonl") if folder == photos and imported is None else ():
                if path.name != "log.jsonl":
                    shutil.copyfile(path, out / path.name)
        blind = options.pop("blind", 0.0)
        log, bundle, model = open_log(out, None, scheme, blind, imported)
        named = imported.photos if imported else Photos.of([str(folder)])
        opened.append(Session(named, out, log, bundle, model, imported, **options))
        wait(opened[-1])
        return opened[-1]

    yield begin
    for session in opened:
        if not session._writer._ended.is_set():
            session.close()


def wait(session: Session) -> None:
    until = time.monotonic() + 60
    while not session.finder.ready:
        assert time.monotonic() < until
        time.sleep(0.01)


def first(session: Session) -> dict[str, Any]:
    """The face that is offered first."""
    name = session.queue.next_open(None)
    assert name is not None
    return session.face(name)
