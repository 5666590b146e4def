"""What a search shows while it runs: a table on a terminal, one line for each ended trial in a log."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from fkp.tune.live_table import LiveTable, duration, ended_line, status
from fkp.tune.results import State, Trial


def trial(number: int, state: State, *nme: float, reason: str = "", **sample: object) -> Trial:
    return Trial(number, f"t{number}", state, reason, {f"model.{key}": value for key, value in sample.items()}, nme, 65.0, 1.0)


def shown(trials: list[Trial], planned: int = 40, seconds_left: float | None = None, width: int = 120) -> str:
    """The last image on a terminal, without its colours."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=40)
    table = LiveTable(planned, console)
    with table:
        table.update(trials, seconds_left)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())  # type: ignore[attr-defined]
    return text[text.rindex("trial  state") :]


def test_a_terminal_shows_the_best_trials_with_the_settings_that_differ() -> None:
    trials = [trial(0, "stopped", 9.0, width=16, head="direct", same=1), trial(1, "running", 8.0, 5.126, width=32, head="heatmap", same=1)]
    lines = shown(trials, planned=5, seconds_left=3800).splitlines()
    assert lines[0].split() == ["trial", "state", "epochs", "NME", "%", "time", "width", "head"]
    assert lines[2].split() == ["1", "running", "2", "5.13", "1", "min", "05", "s", "32", "heatmap"]
    assert lines[3].split()[:4] == ["0", "stopped", "1", "9.00"]
    assert lines[4] == "1 running, 0 finished, 1 stopped, 0 failed, 3 to come"
    assert lines[5] == "best so far: trial 1, NME 5.13 %; time left: about 1 h 03 min"


def test_a_terminal_shows_fifteen_trials_at_most_and_no_pending_one() -> None:
    trials = [trial(number, "finished", 20.0 - number) for number in range(18)] + [trial(18, "pending")]
    numbers = [int(line.split()[0]) for line in shown(trials).splitlines()[2:] if line.split()[1] == "finished"]
    assert numbers == list(range(17, 2, -1))


def test_before_the_first_epoch_there_is_no_best_trial() -> None:
    text = shown([trial(0, "running"), trial(1, "pending")], planned=4)
    assert "1 running, 0 finished, 0 stopped, 0 failed, 3 to come" in text
    assert "no epoch is done yet; time left: not known before a trial ends" in text


def test_a_setting_without_room_is_named_and_not_cut() -> None:
    trials = [trial(number, "finished", 5.0, a_rather_long_setting="x" * 40 + str(number), width=number) for number in range(2)]
    lines = shown(trials, width=60).splitlines()
    assert "width" in lines[0] and "a_rather" not in lines[0] and "…" not in "".join(lines)
    assert lines[-1].strip() == "no room for a_rather_long_setting"
    assert max(len(line) for line in lines) <= 60


def test_markup_in_a_setting_is_shown_as_it_is() -> None:
    assert "[red]x[/red]" in shown([trial(0, "finished", 5.0, head="[red]x[/red]"), trial(1, "finished", 6.0, head="[/]")])


def test_a_log_gets_one_line_for_each_ended_trial_and_nothing_else() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=40)
    with LiveTable(3, console) as table:
        running = trial(1, "running", 9.0)
        table.update([trial(0, "running"), running], None)
        assert console.file.getvalue() == ""  # type: ignore[attr-defined]
        done = trial(0, "stopped", 9.5, 8.25, reason="below the median after 2 epochs", width=16, rate=0.00012345)
        table.update([done, running], 20.0)
        table.update([done, trial(1, "failed", reason="RuntimeError: [Errno 28] no space"), trial(2, "pending")], 10.0)
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "trial 0 stopped (below the median after 2 epochs): NME 8.25 % in 2 epochs, 1 min 05 s; model.width=16 model.rate=0.000123",
        "trial 1 failed (RuntimeError: [Errno 28] no space): no epoch, 1 min 05 s",
    ]


def test_without_a_console_a_log_goes_to_stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    with LiveTable(1) as table:
        table.update([trial(0, "finished", 4.0)], 0.0)
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "trial 0 finished: NME 4.00 % in 1 epoch, 1 min 05 s\n"


def test_what_a_program_prints_meanwhile_stays_on_stdout_when_that_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with LiveTable(1, console) as table:
        table.update([trial(0, "finished", 4.0)], 0.0)
        print("result")
    assert capsys.readouterr().out == "result\n"


def test_counts_of_a_search_that_made_more_than_planned() -> None:
    assert status([trial(0, "finished", 1.0), trial(1, "pending")], planned=1) == "0 running, 1 finished, 0 stopped, 0 failed, 1 to come"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7620, "2 h 07 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_line_without_settings_ends_cleanly() -> None:
    assert not ended_line(trial(0, "finished", 4.0)).endswith((";", " "))
