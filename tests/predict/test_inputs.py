"""Which images are meant by files, folders and patterns."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from fkp.errors import FkpError
from fkp.predict.inputs import list_images


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = ["b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "day/2.webp", "day/1.jpeg", "day/deep/3.jpg", ".trash/4.jpg", "[x].jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_is_all_images_in_it(folder: Path) -> None:
    assert list_images(["."]) == ["[x].jpg", "a.PNG", "b.jpg", "day/1.jpeg", "day/2.webp", "day/deep/3.jpg"]
    assert list_images(["day"]) == ["day/1.jpeg", "day/2.webp", "day/deep/3.jpg"]
    assert list_images([str(folder / "day/deep")]) == [str(folder / "day/deep/3.jpg")]


def test_patterns(folder: Path) -> None:
    assert list_images(["*.jpg"]) == ["[x].jpg", "b.jpg"]
    assert list_images(["day/*"]) == ["day/1.jpeg", "day/2.webp", "day/deep/3.jpg"]
    assert list_images(["**/*.jpg"]) == ["[x].jpg", "b.jpg", "day/deep/3.jpg"]
    assert list_images(["*.txt"]) == ["notes.txt"]  # Who names it, means it.


def test_names_are_taken_as_they_are(folder: Path) -> None:
    assert list_images(["absent.jpg", "notes.txt", "[x].jpg"]) == ["absent.jpg", "notes.txt", "[x].jpg"]


def test_each_file_once_in_the_order_of_the_sources(folder: Path) -> None:
    assert list_images(["day/2.webp", "day", "./day/1.jpeg", str(folder / "b.jpg"), "*.jpg"]) == [
        *("day/2.webp", "day/1.jpeg", "day/deep/3.jpg"),
        *(str(folder / "b.jpg"), "[x].jpg"),
    ]


def test_every_kind_of_image_is_taken_and_the_rest_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = ["a.AVIF", "b.gif", "c.jp2", "d.jfif", "e.jpe", "f.dib", "g.PGM", "g.j2k", "g.mpo", "g.pbm"]
    for name in [*taken, "h.heic", "i.HEIC", "j.mp4", "README", "k.cr2", ".l.heic"]:
        (tmp_path / name).touch()
    assert list_images([str(tmp_path)]) == [str(tmp_path / name) for name in taken]
    told = capsys.readouterr().err
    assert told == "left out of folders: 2 .heic, 1 without a suffix, 1 .mp4, 1 .cr2: convert HEIC photographs to JPEG\n"
    list_images([str(tmp_path), *(str(tmp_path / name) for name in ("h.heic", "i.HEIC", "j.mp4", "README", "k.cr2"))])
    assert capsys.readouterr().err == "", "who names it, means it"


@pytest.mark.parametrize("suffix", ["heic", "heif", "hif"])  # Apple's, the standard's, and what cameras of Canon and Sony write.
def test_a_folder_of_other_files_says_of_which(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").touch()
    with pytest.raises(FkpError, match=rf"holds no images \(.*\.avif.*\) but 1 \.{suffix}: convert HEIC photographs to JPEG: name another"):
        list_images([str(tmp_path)])


@pytest.mark.parametrize("name", ["Zoë", "한글", "Ångström"])
def test_one_file_in_two_spellings_is_one_image(tmp_path: Path, name: str) -> None:
    composed, decomposed = (str(tmp_path / f"{unicodedata.normalize(form, name)}.jpg") for form in ("NFC", "NFD"))
    assert composed != decomposed
    for there, named in ((composed, decomposed), (decomposed, composed)):
        Path(there).touch()
        assert list_images([there, named]) == [there]
        assert list_images([named]) == [named]
        Path(there).unlink()


@pytest.mark.parametrize(("source", "said"), [("empty", "folder empty holds no"), ("*.bmp", r"pattern \*.bmp matches no")])
def test_nothing_is_an_error(folder: Path, source: str, said: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(FkpError, match=said):
        list_images(["b.jpg", source])
