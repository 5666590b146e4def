"""The flags of a search: what they make, and every fault as one sentence."""

from __future__ import annotations

import pytest

from fkp.errors import FkpError
from fkp.tune.options import Settings, parse


def test_flags_of_the_search_and_settings_of_the_runs_stand_side_by_side() -> None:
    settings, config = parse(["--trials", "5", "--optim.lr", "0.02", "--name", "first", "--gpus", "0.25", "--model.width=16"])
    assert settings == Settings(trials=5, name="first", gpus=0.25)
    assert (config.optim.lr, config.model.width, config.track.run_name) == (0.02, 16, "first")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--trials", "0"], "--trials is 0: a search needs a budget above 0"),
        (["--trials", "-3"], "--trials is -3: a search needs a budget above 0"),
        (["--epochs", "0"], "--epochs is 0: a search needs a budget above 0"),
        (["--minutes", "0"], r"--minutes is 0\.0: a search needs a budget above 0"),
        (["--minutes", "nan"], "--minutes is nan: a search needs a budget above 0"),
        (["--workers", "0"], "--workers is 0"),
        (["--concurrent", "0"], "--concurrent is 0"),
        (["--reduction", "1"], "--reduction is 1: at least every second trial"),
        (["--epochs", "3", "--grace", "4"], "--grace 4 is more than --epochs 3"),
        (["--gpus", "-1"], r"--gpus is -1\.0: use 0 or a part of a GPU"),
        (["--gpus", "inf"], "--gpus is inf"),
        (["--resume"], "--resume needs the --name"),
        (["--scheduler", "pbt", "--algo", "grid"], "--scheduler pbt proposes trials itself"),
        (["--scheduler", "pbt", "--workers", "2"], "--scheduler pbt moves checkpoints between trials of one worker"),
        (["--scheduler", "bohb"], "--scheduler bohb was removed, .*: use --scheduler hyperband"),
        (["--scheduler", "hyperband", "--workers", "2"], "--scheduler hyperband lets trials wait .*: leave out --workers"),
        (["--algo", "hyperopt"], r"argument --algo: invalid choice: 'hyperopt'.*--help lists the flags"),
        (["--trials", "many"], "argument --trials: invalid int value: 'many'"),
        (["--trial", "3"], r"unknown|unrecognized"),
        (["--optim.lrr", "3"], r"optim\.lrr"),
        (["--track.run_name", "a"], "a search has one --name"),
        (["--name", "no/slash"], r"track\.run_name"),
    ],
)
def test_a_fault_is_one_sentence(argv: list[str], sentence: str) -> None:
    with pytest.raises(FkpError, match=sentence) as caught:
        parse(argv)
    assert "\n" not in str(caught.value)


def test_help_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    assert "--concurrent" in capsys.readouterr().out


def test_what_only_says_how_to_run_may_change_when_a_search_is_resumed() -> None:
    before = Settings(name="a").identity()
    assert Settings(name="a", resume=True, refit=True, concurrent=2, minutes=5.0, gpus=0.5).identity() == before
    assert Settings(name="a", trials=9).identity() != before
    assert Settings(name="a", scheduler="none").identity() != before
