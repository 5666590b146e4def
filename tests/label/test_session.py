"""A labelling without its page: guesses, commands, the set that comes of them, blind faces, imported labels."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fkp.bundle import open_bundle
from fkp.data import label_set, labels
from fkp.data.exporter import export_set
from fkp.data.face_shape import mean_points
from fkp.data.formats import Source, recognise
from fkp.errors import FkpError
from fkp.label import doubts, order, statistics, worth
from fkp.label.changes import MAX_OUTSIDE
from fkp.label.finder import Finder, Guess
from fkp.label.imported import Imported
from fkp.label.log import Conflict
from fkp.label.photos import Photos, share_of
from fkp.label.session import Session
from fkp.scheme import IBUG68, Scheme
from fkp.shipped import DEFAULT_BUNDLE

from .browser import until
from .conftest import first

CHIN = IBUG68.landmarks.index("chin")


def test_a_fix_informs_the_rest_and_the_next_point_is_asked_for(label: Callable[..., Session]) -> None:
    session = label(sure_pct=1.5)
    face = first(session)
    assert len(face["review"]) > 30 and face["next"] in face["review"]
    chosen = face["next"]
    at = face["points"][chosen]
    after = session.set_points(face["id"], 0, "move", {chosen: (at["x"] + 3, at["y"] + 2, "visible")}, False)
    assert after["version"] == 1 and after["points"][chosen]["how"] == "set" and after["next"] != chosen
    others = [place for place in range(68) if place != chosen]
    moved = np.array([[after["points"][place][axis] - face["points"][place][axis] for axis in "xy"] for place in others])
    assert np.abs(moved).max() > 0.3, "its neighbours follow"
    assert moved[np.abs(moved).max(1).argmax()] @ (3, 2) > 0
    circles = [[some["points"][place]["r"] for place in others] for some in (face, after)]
    assert min(np.array(circles[1]) / circles[0]) < 0.9, "circles shrink"


def test_finished_faces_are_a_set_that_other_commands_read_and_export(label: Callable[..., Session], tmp_path: Path) -> None:
    session = label()
    names = [row["id"] for row in session.queue.window(0, 9)]
    assert len(names) == 3
    for name in names:
        session.set_points(name, 0, "move", {CHIN: (100.25, 200.5, "occluded"), 0: (0.0, 0.0, "missing")}, False)
        session.set_points(name, session.known(name).version, "accept", {}, True)
    session.tell(names[0], session.known(names[0]).version, "tell", {"group": "Ada"})
    session.tell(names[1], session.known(names[1]).version, "tell", {"removed": True})
    session.close()
    labels = label_set.read(tmp_path / "set")
    assert len(labels) == 2 and labels.scheme == IBUG68 and "Ada" in labels.groups
    assert (labels.points_px[:, CHIN] == (100.25, 200.5)).all() and not labels.visible[:, CHIN].any()
    assert np.isnan(labels.points_px[:, 0]).all() and labels.visible[:, 1:8].all()
    for image in labels.images:
        assert labels.size_px(image)[0] > 100
    for form in ("pts", "coco", "csv"):
        assert export_set(tmp_path / "set", form, tmp_path / form) == (2, 2)
        source = Source(tmp_path / form)
        found, paths = recognise(source, form)
        points = {face.image.name: face.points - found.origin for path in paths for face in found.read(path, source)}
        for image, own in zip(labels.images, labels.points_px, strict=True):
            assert np.allclose(points[Path(image).name], own, atol=2e-3, equal_nan=True), form


def test_the_work_goes_on_after_a_restart_with_undo(label: Callable[..., Session]) -> None:
    session = label()
    face = first(session)
    session.set_points(face["id"], 0, "move", {CHIN: (50.0, 60.0, "visible")}, False)
    session.close()
    again = label()
    point = again.face(face["id"])["points"][CHIN]
    assert (point["x"], point["y"], point["how"]) == (50.0, 60.0, "set")
    with pytest.raises(Conflict):
        again.set_points(face["id"], 0, "move", {CHIN: (1.0, 1.0, "visible")}, False)
    undone = again.undo(again.log.last)
    assert undone is not None and undone["points"] == face["points"]


def test_a_photograph_that_vanishes_costs_no_label(label: Callable[..., Session], photos: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(photos, own)
    session = label(own)
    face = first(session)
    (own / face["photo"]).unlink()
    session.set_points(face["id"], 0, "accept", {}, True)
    session.write()
    assert "is gone: bring it back" in session.summary()["warnings"][0]
    with pytest.raises(FkpError, match="cannot read image"):
        session.photos.read(face["photo"], session.out)
    shutil.copyfile(photos / face["photo"], own / face["photo"])
    session.write()
    assert session.summary()["warnings"] == []
    assert len(label_set.read(tmp_path / "set")) == 1
    (own / face["photo"]).unlink()
    assert session.photos.read(face["photo"], session.out), "the set has its own copy"


def test_a_face_that_was_missed_is_drawn(label: Callable[..., Session]) -> None:
    session = label()
    face = first(session)
    added = session.add(face["photo"], (90.0, 110.0, 250.0, 280.0))
    assert added["id"] != face["id"] and all(point["x"] is not None for point in added["points"])
    assert session.queue.photo_of(added["id"]) == face["photo"]
    with pytest.raises(KeyError):
        session.add("../a.jpg", (0.0, 0.0, 9.0, 9.0))


def test_a_blind_face_shows_no_guess_and_alone_measures(label: Callable[..., Session], tmp_path: Path) -> None:
    session = label(blind=1.0)
    face = first(session)
    assert face["blind"] and all(point["x"] is None for point in face["points"]) and face["next"] == 0 and len(face["review"]) == 68
    with pytest.raises(FkpError, match="68 points are to be set"):
        session.set_points(face["id"], 0, "accept", {}, True)
    guess = session.guessing.guess(session.known(face["id"]))
    assert guess is not None
    size = float(IBUG68.size_px(guess.points_px))
    places = {place: (float(x) + 0.05 * size, float(y), "visible") for place, (x, y) in enumerate(guess.points_px)}
    session.set_points(face["id"], 0, "place", places, True)
    measured = session.summary()["statistics"]
    assert measured["blind"]["faces"] == 1 and measured["shown"]["faces"] == 0
    assert measured["blind"]["nme_pct"] == pytest.approx(5, abs=0.01)
    inside = np.mean(0.05 * size <= session.guessing.errors.circle_90 * guess.error_px)
    assert measured["blind"]["in_circle_pct"] == pytest.approx(100 * inside)
    session.write()
    assert label_set.read(tmp_path / "set").subsets == ["test"]
    with pytest.raises(FkpError, match="no face is finished"):
        session.adapt()


def test_a_face_that_is_labelled_twice_tells_how_sure_a_person_is(label: Callable[..., Session], tmp_path: Path) -> None:
    session = label()
    face = first(session)
    with pytest.raises(FkpError, match="accept it first"):
        session.again(face["id"])
    session.set_points(face["id"], 0, "accept", {}, True)
    assert "10 more faces: about" in session.summary()["forecast"]
    second = session.again(face["id"])
    assert second["blind"] and all(point["x"] is None for point in second["points"])
    size = statistics.size_px(session.known(face["id"]), IBUG68)
    for x, said in ((0.005, "(0.5 %)"), (0.2, "(20.0 %)")):
        places = {place: (point["x"] + x * size, point["y"], "visible") for place, point in enumerate(face["points"])}
        session.set_points(second["id"], session.known(second["id"]).version, "place", places, True)
        assert worth.twice_pct(session.log.faces, IBUG68) == pytest.approx([100 * x], rel=1e-2)
        told = session.summary()["forecast"]
        assert (said in told) == (x == 0.2), told
    session.write()
    assert len(label_set.read(tmp_path / "set")) == 1, "it is part of no set"


def test_what_the_model_has_as_near_as_a_person_to_himself_is_not_asked_for(label: Callable[..., Session]) -> None:
    session = label(sure_pct=1.5)
    names = [row["id"] for row in session.queue.window(0, 9)]
    asked = [sum(place < 27 for place in session.face(name)["review"]) for name in names]
    for name in names:
        face = session.set_points(name, 0, "accept", {}, True)
        second = session.again(name)
        places = {place: (point["x"] + 0.09 * face["size_px"], point["y"], "visible") for place, point in enumerate(face["points"])}
        session.set_points(second["id"], second["version"], "place", places, True)
    unsure = session.face(names[0])["sure_pct"]
    assert unsure == pytest.approx(9, abs=1)
    session.set_points(names[0], session.known(names[0]).version, "forget", dict.fromkeys(range(27)), False)  # Jaw and brows.
    assert len(session.face(names[0])["review"]) < 9 < asked[0]
    session.close()
    again = label(sure_pct=1.5)
    assert again.face(names[0])["sure_pct"] == pytest.approx(unsure)
    again.undo(again.log.last)
    again.undo(again.log.last)
    assert again.face(names[0])["sure_pct"] == 1.5, "two faces are too few"


def test_a_face_that_no_training_takes_is_told_and_costs_the_others_nothing(label: Callable[..., Session], tmp_path: Path) -> None:
    session = label()
    names = [row["id"] for row in session.queue.window(0, 9)]
    corner = IBUG68.landmarks.index("right_eye_outer")
    session.set_points(names[0], 0, "state", {corner: (0.0, 0.0, "missing")}, True)
    session.set_points(names[1], 0, "accept", {}, True)
    session.write()
    assert len(label_set.read(tmp_path / "set")) == 1
    (said,) = session.summary()["warnings"]
    needed = "left eye outer and right eye outer and 4 more are needed"
    assert said == f"the face on {session.known(names[0]).photo} is not in the set: too few points are labelled, {needed}"
    with pytest.raises(FkpError, match=r"chin lies 8\d* px outside the photograph"):
        session.set_points(names[2], 0, "move", {CHIN: (9.0, -800.0, "visible")}, False)
    assert labels.MAX_OUTSIDE == MAX_OUTSIDE and session.log.last == 2


def test_the_blind_share_is_drawn_by_name() -> None:
    drawn = np.array([share_of(f"face-{number}") for number in range(2000)])
    assert 0.04 < (drawn < 0.05).mean() < 0.06 and share_of("a") == share_of("a")


def test_wrong_labels_of_another_tool_come_first(label: Callable[..., Session], tmp_path: Path) -> None:
    session = label()
    for row in session.queue.window(0, 9):
        session.set_points(row["id"], 0, "accept", {}, True)
    session.close()
    other = tmp_path / "other"
    shutil.move(tmp_path / "set", other)
    lines = (other / label_set.LABELS).read_text().splitlines()
    labels = label_set.read(other)
    worst = labels.points_px.copy()
    worst[1] += 40
    label_set.write(other, label_set.LabelSet(**{**labels.__dict__, "points_px": worst}), {})
    assert lines != (other / label_set.LABELS).read_text().splitlines()
    imported = Imported.of(other)
    again = label(imported=imported)
    # Faces are put in order beside the page, which is there before that.
    until(lambda: again.queue.window(0, 1)[0]["photo"] == labels.images[1].removeprefix("images/"))
    rows = again.queue.window(0, 9)
    assert rows[0]["pct"] > 10 > rows[1]["pct"]
    until(lambda: again.summary()["warnings"])
    assert "labels 3 faces: at least 10 are needed" in again.summary()["warnings"][0], "too few for models that have not seen them"
    face = again.face(rows[0]["id"])
    assert face["points"][CHIN]["how"] == "imported" and CHIN in face["review"]
    again.set_points(face["id"], 0, "move", {CHIN: (9.0, 9.0, "visible")}, False)
    again.undo(again.log.last)
    assert again.face(face["id"])["points"][CHIN] == face["points"][CHIN], "undo leads back to the imported label"


def test_another_scheme_takes_the_points_it_shares(label: Callable[..., Session]) -> None:
    session = label(scheme="ibug51")
    face = first(session)
    assert len(face["points"]) == 51 and all(point["r"] for point in face["points"])
    session.close()


@pytest.mark.parametrize("kind", ["swap", "shift", "slip"])
def test_a_far_move_is_asked_about_by_what_fits_better(kind: str) -> None:
    points = 100 * mean_points(IBUG68)[:, :2]
    expected = Guess(points, np.full(68, 2.0))
    x, y = {"swap": points[IBUG68.mirror[36]], "shift": points[37], "slip": points[36] + (90, -90)}[kind]
    found = doubts.question([36], {36: (x, y)}, expected, IBUG68)
    assert found is not None and found["kind"] == kind and found["text"].startswith("left eye outer")
    assert doubts.question([36], {36: (points[36][0] + 1, points[36][1])}, expected, IBUG68) is None


def test_the_next_face_is_the_one_that_the_page_has_fetched_ahead(label: Callable[..., Session]) -> None:
    session = label()
    here, following, third = [row["id"] for row in session.queue.window(0, 9)]
    assert session.queue.next_open(here) == following
    assert session.queue.next_open(here, coming=third) == third
    for coming in ("nobody", here):
        assert session.queue.next_open(here, coming=coming) == following
    session.tell(third, 0, "tell", {"removed": True})
    assert session.queue.next_open(here, coming=third) == following


def test_a_ranking_tells_how_far_it_is_and_ends_with_the_finder(label: Callable[..., Session], monkeypatch: pytest.MonkeyPatch) -> None:
    session = label()
    before, told = [row["id"] for row in session.queue.window(0, 9)], []

    def backwards(faces: list[Any], scheme: Scheme, labelled: Any = (), went: Callable[[float], None] = print) -> list[int]:
        went(0.5)
        told.append(session.summary()["ordering_pct"])
        return [*reversed(range(len(faces)))]

    monkeypatch.setattr(order, "rank", backwards)
    session.queue.rank()
    after = [row["id"] for row in session.queue.window(0, 9)]
    assert after == before[::-1] and 70 < told[0] < 95 and session.summary()["ordering_pct"] is None
    session.finder.stop()
    session.queue.rank()
    assert [row["id"] for row in session.queue.window(0, 9)] == after and len(told) == 1


def test_boxes_around_other_landmarks_are_found_anew_under_their_names(label: Callable[..., Session], tmp_path: Path) -> None:
    session = label()
    before = {row["id"]: session.face(row["id"]) for row in session.queue.window(0, 9)}
    drawn, accepted, _ = before
    x0, y0, x1, y1 = before[drawn]["box"]
    own = [x0 - 20.0, y0 - 30.0, x1 + 40.0, y1 + 30.0]
    session.tell(drawn, 0, "tell", {"box": own})
    session.set_points(accepted, 0, "accept", {}, True)
    session.close()
    found = tmp_path / "set/found.jsonl"
    rows = [json.loads(line) for line in found.read_text().splitlines()]
    for _, row in rows:  # As a model without a jaw has left it.
        row["around"] = "others"
        row["boxes"] = {
            n: [a + 0.15 * (c - a), b + 0.1 * (d - b), c - 0.15 * (c - a), d - 0.2 * (d - b)] for n, (a, b, c, d) in row["boxes"].items()
        }
    found.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for path in found.parent.glob("guesses-*.jsonl"):
        path.unlink()
    again = label()
    assert {row["id"] for row in again.queue.window(0, 9)} == {*before}
    for name, face in before.items():
        assert again.face(name)["box"] == pytest.approx(own if name == drawn else face["box"], abs=0.5)
    guess = again.finder.guess(drawn)
    asked = again.finder.look_at(before[drawn]["photo"], drawn, again.photos.read(before[drawn]["photo"], again.out), tuple(own))
    assert guess is not None
    np.testing.assert_allclose(guess.points_px, asked.points_px, atol=1e-3)


def test_accepted_points_count_as_those_that_were_set(label: Callable[..., Session], tmp_path: Path) -> None:
    session = label()
    face = first(session)
    session.set_points(face["id"], 0, "move", {CHIN: (100.25, 200.5, "visible")}, True)
    session.write()
    written = label_set.read(tmp_path / "set")
    nose = IBUG68.landmarks.index("nose_tip")
    assert session.known(face["id"]).points["nose_tip"].how == "accepted" and np.isfinite(written.points_px[0, nose]).all()
    assert written.weights is None


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has a priority of its own on Linux")
def test_the_first_face_is_looked_for_at_full_speed_and_the_others_behind_who_labels(photos: Path, looked: Path, tmp_path: Path) -> None:
    here = os.getpriority(os.PRIO_PROCESS, 0)
    for cached, at_first in (False, here), (True, max(here, 10)):
        out = tmp_path / str(cached)
        shutil.copytree(looked, out) if cached else out.mkdir()
        (out / "found.jsonl").unlink(missing_ok=True)
        finder = Finder(Photos.of([str(photos)]), out, open_bundle(DEFAULT_BUNDLE), lambda photo: {})
        seen: list[int] = []
        finder.told = lambda photo, seen=seen: seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))  # type: ignore[misc]
        finder.start()
        until(lambda finder=finder: finder.ready)
        finder.stop()
        assert seen == [at_first, max(here, 10), max(here, 10)]


def test_photographs_are_named_below_their_folder(photos: Path, tmp_path: Path) -> None:
    assert list(Photos.of([str(photos)]).paths) == ["a.jpg", "b.jpg", "day 2/c.jpg"]
    assert list(Photos.of([str(photos / "*.jpg")]).paths) == ["a.jpg", "b.jpg"]
    with pytest.raises(FkpError, match="holds no images"):
        Photos.of([str(tmp_path)])
