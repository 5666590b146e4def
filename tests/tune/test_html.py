"""The charts of a search: a page that needs nothing beside it, and no crash on little."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fkp.errors import FkpError
from fkp.tune.html import write_charts
from fkp.tune.results import State, Trial

ALL = ["trials.csv", "search.html"]
FIGURES = ["curves", "importance", "parallel", "cost"]
HOSTILE = "</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Tags with their attributes, table rows, and all text that is no script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        else:
            self.words.append(data)
        if self._inside in ("td", "th"):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def figures(self) -> list[str | None]:
        return [attributes["id"] for tag, attributes in self.tags if tag == "div" and "plotly-graph-div" in (attributes.get("class") or "")]


def searched(count: int = 24, max_epochs: int = 6) -> list[Trial]:
    """A search of which a third goes to the end, one fails, and one still runs."""
    random, trials = np.random.default_rng(0), []
    for number in range(count):
        sample: dict[str, Any] = {"optim.lr": float(10 ** random.uniform(-4, -2)), "optim.global_batch_size": int(random.choice([16, 32]))}
        sample["model.stages"] = [[1, 2], [2, 2, 2], None][number % 3]
        end = 4 + (np.log10(sample["optim.lr"]) + 3) ** 2
        state: State = "finished" if number % 3 == 0 else "stopped"
        epochs = max_epochs if state == "finished" else 2
        reason = ""
        if number == 1:
            state, reason, epochs = "failed", f"RuntimeError: {HOSTILE}", 1
        if number == 2:
            state = "running"
        if number in (2, 5):
            sample["model.head"] = HOSTILE if number == 2 else "plain"
        nme = tuple(float(end + 20 * 0.5**epoch) for epoch in range(1, epochs + 1))
        trials.append(Trial(number, f"t{number:02d}", state, reason, sample, nme, 10.0 * epochs, 2.0))
    return trials


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("charts") / "new"
    paths = write_charts(searched(), 6, 2, folder)
    assert [path.name for path in paths] == ALL
    assert sorted(path.name for path in folder.iterdir()) == sorted(ALL)
    return folder


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page((written / "search.html").read_text())


def figure(page: Page, name: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Traces and layout, as the page hands them to Plotly."""
    script = next(script for script in page.scripts if f'Plotly.newPlot(                        "chart-{name}"' in script)
    decoder = json.JSONDecoder()
    traces, end = decoder.raw_decode(script, script.index("[", script.index("newPlot(")))
    layout, _ = decoder.raw_decode(script, script.index("{", end))
    return traces, layout


