"""The sound of a source in what is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from fkp.vision.video import open_clip, written_clip
from tests.needs import needed
from tests.vision import movies
from tests.vision.video import films


@pytest.fixture(autouse=True)
def pyav() -> None:
    needed("av", "no PyAV for videos")


def copied(source: Path, out: Path) -> str:
    """The frames and the sound of a video in another file, and what is told."""
    clip = open_clip(source)
    with written_clip(out, clip.fps, source) as write:
        for time_s, image in clip.timed():
            write(image, time_s)
    assert [movies.number_of(image) for image in open_clip(out)] == pytest.approx([movies.number_of(image) for image in clip], abs=1)
    return write.told


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_what_browsers_play_is_kept_as_it_is(tmp_path: Path, name: str) -> None:
    source = films.film(tmp_path / name, sound="aac")
    assert copied(source, tmp_path / "out.mp4") == "with its sound (aac)"
    bare = [packet[7:] for packet in films.packets(source)] if name.endswith("ts") else films.packets(source)  # ADTS headers of 7 bytes.
    assert films.packets(tmp_path / "out.mp4") == bare
    began_s, ended_s = films.heard_s(tmp_path / "out.mp4")
    assert began_s == pytest.approx(films.BEEP_S, abs=0.03) and ended_s == pytest.approx(films.BEEP_S + films.BEEP_LONG_S, abs=0.03)


def test_other_sound_becomes_aac(tmp_path: Path) -> None:
    source = films.film(tmp_path / "clip.mkv", sound="pcm_s16le")
    assert copied(source, tmp_path / "out.mp4") == "with its sound (as AAC, for browsers do not play pcm_s16le)"
    began_s, ended_s = films.heard_s(tmp_path / "out.mp4")
    assert began_s == pytest.approx(films.BEEP_S, abs=0.03) and ended_s == pytest.approx(films.BEEP_S + films.BEEP_LONG_S, abs=0.03)


def test_a_video_without_sound(tmp_path: Path) -> None:
    assert copied(films.film(tmp_path / "clip.mp4"), tmp_path / "out.mp4") == "without sound, as its source is"
    hollow = movies.sounding(movies.plain(tmp_path / "hollow.mp4", map(movies.frame, range(20))))
    assert copied(hollow, tmp_path / "out2.mp4") == "without its sound, which is broken"


@pytest.mark.parametrize("every", [1, 3])
def test_broken_sound_is_left_out_and_told(tmp_path: Path, every: int) -> None:
    source = films.film(tmp_path / "clip.mkv", sound="aac")
    data, whole, place = bytearray(source.read_bytes()), films.packets(source), 0
    for number, packet in enumerate(whole):
        place = data.index(packet, place)
        if number % every == 0:
            data[place : place + len(packet)] = b"\xff" * len(packet)
        place += len(packet)
    source.write_bytes(data)
    told = copied(source, tmp_path / "out.mp4")
    kept = [packet for number, packet in enumerate(whole) if number % every]
    if every == 1:
        assert told == "without its sound, which is broken"
        assert needed("av", "").open(str(tmp_path / "out.mp4")).streams.audio == ()
    else:
        assert told == f"with its sound (aac), of which {len(whole) - len(kept)} broken packets are left out"
        assert films.packets(tmp_path / "out.mp4") == kept
