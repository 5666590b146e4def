"""A search as one HTML page that needs nothing beside it, and its trials as CSV.

A trial's reason and its sampled texts are shown as they are: jinja2 and Plotly escape them, and the page's own content
security policy lets a browser load nothing at all.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fkp.common import html
from fkp.common.files import write
from fkp.tune import plots
from fkp.tune.importance import Comparison, compare
from fkp.tune.live_table import duration, setting
from fkp.tune.results import Cost, Trial, best, cost, ranked, short_names, table

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from plotly.graph_objects import Figure


def write_charts(
    trials: Sequence[Trial],
    max_epochs: int,
    grace_epochs: int,
    folder: str | Path,
    distributions: Mapping[str, BaseDistribution] | None = None,
) -> list[Path]:
    """Write trials.csv and search.html; a chart of which there is nothing to show is a sentence that says why.

    Args:
        trials: All trials of the search, ended or not.
        max_epochs: Epochs of a trial that nobody stops.
        grace_epochs: Epochs before which the scheduler stops none: settings are compared after these.
        folder: Made where it is missing. Each file is replaced in one step.
        distributions: Dotted path -> what it was sampled from; inferred from the values where missing.

    Returns:
        What was written.

    Raises:
        FkpError: A file cannot be written.
        ValueError: `max_epochs` or `grace_epochs` is not positive.
    """
    comparison, costs = compare(trials, grace_epochs, distributions), cost(trials, max_epochs)
    return [
        write(Path(folder) / "trials.csv", table(trials).to_csv(index=False, lineterminator="\n")),
        write(Path(folder) / "search.html", _page(trials, max_epochs, comparison, costs)),
    ]


def _page(trials: Sequence[Trial], max_epochs: int, comparison: Comparison, costs: Cost) -> str:
    """The page's HTML."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    no_epoch = "" if any(trial.epochs for trial in trials) else "No trial has finished an epoch."
    no_cost = "" if costs.trials else "No trial with an epoch has ended, so nothing can be said about what stopping early saved."
    # Identifier, heading, figure, the sentence in its place, what to read beside it.
    sections: list[tuple[str, str, Figure | None, str, Sequence[str]]] = [
        ("curves", "Learning curves", None if no_epoch else plots.curves(trials, max_epochs), no_epoch, []),
        ("importance", "Importance of each setting", plots.importance(comparison), comparison.why_no_importances, comparison.notes),
        ("parallel", "Settings of each trial", plots.parallel(comparison), comparison.why_no_study, []),
        ("cost", "Cost", None if no_cost else plots.cost_bars(costs), no_cost, [_COST_NOTE]),
    ]
    charts = [
        # Plotly escapes what it writes into its script.
        {"id": name, "heading": heading, "why_not": why_not, "notes": notes if figure else [], "html": Markup(_html(figure, name))}
        for name, heading, figure, why_not, notes in sections
    ]
    winner = best(trials)
    return html.render(
        "search",
        count=len(trials),
        states=", ".join(f"{count} {state}" for state, count in Counter(trial.state for trial in ranked(trials)).items()),
        best=winner,
        best_epoch=winner.nme_by_epoch.index(winner.best_nme) + 1 if winner and winner.best_nme is not None else 0,
        best_duration=duration(winner.seconds) if winner else "",
        flags=" ".join(f"{path}={_flag(value)}" for path, value in winner.sample.items()) if winner else "",
        charts=charts,
        script=Markup(get_plotlyjs()) if any(chart["html"] for chart in charts) else "",
        rows=_rows(trials),
    )


def _html(figure: Figure | None, name: str) -> str:
    if figure is None:
        return ""
    return figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"chart-{name}", config={"displaylogo": False})


def _rows(trials: Sequence[Trial]) -> list[list[str]]:
    """The table's cells; the first row is its head."""
    frame = table(trials)
    names = short_names([path for path in frame.columns if "." in path])
    heads = {"trial_id": "id", "core_seconds": "core-seconds"}
    heads |= {"best_nme_pct": "best NME %", "last_nme_pct": "last NME %"}
    rows = [[heads.get(column, names.get(column, column)) for column in frame.columns]]
    formats = {"best_nme_pct": "{:.2f}", "last_nme_pct": "{:.2f}", "seconds": "{:,.0f}", "core_seconds": "{:,.0f}"}
    for values in frame.astype(object).to_numpy().tolist():
        cells = []
        for column, value in zip(frame.columns, values, strict=True):
            missing = value is None or value != value  # NaN differs from itself: no epoch yet.
            cells.append("" if missing else formats[column].format(value) if column in formats else setting(value))
        rows.append(cells)
    return rows


def _flag(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_COST_NOTE = (
    "Both are of the trials that finished or were stopped. In full is each one's epochs at its own seconds per epoch, "
    "its start included, which makes the saved core-seconds of short trials somewhat too large."
)
