"""`fkp track` as typed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fkp.bundle import Bundle, open_bundle
from fkp.errors import FkpError
from fkp.track.__main__ import main
from fkp.track.registry import Registry
from fkp.track.version import Version


def test_the_table_shows_figures_and_the_champion(
    registry: Registry, make_version: Callable[..., Version], capsys: pytest.CaptureFixture[str]
) -> None:
    for nme in (5.0, 4.0, None):
        make_version(nme)
    for number in (1, 2):
        assert main(["promote", str(number)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "version 2 is the champion: validation NME 4.000 %"
    assert main(["list"]) == 0
    heads, *rows = capsys.readouterr().out.splitlines()[:4]
    assert heads.split() == ["version", "val", "NME", "%", "test", "NME", "%", "arch", "split", "registered"]
    cells = [row.split() for row in rows]
    assert cells[0][:5] == ["3", "-", "-", "resnet", "-"]
    assert cells[1][:5] == ["2", "4.000", "-", "resnet", "a" * 12]
    assert [row[-1] for row in cells[1:]] == ["champion", "promoted"]
    assert main(["rollback"]) == 0
    assert capsys.readouterr().out == "version 1 is the champion: validation NME 5.000 %\n"


def test_a_refused_promotion_says_both_figures_and_force_promotes(
    registry: Registry, make_version: Callable[..., Version], capsys: pytest.CaptureFixture[str]
) -> None:
    for nme in (4.0, 5.0):
        make_version(nme)
    main(["promote", "1"])
    with pytest.raises(FkpError, match=r"5\.000 % against 4\.000 %; promote with --force"):
        main(["promote", "2"])
    assert main(["promote", "2", "--force"]) == 0
    assert registry.champion_number() == 2


def test_a_bundle_without_a_run_gets_one(
    store: MlflowClient, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    assert main(["list"]) == 0
    assert capsys.readouterr().out.startswith("nothing is registered as fkp in sqlite:")
    assert main(["register", str(tiny_bundle.path), "--promote", "--force"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("version 1 of fkp: runs:/")
    assert said[1] == "version 1 is the champion: validation NME not known"
    version = Registry().version(1)
    run = store.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["model.arch"] == "resnet"
    assert open_bundle(mlflow.artifacts.download_artifacts(version.bundle_artifacts, dst_path=str(tmp_path))).digest == tiny_bundle.digest
    assert main(["register", str(tiny_bundle.path)]) == 0
    assert capsys.readouterr().out.startswith("version 1 of fkp: ")
    assert main(["register", str(tiny_bundle.path), "--name", "other"]) == 0
    assert capsys.readouterr().out.startswith("version 1 of other: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["list"], "error: cannot reach MLflow at http://127.0.0.1:9 ("),
        (["upload", "nothing.jsonl"], "error: nothing.jsonl is missing or empty: name the file that the search printed"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_status_1(
    arguments: list[str], sentence: str, tmp_path: Path, run_process: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run_process("fkp.track", *arguments, cwd=tmp_path, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for command in ("list", "register", "promote", "rollback", "upload"):
        assert command in text
