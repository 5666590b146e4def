"""Evaluations as one HTML file that needs nothing beside it, and the pictures in it, which training logs too.

File names and the model card are other people's text: jinja2 escapes every value, and the page's own content security
policy lets a browser load nothing at all.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fkp.common import files
from fkp.common import html as page
from fkp.evaluation.metrics import NORMALISER, TRUTHS, auc_pct
from fkp.vision.crop import Crop, box_of_points
from fkp.vision.draw import draw_face
from fkp.vision.image import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fkp.bundle import Bundle
    from fkp.evaluation.evaluate import Evaluation

#: Faces in each gallery, fewer when the two would share one.
GALLERY = 24

#: Side of a drawn face, twice what the page shows it at, so that thin lines stay sharp on dense displays.
FACE_PX = 360
_GRID_FACE_PX = 180
_GRID_COLUMNS = 6

#: Side of a drawn face's window as a multiple of the label's box: the points and some of what is around them.
_FACE_SCALE = 1.4

_CED_END_PCT = 15.0
_AUC_LIMIT_PCT = 8.0
_COLOURS = {"raw": "#8a8f98", "unshifted": "#0b6bcb"}


def write_report(path: str | Path, evaluations: Sequence[Evaluation], bundle: Bundle) -> Path:
    """Write the report: for each split its tables, curves, worst and best faces; then the model's card and config.

    Args:
        path: The HTML file. What stood there is replaced in one step.
        evaluations: One a split.
        bundle: The model that was evaluated.

    Returns:
        `path`.

    Raises:
        FkpError: A frame cannot be read any more, or the file cannot be written.
    """
    html = page.render(
        _PAGE,
        sections=[_section(evaluation) for evaluation in evaluations],
        heads=list(TRUTHS.values()),
        normaliser=NORMALISER,
        name=bundle.path.resolve().name,
        digest=bundle.digest,
        config_digest=bundle.config.digest(),
        card=bundle.card,
        config=json.dumps(bundle.config.model_dump(mode="json"), indent=2),
    )
    return files.write(Path(path), html)


def write_json(path: str | Path, content: dict[str, Any]) -> Path:
    """Write figures as JSON in one step.

    Raises:
        FkpError: The file cannot be written.
    """
    return files.write(Path(path), json.dumps(content, indent=2, allow_nan=False) + "\n")


def prediction_grid(evaluation: Evaluation, count: int = 24) -> Image:
    """Draw some faces side by side: truth without the shift in white, prediction in colours.

    The faces are spread evenly over the set's order, so two models on the same split show the same ones.

    Args:
        evaluation: Predictions.
        count: How many faces, at most as many as there are.

    Returns:
        (rows * 180, columns * 180, 3) uint8 RGB; cells without a face are black.

    Raises:
        FkpError: A frame cannot be read any more.
        ValueError: `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"a grid needs at least one face, got {count}")
    chosen = np.unique(np.linspace(0, len(evaluation) - 1, min(count, len(evaluation))).round().astype(int))
    columns = min(_GRID_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    grid = np.zeros((rows, columns, _GRID_FACE_PX, _GRID_FACE_PX, 3), np.uint8)
    for cell, face in enumerate(chosen):
        grid[divmod(cell, columns)] = draw_evaluated(evaluation, int(face), _GRID_FACE_PX)
    return grid.swapaxes(1, 2).reshape(rows * _GRID_FACE_PX, columns * _GRID_FACE_PX, 3)


def draw_evaluated(evaluation: Evaluation, face: int, size_px: int) -> Image:
    """(size_px, size_px, 3) uint8 RGB: one face, its truth without the shift in white, its prediction in colours.

    Raises:
        FkpError: The frame cannot be read any more.
    """
    truth_px = evaluation.truth_px("unshifted")[face]
    crop = Crop.of_box(box_of_points(truth_px), size_px, _FACE_SCALE)
    frame = evaluation.catalog.image(int(evaluation.rows[face]))
    pixels = np.ascontiguousarray(crop.apply(frame, 3).transpose(1, 2, 0))
    return draw_face(pixels, crop.do(evaluation.points_px[face]), truth_px=crop.do(truth_px))


def ced_figure(evaluation: Evaluation) -> bytes:
    """PNG: fraction of faces whose error is at most the abscissa, against both truths, with the area in the legend."""
    errors = {truth: evaluation.nme_interocular_pct(truth) for truth in TRUTHS}
    labels = {truth: f"{TRUTHS[truth]}: AUC@{_AUC_LIMIT_PCT:g} % = {auc_pct(nme, _AUC_LIMIT_PCT):.1f}" for truth, nme in errors.items()}
    title = f"Cumulative error, {evaluation.data.split} split, {len(evaluation)} faces"
    return cumulative_figure({labels[truth]: nme for truth, nme in errors.items()}, title, [_COLOURS[truth] for truth in errors])


def cumulative_figure(errors: Mapping[str, np.ndarray], title: str, colours: Sequence[str] = ()) -> bytes:
    """PNG: fraction of faces whose error is at most the abscissa, a curve each.

    Args:
        errors: Label -> (N,) errors in percent.
        title: Above the curves.
        colours: Of the curves; by default matplotlib's own.
    """

    def draw(axes: Axes) -> None:
        for place, (label, unsorted) in enumerate(errors.items()):
            nme = np.sort(unsorted)
            # One step a face, and the last step drawn out to the right border.
            places = np.concatenate([[0.0], nme, [max(_CED_END_PCT, nme[-1])]])
            parts = np.concatenate([[0.0], np.arange(1, len(nme) + 1) / len(nme), [1.0]])
            colour = colours[place] if colours else f"C{place}"
            axes.step(places, 100 * parts, where="post", color=colour, linewidth=2, label=label)
        axes.axvline(_AUC_LIMIT_PCT, color="#555", linewidth=1, linestyle=":")
        axes.set(xlim=(0, _CED_END_PCT), ylim=(0, 101), xlabel="NME, % of the inter-ocular distance", ylabel="% of faces")
        axes.set_title(title, fontsize=11)
        axes.legend(loc="lower right", frameon=False)

    return _figure_png(draw)


def calibration_figure(evaluation: Evaluation) -> bytes:
    """PNG: how many points lie inside the radius that should hold a stated part of them, against both truths."""

    def draw(axes: Axes) -> None:
        levels = np.linspace(0.0, 0.99, 100)
        axes.plot([0, 100], [0, 100], color="#555", linewidth=1, linestyle=":", label="calibrated")
        for truth, label in TRUTHS.items():
            axes.plot(100 * levels, 100 * evaluation.coverage(levels, truth), color=_COLOURS[truth], linewidth=2, label=label)
        axes.set(xlim=(0, 100), ylim=(0, 101), xlabel="stated: % of points inside the radius", ylabel="observed: % of points inside")
        axes.set_title("Calibration of the predicted error", fontsize=11)
        axes.legend(loc="upper left", frameon=False)

    return _figure_png(draw)


def _figure_png(draw: Callable[[Axes], None]) -> bytes:
    return page.figure_png([draw], (6.4, 4.4), dpi=140)


def _section(evaluation: Evaluation) -> dict[str, Any]:
    """What the page shows of one split."""
    nme = evaluation.nme_interocular_pct("unshifted")
    order = np.argsort(-nme, kind="stable")
    count = min(GALLERY, max(1, len(order) // 2))
    shift = evaluation.catalog.label_bias_px
    return {
        "split": evaluation.data.split,
        "title": evaluation.title,
        "note": evaluation.exposure.note,
        "held_out": evaluation.exposure.held_out,
        "shift": f"({shift[0]:g}, {shift[1]:g}) px",
        "summary": evaluation.summary_rows(),
        "regions": evaluation.part_rows(),
        "ced": _data_url(ced_figure(evaluation), "png"),
        "calibration": _data_url(calibration_figure(evaluation), "png"),
        "galleries": [
            (f"{count} worst faces", [_card(evaluation, face, nme[face]) for face in order[:count]]),
            (f"{count} best faces", [_card(evaluation, face, nme[face]) for face in order[::-1][:count]]),
        ],
    }


def _card(evaluation: Evaluation, face: int, nme_pct: float) -> dict[str, str]:
    drawn = cv2.cvtColor(draw_evaluated(evaluation, face, FACE_PX), cv2.COLOR_RGB2BGR)
    # Full chroma: half of it would smear the thin coloured lines.
    options = [cv2.IMWRITE_JPEG_QUALITY, 85, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    data = cv2.imencode(".jpg", drawn, options)[1].tobytes()
    return {"picture": _data_url(data, "jpeg"), "nme": f"{nme_pct:.2f} %", "file": evaluation.files[face]}


def _data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fkp evaluation: {{ name }}</title>
<style>
{{ style }}h2::first-letter { text-transform: uppercase; }
h3 { font-size: 1rem; margin: 1.6rem 0 .5rem; }
code { font-family: ui-monospace, monospace; font-size: .85rem; overflow-wrap: anywhere; }
.warning { border-color: #d97706; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1.5rem; align-items: start; margin-top: 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; font-weight: normal; }
thead th { color: var(--soft); vertical-align: bottom; } th:first-child { text-align: left; } td:last-child { font-weight: 600; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
.figure { width: 100%; background: #fff; border: 1px solid var(--line); border-radius: 6px; box-sizing: border-box; }
.faces { display: grid; grid-template-columns: repeat(auto-fill, minmax(164px, 1fr)); gap: .8rem; }
figure { margin: 0; } figure img { width: 100%; max-width: 180px; border-radius: 4px; display: block; background: #000; }
figcaption { font-size: .75rem; line-height: 1.3; overflow-wrap: anywhere; } figcaption b { font-size: .85rem; display: block; }
summary { cursor: pointer; }
</style>
</head>
<body>
<header>
<h1>fkp evaluation: {{ name }}</h1>
<p class="soft">Model <code>{{ digest }}</code>. Errors are in percent of the normaliser ({{ normaliser }}).</p>
</header>
{% macro rows(caption, entries) %}
<table>
<caption>{{ caption }}</caption>
<thead><tr><th></th>{% for head in heads %}<th>{{ head }}</th>{% endfor %}</tr></thead>
<tbody>
{% for label, raw, unshifted in entries %}
<tr><th>{{ label }}</th><td>{{ "%.2f" | format(raw) }}</td><td>{{ "%.2f" | format(unshifted) }}</td></tr>
{% endfor %}
</tbody>
</table>
{% endmacro %}
{% for section in sections %}
<section id="{{ section.split }}">
<h2>{{ section.title }}</h2>
<p class="note{{ "" if section.held_out else " warning" }}">{{ section.note }}</p>
<p class="soft">The shift taken out of the labels is {{ section.shift }}. Both columns measure the same predictions.</p>
<div class="columns">
{{ rows("All points", section.summary) }}
{{ rows("NME % by region and pose", section.regions) }}
</div>
<h3>Error and predicted error</h3>
<div class="columns">
<img class="figure" src="{{ section.ced }}" alt="Cumulative error distribution of the {{ section.split }} split">
<img class="figure" src="{{ section.calibration }}" alt="Stated and observed coverage of the predicted error">
</div>
<p class="soft">Above the dotted line of the right figure the network is more careful than it need be; below it, too sure.</p>
{% for heading, faces in section.galleries %}
<h3>{{ heading }}</h3>
<p class="soft">White: the labels without the shift. Colours: the prediction. Below each face: its NME against them, and its file.</p>
<div class="faces">
{% for face in faces %}
<figure><img src="{{ face.picture }}" alt="{{ face.file }}"><figcaption><b>{{ face.nme }}</b>{{ face.file }}</figcaption></figure>
{% endfor %}
</div>
{% endfor %}
</section>
{% endfor %}
<section id="model">
<h2>Model</h2>
<p>Bundle digest <code>{{ digest }}</code>, config digest <code>{{ config_digest }}</code>.</p>
<details open><summary>Card</summary><pre>{{ card }}</pre></details>
<details><summary>Config</summary><pre>{{ config }}</pre></details>
</section>
</body>
</html>
"""
