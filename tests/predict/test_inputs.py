"""Which pictures are meant by files, folders and patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

from fkp.errors import FkpError
from fkp.predict.inputs import pictures


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = ["b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "day/2.webp", "day/1.jpeg", "day/deep/3.jpg", ".trash/4.jpg", "[x].jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_is_all_pictures_in_it(folder: Path) -> None:
    assert pictures(["."]) == ["[x].jpg", "a.PNG", "b.jpg", "day/1.jpeg", "day/2.webp", "day/deep/3.jpg"]
    assert pictures(["day"]) == ["day/1.jpeg", "day/2.webp", "day/deep/3.jpg"]
    assert pictures([str(folder / "day/deep")]) == [str(folder / "day/deep/3.jpg")]


def test_patterns(folder: Path) -> None:
    assert pictures(["*.jpg"]) == ["[x].jpg", "b.jpg"]
    assert pictures(["day/*"]) == ["day/1.jpeg", "day/2.webp", "day/deep/3.jpg"]
    assert pictures(["**/*.jpg"]) == ["[x].jpg", "b.jpg", "day/deep/3.jpg"]
    assert pictures(["*.txt"]) == ["notes.txt"]  # Who names it, means it.


def test_names_are_taken_as_they_are(folder: Path) -> None:
    assert pictures(["absent.jpg", "notes.txt", "[x].jpg"]) == ["absent.jpg", "notes.txt", "[x].jpg"]


def test_each_file_once_in_the_order_of_the_sources(folder: Path) -> None:
    assert pictures(["day/2.webp", "day", "./day/1.jpeg", str(folder / "b.jpg"), "*.jpg"]) == [
        *("day/2.webp", "day/1.jpeg", "day/deep/3.jpg"),
        *(str(folder / "b.jpg"), "[x].jpg"),
    ]


@pytest.mark.parametrize(("source", "said"), [("empty", "folder empty holds no"), ("*.bmp", r"pattern \*.bmp matches no")])
def test_nothing_is_an_error(folder: Path, source: str, said: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(FkpError, match=said):
        pictures(["b.jpg", source])
