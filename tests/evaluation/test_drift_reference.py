"""The histograms of a bundle, against images like its own and against darkened ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fkp.bundle import Bundle, drift, open_bundle
from fkp.bundle.drift import BRIGHTNESS, ERROR_RATIO, count, reference_counts, stability_index
from fkp.data.labels import Catalog, load_labels, read_frame
from fkp.errors import FkpError
from fkp.evaluation import drift_reference
from fkp.evaluation.evaluate import ERROR_RADII
from fkp.evaluation.radii import OFF_SET_RADII
from fkp.predict import DEFAULT_BUNDLE, Predictor
from fkp.vision.crop import box_of_points

REPO = Path(__file__).resolve().parents[2]


def served(predictor: Predictor, catalog: Catalog, rows: np.ndarray, exposure: float = 1.0) -> dict[str, list[int]]:
    """What the endpoint would count for these frames, shown darker."""
    values: dict[str, list[float]] = {ERROR_RATIO: [], BRIGHTNESS: []}
    for row in rows:
        frame, _ = read_frame(catalog, row)
        box = box_of_points(catalog.points_px[row])
        frame = (frame * exposure).astype(np.uint8)
        (face,) = predictor(frame, [box])
        values[ERROR_RATIO].append(drift.error_ratio(face.expected_error_px, face.box_xyxy))
        values[BRIGHTNESS].append(drift.brightness(predictor.crop(box).apply(frame, predictor.config.input.channels)))
    return {name: count(name, found) for name, found in values.items()}


def test_a_bundle_gets_its_histograms(
    tiny_bundle: Bundle, synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(tiny_bundle.path, tmp_path / "copy"))
    drift_reference.main(["--bundle", str(copy), "--root", str(synthetic_root)])
    found = open_bundle(copy)
    assert f"its digest is now {found.digest}" in capsys.readouterr().out
    assert found.digest != tiny_bundle.digest
    radii = {key: found.metrics[key] for key in (ERROR_RADII, OFF_SET_RADII)}
    assert all(len(told["ratios"]) == 99 for told in radii.values())
    assert found.metrics == {**tiny_bundle.metrics, **radii, drift.REFERENCE: found.metrics[drift.REFERENCE]}
    catalog = load_labels(found.config.data)
    rows = catalog.rows("val", found.config.data)
    assert found.metrics[drift.REFERENCE]["faces"] == len(rows)
    ratio = found.metrics[drift.REFERENCE]["figures"][ERROR_RATIO]
    assert count(ERROR_RATIO, [ratio[drift.MEDIAN]]) == [
        int(place == np.searchsorted(np.cumsum(ratio["counts"]), len(rows) / 2)) for place in range(len(ratio["counts"]))
    ]
    assert ratio[drift.HIGH] >= ratio[drift.MEDIAN]
    assert reference_counts(found.metrics) == served(Predictor(found), catalog, rows)


def test_another_set_than_the_trained_one_is_refused(tiny_bundle: Bundle, synthetic_root: Path, tmp_path: Path) -> None:
    from fkp.bundle import update_bundle

    copy = Path(shutil.copytree(tiny_bundle.path, tmp_path / "copy"))
    update_bundle(copy, {"labels_sha256": "0" * 64}, "")
    with pytest.raises(FkpError, match=r"is not the set that .* was trained on: name that one with --root"):
        drift_reference.main(["--bundle", str(copy), "--root", str(synthetic_root)])


def test_the_shipped_bundle_knows_its_faces(real_root: Path) -> None:
    """On persons that it has not seen: no drift; on the same frames at half the light: drift."""
    predictor = Predictor(DEFAULT_BUNDLE)
    known = reference_counts(predictor.bundle.metrics)
    assert set(known) == {ERROR_RATIO, BRIGHTNESS}
    assert sum(known[BRIGHTNESS]) == predictor.bundle.metrics["validation"]["faces"]
    data = predictor.config.updated({"data.root": str(real_root)}).data
    catalog = load_labels(data)
    rows = catalog.rows("test", data)[::2]
    same, dark = served(predictor, catalog, rows), served(predictor, catalog, rows, 0.5)
    for name, counts in known.items():
        assert stability_index(counts, same[name]) < 0.1, name
    assert stability_index(known[BRIGHTNESS], dark[BRIGHTNESS]) > drift.ALARM
