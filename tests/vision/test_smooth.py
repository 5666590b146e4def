"""The 1 Euro filter: what it stills, what it delays, and that its numbers are the paper's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fkp.vision.smooth import OneEuro, OneEuroSettings, shake_pct

FPS = 30.0
SIDE_PX = 100.0


def smoothed(points_px: np.ndarray, settings: OneEuroSettings, side_px: float = SIDE_PX) -> np.ndarray:
    smooth = OneEuro(settings)
    return np.stack([smooth(frame, side_px, 1 / FPS) for frame in points_px])


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return np.random.default_rng(0).uniform(50, 150, (68, 2))


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """As large beside the face as the shipped model's on a still synthetic face."""
    return np.random.default_rng(1).normal(0, 0.2, (90, 68, 2))


def test_as_the_paper_writes_it() -> None:
    """Algorithm 1 of the paper, for one value."""
    settings = OneEuroSettings(min_cutoff_hz=0.7, beta=3.0, speed_cutoff_hz=1.3)
    values = np.random.default_rng(2).normal(0, 9, 20).cumsum()

    def alpha(cutoff: float) -> float:
        tau = 1 / (2 * math.pi * cutoff)
        return 1 / (1 + tau * FPS)

    expected, before, speed, answer = [], None, 0.0, 0.0
    for value in values:
        if before is None:
            answer = value
        else:
            speed = alpha(1.3) * (value - before) * FPS / SIDE_PX + (1 - alpha(1.3)) * speed
            share = alpha(0.7 + 3.0 * abs(speed))
            answer = share * value + (1 - share) * answer
        before = value
        expected.append(answer)
    points_px = np.stack([values, np.zeros(20)], axis=-1)[:, None]
    np.testing.assert_allclose(smoothed(points_px, settings)[:, 0, 0], expected, rtol=1e-5)


def test_the_first_frame_is_as_it_is(face: np.ndarray) -> None:
    np.testing.assert_array_equal(smoothed(face[None], OneEuroSettings())[0], face.astype(np.float32))


def test_a_still_face_is_stilled(face: np.ndarray, noise: np.ndarray) -> None:
    raw = face + noise
    smooth = smoothed(raw, OneEuroSettings())

    def jitter(points: np.ndarray) -> float:
        return float(np.median([shake_pct(points[i : i + 3]) for i in range(10, len(points) - 2)]))

    assert jitter(smooth) < jitter(raw) / 5
    assert np.abs(smooth[30:] - face).mean() < np.abs(noise[30:]).mean() / 2


@pytest.mark.parametrize(("boxes_s", "limit_frames"), [(0.3, 1.0), (1.0, 0.5)])
def test_a_moving_face_lags_little(face: np.ndarray, boxes_s: float, limit_frames: float) -> None:
    step_px = boxes_s * SIDE_PX / FPS
    raw = face + step_px * np.arange(90)[:, None, None] * (1, 0)
    behind_px = (raw - smoothed(raw, OneEuroSettings()))[-1]
    assert 0 < behind_px[:, 0].mean() < limit_frames * step_px
    assert np.abs(behind_px[:, 1]).max() < 1e-4


def test_large_and_small_faces_are_smoothed_alike(face: np.ndarray, noise: np.ndarray) -> None:
    raw = face + noise
    np.testing.assert_allclose(smoothed(3 * raw, OneEuroSettings(), 3 * SIDE_PX), 3 * smoothed(raw, OneEuroSettings()), rtol=1e-4)


def test_shake(face: np.ndarray) -> None:
    steps = np.arange(3)[:, None, None]
    assert shake_pct(face + (4, -2) * steps) == pytest.approx(0, abs=1e-9)
    times_s = (0.0, 0.04, 0.3)
    assert shake_pct(face + np.array((4, -2)) * np.array(times_s)[:, None, None], times_s) == pytest.approx(0, abs=1e-9)
    eyes_px = np.linalg.norm(face[36] - face[45])
    assert shake_pct(face + (0.5, 0) * steps**2) == pytest.approx(100 / eyes_px)
    shaken = [shake_pct(face + np.random.default_rng(i).normal(0, 0.1, (3, 68, 2))) for i in range(50)]
    assert np.mean(shaken) == pytest.approx(100 * 0.307 / eyes_px, rel=0.05)
