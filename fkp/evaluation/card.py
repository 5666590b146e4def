"""The Markdown card of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fkp.config import Config
from fkp.evaluation.evaluate import ERROR_RADII, LEVELS_PCT, Evaluation
from fkp.evaluation.radii import OFF_SET_RADII, multiple


def card(
    config: Config,
    data_digest: str,
    validation: Evaluation,
    evaluations: Sequence[Evaluation],
    radii: Mapping[str, Mapping[str, Any]],
    extra: Sequence[Mapping[str, Any]] = (),
) -> str:
    """What a reader of the bundle must know, with the metrics as measured.

    `radii` are those of `radii.stated_radii`, `extra` is as under `leakage.EXTRA` in the bundle's metrics.
    """
    scheme = config.scheme
    colour = "grey" if config.input.channels == 1 else "RGB"
    lines = [
        f"# {config.track.run_name}",
        "",
        f"A landmark model of scheme {scheme.name}: {len(scheme)} points. Input: a square crop around a face; output: points in its",
        "pixels and a scale of the error per point.",
        "",
        f"- architecture: {config.model.arch}, width {config.model.width}, depth {config.model.depth}, {config.model.head} head",
        f"- crop: {config.input.size_px} px, {colour}, {config.input.crop_scale} x the box of the points",
        f"- trained on: {config.data.source}, {config.data.split} split, data digest {data_digest[:16]}",
        *(f"- and, for training alone, on {_extra_set(some)}" for some in extra),
        "- trained again by: `fkp train --config config.json --track.run_name NEW_NAME`",
        "",
        f"Validation NME, by which models of this split are compared: {validation.metrics()[scheme.nme_key]:.3f} %",
        f"({len(validation)} faces, box from the labels, corrected labels).",
        "",
        f"Test metrics, NME in percent ({scheme.normaliser_text}), box from the labels:",
        "",
        "| split | faces | NME, corrected labels | NME, raw labels | failures at 8 %, corrected labels | what training saw |",
        "|---|---|---|---|---|---|",
    ]
    for found in evaluations:
        corrected, raw = found.metrics("corrected"), found.metrics("raw")
        lines.append(
            f"| {found.data.split} | {len(found)} | {corrected[scheme.nme_key]:.2f} | {raw[scheme.nme_key]:.2f} "
            f"| {corrected['failure_08_pct']:.1f} % | {found.leakage.note} |"
        )
    (own,) = (found for found in evaluations if found.data.split == config.data.split)
    lines += [
        "",
        f"Parts of the {own.data.split} split's test faces:",
        "",
        "| part | NME, corrected labels | NME, raw labels |",
        "|---|---|---|",
    ]
    lines += [f"| {part} | {plain:.2f} | {raw:.2f} |" for part, raw, plain in own.breakdown_rows()]
    told = own.metrics()
    lines += ["", "The stated error, calibrated on the validation faces:"]
    lines += [f"{told[f'coverage_{level}_pct']:.1f} % of these points lie inside the radius of {level} %." for level in LEVELS_PCT]
    lines += ["", "These radii, in multiples of the expected error:"]
    titles = {
        ERROR_RADII: "faces like the set's",
        OFF_SET_RADII: "other sources, labelled by another convention, after one constant a landmark",
    }
    for key, one in radii.items():
        lines.append(f"- {titles[key]}: " + ", ".join(f"{multiple(one, level / 100):.2f} for {level} %" for level in LEVELS_PCT))
    return "\n".join(lines) + "\n"


def _extra_set(some: Mapping[str, Any]) -> str:
    told = [f"{some['faces']} faces", *(f"{key} {some[key]}" for key in ("license", "source") if key in some)]
    return f"{some['root']}: {', '.join(told)}, labels digest {some['labels_sha256'][:16]}"
