"""Where a model's points lie on average beside those of labels of another convention, as two outlines: `figures.py convention`.

It shows shapes only, of no face: the mean over all photographs, each turned upright and brought to one distance of the eyes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from general import ask, read

from fkp.errors import FkpError
from fkp.predict import DEFAULT_BUNDLE, Predictor
from fkp.scheme import IBUG68
from fkp.vision.crop import upright


def mean_shapes(points_px: np.ndarray, truth_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(68, 2) each, of answers and labels (N, 68, 2): in the frame of each label, with its outer eye corners 100 apart on one height."""
    left, right = IBUG68.find(["left_eye_outer", "right_eye_outer"])
    middle = (truth_px[:, [left]] + truth_px[:, [right]]) / 2
    scale = 100 / IBUG68.size_px(truth_px)[:, None, None]
    answers, labels = (upright((points - middle) * scale, truth_px, IBUG68).mean(0) for points in (points_px, truth_px))
    return answers, labels


def convention(arguments: argparse.Namespace) -> bytes:
    """Of the shipped model, on the folders that the arguments name."""
    if not arguments.photographs:
        raise FkpError("this needs photographs with .pts files: name their folders with --photographs")
    return drawn(DEFAULT_BUNDLE, arguments.photographs)


def drawn(bundle: Path, folders: Sequence[Path]) -> bytes:
    """PNG of both, measured on folders of labelled photographs in the labels' boxes; the mean way of each region is printed.

    Raises:
        FkpError: See `general.read` and `general.ask`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    photographs = read(folders)
    (answers,) = ask([Predictor(bundle)], photographs, path=False)
    ours, theirs = mean_shapes(answers.points_px, photographs.truth_px)
    for name, points in IBUG68.regions.items():
        right, down = (ours - theirs)[list(points)].mean(0)
        print(f"{name}: {right:+.1f} % of the eye distance to the right, {down:+.1f} % down")
    figure = Figure(figsize=(6, 6), dpi=100, facecolor="white", layout="constrained")
    axes = figure.subplots()
    for shape, colour, label in ((theirs, "#888888", "labels of 300-W"), (ours, "#0b6e4f", f"fkp's {answers.name}")):
        for place, edge in enumerate(IBUG68.edges):
            axes.plot(*shape[list(edge)].T, color=colour, linewidth=1.6, label=label if not place else None)
        axes.plot(*shape.T, ".", color=colour, markersize=5)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.axis("off")
    axes.legend(loc="lower right", frameon=False)
    FigureCanvasAgg(figure).print_png(held := BytesIO())
    return held.getvalue()
