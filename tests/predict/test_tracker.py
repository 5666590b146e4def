"""Faces followed with the shipped model through synthetic clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fkp.bundle import Bundle
from fkp.bundle.drift import ERROR_RATIO, MEDIAN, REFERENCE
from fkp.data.synthetic.clip import Motion, frames
from fkp.predict import Predictor
from fkp.predict.belief import belief_of, median_ratio
from fkp.predict.tracker import FaceTracker, Sighting, _match
from fkp.vision.crop import box_of_points
from fkp.vision.detect import Detection
from fkp.vision.smooth import OneEuroSettings

FPS = 10.0
GREY = np.full((240, 240, 3), 127, np.uint8)


@pytest.fixture(scope="module")
def predictor(champion: Bundle) -> Predictor:
    return Predictor(champion)


@pytest.fixture(scope="module")
def still() -> list[tuple[np.ndarray, np.ndarray]]:
    return list(frames(0, 7, 6, FPS, Motion()))


@pytest.fixture
def looks(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time the detector looks."""
    seen: list[int] = []
    original = predictor.detector.detect

    def detect(image: np.ndarray) -> list[Detection]:
        found = original(image)
        seen.append(len(found))
        return found

    monkeypatch.setattr(predictor.detector, "detect", detect)
    return seen


def follow(predictor: Predictor, images: Sequence[np.ndarray]) -> list[list[Sighting]]:
    tracker = FaceTracker(predictor, OneEuroSettings())
    return [tracker(image, number / FPS) for number, image in enumerate(images)]


def eyes_px(points_px: np.ndarray) -> float:
    return float(np.linalg.norm(points_px[36] - points_px[45]))


def test_time_and_not_frames_decides_what_is_forgotten(predictor: Predictor, still: list[tuple[np.ndarray, np.ndarray]]) -> None:
    image = still[0][0]
    for away_s, track in ((0.9, 0), (1.3, 1)):
        tracker = FaceTracker(predictor, OneEuroSettings())
        assert [sighting.track for sighting in tracker(image, 0.0)] == [0]
        assert tracker(GREY, away_s) == []
        assert [sighting.track for sighting in tracker(image, away_s + 0.1)] == [track]


def test_the_detector_looks_by_the_clock(predictor: Predictor, looks: list[int], still: list[tuple[np.ndarray, np.ndarray]]) -> None:
    tracker = FaceTracker(predictor, OneEuroSettings())
    for time_s in (0.0, 0.1, 0.2, 0.9, 1.0, 1.7):
        tracker(still[0][0], time_s)
    assert len(looks) == 3, "at the first frame, and after each gap of more than half a second"


