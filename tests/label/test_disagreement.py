"""Wrong labels come first: those that were made wrong among drawn ones, and among drawn faces that a model sees."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np

from fkp.bundle.joint_errors import JointErrors, by_distance
from fkp.config import DataConfig
from fkp.data.face_shape import mean_face
from fkp.label.disagreement import HeldOut, disagreement
from fkp.label.held_out import errors_of, held_out
from fkp.label.posterior import Errors
from fkp.scheme import IBUG68
from fkp.shipped import shipped

SHAPE = 100 * mean_face()[:, :2] + 200
FACES = 80
SIZE = float(IBUG68.size_px(SHAPE))


def labels() -> HeldOut:
    """Faces whose errors follow their distance and their stated scale; a fifth of them are four times as hard as the others."""
    rng = np.random.default_rng(0)
    scale = np.where(np.arange(FACES)[:, None] % 5 == 0, 6.0, 1.5) * np.ones(68)
    errors = rng.multivariate_normal(np.zeros(136), by_distance(SHAPE), FACES).reshape(-1, 68, 2) * 1.6 * scale[..., None]
    points = np.tile(SHAPE, (FACES, 1, 1))
    return HeldOut(points + errors, points, scale, np.arange(FACES), IBUG68)


def spoil(label_px: np.ndarray, kind: str) -> np.ndarray:
    """A label with an error that people make."""
    spoilt = label_px.copy()
    if kind == "slip":
        spoilt[33] += (0.1 * SIZE, 0.05 * SIZE)
    elif kind == "left and right":
        spoilt = spoilt[list(IBUG68.mirror)]
    elif kind == "one place too far":
        spoilt[17:21] = spoilt[18:22]
    elif kind == "two exchanged":
        spoilt[[30, 33]] = spoilt[[33, 30]]
    return spoilt


def test_wrong_labels_come_before_hard_faces() -> None:
    found = labels()
    wrong = {3: "slip", 27: "left and right", 51: "one place too far", 72: "two exchanged"}
    for face, kind in wrong.items():
        found.labels_px[face] = spoil(found.labels_px[face], kind)
    told = disagreement(found, Errors(IBUG68, JointErrors()))
    assert set(told.order[:4].tolist()) == wrong.keys()
    assert sorted(told.order.tolist()) == list(range(FACES))
    assert 33 in told.where[3]
    plain = np.linalg.norm(found.labels_px - found.points_px, axis=-1).mean(1)
    assert 3 not in np.argsort(-plain)[: FACES // 4], "the mean error would not have found the slip"


def test_points_that_are_not_labelled_are_not_strange() -> None:
    found = labels()
    found.labels_px[8, :17] = np.nan
    found.labels_px[9] = spoil(found.labels_px[9], "slip")
    told = disagreement(found, errors_of(found))
    assert told.order[0] == 9
    assert told.score[8] < 2
    assert 0.9 < np.median(told.score) < 1.5


def test_faces_of_a_set_are_judged_by_models_that_have_not_seen_them(synthetic_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(synthetic_root, tmp_path / "set"))
    path, other = (root / f"{part}_frames_keypoints.csv" for part in ("training", "test"))
    rows = list(csv.reader(path.read_text().splitlines()))[:41]
    other.write_text(other.read_text().splitlines()[0] + "\n")
    wrong = [5, 11]
    for row in wrong:
        points = np.array(rows[1 + row][1:], float).reshape(-1, 2)
        points[36:42], points[42:48] = points[42:48].copy(), points[36:42].copy()
        rows[1 + row][1:] = [f"{value:.3f}" for value in points.ravel()]
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")
    data = DataConfig(source="folder", root=str(root))
    found = held_out(data, str(shipped("saved_models/tiny")))
    assert len(found.points_px) == len(found.groups) == 40
    told = disagreement(found, errors_of(found))
    assert set(told.order[:2].tolist()) == set(wrong)
    assert {place for face in told.order[:2] for place in told.where[face]} <= set(range(36, 48))
