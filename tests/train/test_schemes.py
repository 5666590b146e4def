"""Every landmark scheme through training, bundle and prediction: nothing on the way knows what the points are."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from fkp.bundle import open_bundle
from fkp.config import Config, DataConfig
from fkp.data.labels import load_labels
from fkp.errors import FkpError
from fkp.evaluation.leakage import leakage
from fkp.predict import Predictor
from fkp.scheme import IBUG68, Scheme, as_setting, built_in, load_scheme
from fkp.serve.bundle_source import Source
from fkp.serve.model import load_model
from fkp.train.pipeline import train
from fkp.vision.draw import draw_face

#: Twenty points in an order of their own; some have other names, and one is in no pair.
TWENTY = """
name: twenty
landmarks: [nose_tip, left_eye_outer, right_eye_outer, left_eye_inner, right_eye_inner, mouth_a, mouth_b, chin, left_brow_0, right_brow_0,
  left_jaw_0, right_jaw_0, left_jaw_4, right_jaw_4, upper_lip_top, lower_lip_bottom, nose_base, left_cheek, right_cheek, spot]
pairs: [[mouth_a, mouth_b]]
regions: {eyes: ["1-4"], mouth: [mouth_a, mouth_b, upper_lip_top, lower_lip_bottom]}
normaliser: {name: inner, between: [left_eye_inner, right_eye_inner]}
"""


def points_in(scheme: Scheme, points_px: np.ndarray) -> np.ndarray:
    """(N, 68, 2) to (N, K, 2): by name, and what ibug68 does not name is the middle of some points, and mirrors with its partner."""
    out = scheme.convert(points_px, IBUG68)
    rng = np.random.default_rng(0)
    for point in np.flatnonzero(np.isnan(out[0, :, 0])):
        if scheme.mirror[point] < point and np.isfinite(out[0, scheme.mirror[point], 0]):
            continue
        some = rng.choice(68, 3, replace=False)
        out[:, point] = points_px[:, some].mean(1)
        if scheme.mirror[point] != point:
            out[:, scheme.mirror[point]] = points_px[:, [IBUG68.mirror[place] for place in some]].mean(1)
        else:
            both = [*some, *(IBUG68.mirror[place] for place in some)]
            out[:, point] = points_px[:, both].mean(1)
    return out


@pytest.fixture
def labelled_in(synthetic_root: Path, tmp_path: Path) -> Callable[..., Path]:
    """`labelled_in(scheme, missing=0.1)` is the synthetic set with labels of this scheme; that part of them is not labelled."""

    def make(scheme: Scheme, missing: float = 0.0) -> Path:
        root = Path(shutil.copytree(synthetic_root, tmp_path / f"set-{scheme.name}"))
        catalog = load_labels(DataConfig(source="folder", root=str(synthetic_root)))
        points_px, rng = points_in(scheme, catalog.points_raw_px), np.random.default_rng(1)
        drop = rng.random(points_px.shape[:2]) < missing
        drop[:, list(scheme.between or ())] = False
        drop[drop.sum(1) > len(scheme) // 2, :] = False
        for part in ("training", "test"):
            with (root / f"{part}_frames_keypoints.csv").open("w", newline="") as file:
                rows = csv.writer(file)
                rows.writerow(["", *range(2 * len(scheme))])
                for row in np.flatnonzero(catalog.table["part"] == part):
                    cells = [["", ""] if gone else [f"{x:.2f}", f"{y:.2f}"] for (x, y), gone in zip(points_px[row], drop[row], strict=True)]
                    rows.writerow([catalog.table["file"].iat[row], *(cell for pair in cells for cell in pair)])
        return root

    return make


def trained(config: Config) -> tuple[Path, Scheme]:
    outcome = train(config)
    bundle, scheme = open_bundle(outcome.bundle_path), config.scheme
    assert bundle.config.scheme == scheme
    own = bundle.metrics["test"]["identity"]["corrected"]
    assert np.isfinite(own[scheme.nme_key]) and 0 < own["points_measured"] <= bundle.metrics["test"]["identity"]["faces"] * len(scheme)
    assert {f"nme_{region}_{scheme.normaliser}_pct" for region in scheme.regions} <= own.keys()
    assert bundle.metrics["validation"][scheme.nme_key] > 0 and f"scheme {scheme.name}: {len(scheme)} points" in bundle.card
    catalog = load_labels(bundle.config.data)
    row = int(catalog.rows("test", bundle.config.data)[0])
    predictor = Predictor(bundle)
    known = catalog.points_px[row][np.isfinite(catalog.points_px[row]).all(-1)]
    (face,) = predictor(catalog.image(row), [np.concatenate([known.min(0), known.max(0)])])
    assert face.points_px.shape == (len(scheme), 2) and face.scheme == scheme and (face.expected_error_px > 0).all()
    (mirrored,) = predictor.refine(catalog.image(row), [face], mirrored=True)
    assert mirrored.points_px.shape == (len(scheme), 2)
    assert (draw_face(catalog.image(row), face.points_px, scheme=scheme) != catalog.image(row)).any()
    served = load_model(Source(str(outcome.bundle_path)), threads=1, golden_nme_pct=1000.0)
    assert served.card_json()["scheme"] == {"name": scheme.name, "landmarks": list(scheme.landmarks)}
    return outcome.bundle_path, scheme


@pytest.mark.slow("a training with all that follows it, for each scheme")
@pytest.mark.parametrize("name", [name for name in built_in() if name != "ibug68"])
def test_a_built_in_scheme_is_trained_and_served(name: str, small_run: Callable[..., Config], labelled_in: Callable[..., Path]) -> None:
    root = labelled_in(load_scheme(name), missing=0.1)
    trained(small_run(train__epochs=1, data__source="folder", data__root=str(root), data__scheme=name))


@pytest.mark.over_5s("a training with all that follows it")
def test_a_scheme_of_ones_own_is_trained_and_served(
    small_run: Callable[..., Config], labelled_in: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "twenty.yaml"
    path.write_text(TWENTY)
    root = labelled_in(load_scheme(str(path)), missing=0.2)
    config = small_run(train__epochs=1, data__source="folder", data__root=str(root), data__scheme=str(path), augment__flip=0.5)
    path.unlink()  # What a run needs of it is in its settings.
    place, scheme = trained(config)
    assert json.loads((place / "config.json").read_text())["data"]["scheme"].startswith("{")
    assert open_bundle(place).config.scheme.landmarks == scheme.landmarks


def test_a_set_is_read_in_another_scheme_by_the_names_of_its_points(synthetic_root: Path) -> None:
    data = DataConfig(source="synthetic", root=str(synthetic_root))
    plain, inner = (load_labels(data.updated({"scheme": name})) for name in ("ibug68", "ibug51"))
    np.testing.assert_array_equal(inner.points_px, plain.points_px[:, 17:])
    assert inner.digest == plain.digest, "the same labels: what was trained on them is known"
    assert "unknown" in leakage(None, inner, data).note
    for name, missing in (("five", "left_pupil"), ("wflw98", "left_jaw_0h")):
        with pytest.raises(
            FkpError, match=rf"labelled in scheme ibug68, which has no {missing} of {name}: its own is --data.scheme ibug68$"
        ):
            load_labels(data.updated({"scheme": name}))


def test_a_scheme_of_as_many_points_has_an_order_of_its_own(labelled_in: Callable[..., Path], synthetic_root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump(
            {
                **IBUG68.to_json(),
                "name": "mine",
                "landmarks": [*reversed(IBUG68.landmarks)],
                "pairs": [],
                "regions": {},
                "groups": {},
                "edges": [],
                "yaw": None,
                "normaliser": {"name": "eyes", "between": ["left_eye_outer", "right_eye_outer"]},
            }
        )
    )
    mine = load_scheme(str(tmp_path / "mine.yaml"))
    plain = load_labels(DataConfig(source="synthetic", root=str(synthetic_root)))
    drawn = load_labels(DataConfig(source="synthetic", root=str(synthetic_root), scheme=as_setting(str(tmp_path / "mine.yaml"))))
    np.testing.assert_array_equal(drawn.points_px, plain.points_px[:, ::-1], err_msg="by name, not by place")
    own = load_labels(DataConfig(source="folder", root=str(labelled_in(mine)), scheme=as_setting(str(tmp_path / "mine.yaml"))))
    np.testing.assert_allclose(own.points_px, plain.points_px[:, ::-1], atol=0.01, err_msg="the file's own order")


def test_of_few_points_some_may_be_missing(labelled_in: Callable[..., Path]) -> None:
    root = labelled_in(load_scheme("five"), missing=0.5)
    catalog = load_labels(DataConfig(source="folder", root=str(root), scheme="five"))
    labelled = np.isfinite(catalog.points_px).all(-1).sum(1)
    assert labelled.min() == 3 and labelled.max() == 5