def test_without_a_face_the_detector_looks_ten_times_a_second(
    predictor: Predictor, looks: list[int], still: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    tracker = FaceTracker(predictor, OneEuroSettings())
    assert not any(tracker(GREY, number / 30) for number in range(30))
    assert looks == [0] * 10
    seen = [tracker(still[0][0], 1 + number / 30) for number in range(4)]
    assert [len(one) for one in seen[-2:]] == [1, 1], "it is found within a tenth of a second"
    looks.clear()
    assert not any(tracker(GREY, 1.2 + number / 30) for number in range(20))
    assert looks == [0] * 20, "who was just seen is looked for in every frame"


def test_a_moving_face_is_one_face(predictor: Predictor, looks: list[int]) -> None:
    clip = list(frames(3, 7, 20, FPS, Motion(sway_boxes=0.3, turn_deg=8, period_s=2)))
    seen = follow(predictor, [image for image, _ in clip])
    assert [[sighting.track for sighting in one] for one in seen] == [[0]] * 20
    # The detector looks at the first frame and every half second, and the points alone carry the box between.
    assert len(looks) == 4
    assert [one[0].detected for one in seen] == [True] + [False] * 19
    for (_, truth_px), before, (sighting,) in zip(clip[1:], seen, seen[1:], strict=False):
        assert np.linalg.norm(sighting.face.points_px - truth_px, axis=-1).mean() < 0.12 * eyes_px(truth_px)
        np.testing.assert_allclose(sighting.face.box_xyxy, box_of_points(before[0].face.points_px))
        assert sighting.face.score == before[0].face.score or sighting.face.score > 0.6


def test_a_face_that_comes_back_soon_is_the_same(predictor: Predictor, still: list[tuple[np.ndarray, np.ndarray]]) -> None:
    faces = [image for image, _ in still]
    away = int(0.6 * FPS)
    seen = follow(predictor, [*faces[:3], *[GREY] * away, *faces[3:]])
    assert [[sighting.track for sighting in one] for one in seen] == [[0]] * 3 + [[]] * away + [[0]] * 3
    back = seen[3 + away][0]
    assert back.detected
    np.testing.assert_array_equal(back.smooth_px, back.face.points_px)  # What was before it left does not pull at it.


def test_a_face_that_comes_back_late_is_another(predictor: Predictor, still: list[tuple[np.ndarray, np.ndarray]]) -> None:
    away = int(1.3 * FPS)
    seen = follow(predictor, [still[0][0], *[GREY] * away, still[1][0]])
    assert [[sighting.track for sighting in one] for one in seen] == [[0]] + [[]] * away + [[1]]


def test_faces_keep_their_numbers(predictor: Predictor, looks: list[int]) -> None:
    """One stays; another comes at its right, is found when the detector looks next, and leaves."""
    one = [image for image, _ in frames(0, 7, 16, FPS, Motion())]
    other = [image for image, _ in frames(3, 7, 16, FPS, Motion())]
    beside = [np.concatenate([a, b if 2 <= place < 10 else GREY], axis=1) for place, (a, b) in enumerate(zip(one, other, strict=True))]
    seen = [[sighting.track for sighting in faces] for faces in follow(predictor, beside)]
    assert seen[:2] == [[0]] * 2
    assert seen[5:10] == [[0, 1]] * 5
    assert seen[10:] == [[0]] * 6


def test_two_bad_pairs_do_not_outweigh_a_good_one() -> None:
    """The first track overlaps the first detection by 0.47; it overlaps the second, and that the second track, by 0.3 at most."""
    tracks, found = ([np.array([x, 0, x + 100, 100], np.float32) for x in places] for places in ((0, 90), (36, -57)))
    assert _match(tracks, found) == {0: 0}


def test_a_jump_is_found_at_once(predictor: Predictor, still: list[tuple[np.ndarray, np.ndarray]]) -> None:
    image, truth_px = still[0]
    left, right = np.concatenate([image, GREY], axis=1), np.concatenate([GREY, image], axis=1)
    seen = follow(predictor, [left, left, right, right])
    assert [len(one) for one in seen] == [1] * 4
    for place, shift in enumerate((0, 0, 240, 240)):
        assert np.linalg.norm(seen[place][0].face.points_px - truth_px - (shift, 0), axis=-1).mean() < 0.15 * eyes_px(truth_px)


def test_a_face_upside_down_is_followed(predictor: Predictor, looks: list[int]) -> None:
    clip = [(np.ascontiguousarray(image[::-1, ::-1]), points_px) for image, points_px in frames(3, 7, 4, FPS, Motion())]
    seen = follow(predictor, [image for image, _ in clip])
    assert looks == [1]
    for (image, truth_px), (sighting,) in zip(clip, seen, strict=True):
        there_px = np.array(image.shape[1::-1]) - 1 - truth_px
        assert np.linalg.norm(sighting.face.points_px - there_px, axis=-1).mean() < 0.12 * eyes_px(truth_px)


def test_what_is_not_believed_is_not_followed_and_counted(predictor: Predictor, unbelieved: np.ndarray) -> None:
    tracker = FaceTracker(predictor, OneEuroSettings())
    assert [tracker(unbelieved, time_s) for time_s in (0.0, 0.1)] == [[], []]
    assert tracker.left_out == 2
    assert [face.believed for face in tracker.left_out_faces] == [False]
    every = FaceTracker(Predictor(predictor.bundle, min_quality=0), OneEuroSettings())
    assert [len(every(unbelieved, time_s)) for time_s in (0.0, 0.1)] == [1, 1]
    assert every.left_out == 0


def test_a_face_that_is_lost_for_one_that_is_not_believed(
    predictor: Predictor, unbelieved: np.ndarray, still: list[tuple[np.ndarray, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The detector claims the face of before, and the network does not see it: the face is away, and comes back as the same."""
    tracker, image = FaceTracker(predictor, OneEuroSettings()), still[0][0]
    (sighting,) = tracker(image, 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(predictor.detector, "detect", lambda frame: [Detection(box_of_points(sighting.face.points_px), 0.7)])
        assert [tracker(GREY, time_s) for time_s in (0.1, 0.2)] == [[], []]
        assert tracker.left_out == 2
    assert [one.track for one in tracker(image, 0.3)] == [0]


def test_lost_is_what_the_bundle_expects_less_of(
    predictor: Predictor, still: list[tuple[np.ndarray, np.ndarray]], looks: list[int]
) -> None:
    """A network that is less sure of all faces than the shipped one follows them, too."""
    unsure = Predictor(predictor.bundle)
    unsure.__dict__["detector"] = predictor.detector
    unsure.run = lambda crops_u8: (predictor.run(crops_u8)[0], 4 * predictor.run(crops_u8)[1])  # type: ignore[method-assign]
    median = median_ratio(predictor.bundle)
    assert median is not None
    for medians, seen in ((1, 4), (4, 1)):
        figures = {ERROR_RATIO: {MEDIAN: medians * median}}
        unsure.belief = belief_of(replace(predictor.bundle, metrics={REFERENCE: {"figures": figures}}))
        unsure.min_quality = 0.0
        looks.clear()
        assert [len(one) for one in follow(unsure, [still[0][0]] * 4)] == [1] * 4
        assert len(looks) == seen


def test_a_followed_face_is_held_to_the_least_quality(predictor: Predictor, still: list[tuple[np.ndarray, np.ndarray]]) -> None:
    image, strict = still[0][0], Predictor(predictor.bundle)
    tracker = FaceTracker(strict, OneEuroSettings())
    (sighting,) = tracker(image, 0.0)
    strict.min_quality = sighting.face.quality + 0.1  # Of all that it does not believe, found by the detector or not, each counts once.
    assert (tracker(image, 0.1), tracker.left_out) == ([], 1)
    strict.min_quality = 0.0
    assert [one.track for one in tracker(image, 0.2)] == [0]
    strict.min_quality = sighting.face.quality + 0.1
    strict.__dict__["detector"] = SimpleNamespace(detect=lambda image: [])
    assert (tracker(image, 0.3), tracker.left_out) == ([], 2)
    assert (tracker(image, 0.4), tracker.left_out) == ([], 2), "it is not looked for any more"


def test_no_face(predictor: Predictor, looks: list[int]) -> None:
    assert follow(predictor, [GREY] * 3) == [[]] * 3
    assert looks == [0, 0, 0]
