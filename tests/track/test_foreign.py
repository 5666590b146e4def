"""A registry that others write, too: versions and aliases of another make, broken tags, lost files, other names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fkp.bundle import Bundle, open_bundle, update_bundle
from fkp.errors import FkpError
from fkp.track.__main__ import main
from fkp.track.download import download
from fkp.track.registry import ALIAS, NotBetter, Registry
from fkp.track.version import MARK_TAG, Version

from .conftest import change, follow

VAL = "val_nme_interocular_pct"


@pytest.fixture
def foreign(registry: Registry, make_version: Callable[..., Version]) -> Callable[..., int]:
    """`foreign(alias=True)` makes a version as another tool does, and gives it the alias."""

    def make(alias: bool = True, **tags: str) -> int:
        made = registry.client.create_model_version("fkp", "file:///elsewhere", tags=tags)
        if alias:
            registry.client.set_registered_model_alias("fkp", ALIAS, made.version)
        return int(made.version)

    return make


@pytest.mark.parametrize("tags", [{}, {"bundle_artifacts": "s3://x"}, {"bundle_digest": "d", VAL: "1.0", "split_digest": "a" * 64}])
def test_a_version_of_another_make_is_never_promoted(
    registry: Registry, make_version: Callable[..., Version], foreign: Callable[..., int], tags: dict[str, str]
) -> None:
    first = make_version(5.0).number
    registry.promote(first)
    other = foreign(alias=False, **tags)
    for force in (False, True):
        with pytest.raises(FkpError, match=rf"^version {other} was not registered by fkp and holds no bundle of it: name another one"):
            registry.promote(other, force)
    registry.client.set_model_version_tag("fkp", str(other), MARK_TAG, "1")
    assert registry.promote(first).number == registry.champion_number() == first, "nor is it when it has a mark like ours"


@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_promoted_over_a_champion_of_another_make_until_the_alias_is_taken_from_it(
    registry: Registry,
    make_version: Callable[..., Version],
    foreign: Callable[..., int],
    force: bool,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    first, better = make_version(5.0).number, make_version(4.0).number
    registry.promote(first)
    other = foreign()
    with pytest.raises(NotBetter, match=rf"not promoted over version {other}, which has the alias champion .* `fkp track rollback` takes"):
        registry.promote(better, force)
    assert registry.champion_number() == other, "the alias of others is left alone"
    with pytest.raises(FkpError, match=rf"^version {other} was not registered by fkp .*: `fkp track rollback` takes the alias champion"):
        download("models:/fkp@champion", tmp_path)
    main(["list"])
    assert "champion (not of fkp)" in capsys.readouterr().out.splitlines()[1]
    main(["rollback"])
    assert capsys.readouterr().out == f"version {first} is the champion: validation NME 5.000 %\n"
    assert registry.promote(better, force).number == better


def test_the_alias_is_taken_from_another_make_also_where_nothing_else_is_promoted(
    registry: Registry, make_version: Callable[..., Version], foreign: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_version(5.0).number
    foreign()
    main(["rollback"])
    assert capsys.readouterr().out == "no version is the champion any more\n"
    assert registry.champion_number() is None
    assert registry.promote(first).number == first


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("tag", "value"), [(VAL, "abc"), (VAL, "nan"), (VAL, ""), (MARK_TAG, "yesterday"), (MARK_TAG, "-1"), (MARK_TAG, "1.5")]
)
def test_a_broken_tag_of_the_champion_is_named_with_its_remedy(
    registry: Registry, make_version: Callable[..., Version], tag: str, value: str, force: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    champion, other, last = (make_version(nme).number for nme in (3.0, 4.0, 5.0))
    registry.promote(last)
    registry.promote(champion)
    registry.client.set_model_version_tag("fkp", str(champion), tag, value)
    with pytest.raises(NotBetter, match=rf"^version {other} is not promoted: the tag {tag} of version {champion} is '{value}' and no "):
        registry.promote(other, force)
    assert registry.champion_number() == champion
    main(["list"])
    assert "champion" in capsys.readouterr().out
    if tag == MARK_TAG:
        assert registry.promote(champion).number == champion, "a new mark"
        with pytest.raises(NotBetter, match="is worse than"):
            registry.promote(other)
    else:
        with pytest.raises(FkpError, match="`fkp track register BUNDLE` with its bundle writes it anew"):
            registry.promote(champion, force)
        assert registry.rollback() == registry.version(last)
        assert not registry.version(champion).marked
        assert registry.promote(other).number == other


def test_the_only_promoted_version_can_be_withdrawn_where_its_tag_is_broken(
    registry: Registry, make_version: Callable[..., Version]
) -> None:
    first, other = make_version(3.0).number, make_version(4.0).number
    registry.promote(first)
    registry.client.set_model_version_tag("fkp", str(first), VAL, "abc")
    assert registry.rollback() is None
    assert registry.promote(other).number == registry.champion_number() == other


def test_a_champion_that_was_deleted_is_no_champion(registry: Registry, make_version: Callable[..., Version], tmp_path: Path) -> None:
    first, second = make_version(3.0).number, make_version(4.0).number
    registry.promote(first)
    registry.client.delete_model_version("fkp", str(first))
    with pytest.raises(FkpError, match=r"^no version of fkp is the champion: `fkp track promote VERSION`$"):
        download("models:/fkp@champion", tmp_path)
    with pytest.raises(FkpError, match=r"^there is no version 1 of fkp in sqlite:.*: there is 2$"):
        registry.promote(first)
    assert registry.promote(second).number == second


def test_a_model_that_was_renamed_is_named(registry: Registry, make_version: Callable[..., Version], tmp_path: Path) -> None:
    registry.promote(make_version(3.0).number)
    registry.client.rename_registered_model("fkp", "faces")
    for ask in (lambda: download("models:/fkp@champion", tmp_path), lambda: registry.promote(1)):
        with pytest.raises(FkpError, match=r"fkp in sqlite:.*: nothing is registered by this name, but faces: name one of them$"):
            ask()


@pytest.fixture
def bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A bundle that was validated."""
    shutil.copytree(tiny_bundle.path, tmp_path / "own")
    validation = {"nme_interocular_pct": 4.125, "faces": 30, "split_digest": "a" * 64}
    return update_bundle(tmp_path / "own", {"validation": validation}, "# Measured\n")


