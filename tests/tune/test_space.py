"""The space: every entry is a setting that there is, with values that it can have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fkp.config import build_config, known_paths
from fkp.errors import FkpError
from fkp.tune.space import DEFAULT_SPACE, read_space


def write(folder: Path, space: Any) -> Path:
    path = folder / "space.yaml"
    path.write_text(space if isinstance(space, str) else yaml.safe_dump(space))
    return path


def test_the_default_space_is_of_known_settings_and_holds_the_hand_set_run() -> None:
    base = build_config()
    space = read_space(DEFAULT_SPACE, base)
    assert {entry.path for entry in space.entries} <= set(known_paths())
    assert {"optim.lr", "optim.weight_decay", "model.arch", "model.width", "model.depth", "model.head", "loss.kind"} <= set(space.domains())
    first = space.first_sample(base)
    assert first["model.arch"] == "resnet"
    assert build_config(base.model_dump(), first).optim.lr == 0.01


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ({"optim.lrr": {"log": [0.1, 1.0]}}, r"unknown setting optim\.lrr: did you mean optim\.lr\?"),
        ({"model": {"widht": {"int": [8, 16]}}}, r"unknown setting model\.widht: did you mean model\.width\?"),
        ({"optim.lr": {"log": [0.0, 1.0]}}, r"optim\.lr must have low < high, both above 0"),
        ({"optim.lr": {"log": [0.1, 2.0]}}, r"setting optim\.lr: .*less than or equal to 1 \(got 2\.0\)"),
        ({"optim.lr": {"uniform": [0.2, 0.1]}}, r"optim\.lr must have low < high"),
        ({"optim.lr": {"uniform": [0.2]}}, r"optim\.lr must have two numbers"),
        ({"optim.lr": [0.1, 0.2]}, r"optim\.lr must be one of \{log: \[\.\.\.\]\}"),
        ({"optim.lr": {"log": [0.1, 0.2], "choice": [0.1]}}, r"optim\.lr must be one of"),
        ({"optim.lr": {"log": [0.1, 0.2], "defualt": 0.1}}, r"optim\.lr has the unknown key 'defualt'"),
        ({"optim.lr": {"log": [0.1, 0.2], "default": 0.3}}, r"the default of optim\.lr, 0\.3, is not one of its values"),
        ({"model.width": {"int": [8, 16], "step": 4, "default": 10}}, r"the default of model\.width, 10, is not one of its values"),
        ({"model.width": {"int": [8, 16], "points": 3}}, r"model\.width has the unknown key 'points': use int, default, step"),
        ({"model.width": {"int": [8, 16.5]}}, r"model\.width must have whole numbers"),
        ({"model.arch": {"choice": ["resnet", "vgg"]}}, r"unknown architecture 'vgg': model\.arch is one of convnext, mobile"),
        ({"model.head": {"choice": ["heat"]}}, r"setting model\.head: "),
        ({"model.head": {"choice": []}}, r"model\.head must be a choice of one or more plain values"),
        ({"input.crop_scale": {"uniform": [1.0, 1.5]}}, r"input\.crop_scale must be a choice: the crops are decoded once"),
        ({"train.epochs": {"int": [1, 5]}}, r"train\.epochs cannot be searched"),
        ({"data.split": {"choice": ["identity"]}}, r"data\.split cannot be searched"),
        ({"model.width": {"int": [16, 40]}}, r"model\.width: .*multiple of 8 \(got 17\): write \{int: \[16, 40\], step: 8\}"),
        ({"model.width": {"int": [18, 100], "step": 2}}, r"\(got 18\): write \{int: \[24, 96\], step: 8\}"),
        ({"model.width": {"int": [16, 40], "step": 4}}, r"\(got 20\): write \{int: \[16, 40\], step: 8\}"),
        ({"model.width": {"uniform": [16, 40]}}, r"model\.width: .*valid integer.*: write \{int: \[16, 40\], step: 8\}"),
        ({"model.depth": {"log": [1, 4]}}, r"model\.depth: .*valid integer.*: write \{int: \[1, 4\], step: 1\}"),
        ({"model.width": {"choice": [16, 20]}}, r"model\.width: .*multiple of 8 \(got 20\)$"),
        ({"optim.grad_clip": {"uniform": [-1, 5]}}, r"greater than or equal to 0 \(got -1\)$"),
        ({"model.arch": {"choice": ["resnet", "seed_cnn"]}}, r"model\.arch=seed_cnn needs input\.size_px=224"),
        ({"input.size_px": {"choice": [128, 144]}, "model.arch": {"choice": ["convnext"]}}, r"input\.size_px=144 does not divide by"),
        ("optim.lr: {log: [0.1, 0.2]}\noptim.lr: {log: [0.3, 0.4]}", r"space\.yaml: optim\.lr stands twice, first in line 1: keep one"),
        ("optim.lr: {log: [0.1, 0.2], log: [0.3, 0.4]}", r"space\.yaml: log stands twice"),
        ({"optim.lr": {"log": [0.1, 0.2]}, "optim": {"lr": {"uniform": [0.1, 0.2]}}}, r"optim\.lr stands twice: keep one"),
        ({}, r"is empty: name at least one setting"),
        ("optim.lr: {log: [0.1", r"is not valid YAML"),
    ],
)
def test_a_space_with_a_fault_is_one_sentence_that_names_it(tmp_path: Path, space: Any, sentence: str) -> None:
    with pytest.raises(FkpError, match=sentence) as caught:
        read_space(write(tmp_path, space), build_config())
    assert "\n" not in str(caught.value)


def test_numbers_without_a_point_are_numbers(tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-3 as text."""
    (entry,) = read_space(write(tmp_path, "optim.lr: {log: [1e-3, 1e-1], default: 1e-2}"), build_config()).entries
    assert (entry.low, entry.high, entry.default) == (0.001, 0.1, 0.01)


