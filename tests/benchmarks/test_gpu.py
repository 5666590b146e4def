"""The benchmark of a GPU: here it says that there is none, and its parts run on the processor."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import yaml

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], None]:
    monkeypatch.syspath_prepend(REPO / "benchmarks")
    return importlib.import_module("gpu").main


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(main: Callable[[Sequence[str]], None], capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert capsys.readouterr().out == "torch finds no GPU here: nothing was measured.\n"


def test_its_parts_run_on_the_processor(main: Callable[[Sequence[str]], None], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small = {"input": {"size_px": 64}, "model": {"arch": "slim", "width": 8, "depth": 1}, "scale": {"cpus_per_worker": 1}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    main(f"--config {tmp_path / 'small.yaml'} --device cpu --batches 2 --crops 1 2 --seconds 0.01".split())
    told = capsys.readouterr().out
    rows = re.findall(r"^batch 2, (fp32|bf16) +(\d+) +(\d+) +[\d.]+ +- +-$", told, re.MULTILINE)
    assert [row[0] for row in rows] == ["fp32", "bf16"]
    assert all(int(rate) > 0 for row in rows for rate in row[1:])
    points = re.findall(r"^torch on cpu, (?:fp32|bf16) +([\d.]+) +[\d.]+ +[\d.]+   asked <= 0.25: yes$", told, re.MULTILINE)
    # The file computes in 8 bits: answers that do not differ at all would be the same session's.
    assert len(points) == 2 and all(0.001 < float(mean) <= 0.25 for mean in points)
    assert re.search(r"^ONNX Runtime, 1 threads( +\d+){2}$", told, re.MULTILINE)