def test_the_page_carries_plotly_once_and_loads_nothing(written: Path, page: Page) -> None:
    text = (written / "search.html").read_text()
    assert text.count("* plotly.js v") == 1
    assert not [tag for tag, attributes in page.tags if {"src", "href", "data", "action"} & set(attributes)]
    policy = next(attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and "default-src 'none'" in policy and "http" not in policy
    assert page.figures == [f"chart-{name}" for name in FIGURES]


def test_the_headline_is_the_best_trial_with_its_settings_as_flags(page: Page) -> None:
    winner = min((trial for trial in searched() if trial.state != "failed"), key=lambda trial: min(trial.nme_by_epoch))
    assert f"Trial {winner.number}: {min(winner.nme_by_epoch):.2f} % NME" in page.text
    assert f"after epoch {len(winner.nme_by_epoch)} of its {len(winner.nme_by_epoch)}" in page.text
    assert f"optim.lr={winner.sample['optim.lr']} optim.global_batch_size={winner.sample['optim.global_batch_size']}" in page.text
    assert "24 trials: " in page.text and "1 failed" in page.text and "1 running" in page.text


def test_the_learning_curves_have_one_line_a_trial_the_best_on_top(page: Page) -> None:
    traces, _ = figure(page, "curves")
    assert len(traces) == 24
    assert sorted(len(trace["y"]) for trace in traces) == sorted(trial.epochs for trial in searched())
    assert traces[-1]["name"].startswith("best: trial") and traces[0]["name"] == "stopped early"
    assert sum(trace["showlegend"] for trace in traces) == len({trace["name"] for trace in traces})


def test_the_titles_say_what_is_compared_and_how(page: Page) -> None:
    for name in ("importance", "parallel"):
        subtitle = figure(page, name)[1]["title"]["subtitle"]["text"]
        assert subtitle.startswith("NME after epoch 2") and "23 trials, 1 left out" in subtitle
    traces, layout = figure(page, "importance")
    assert "fANOVA" in layout["title"]["text"]
    assert set(traces[0]["y"]) == {"lr", "global_batch_size", "stages"} and traces[0]["y"][-1] == "lr"
    assert "settings that all trials have: without head." in page.text
    assert len([trace for trace in figure(page, "parallel")[0] if trace["mode"] == "lines"]) == 23


def test_the_cost_chart_says_what_was_saved(page: Page) -> None:
    # 22 trials ended well: 8 went to epoch 6, 14 to epoch 2, all at 20 core-seconds an epoch.
    traces, layout = figure(page, "cost")
    assert [trace["y"] for trace in traces] == [[76, 132, 3], [1520, 2640, 60]]
    assert layout["title"]["text"] == "Stopping early saved 42 % of the epochs and 42 % of the core-seconds of 22 trials"


def test_the_table_shows_every_trial_and_hostile_text_stays_text(written: Path, page: Page) -> None:
    assert page.rows[0] == ["number", "id", "state", "reason", "epochs", "best NME %", "last NME %", "seconds", "core-seconds"] + [
        *["lr", "global_batch_size", "stages", "head"]
    ]
    assert len(page.rows) == 25
    assert page.rows[-1][:4] == ["1", "t01", "failed", f"RuntimeError: {HOSTILE}"]
    assert "img" not in {tag for tag, _ in page.tags}
    frame = pd.read_csv(written / "trials.csv")
    assert frame["number"].tolist() == [int(row[0]) for row in page.rows[1:]]
    assert frame["best_nme_pct"][:-1].is_monotonic_increasing


def test_the_same_trials_give_the_same_files(written: Path, tmp_path: Path) -> None:
    write_charts(searched(), 6, 2, tmp_path)
    for name in ALL:
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes(), name


@pytest.mark.parametrize(
    ("trials", "shown", "sentences"),
    [
        (
            [],
            [],
            ["No result", "No trial has finished an epoch.", "Only 0 trials reached epoch 2", "No trial with an epoch has ended"],
        ),
        (searched(1), ["curves", "cost"], ["Trial 0:", "Only 1 trial reached epoch 2 without failing"]),
        (
            [trial for trial in searched() if trial.number in (0, 3)],
            ["curves", "parallel", "cost"],
            ["Only 2 trials reached epoch 2, and importances need 5."],
        ),
        (
            [searched()[1]] * 3,
            ["curves"],
            ["No result", "Only 0 trials reached epoch 2 without failing", "No trial with an epoch has ended"],
        ),
        (
            [Trial(number, f"t{number}", "finished", "", {"optim.lr": 0.1 * number}, (7.0, 7.0), 9.0, 1.0) for number in range(6)],
            ["curves", "cost"],
            ["All 6 trials that reached epoch 2 have the same NME there"],
        ),
        ([Trial(0, "t0", "pending", "", {"optim.lr": 0.1}, (), 0.0, 1.0)], [], ["No result", "1 pending"]),
    ],
    ids=["none", "one", "two", "all failed", "all the same", "pending"],
)
def test_little_to_show_leaves_charts_out_and_says_why(trials: list[Trial], shown: list[str], sentences: list[str], tmp_path: Path) -> None:
    for name in ALL:
        (tmp_path / name).write_text("of an earlier call")
    paths = write_charts(trials, 6, 2, tmp_path)
    assert [path.name for path in paths] == ALL
    page = Page((tmp_path / "search.html").read_text())
    for sentence in sentences:
        assert sentence in page.text
    assert page.figures == [f"chart-{name}" for name in shown]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FkpError, match=re.escape(str(tmp_path / "file" / "trials.csv"))):
        write_charts([], 6, 2, tmp_path / "file")
    (tmp_path / "search.html").mkdir()
    with pytest.raises(FkpError, match=r"search\.html"):
        write_charts([], 6, 2, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
