"""`data.extra`: label sets that only train, beside the configured one."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fkp.config import Config
from fkp.data import label_set
from fkp.data.crop_cache import open_cache
from fkp.data.extra import about_extra
from fkp.data.labels import load_labels, split_digest
from fkp.errors import FkpError
from fkp.scheme import IBUG68, load_scheme
from fkp.vision import image as images
from fkp.vision.augment import WIDE, wide_size_px
from fkp.vision.crop import Crop, box_of_points
from tests.faces import face, write_label_set


@pytest.fixture
def config(tiny_config: Config, tmp_path: Path) -> Config:
    """Four faces a subset."""
    return tiny_config.updated({"data": {"cache_dir": str(tmp_path / "cache"), "limit": 4}})


def with_extra(config: Config, *roots: Path, **data: object) -> Config:
    return config.updated({"data": {"extra": [str(root) for root in roots], **data}})


def test_extra_faces_train_and_nothing_else_changes(config: Config, tmp_path: Path) -> None:
    first, second = write_label_set(tmp_path / "first", 3), write_label_set(tmp_path / "second", 6, license="MIT")
    plain, more = open_cache(config), open_cache(with_extra(config, first, second))
    assert more.digest != plain.digest
    np.testing.assert_array_equal(more.train.rows, [*plain.train.rows, *[-1] * 7])
    np.testing.assert_array_equal(more.train.crops_u8[:4], plain.train.crops_u8)
    np.testing.assert_array_equal(more.train.points_px[:4], plain.train.points_px)
    for name in ("crops_u8", "points_px", "rows"):
        np.testing.assert_array_equal(getattr(more.val, name), getattr(plain.val, name))
    for place, (root, number) in enumerate([(first, 0), (first, 1), (first, 2), (second, 0), (second, 1)], start=4):
        points_px = face(60, 40, 28, number).astype(np.float32)
        crop = Crop.of_box(box_of_points(points_px), wide_size_px(64), 1.3 * WIDE)
        np.testing.assert_array_equal(more.train.crops_u8[place], crop.apply(images.read_image(root / f"images/{number}.png"), 1))
        np.testing.assert_allclose(more.train.points_px[place], crop.do(points_px), atol=1e-3)
    catalog = load_labels(config.data)
    assert split_digest(catalog, config.data) == split_digest(catalog, with_extra(config, first).data), "the same faces are measured"
    told = about_extra(with_extra(config, first, second).data)
    assert [(some["faces"], some.get("license")) for some in told] == [(3, None), (4, "MIT")], "data.limit holds for each set"


def test_another_image_or_set_makes_other_crops(config: Config, tmp_path: Path) -> None:
    root = write_label_set(tmp_path / "set")
    digests = [open_cache(with_extra(config, root)).digest, open_cache(with_extra(config, root)).digest]
    assert digests[0] == digests[1] and len(list((tmp_path / "cache").iterdir())) == 1
    image = images.read_image(root / "images/1.png")
    images.write_image(root / "images/1.png", 255 - image)
    assert open_cache(with_extra(config, root)).digest != digests[0]
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_points_come_by_name_and_some_may_be_missing(config: Config, tmp_path: Path) -> None:
    inner = write_label_set(tmp_path / "inner", 2, load_scheme("ibug51"))
    holes = write_label_set(tmp_path / "holes", 2, missing=(0, 30))
    points_px = open_cache(with_extra(config, inner, holes)).train.points_px[4:]
    known = np.isfinite(points_px).all(-1)
    assert not known[:2, :17].any() and known[:2, 17:].all(), "ibug51 has no jaw"
    assert (~known[2:]).nonzero()[1].tolist() == [0, 30, 0, 30]


def no_outer_corner(root: Path) -> Path:
    return write_label_set(root, missing=(36,))


def nothing_labelled(root: Path) -> Path:
    (write_label_set(root) / label_set.LABELS).write_text("")
    return root


def unfit(root: Path) -> Path:
    head = json.loads((write_label_set(root) / label_set.SET).read_text())
    scheme = load_scheme("five")
    line = {"image": "images/0.png", "group": "a", "subset": None, "box": None, "points": [[40, 40]] * 5, "visible": [True] * 5}
    (root / label_set.SET).write_text(json.dumps({**head, "scheme": scheme.name}))
    (root / label_set.LABELS).write_text(json.dumps(line) + "\n")
    return root


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: root, "set of data.extra holds no set: `fkp data import` makes one"),
        (nothing_labelled, "labels no face that can be used"),
        (unfit, f"is labelled in scheme five, which has no {IBUG68.landmarks[36]} of ibug68"),
        (no_outer_corner, "labels.jsonl of data.extra, face 1: too few points are labelled"),
    ],
)
def test_what_cannot_train_is_one_sentence(config: Config, tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    with pytest.raises(FkpError) as caught:
        open_cache(with_extra(config, make(tmp_path / "set")))
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_twice_and_streamed_are_refused(config: Config, packed_root: Path, tmp_path: Path) -> None:
    root = write_label_set(tmp_path / "set")
    with pytest.raises(FkpError, match="names a set twice"):
        open_cache(with_extra(config, root, tmp_path / "cache" / ".." / "set"))
    with pytest.raises(FkpError, match=r"data\.extra needs data\.backend=memory"):
        open_cache(with_extra(config, root, root=str(packed_root), backend="stream"))


@pytest.mark.parametrize("subset", ["val", "test"])
def test_an_image_that_measures_does_not_train(config: Config, tmp_path: Path, subset: str) -> None:
    root, catalog = write_label_set(tmp_path / "set"), load_labels(config.data)
    shutil.copyfile(catalog.path(catalog.rows(subset, config.data)[1]), root / "images/2.png")
    # The other face of the same set that trains may come again.
    shutil.copyfile(catalog.path(catalog.rows("train", config.data)[0]), root / "images/1.png")
    with pytest.raises(FkpError, match=r"images/2\.png of data\.extra is an image of the validation or test subset"):
        open_cache(with_extra(config, root))
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_command_says_it_before_anything_trains(
    run_process: Callable[..., subprocess.CompletedProcess[str]], synthetic_root: Path, tmp_path: Path
) -> None:
    flags = ["--data.source=folder", f"--data.root={synthetic_root}", "--data.extra=a,b", "--scale.num_workers=0"]
    done = run_process("fkp.train", *flags, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path / 'a'} of data.extra holds no set: `fkp data import` makes one of labelled images\n"
    assert list(tmp_path.glob("[!p]*")) == [], "nothing began"
