"""A search while it runs: a table that stays in place on a terminal, one line for each ended trial in a log."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fkp.tune.results import Trial, best, ranked, short_names, varied

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

#: Trials shown on a terminal; with head and foot they fit into 24 lines.
ROWS = 15

_STYLES = {"running": "cyan", "finished": "green", "stopped": "dim", "failed": "red"}

#: Characters between two columns.
_GAP = 2


class LiveTable:
    """Shows the trials of a search, on stderr, as long as the context lasts.

    Args:
        planned: How many trials there will be.
        console: Where to; by default stderr.
    """

    def __init__(self, planned: int, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._planned = planned
        self._console = console or Console(stderr=True)
        self._told: set[int] = set()
        # Refreshed by update() alone: a thread would draw between two lines of somebody else's output. What a program
        # pipes elsewhere from stdout must not turn up here.
        self._live = (
            Live(console=self._console, auto_refresh=False, redirect_stdout=sys.stdout.isatty()) if self._console.is_terminal else None
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def update(self, trials: Sequence[Trial], seconds_left: float | None) -> None:
        """Show how things stand.

        Args:
            trials: All there are so far.
            seconds_left: `results.time_left`; None while unknown.
        """
        if self._live:
            self._live.update(self._image(trials, seconds_left), refresh=True)
            return
        for trial in sorted(trials, key=lambda trial: trial.number):
            if trial.ended and trial.number not in self._told:
                self._told.add(trial.number)
                self._console.print(ended_line(trial), markup=False, highlight=False, soft_wrap=True)

    def _image(self, trials: Sequence[Trial], seconds_left: float | None) -> RenderableType:
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        shown = [trial for trial in ranked(trials) if trial.state != "pending"][:ROWS]
        columns: dict[str, Sequence[str]] = {
            "trial": [str(trial.number) for trial in shown],
            "state": [trial.state for trial in shown],
            "epochs": [str(trial.epochs) for trial in shown],
            "NME %": [_nme(trial) for trial in shown],
            "time": [duration(trial.seconds) for trial in shown],
        }
        names = short_names(varied(trials))
        settings = {name: [setting(trial.sample[path]) if path in trial.sample else "" for trial in shown] for path, name in names.items()}
        # A cut value would mislead, so a setting is there with its whole column or not at all.
        room = self._console.width - sum(_width(heading, cells) for heading, cells in columns.items())
        for name, cells in settings.items():
            if (width := _width(name, cells)) <= room:
                room -= width
                columns[name] = cells

        grid = Table(box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), pad_edge=False, show_edge=False)
        for heading in columns:
            grid.add_column(Text(heading), justify="left" if heading == "state" else "right", no_wrap=True)
        winner = best(trials)
        for trial, row in zip(shown, zip(*columns.values(), strict=True), strict=True):
            grid.add_row(*[Text(cell) for cell in row], style="bold" if trial is winner else _STYLES[trial.state])

        left = "time left: " + ("not known before a trial ends" if seconds_left is None else f"about {duration(seconds_left)}")
        foot = [status(trials, self._planned)]
        foot.append(f"best so far: trial {winner.number}, NME {_nme(winner)} %; {left}" if winner else f"no epoch is done yet; {left}")
        if hidden := [name for name in settings if name not in columns]:
            foot.append(f"no room for {', '.join(hidden)}")
        return Group(grid, *[Text(line) for line in foot])


def _width(heading: str, cells: Sequence[str]) -> int:
    return max(len(text) for text in [heading, *cells]) + _GAP


def status(trials: Sequence[Trial], planned: int) -> str:
    """How many trials are in which state, in one line."""
    counts: Counter[str] = Counter(trial.state for trial in trials)
    to_come = counts["pending"] + max(0, planned - len(trials))
    return ", ".join([f"{counts[state]} {state}" for state in _STYLES] + [f"{to_come} to come"])


def ended_line(trial: Trial) -> str:
    """One line for a log: what became of a trial."""
    epochs = f"{trial.epochs} epoch{'s' * (trial.epochs != 1)}"
    result = f"NME {_nme(trial)} % in {epochs}" if trial.epochs else "no epoch"
    settings = " ".join(f"{path}={setting(value)}" for path, value in trial.sample.items())
    reason = f" ({trial.reason})" if trial.reason else ""
    return f"trial {trial.number} {trial.state}{reason}: {result}, {duration(trial.seconds)}" + (f"; {settings}" if settings else "")


def duration(seconds: float) -> str:
    """Seconds in words of at most two units: 48 s, 3 min 05 s, 2 h 07 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def setting(value: Any) -> str:
    """A sampled value in few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _nme(trial: Trial) -> str:
    return "" if trial.best_nme is None else f"{trial.best_nme:.2f}"
