"""Evaluations as one HTML file that needs nothing beside it, and the images in it, which training logs too.

File names and the model card are other people's text: jinja2 escapes every value, and the page's own content security
policy lets a browser load nothing at all.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fkp.common import files
from fkp.common import html as page
from fkp.data.face_shape import box_of_label
from fkp.evaluation.metrics import TRUTHS, auc_pct
from fkp.vision.crop import Crop
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
_COLOURS = {"raw": "#8a8f98", "corrected": "#0b6bcb"}


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
        "report",
        sections=[_section(evaluation) for evaluation in evaluations],
        heads=list(TRUTHS.values()),
        normaliser=bundle.config.scheme.normaliser_text,
        name=bundle.path.resolve().name,
        digest=bundle.digest,
        config_digest=bundle.config.digest(),
        card=bundle.card,
        config=json.dumps(bundle.config.model_dump(mode="json"), indent=2),
    )
    return files.write(Path(path), html)


def prediction_grid(evaluation: Evaluation, count: int = 24) -> Image:
    """Draw some faces side by side: corrected truth in white, prediction in colours.

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
    """(size_px, size_px, 3) uint8 RGB: one face, its corrected truth in white, its prediction in colours.

    Raises:
        FkpError: The frame cannot be read any more.
    """
    truth_px = evaluation.truth_px("corrected")[face]
    crop = Crop.of_box(box_of_label(truth_px, evaluation.scheme), size_px, _FACE_SCALE)
    frame = evaluation.catalog.image(int(evaluation.rows[face]))
    pixels = np.ascontiguousarray(crop.apply(frame, 3).transpose(1, 2, 0))
    return draw_face(pixels, crop.do(evaluation.points_px[face]), truth_px=crop.do(truth_px), scheme=evaluation.scheme)


def ced_plot(evaluation: Evaluation) -> bytes:
    """PNG: fraction of faces whose error is at most the abscissa, against both truths, with the area in the legend."""
    errors = {truth: evaluation.nme_pct(truth) for truth in TRUTHS}
    labels = {truth: f"{TRUTHS[truth]}: AUC@{_AUC_LIMIT_PCT:g} % = {auc_pct(nme, _AUC_LIMIT_PCT):.1f}" for truth, nme in errors.items()}
    title = f"Cumulative error, {evaluation.data.split} split, {len(evaluation)} faces"
    return cumulative_plot({labels[truth]: nme for truth, nme in errors.items()}, title, [_COLOURS[truth] for truth in errors])


def cumulative_plot(errors: Mapping[str, np.ndarray], title: str, colours: Sequence[str] = ()) -> bytes:
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
        axes.set(xlim=(0, _CED_END_PCT), ylim=(0, 101), xlabel="NME, %", ylabel="% of faces")
        axes.set_title(title, fontsize=11)
        axes.legend(loc="lower right", frameon=False)

    return _plot_png(draw)


def calibration_plot(evaluation: Evaluation) -> bytes:
    """PNG: how many points lie inside the radius that should hold a stated part of them, against both truths."""

    def draw(axes: Axes) -> None:
        levels = np.linspace(0.0, 0.99, 100)
        axes.plot([0, 100], [0, 100], color="#555", linewidth=1, linestyle=":", label="calibrated")
        for truth, label in TRUTHS.items():
            axes.plot(100 * levels, 100 * evaluation.coverage(levels, truth), color=_COLOURS[truth], linewidth=2, label=label)
        axes.set(xlim=(0, 100), ylim=(0, 101), xlabel="stated: % of points inside the radius", ylabel="observed: % of points inside")
        axes.set_title("Calibration of the predicted error", fontsize=11)
        axes.legend(loc="upper left", frameon=False)

    return _plot_png(draw)


def _plot_png(draw: Callable[[Axes], None]) -> bytes:
    # Agg canvas and Figure by hand: pyplot would keep global state and look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), dpi=140, layout="constrained", facecolor="white")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    axes.set_axisbelow(True)
    axes.grid(color="#e3e5e8", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    target = io.BytesIO()
    canvas.print_png(target)
    return target.getvalue()


def _section(evaluation: Evaluation) -> dict[str, Any]:
    """What the page shows of one split."""
    nme = evaluation.nme_pct("corrected")
    order = np.argsort(-nme, kind="stable")
    count = min(GALLERY, max(1, len(order) // 2))
    shift = evaluation.catalog.label_bias_px
    return {
        "split": evaluation.data.split,
        "title": evaluation.title,
        "note": evaluation.leakage.note,
        "held_out": evaluation.leakage.held_out,
        "shift": f"({shift[0]:g}, {shift[1]:g}) px",
        "summary": evaluation.summary_rows(),
        "regions": evaluation.breakdown_rows(),
        "ced": _data_url(ced_plot(evaluation), "png"),
        "calibration": _data_url(calibration_plot(evaluation), "png"),
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
    return {"image": _data_url(data, "jpeg"), "nme": f"{nme_pct:.2f} %", "file": evaluation.files[face]}


def _data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
