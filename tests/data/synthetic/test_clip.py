"""A moving synthetic face: its labels move as it does."""

from __future__ import annotations

import numpy as np

from fkp.data.synthetic.clip import Motion, frames
from fkp.vision.crop import box_of_points


def test_labels_follow_the_image() -> None:
    clip = list(frames(0, 7, 9, 8, Motion(sway_boxes=0.25, turn_deg=10, period_s=1), noise=0))
    first, truth_px = clip[0]
    assert (first.shape, first.dtype, truth_px.shape) == ((240, 240, 3), np.uint8, (68, 2))
    centers_px = np.array([box_of_points(points).reshape(2, 2).mean(axis=0) for _, points in clip])
    np.testing.assert_allclose(centers_px[0], [119.5, 119.5], atol=0.1)
    assert 20 < centers_px[2, 0] - centers_px[0, 0] < 40  # A quarter of a period: a quarter of a box of 120 px.
    assert -40 < centers_px[6, 0] - centers_px[0, 0] < -20
    assert np.abs(clip[8][1] - truth_px).max() < 0.01
    # What stands at a point stands there in every frame: dark pupils' neighbourhoods stay alike.
    for image, points_px in clip[1:]:
        x, y = points_px[30].round().astype(int)
        x0, y0 = truth_px[30].round().astype(int)
        assert abs(float(image[y - 2 : y + 3, x - 2 : x + 3].mean()) - float(first[y0 - 2 : y0 + 3, x0 - 2 : x0 + 3].mean())) < 15


def test_only_the_noise_changes_in_a_still_clip() -> None:
    (a, points_a), (b, points_b) = frames(0, 7, 2, 8, Motion(), noise=5)
    np.testing.assert_array_equal(points_a, points_b)
    assert 5 < (a.astype(float) - b).std() < 9
