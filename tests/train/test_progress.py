"""The driver's bar."""

from __future__ import annotations

import pytest

from fkp.train.progress import ProgressBar


def test_it_shows_error_speed_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("run") as bar:
        for step in (0, 40, 100):
            bar.update({"step": step, "steps": 100, "epoch": 4, "nme": 4.321, "images_per_s": 250.4})
    shown = capsys.readouterr().err
    assert "run: 100%" in shown
    assert "100/100" in shown
    assert "epoch 5, NME 4.32 %, 250 images/s" in shown


def test_a_resumed_run_begins_where_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("run") as bar:
        bar.update({"step": 60, "steps": 100, "epoch": 2, "nme": float("nan"), "images_per_s": 1.0})
        bar.update({"step": 80, "steps": 100, "epoch": 2, "nme": float("nan"), "images_per_s": 1.0})
        assert bar._bar.n == 80
        assert bar._bar.initial == 60, "earlier steps do not count as this process's speed"
    shown = capsys.readouterr().err
    assert "80/100" in shown and "epoch 3, 1 images/s" in shown, "no error is known yet, and none is shown"


def test_a_restart_from_an_earlier_checkpoint_goes_back() -> None:
    with ProgressBar("run") as bar:
        for step in (50, 40):
            bar.update({"step": step, "steps": 100, "epoch": 2, "nme": 5.0, "images_per_s": 1.0})
        assert bar._bar.n == 40
