"""Figures on their way from a worker into the record."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fkp.errors import FkpError

pytestmark = pytest.mark.usefixtures("ray_cluster")


class Record:
    """What is written, and a store that can be away."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, dict[str, float]]] = []
        self.away = False
        self.refused = 0

    def write(self, step: int, time_ms: int, values: Mapping[str, float]) -> None:
        if self.away:
            self.refused += 1
            raise FkpError("the store is away")
        assert abs(time_ms / 1000 - time.time()) < 3600
        self.steps.append((step, dict(values)))


def log(name: str, step: int, **values: float) -> None:
    from fkp.train import board

    board.BoardLogger(board.find(name)).log_metrics(values, step)


def wait_until(check: Any) -> None:
    until = time.monotonic() + 20
    while not check():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.over_5s("an actor of Ray starts")
def test_figures_are_written_in_order_and_progress_is_shown(tmp_path: Path) -> None:
    from fkp.train import board

    record, shown = Record(), list[Mapping[str, float]]()
    with board.standing(tmp_path / "figures.jsonl", record.write, shown.append) as name:
        board.find(name).put.remote({"epoch": 3.0})
        for step in range(5):
            log(name, step, loss=1 / (step + 1))
        wait_until(lambda: shown)
    assert record.steps == [(step, {"loss": 1 / (step + 1)}) for step in range(5)]
    assert shown[0] == {"epoch": 3.0}
    assert not (tmp_path / "figures.jsonl").exists()


@pytest.mark.slow("an actor of Ray starts, and a store is waited for")
def test_a_store_that_is_away_delays_the_record_and_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from fkp.train import board

    record = Record()
    with caplog.at_level(logging.WARNING), board.standing(tmp_path / "figures.jsonl", record.write, lambda progress: None) as name:
        log(name, 0, loss=1.0)
        wait_until(lambda: record.steps)
        record.away = True
        log(name, 1, loss=2.0)
        wait_until(lambda: record.refused > 1)
        log(name, 2, loss=3.0)
        record.away = False
    assert [step for step, _ in record.steps] == [0, 1, 2], "each once"
    assert caplog.text.count("the store is away; training goes on") == 1


@pytest.mark.slow("two actors of Ray start")
def test_what_could_not_be_written_is_an_error_and_is_written_next_time(tmp_path: Path) -> None:
    from fkp.train import board

    path, record = tmp_path / "figures.jsonl", Record()
    record.away = True
    with pytest.raises(FkpError, match="the store is away"), board.standing(path, record.write, lambda progress: None) as name:
        log(name, 7, loss=1.0)
    assert [json.loads(line)[0] for line in path.read_text().splitlines()] == [7]
    with path.open("a") as file:
        file.write("[8, 17")  # The driver was killed while its board wrote.
    record.away = False
    with board.standing(path, record.write, lambda progress: None) as name:
        log(name, 9, loss=2.0)
    assert [step for step, _ in record.steps] == [7, 9]


@pytest.mark.slow("two actors of Ray start")
def test_a_checkpoint_takes_along_what_is_not_in_the_record_yet(tmp_path: Path) -> None:
    from fkp.train import board

    record = Record()
    record.away = True

    def train() -> None:
        with board.standing(tmp_path / "here", record.write, lambda progress: None) as name:
            log(name, 3, loss=1.0)
            board.BoardLogger(board.find(name)).keep(tmp_path)

    with pytest.raises(FkpError, match="the store is away"):
        train()
    record.away = False
    with board.standing(tmp_path / "on another machine", record.write, lambda progress: None) as name:
        board.BoardLogger(board.find(name)).take(tmp_path)
    assert record.steps == [(3, {"loss": 1.0})]


@pytest.mark.slow("an actor of Ray starts")
def test_the_training_s_own_error_is_the_one_that_is_told(tmp_path: Path) -> None:
    from fkp.train import board

    record = Record()
    record.away = True

    def train() -> None:
        with board.standing(tmp_path / "figures.jsonl", record.write, lambda progress: None) as name:
            log(name, 0, loss=1.0)
            raise FkpError("lower the rate")

    with pytest.raises(FkpError, match="lower the rate"):
        train()