def test_sections_may_be_nested(tmp_path: Path) -> None:
    space = read_space(write(tmp_path, {"optim": {"lr": {"log": [0.1, 0.2]}, "warmup": {"uniform": [0.0, 0.5]}}}), build_config())
    assert [entry.path for entry in space.entries] == ["optim.lr", "optim.warmup"]


def test_a_grid_has_every_choice_and_both_ends_of_a_range(tmp_path: Path) -> None:
    path = write(
        tmp_path, {"optim.lr": {"log": [0.001, 0.1]}, "model.width": {"int": [8, 24], "step": 8}, "model.head": {"choice": ["direct"]}}
    )
    space = read_space(path, build_config())
    assert space.grid()["optim.lr"] == pytest.approx([0.001, 0.01, 0.1])
    assert space.grid()["model.width"] == [8, 16, 24]
    assert len(space.grid_points()) == 9


def test_ranges_of_whole_numbers_include_their_upper_end(tmp_path: Path) -> None:
    (entry,) = read_space(write(tmp_path, {"model.depth": {"int": [1, 3]}}), build_config()).entries
    assert {entry.domain().sample() for _ in range(200)} == {1, 2, 3}
    assert entry.distribution().high == 3


def test_without_a_default_the_first_trial_takes_the_runs_own_value(tmp_path: Path) -> None:
    path = write(tmp_path, {"optim.lr": {"log": [0.001, 0.1]}, "model.width": {"int": [8, 64], "step": 8, "default": 16}})
    space = read_space(path, build_config({"optim.lr": 0.02}))
    assert space.first_sample(build_config({"optim.lr": 0.02})) == {"optim.lr": 0.02, "model.width": 16}
    assert space.first_sample(build_config({"optim.lr": 0.5})) == {}, "a value outside the space is no trial of it"


def test_crops_are_those_of_every_input_setting(tmp_path: Path) -> None:
    path = write(
        tmp_path, {"input": {"crop_scale": {"choice": [1.2, 1.4]}, "size_px": {"choice": [64, 96]}}, "optim.lr": {"log": [0.1, 0.2]}}
    )
    settings = read_space(path, build_config()).crop_settings()
    assert len(settings) == 4
    assert {"input.crop_scale": 1.4, "input.size_px": 64} in settings


def test_what_is_never_drawn_need_not_be_valid(tmp_path: Path) -> None:
    """The upper end is not one of the steps."""
    (entry,) = read_space(write(tmp_path, {"model.width": {"int": [8, 30], "step": 8}}), build_config()).entries
    assert entry.drawn()[-1] == 24


def test_a_range_too_long_to_try_each_value(tmp_path: Path) -> None:
    (entry,) = read_space(write(tmp_path, {"train.seed": {"int": [0, 2**31]}}), build_config()).entries
    assert len(entry.drawn()) < 3000
