"""Which figures of a finished training stand in the record, and where its page shows them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fkp.config import Config
from fkp.data.labels import load_labels
from fkp.evaluation.evaluate import Evaluation
from fkp.evaluation.leakage import Leakage
from fkp.train.publish import run_metrics


def measured(config: Config, split: str, bias_px: tuple[float, float]) -> Evaluation:
    """Predictions that miss each label by (2, 2) pixels."""
    data = config.data.updated({"split": split, "label_bias_px": bias_px})
    catalog = load_labels(data)
    rows = catalog.rows("test", data)
    errors = np.full((len(rows), 68), 3, np.float32)
    return Evaluation(catalog, data, rows, catalog.points_raw_px[rows] + 2, errors, Leakage("held out", 0, 0, 0))


@pytest.mark.parametrize("bias_px", [(0.0, 0.0), (1.0, 0.5)])
def test_five_headlines_come_first_and_no_figure_stands_twice(tiny_config: Config, bias_px: tuple[float, float]) -> None:
    identity, published = (measured(tiny_config, split, bias_px) for split in ("identity", "published"))
    metrics = run_metrics(replace(published, subset="val"), identity, [identity, published])
    groups = sorted({key.rpartition("/")[0] for key in metrics})
    raw = ["test_identity_raw", "test_published_raw"] if any(bias_px) else []
    assert groups == sorted(["headline", "test_identity", "test_published", *raw])
    assert groups[0] == "headline", "MLflow's page shows groups in the alphabet's order"
    assert {key for key in metrics if key.startswith("headline/")} == {
        "headline/val_nme_interocular_pct",
        "headline/test_nme_interocular_pct",
        "headline/test_auc_08_pct",
        "headline/test_failure_08_pct",
        "headline/test_coverage_68_pct",
    }
    assert metrics["headline/val_nme_interocular_pct"] == metrics["test_published/nme_interocular_pct"]
    assert metrics["headline/test_nme_interocular_pct"] == metrics["test_identity/nme_interocular_pct"]
    assert metrics["test_identity/nme_interocular_pct"] == pytest.approx(identity.metrics()["nme_interocular_pct"])
    if raw:
        assert metrics["test_identity_raw/nme_interocular_pct"] == pytest.approx(identity.metrics("raw")["nme_interocular_pct"])
        assert metrics["test_identity_raw/nme_interocular_pct"] < metrics["test_identity/nme_interocular_pct"], "by the bias"
