"""One Config: three ways to say the same, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from fkp.config import Config, OptimConfig, build_config, config_from_args, dotted, known_paths
from fkp.errors import FkpError

SAME = [
    ("optim.lr", "3e-3", "3e-3", 0.003),
    ("model.arch", "mobile", "mobile", "mobile"),
    ("model.width", "16", "16", 16),
    ("data.label_bias_px", "1.15,0.8", "[1.15, 0.8]", (1.15, 0.8)),
    ("data.label_bias_px", "null", "null", None),
    ("data.extra", "data/sfhq,my_set", "[data/sfhq, my_set]", ("data/sfhq", "my_set")),
    ("data.extra", "data/sfhq", "[data/sfhq]", ("data/sfhq",)),
    ("train.max_minutes", "2.5", "2.5", 2.5),
    ("train.max_minutes", "null", "null", None),
    ("data.limit", "7", "7", 7),
    ("track.run_name", "night-1", "night-1", "night-1"),
]


def from_flags(*argv: str) -> Config:
    return config_from_args(list(argv), "fkp train", "Train.")


def write_yaml(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def value_of(config: Config, path: str) -> Any:
    return dict(dotted(config.model_dump()))[path]


# --- three ways to say the same ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "flag", "line", "value"), SAME, ids=[f"{row[0]}={row[1]}" for row in SAME])
def test_flag_yaml_and_dotted_path_agree(tmp_path: Path, path: str, flag: str, line: str, value: Any) -> None:
    section, field = path.split(".")
    nested = write_yaml(tmp_path, f"{section}:\n  {field}: {line}\n")
    expected = build_config({path: value})
    assert value_of(expected, path) == value
    assert from_flags(f"--{path}", flag) == expected
    assert from_flags(f"--{path}={flag}") == expected
    assert from_flags("--config", str(nested)) == expected
    nested.write_text(f"{path}: {line}\n")
    assert from_flags("--config", str(nested)) == expected
    assert build_config({section: {field: value}}) == expected


def test_nothing_said_is_the_default() -> None:
    assert from_flags() == build_config() == Config()


def test_flags_win_over_the_file_and_leave_the_rest_of_it(tmp_path: Path) -> None:
    path = write_yaml(tmp_path, "optim: {lr: 0.01, weight_decay: 0.5}\ndata: {label_bias_px: [1, 2]}\n")
    config = from_flags("--optim.lr", "0.02", "--config", str(path), "--data.label_bias_px", "null")
    assert (config.optim.lr, config.optim.weight_decay, config.data.label_bias_px) == (0.02, 0.5, None)


def test_later_layers_win() -> None:
    config = build_config({"optim": {"lr": 0.1, "warmup": 0.3}}, {"optim.lr": 0.2})
    assert (config.optim.lr, config.optim.warmup) == (0.2, 0.3)


def test_negative_numbers_by_flag() -> None:
    assert from_flags("--data.label_bias_px=-1.5,-0.5").data.label_bias_px == (-1.5, -0.5)


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"optim.lrr": 1}, "unknown setting optim.lrr: did you mean optim.lr?"),
        ({"optim": {"lrr": 1}}, "unknown setting optim.lrr: did you mean optim.lr?"),
        ({"modle": {"arch": "x"}}, "unknown setting modle"),
        ({"frobnicate": 1}, "unknown setting frobnicate: --help lists them all"),
        ({"optim.lr": -1}, "setting optim.lr: Input should be greater than 0 (got -1)"),
        ({"optim.lr": float("nan")}, "setting optim.lr: Input should be a finite number"),
        ({"input.size_px": 100}, "setting input.size_px: Input should be a multiple of 16 (got 100)"),
        ({"input.channels": 2}, "setting input.channels: Input should be 1 or 3"),
        ({"model.head": "none"}, "setting model.head: Input should be 'direct' or 'heatmap' (got 'none')"),
        ({"track.run_name": "../up"}, "setting track.run_name"),
        ({"optim": 3}, "setting optim"),
        ({"scale": {"num_workers": 2, "min_workers": 3}}, "setting scale: min_workers=3 is more than num_workers=2"),
        ({"data": {"test_fold": 1, "val_fold": 1}}, "setting data: test_fold and val_fold are both 1: choose different folds"),
        ({"optim.lr.x": 3}, "setting optim.lr"),
    ],
    ids=str,
)
def test_bad_settings_are_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(FkpError) as caught:
        build_config(settings)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(FkpError, match=r"optim\.lr.*; .*train\.epochs|train\.epochs.*; .*optim\.lr"):
        build_config({"optim.lr": 0, "train.epochs": 0})


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--optim.lrr", "1"], "unknown setting optim.lrr: did you mean optim.lr?"),
        (["--optim.lrr=1"], "unknown setting optim.lrr: did you mean optim.lr?"),
        (["--optim.l", "0.1"], "unknown setting optim.l: did you mean optim.lr?"),
        (["--optim.lr", "fast"], "setting optim.lr: Input should be a valid number"),
        (["--optim.lr"], "--optim.lr"),
        (["stray"], "unknown setting stray"),
    ],
    ids=str,
)
def test_bad_flags_are_named(argv: list[str], says: str) -> None:
    with pytest.raises(FkpError) as caught:
        from_flags(*argv)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_key_in_yaml(tmp_path: Path) -> None:
    path = write_yaml(tmp_path, "optim:\n  learning_rate: 0.1\n  weight_decai: 0.1\n")
    with pytest.raises(FkpError, match=r"unknown setting optim\.weight_decai: did you mean optim\.weight_decay\?"):
        from_flags("--config", str(path))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("optim: {lr: 0.1", "is not valid YAML"),
        ("- 1\n- 2\n", "must hold names and values"),
        ("just words", "must hold names and values"),
        ("optim: {lr: 0.1}\ntrain: {}\noptim: {lr: 0.2}", "optim stands twice, first in line 1: keep one"),
        ("optim: {lr: 0.1, warmup: 0.2, 'lr': 0.2}", "lr stands twice"),
        ("optim: {lr: 0.1}\noptim.lr: 0.2", "optim.lr stands twice"),
    ],
)
def test_broken_yaml(tmp_path: Path, text: str, says: str) -> None:
    path = write_yaml(tmp_path, text)
    with pytest.raises(FkpError, match=says) as caught:
        from_flags("--config", str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FkpError, match=r"cannot read settings .*absent\.yaml: No such file"):
        from_flags("--config", str(tmp_path / "absent.yaml"))
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(FkpError, match=r"cannot read settings .*binary\.yaml"):
        from_flags("--config", str(path))


def test_a_merged_key_may_be_overridden(tmp_path: Path) -> None:
    path = write_yaml(tmp_path, "optim:\n  <<: {lr: 0.1, warmup: 0.3}\n  lr: 0.2\n")
    config = from_flags("--config", str(path))
    assert (config.optim.lr, config.optim.warmup) == (0.2, 0.3)


def test_empty_yaml_is_no_setting(tmp_path: Path) -> None:
    assert from_flags("--config", str(write_yaml(tmp_path, "# nothing yet\n"))) == Config()


def test_equal_folds_are_fine_where_they_are_not_used() -> None:
    assert build_config({"data": {"split": "published", "test_fold": 1, "val_fold": 1}}).data.val_fold == 1


# --- the object -------------------------------------------------------------------------------------------------


def test_json_round_trip() -> None:
    config = build_config({"data.label_bias_px": (1.15, 0.8), "train.max_minutes": 3, "optim.lr": 0.1, "track.run_name": "a"})
    assert Config.model_validate(config.model_dump(mode="json")) == config
    assert Config.model_validate_json(config.model_dump_json()) == config
    assert build_config(config.model_dump(mode="json")) == config


def test_frozen() -> None:
    config = Config()
    with pytest.raises(ValidationError, match="frozen"):
        config.optim.lr = 1.0
    with pytest.raises(ValidationError, match="frozen"):
        config.optim = OptimConfig()
    assert hash(config) == hash(Config())


def test_digest_ignores_the_name_of_the_run_alone() -> None:
    digest = Config().digest()
    assert len(digest) == 12
    assert int(digest, 16) >= 0
    assert build_config({"track.run_name": "other"}).digest() == digest
    changes: dict[str, Any] = {"optim.lr": 0.1, "train.seed": 1, "track.experiment": "other", "data.limit": 5, "augment.flip": 0.1}
    digests = {build_config({path: value}).digest() for path, value in changes.items()}
    assert len(digests | {digest}) == len(changes) + 1


def test_known_paths() -> None:
    paths = known_paths()
    assert len(paths) == len(set(paths))
    assert {"optim.lr", "data.label_bias_px", "track.run_name"} <= set(paths)


def _fields(section: type[BaseModel], prefix: str = "") -> list[tuple[str, str]]:
    """(path, help) of every setting."""
    found: list[tuple[str, str]] = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += _fields(inner, f"{prefix}{name}.")
        else:
            found.append((prefix + name, field.description or ""))
    return found


def test_help_prints_the_text_of_every_field(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    with pytest.raises(SystemExit) as caught:
        from_flags("--help")
    assert caught.value.code == 0
    printed = "".join(capsys.readouterr().out.split())  # Lines are wrapped.
    fields = _fields(Config)
    assert len(fields) == len(known_paths())
    for path, text in fields:
        assert text, f"{path} has no help"
        assert f"--{path}" in printed
        assert "".join(text.split()) in printed, path


def test_a_run_whose_unused_folds_are_equal_is_measured_by_the_other_split_too() -> None:
    data = build_config({"data": {"split": "published", "test_fold": 1, "val_fold": 1}}).data
    assert data.under_split("identity").split == "identity"


def test_an_update_is_checked_like_everything_else() -> None:
    config = build_config({"optim.lr": 0.01})
    changed = config.updated({"optim.lr": 0.02, "data": {"test_fold": 3}}, {"optim.lr": 0.03})
    assert (changed.optim.lr, changed.data.test_fold, config.optim.lr) == (0.03, 3, 0.01)
    assert config.data.updated({"test_fold": 2}) == changed.updated({"data.test_fold": 2}).data
    with pytest.raises(FkpError, match=r"unknown setting optim\.lrr: did you mean optim\.lr\?"):
        config.updated({"optim.lrr": 1})
    with pytest.raises(FkpError, match=r"^setting data\.split: .*got 'nothing'"):
        config.data.updated({"split": "nothing"})
    with pytest.raises(FkpError, match=r"^unknown setting data\.rooot: did you mean data\.root\?$"):
        config.data.updated({"rooot": "here"})
    with pytest.raises(FkpError, match=r"^setting data: test_fold and val_fold are both 1"):
        config.data.updated({"test_fold": 1})


def test_a_flag_of_each_kind_of_value_is_taken() -> None:
    flags = ["--input.channels", "3", "--input.size_px", "64", "--optim.lr", "0.01", "--export.int8", "true", "--task", "detect"]
    given = config_from_args([*flags, "--data.label_bias_px", "1,2"], "test", "")
    assert (given.input.channels, given.input.size_px, given.optim.lr, given.export.int8, given.task) == (3, 64, 0.01, True, "detect")
    assert given.data.label_bias_px == (1, 2)
