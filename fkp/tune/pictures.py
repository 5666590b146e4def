"""A search's charts as PNG pictures, for a README."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fkp.common import html
from fkp.tune.importance import EVALUATOR, Comparison
from fkp.tune.live_table import setting
from fkp.tune.results import Cost, Trial, best

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY, PALE, RED = "#0b6bcb", "#d97706", "#8a8f98", "#c5ccd4", "#b42318"

#: More axes than these leave no room for their labels; the most important ones stay.
_PARALLEL_SETTINGS = 8

#: Errors that span more than this factor are drawn by their logarithm: an untrained network would flatten the others.
_LOG_SPAN = 5


def line_style(trial: Trial, winner: Trial | None) -> tuple[str, float, str]:
    """Colour, width and legend of a learning curve."""
    if trial is winner:
        return ORANGE, 2.5, f"best: trial {trial.number}, {trial.best_nme:.2f} %"
    styles = {"stopped": (PALE, 1.0, "stopped early"), "finished": (BLUE, 1.2, "finished"), "failed": (RED, 1.0, "failed")}
    return styles.get(trial.state, (GREY, 1.0, "still running"))


def drawing_order(trials: Sequence[Trial]) -> list[Trial]:
    """Stopped ones first, the best one last: what is drawn later lies on top."""
    winner = best(trials)
    return sorted(trials, key=lambda trial: (trial is winner, trial.state != "stopped", trial.number))


def curves_png(trials: Sequence[Trial], max_epochs: int) -> bytes:
    """PNG: validation NME by epoch, one line a trial."""

    def draw(axes: Axes) -> None:
        winner, labelled = best(trials), set()
        for trial in drawing_order(trials):
            colour, width, label = line_style(trial, winner)
            if trial.epochs:
                # A trial stopped after its first epoch is a point, and a line of one point would not be seen.
                axes.plot(
                    range(1, trial.epochs + 1),
                    trial.nme_by_epoch,
                    color=colour,
                    linewidth=width,
                    marker="o" if trial.epochs == 1 else None,
                    markersize=3,
                    label=None if label in labelled else label,
                )
                labelled.add(label)
        _error_scale(axes, [nme for trial in trials for nme in trial.nme_by_epoch])
        axes.set(xlim=(0.5, max_epochs + 0.5), xlabel="epoch", ylabel="validation NME, % of the inter-ocular distance")
        axes.set_title(f"Learning curves of {sum(trial.epochs > 0 for trial in trials)} trials", fontsize=12)
        # Drawn last, the best one is to be read first.
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], loc="upper right", frameon=False)

    return _png(draw, 5.0)


def importance_png(comparison: Comparison) -> bytes:
    """PNG: one bar for each setting."""
    names, values = list(comparison.importances), list(comparison.importances.values())

    def draw(axes: Axes) -> None:
        bars = axes.barh(names, values, color=BLUE, height=0.65)
        axes.bar_label(bars, [f"{value:.2f}" if value >= 0.01 else "< 0.01" for value in values], padding=4)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set(xlim=(0, max(values) * 1.12), xlabel="part of the explained variance of the log NME")
        # Over the whole figure: over the axes alone it would be cut off beside long names.
        axes.figure.suptitle(f"Importance of each setting ({EVALUATOR} of log NME)\n{comparison.basis}", fontsize=10)

    return _png(draw, 1.6 + 0.36 * len(names))


def parallel_png(comparison: Comparison) -> bytes:
    """PNG: one line a trial across its settings, dark where the error is small; the best one thick."""
    assert comparison.study is not None
    # Most important first, then those that have no importance.
    names = list(dict.fromkeys([*comparison.importances, *sorted({name for trial in comparison.study.trials for name in trial.params})]))
    names, dropped = names[:_PARALLEL_SETTINGS], len(names) - _PARALLEL_SETTINGS
    # The best one last, on top.
    found = [(trial.value, trial.params) for trial in comparison.study.trials if trial.value is not None]
    points = sorted(found, key=lambda point: -point[0])

    def draw(axes: Axes) -> None:
        from matplotlib import colormaps

        errors = _Scale([nme for nme, _ in points], _LOG_SPAN)
        scales = [_Scale([sample[name] for _, sample in points if name in sample]) for name in names]
        for rank, (nme, sample) in enumerate(points):
            # A setting that the trial has not interrupts its line. Where many lines would meet in one choice they are
            # spread a little, in the order of their error.
            spread = 0.05 * ((len(points) - rank) / len(points) - 0.5)
            heights = [errors(nme)]
            for name, scale in zip(names, scales, strict=True):
                heights.append(scale(sample[name]) + spread * scale.discrete if name in sample else math.nan)
            last = rank == len(points) - 1
            colour = ORANGE if last else colormaps["viridis"](0.9 * errors(nme))
            axes.plot(range(len(heights)), heights, color=colour, linewidth=3 if last else 1.2, alpha=1 if last else 0.7)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        for place, scale in enumerate([errors, *scales]):
            axes.axvline(place, 0.03, 0.97, color="#555", linewidth=1)
            for height, text in scale.ticks:
                box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
                axes.text(place - 0.05, height, text, ha="right", va="center", fontsize=8, bbox=box)
        axes.set(xlim=(-0.55, len(names) + 0.1), ylim=(-0.04, 1.04), yticks=[])
        axes.set_xticks(range(len(names) + 1), [f"NME %,\nepoch {comparison.epoch}", *names], fontsize=9)
        axes.tick_params(axis="x", length=0)
        for index, label in enumerate(axes.get_xticklabels()):
            # Two heights in turn keep long names apart.
            if len(names) > 5 and index % 2:
                label.set_y(-0.05)
        most = f"; the first {len(names)} settings by importance" if dropped > 0 else ""
        title = f"Settings of each trial, dark where the NME is small, the least in orange{most}"
        axes.figure.suptitle(f"{title}\n{comparison.basis}", fontsize=10)

    return _png(draw, 4.6)


def cost_png(cost: Cost) -> bytes:
    """PNG: spent beside in full, epochs and core-seconds."""

    def draw_bars(axes: Axes, unit: str, spent: float, full: float, other: float, saved_part: float) -> None:
        kinds = [("early stopping", spent, BLUE), ("every trial\nin full", full, PALE)]
        kinds += [("failed or\nunfinished", other, GREY)] if other else []
        labels, values, colours = zip(*kinds, strict=True)
        axes.bar_label(axes.bar(labels, values, color=colours, width=0.6), [f"{value:,.0f}" for value in values], padding=3)
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.12)
        axes.set_ylabel(unit)
        axes.set_title(f"{100 * saved_part:.0f} % of the {unit} saved", fontsize=12)

    return _png(
        [
            lambda axes: draw_bars(axes, "epochs", cost.epochs_spent, cost.epochs_full, cost.epochs_other, cost.epochs_saved_part),
            lambda axes: draw_bars(
                axes,
                "core-seconds",
                cost.core_seconds_spent,
                cost.core_seconds_full,
                cost.core_seconds_other,
                cost.core_seconds_saved_part,
            ),
        ],
        3.8,
    )


class _Scale:
    """Value -> height between 0 and 1, with the ticks to write beside the axis."""

    def __init__(self, values: Sequence[Any], log_span: float = 20) -> None:
        distinct = sorted(set(values))
        self._choices = distinct if isinstance(distinct[0], str) else []
        self.discrete = bool(self._choices) or len(distinct) <= 5
        if not self._choices:
            self._log = distinct[0] > 0 and distinct[-1] / distinct[0] > log_span
            self._low, self._high = self._position(distinct[0]), self._position(distinct[-1])
        if self.discrete:
            texts = [setting(value) for value in distinct]
            self.ticks = [(self(value), text if len(text) < 14 else f"{text[:12]}…") for value, text in zip(distinct, texts, strict=True)]
        else:
            # Marks at both ends and between: the ends are the range of the values.
            marks = [(part, self._low + part * (self._high - self._low)) for part in (0, 0.25, 0.5, 0.75, 1)]
            self.ticks = [(part, f"{math.exp(place) if self._log else place:.3g}") for part, place in marks]

    def __call__(self, value: Any) -> float:
        if self._choices:
            return self._choices.index(value) / max(1, len(self._choices) - 1)
        return (self._position(value) - self._low) / (self._high - self._low) if self._high > self._low else 0.5

    def _position(self, value: float) -> float:
        return math.log(value) if self._log else float(value)


def _error_scale(axes: Axes, values: Sequence[float]) -> None:
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    if values and min(values) > 0 and max(values) > _LOG_SPAN * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _png(draw: Callable[[Axes], None] | Sequence[Callable[[Axes], None]], height: float) -> bytes:
    """900 px wide, one chart beside the other."""
    return html.figure_png([draw] if callable(draw) else draw, (9, height), dpi=100)
