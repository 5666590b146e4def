"""A search's charts for the page, with Plotly; settings are compared with Optuna's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fkp.tune.importance import EVALUATOR, Comparison, evaluator, log_nme
from fkp.tune.results import Cost, Trial, best

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BLUE, ORANGE, GREY, PALE, RED = "#0b6bcb", "#d97706", "#8a8f98", "#c5ccd4", "#b42318"

_LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "height": 460,
    "margin": {"l": 60, "r": 20, "t": 80, "b": 50},
    "font": {"family": "system-ui, sans-serif", "size": 13},
}


def curves(trials: Sequence[Trial], max_epochs: int) -> Figure:
    """Validation NME by epoch, one line a trial; at least one has an epoch."""
    import plotly.graph_objects as go

    winner, figure, labelled = best(trials), go.Figure(), set()
    # Stopped ones first, the best one last: what is drawn later lies on top.
    for trial in sorted(trials, key=lambda trial: (trial is winner, trial.state != "stopped", trial.number)):
        colour, width, label = _line_style(trial, winner)
        if trial.epochs:
            figure.add_scatter(
                x=list(range(1, trial.epochs + 1)),
                y=list(trial.nme_by_epoch),
                mode="lines" if trial.epochs > 1 else "markers",
                line={"color": colour, "width": width},
                marker={"color": colour, "size": 5},
                name=label,
                legendgroup=label,
                showlegend=label not in labelled,
                hovertemplate=f"trial {trial.number}, epoch %{{x}}: %{{y:.2f}} %<extra></extra>",
            )
            labelled.add(label)
    errors = [nme for trial in trials for nme in trial.nme_by_epoch]
    figure.update_layout(
        **_LAYOUT,
        title="Validation NME by epoch, one line a trial",
        xaxis={"title": "epoch", "range": [0.5, max_epochs + 0.5]},
        yaxis={"title": "NME, %", **({"type": "log", "dtick": "D2"} if min(errors) > 0 else {})},
    )
    return figure


def importance(comparison: Comparison) -> Figure | None:
    """Optuna's chart of the importances; None where there are none."""
    if comparison.study is None or not comparison.importances:
        return None
    from optuna.visualization import plot_param_importances

    figure = plot_param_importances(comparison.study, evaluator=evaluator(), target=log_nme, target_name="log NME")
    figure.update_traces(marker_color=BLUE)
    figure.update_layout(
        **{**_LAYOUT, "height": 190 + 30 * len(comparison.importances)},
        title={"text": f"Importance of each setting ({EVALUATOR} of log NME)", "subtitle": {"text": comparison.basis}},
        xaxis={"title": "part of the explained variance of the log NME", "range": [0, 1.12 * max(comparison.importances.values())]},
        yaxis={"title": "", "automargin": True},
    )
    return figure


def parallel(comparison: Comparison) -> Figure | None:
    """Optuna's parallel coordinates; None where there is nothing to compare."""
    if comparison.study is None:
        return None
    from optuna.visualization import plot_parallel_coordinate

    figure = plot_parallel_coordinate(comparison.study, target_name="NME %")
    figure.update_layout(
        **{**_LAYOUT, "height": 520, "margin": {"l": 70, "r": 20, "t": 90, "b": 50}},
        title={"text": "One line a trial across its settings", "subtitle": {"text": comparison.basis}, "y": 0.96, "yref": "container"},
    )
    return figure


def cost_bars(costs: Cost) -> Figure:
    """Spent beside in full, epochs and core-seconds."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = [
        f"{100 * costs.epochs_saved_part:.0f} % of the epochs saved",
        f"{100 * costs.core_seconds_saved_part:.0f} % of the core-seconds saved",
    ]
    figure = make_subplots(rows=1, cols=2, subplot_titles=titles)
    epochs: list[float] = [costs.epochs_spent, costs.epochs_full, costs.epochs_other]
    core_seconds: list[float] = [costs.core_seconds_spent, costs.core_seconds_full, costs.core_seconds_other]
    shown = 3 if costs.core_seconds_other else 2
    for column, unit, values in [(1, "epochs", epochs), (2, "core-seconds", core_seconds)]:
        bars = go.Bar(
            x=["early stopping", "every trial in full", "failed or unfinished"][:shown],
            y=values[:shown],
            marker_color=[BLUE, PALE, GREY][:shown],
            texttemplate="%{y:,.0f}",
            textposition="outside",
            cliponaxis=False,
            showlegend=False,
            name=unit,
        )
        figure.add_trace(bars, row=1, col=column)
        figure.update_yaxes(title=unit, row=1, col=column)
    saved = f"Stopping early saved {100 * costs.epochs_saved_part:.0f} % of the epochs and "
    saved += f"{100 * costs.core_seconds_saved_part:.0f} % of the core-seconds of {costs.trials} trials"
    figure.update_layout(**_LAYOUT, title=saved)
    return figure


def _line_style(trial: Trial, winner: Trial | None) -> tuple[str, float, str]:
    """Colour, width and legend of a learning curve."""
    if trial is winner:
        return ORANGE, 2.5, f"best: trial {trial.number}, {trial.best_nme:.2f} %"
    styles = {"stopped": (PALE, 1.0, "stopped early"), "finished": (BLUE, 1.2, "finished"), "failed": (RED, 1.0, "failed")}
    return styles.get(trial.state, (GREY, 1.0, "still running"))
