"""A search as one HTML page that needs nothing beside it, its pictures, and its trials as CSV.

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
from fkp.tune import pictures, plots
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
    """Write trials.csv, search.html, curves.png, cost.png, importance.png and parallel.png.

    A picture of which there is nothing to show is left out, one that an earlier call left there goes away, and the page
    says why in one sentence.

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
    files = {
        "trials.csv": table(trials).to_csv(index=False, lineterminator="\n").encode(),
        "search.html": _page(trials, max_epochs, comparison, costs).encode(),
        "curves.png": pictures.curves_png(trials, max_epochs) if any(trial.epochs for trial in trials) else None,
        "cost.png": pictures.cost_png(costs) if costs.trials else None,
        "importance.png": pictures.importance_png(comparison) if comparison.importances else None,
        "parallel.png": pictures.parallel_png(comparison) if comparison.study else None,
    }
    written = []
    for name, content in files.items():
        path = Path(folder) / name
        if content is None:
            path.unlink(missing_ok=True)
        else:
            written.append(write(path, content))
    return written


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
        _PAGE,
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
    heads |= {"best_nme_interocular_pct": "best NME %", "last_nme_interocular_pct": "last NME %"}
    rows = [[heads.get(column, names.get(column, column)) for column in frame.columns]]
    formats = {"best_nme_interocular_pct": "{:.2f}", "last_nme_interocular_pct": "{:.2f}", "seconds": "{:,.0f}", "core_seconds": "{:,.0f}"}
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

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data: blob:; style-src 'unsafe-inline';
  script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fkp search: {{ count }} trials</title>
<style>
{{ style }}.figure { background: #fff; border: 1px solid var(--line); border-radius: 6px; overflow-x: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
thead th { color: var(--soft); font-weight: normal; } tr.best td { font-weight: 600; }
</style>
{% if script %}
<script>{{ script }}</script>
{% endif %}
</head>
<body>
<header>
<h1>{% if best %}Trial {{ best.number }}: {{ "%.2f" | format(best.best_nme) }} % NME{% else %}No result{% endif %}</h1>
<p class="soft">{{ count }} trials{% if states %}: {{ states }}{% endif %}.
NME is the validation error in percent of the inter-ocular distance.</p>
{% if best %}
<p>The best trial, {{ best.trial_id }} ({{ best.state }}), had this error after epoch {{ best_epoch }} of its {{ best.epochs }};
it took {{ best_duration }}. Its settings:</p>
<pre>{{ flags }}</pre>
{% else %}
<p>No trial finished an epoch without failing.</p>
{% endif %}
</header>
{% for chart in charts %}
<section id="{{ chart.id }}">
<h2>{{ chart.heading }}</h2>
{% if chart.html %}
<div class="figure">{{ chart.html }}</div>
{% else %}
<p class="note">{{ chart.why_not }}</p>
{% endif %}
{% for note in chart.notes %}
<p class="soft">{{ note }}</p>
{% endfor %}
</section>
{% endfor %}
<section id="trials">
<h2>Trials</h2>
<div class="wide">
<table>
<thead><tr>{% for head in rows[0] %}<th>{{ head }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows[1:] %}
<tr{% if best and row[0] == best.number | string %} class="best"{% endif %}>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
</section>
</body>
</html>
"""
