"""What came of an adaptation: the JSON report, its lines for the terminal, and the bundle's card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fkp.adapt.measure import Measured, interval, mean_nme, texts
from fkp.adapt.ways import Trial
from fkp.bundle import Bundle
from fkp.config import Config
from fkp.data.labels import Catalog
from fkp.evaluation.leakage import leakage


def summarise(catalog: Catalog, base: Bundle, measured: Measured, trials: Sequence[Trial], penalty: float) -> dict[str, Any]:
    """Content of the JSON report."""
    scheme = catalog.scheme
    before, after = measured.before_nme_pct, measured.after_nme_pct
    told = {}
    if np.isfinite(before).any():
        told = {name: _span(values, measured) for name, values in (("before", before), ("after", after), ("gain", before - after))}
    missing = len(scheme) - len(scheme.places_in(base.config.scheme))
    every = _span(mean_nme(measured.after), measured)
    return {
        "set": str(catalog.root),
        "scheme": scheme.name,
        "normaliser": scheme.normaliser_text,
        "labels_sha256": catalog.digest,
        "faces": len(catalog),
        "faces_measured": len(measured.groups),
        "groups": int(catalog.table["identity"].nunique()),
        "model": base.digest,
        "way": trials[0].way,
        "ways": {trial.way: trial.mean_nme_pct for trial in trials},
        "penalty": penalty,
        "blend": trials[0].blend,
        "landmarks_the_model_lacked": missing,
        "before": told.get("before"),
        "after": told.get("after", every),
        "after_all_landmarks": every,
        "gain": told.get("gain"),
        "helps": bool(missing or told["gain"]["low"] > 0),
        "measured_on": measured.after.leakage.note,
        "base": leakage(base, catalog, measured.after.data).note,
        "metrics": measured.after.metrics(),
    }


def _span(values: np.ndarray, measured: Measured) -> dict[str, float]:
    mean, low, high = interval(values, measured.groups)
    return {"nme_pct": mean, "low": low, "high": high}


def lines(summary: dict[str, Any]) -> list[str]:
    """The result in words."""
    spans = {name: tuple(summary[name].values()) for name in ("before", "after", "gain", "after_all_landmarks") if summary[name]}
    said = dict(zip(spans, texts(list(spans.values())), strict=True))
    told = [f"tried      {', '.join(f'{way} {nme:.2f} %' for way, nme in summary['ways'].items())}: {summary['way']} is best"]
    if "before" in said:
        told += [
            f"before     NME {said['before']}, 95 % interval over groups",
            f"after      NME {said['after']}",
            f"gain       {said['gain']}",
        ]
    if summary["landmarks_the_model_lacked"]:
        told.append(f"all points NME {said['after_all_landmarks']}; {summary['landmarks_the_model_lacked']} of them the model did not have")
    if summary["base"].startswith("contaminated"):
        told.append(f"beware     the model of before was trained on some of these faces ({summary['base']})")
    return [*told, f"measured   {summary['measured_on']}"]


def card(config: Config, summary: dict[str, Any], base: Bundle) -> str:
    """The Markdown card of the bundle."""
    return "\n".join(
        [
            f"# {config.track.run_name}",
            "",
            f"A landmark model of scheme {config.scheme.name}: {len(config.scheme)} points, adapted from bundle {base.digest[:12]} "
            f"({base.config.track.run_name}).",
            "",
            f"- adapted to: {summary['faces']} faces, labels {summary['labels_sha256'][:16]}, by `fkp adapt`: {summary['way']}",
            f"- crop: {config.input.size_px} px, {config.input.crop_scale} x the box of the points",
            "",
            f"NME in percent ({summary['normaliser']}), box from the labels:",
            "",
            *(f"    {line}" for line in lines(summary)),
            "",
        ]
    )
