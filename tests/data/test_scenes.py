"""Scenes that train a detector: what is in them is what is told of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fkp.config import Config
from fkp.data.scene_data import SceneBatches
from fkp.data.scene_pool import Pool, open_pool
from fkp.data.scenes import Scenes


@pytest.fixture(scope="module")
def config(small_run_in: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Config:
    return small_run_in(tmp_path_factory.mktemp("scenes"), task="detect", input__channels=3, detect__drawn=4, data__limit=20)


def test_the_points_of_a_scene_are_where_the_face_was_painted(config: Config) -> None:
    """Faces are dots of three colours on grey: the dots of a scene are where its shapes say, the viewer's left first in mirrored ones."""
    window = np.full((120, 120, 3), 128, np.uint8)
    places = np.array([(45, 50), (75, 50), (60, 62), (48, 75), (72, 75)])
    for (x, y), colour in zip(places, [(255, 0, 0)] * 2 + [(0, 255, 0)] + [(0, 0, 255)] * 2, strict=True):
        window[y - 3 : y + 4, x - 3 : x + 4] = colour
    shape = (np.concatenate([[(35, 35), (85, 85)], places]) + 0.5) / 120
    pool = Pool([window], np.stack([window[::2, ::2]]), shape[None], np.array([[0.0, 0.0, 1.0, 1.0]]), [])
    scenes = Scenes(pool, config.updated({"detect.size_px": 128}))
    seen = 0
    for number in range(200):
        image, shapes, counted = scenes([0, number])
        assert image.shape == (3, 128, 128) and image.dtype == np.uint8
        for of_face, counts in zip(shapes, counted, strict=True):
            length = (of_face[1] - of_face[0]).max()
            if not counts or length < 40 or not ((of_face > 4) & (of_face < 123)).all():
                continue
            x, y = np.round(of_face[4]).astype(int)
            nose = image[:, y, x].astype(int)
            if np.ptp(nose) > 60:  # Grey scenes tell no colours.
                seen += 1
                assert nose.argmax() == 1, "the tip of the nose is green"
            # Seen upright, the first eye is on the viewer's left, and the mouth below the eyes.
            eyes, mouth = of_face[3] - of_face[2], of_face[5:].mean(axis=0) - of_face[2:4].mean(axis=0)
            assert eyes[0] * mouth[1] - eyes[1] * mouth[0] > 0
    assert seen > 5


def test_a_scene_is_made_of_its_number_alone(config: Config) -> None:
    scenes = Scenes(open_pool(config, "val"), config)
    first, again, other = (SceneBatches(scenes, 8, name).__getitems__([3, 11]) for name in ("train", "train", "val"))
    assert (first[0] == again[0]).all() and (first[0] != other[0]).any()
    assert (first[0][0] != first[0][1]).any(), "no epoch repeats the scenes of another"
    assert all((a == b).all() for a, b in zip(first[1], again[1], strict=True))


def test_covered_and_cut_off_faces_do_not_count(config: Config) -> None:
    scenes = Scenes(open_pool(config, "val"), config)
    told = [scenes([5, number])[1:] for number in range(80)]
    counted = np.concatenate([counts for _, counts in told])
    shapes = np.concatenate([shapes for shapes, _ in told])
    inside = np.clip(shapes[:, :2], 0, config.detect.size_px - 1)
    part = np.ptp(inside, axis=1).prod(axis=-1) / np.ptp(shapes[:, :2], axis=1).prod(axis=-1)
    assert not counted[part < 0.4].any() and counted[part > 0.99].mean() > 0.6
    assert not counted[(shapes[:, 1] - shapes[:, 0]).max(axis=-1) < 7].any()