@pytest.fixture
def registered(registry: Registry, bundle: Bundle) -> Version:
    """Its version, the champion, by the command line."""
    main(["register", str(bundle.path), "--promote"])
    return registry.version(1)


LOSSES: dict[str, tuple[str, str]] = {
    "the bundle": ("artifacts/bundle", "gone"),
    "a file": ("artifacts/bundle/model.onnx", "damaged"),
    "its checksums": ("artifacts/bundle/SHA256SUMS", "damaged"),
    "everything": ("", "gone"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_bundle_that_the_store_has_lost_is_put_back_by_registering_it_again(
    registry: Registry, bundle: Bundle, registered: Version, tmp_path: Path, name: str
) -> None:
    import mlflow

    where, how = LOSSES[name]
    root = tmp_path / "mlartifacts/fkp"
    lost = root / registered.run_id / where if where else root
    if lost.is_dir():
        shutil.rmtree(lost)
    else:
        lost.unlink()
    with pytest.raises(
        FkpError, match=rf"^the bundle of version 1 of fkp is {how} in .*: `fkp track register BUNDLE` with the same bundle"
    ):
        download("models:/fkp@champion", tmp_path / "cache")
    assert main(["register", str(bundle.path)]) == 0
    assert [version.number for version in registry.versions()] == [1]
    path, number = download("models:/fkp@champion", tmp_path / "cache")
    assert (open_bundle(path).digest, number) == (bundle.digest, "1")
    assert mlflow.onnx.load_model("models:/fkp@champion").graph.input[0].name == "crops_u8"


def test_a_file_that_was_changed_is_put_back_too(registry: Registry, bundle: Bundle, registered: Version, tmp_path: Path) -> None:
    weights = tmp_path / "mlartifacts/fkp" / registered.run_id / "artifacts/bundle/model.onnx"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(FkpError, match="is damaged in"):
        download("models:/fkp/1", tmp_path / "cache")
    main(["register", str(bundle.path)])
    assert open_bundle(download("models:/fkp/1", tmp_path / "cache")[0]).digest == bundle.digest


def test_tags_that_something_else_has_changed_are_written_anew(registry: Registry, bundle: Bundle, registered: Version) -> None:
    registry.client.set_model_version_tag("fkp", "1", VAL, "abc")
    main(["register", str(bundle.path)])
    assert registry.version(1) == registered


def test_a_bundle_whose_run_is_gone_gets_a_new_version(registry: Registry, bundle: Bundle, registered: Version, tmp_path: Path) -> None:
    change(tmp_path / "mlflow.db", f"DELETE FROM runs WHERE run_uuid = '{registered.run_id}'")
    with pytest.raises(FkpError, match="the bundle of version 1 of fkp is gone in"):
        download("models:/fkp@champion", tmp_path / "cache")
    main(["register", str(bundle.path), "--promote"])
    assert download("models:/fkp@champion", tmp_path / "cache")[1] == "2"
    main(["register", str(bundle.path)])
    assert len(registry.versions()) == 2


def test_a_bundle_whose_run_is_deleted_is_registered_once_it_is_restored(
    registry: Registry, bundle: Bundle, registered: Version, store: MlflowClient
) -> None:
    store.delete_run(registered.run_id)
    for arguments in ([], ["--name", "other", "--run", registered.run_id]):
        with pytest.raises(FkpError, match=f"mlflow runs restore --run-id {registered.run_id}`") as caught:
            main(["register", str(bundle.path), *arguments])
    follow(str(caught.value))
    main(["register", str(bundle.path)])
    assert len(registry.versions()) == 1


def test_a_bundle_is_registered_in_another_experiment_where_its_own_is_deleted(
    registry: Registry, bundle: Bundle, store: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    store.delete_experiment(store.create_experiment("fkp"))
    with pytest.raises(
        FkpError, match=r"mlflow experiments restore --experiment-id 1`, or choose another experiment by --track\.experiment"
    ):
        main(["register", str(bundle.path)])
    assert main(["register", str(bundle.path), "--track.experiment", "second"]) == 0
    found = store.get_run(registry.version(1).run_id).info.experiment_id
    assert store.get_experiment(found).name == "second"
