"""What scenes are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fkp.config import Config
from fkp.data.scene_pool import open_pool
from fkp.errors import FkpError
from fkp.scheme import IBUG68
from fkp.vision.align import five_points
from fkp.vision.crop import box_of_points
from fkp.vision.image import write_image


@pytest.fixture(scope="module")
def config(small_run_in: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Config:
    return small_run_in(tmp_path_factory.mktemp("scenes"), task="detect", input__channels=3, detect__drawn=4, data__limit=20)


def test_a_pool_has_the_labelled_faces_and_the_drawn_ones(config: Config) -> None:
    from fkp.data.labels import load_labels

    pool = open_pool(config, "train")
    assert len(pool) == 24 and len(open_pool(config, "val")) == 20
    catalog = load_labels(config.data)
    row = int(catalog.rows("train", config.data)[0])
    box = box_of_points(catalog.points_px[row])
    assert np.ptp(pool.shapes[0][:2], axis=0) == pytest.approx((box[2:] - box[:2]) / (2.4 * (box[2:] - box[:2]).max()), abs=0.01)
    five = five_points(catalog.points_px[row], IBUG68)
    turned = np.linalg.norm(five[1] - five[0]) / (box[2:] - box[:2]).max()
    assert np.linalg.norm(pool.shapes[0][3] - pool.shapes[0][2]) * 2.4 == pytest.approx(turned, abs=0.02)


def test_backgrounds_are_photographs_or_one_sentence(config: Config, tmp_path: Path) -> None:
    with pytest.raises(FkpError, match="holds no photograph: name another folder"):
        open_pool(config.updated({"detect.backgrounds": [str(tmp_path)]}), "train")
    for number in range(10):
        write_image(tmp_path / f"{number}.png", np.full((600, 900, 3), 20 * number, np.uint8))
    given = config.updated({"detect.backgrounds": [str(tmp_path)]})
    train, val = (open_pool(given, subset).backgrounds for subset in ("train", "val"))
    assert {image.shape for image in train} == {(341, 512, 3)}
    assert len(train) == 9 and len(val) == 1, "none of them both trains and validates"
