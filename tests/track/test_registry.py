"""Versions of the model and the alias of the one to serve, in a real store."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from mlflow import MlflowClient

from fkp.bundle import Bundle, open_bundle, update_bundle
from fkp.errors import FkpError
from fkp.track.registry import ALIAS, MODEL_NAME, NotBetter, Registry
from fkp.track.version import MARK_TAG, Version
from tests.processes import Process

if TYPE_CHECKING:
    from .conftest import Server

OTHER_SPLIT = "b" * 64


@pytest.fixture
def bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A bundle with the figures that a training leaves."""
    shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
    nme = {"nme_interocular_pct": 4.5}
    metrics = {
        "data_digest": "d" * 64,
        "validation": {"nme_interocular_pct": 4.125, "faces": 30, "split_digest": "a" * 64},
        "test": {"identity": {"raw": nme, "corrected": {"nme_interocular_pct": 3.9}}, "published": {"raw": nme, "corrected": nme}},
    }
    return update_bundle(tmp_path / "bundle", metrics, "# Measured\n")


@pytest.fixture
def run_id(store: MlflowClient) -> str:
    experiment = store.create_experiment("fkp", artifact_location=(Path.cwd() / "mlartifacts/fkp").as_uri())
    run = store.create_run(experiment, run_name="winner")
    store.log_param(run.info.run_id, "model.arch", "resnet")
    store.set_terminated(run.info.run_id)
    return run.info.run_id


def test_a_registered_bundle_is_a_model_for_any_number_of_faces(
    registry: Registry, bundle: Bundle, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    version = registry.register(bundle.path, run_id)
    registry.promote(version.number)
    model = mlflow.pyfunc.load_model(f"models:/{MODEL_NAME}@{ALIAS}")
    session = onnxruntime.InferenceSession(bundle.onnx_path, providers=["CPUExecutionProvider"])
    assert mlflow.onnx.load_model(f"models:/{MODEL_NAME}@{ALIAS}").graph.input[0].name == "crops_u8"
    for count in (1, 2, 5):
        crops_u8 = np.random.default_rng(count).integers(0, 256, (count, 1, 64, 64), np.uint8)
        answer = model.predict(crops_u8)
        points_px, scale_px = session.run(None, {"crops_u8": crops_u8})
        np.testing.assert_array_equal(answer["points_px"], points_px)
        np.testing.assert_array_equal(answer["scale_px"], scale_px)
    assert model.input_example["crops_u8"].shape == (2, 1, 64, 64)
    with pytest.raises(mlflow.exceptions.MlflowException, match="shape"):
        model.predict(np.zeros((1, 3, 64, 64), np.uint8))
    shapes = {tensor.name: (tensor.type.name, tensor.shape) for tensor in model.metadata.signature.outputs.inputs}
    assert shapes == {"points_px": ("float32", (-1, 68, 2)), "scale_px": ("float32", (-1, 68))}
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{MODEL_NAME}@{ALIAS}", dst_path=str(tmp_path / "model")))
    needed = [line.partition("==")[0] for line in (folder / "requirements.txt").read_text().split()]
    assert needed == ["mlflow", "onnx", "onnxruntime"]
    assert not list(folder.rglob("*.pkl"))


@pytest.mark.usefixtures("store")
def test_a_bundle_is_registered_with_a_server_and_again_where_that_has_lost_it(
    server: Server, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.wait()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    registry = Registry()
    run_id = registry.client.create_run(registry.client.create_experiment("models")).info.run_id
    version = registry.register(bundle.path, run_id)
    registry.promote(version.number)
    assert registry.champion_number() == version.number
    assert version.tags["bundle_digest"] == bundle.digest
    shutil.rmtree(server.folder / "artifacts")
    with pytest.raises(FkpError, match="the bundle of version 1 of fkp is gone in the MLflow store http:"):
        registry.fetch(version, tmp_path)
    assert registry.register(bundle.path, run_id).number == version.number
    assert open_bundle(registry.fetch(version, tmp_path)).digest == bundle.digest


def test_a_version_tells_what_it_is_and_where_its_bundle_lies(
    registry: Registry, store: MlflowClient, bundle: Bundle, run_id: str, tmp_path: Path
) -> None:
    import mlflow

    version = registry.register(bundle.path, run_id)
    assert version.tags == {
        "arch": "resnet",
        "bundle_artifacts": f"runs:/{run_id}/bundle",
        "bundle_digest": bundle.digest,
        "data_digest": "d" * 64,
        "scheme": "ibug68",
        "split_digest": "a" * 64,
        "val_nme_interocular_pct": "4.125",
        "test_identity_raw_nme_interocular_pct": "4.5",
        "test_identity_corrected_nme_interocular_pct": "3.9",
        "test_published_raw_nme_interocular_pct": "4.5",
        "test_published_corrected_nme_interocular_pct": "4.5",
    }
    assert (version.number, version.run_id, version.val_nme_pct, version.test_nme_pct) == (1, run_id, 4.125, 3.9)
    assert registry.champion_number() is None, "registering promotes nothing"
    fetched = mlflow.artifacts.download_artifacts(version.bundle_artifacts, dst_path=str(tmp_path / "fetched"))
    assert open_bundle(fetched).digest == bundle.digest
    assert store.get_run(run_id).info.status == "FINISHED"
    assert registry.register(bundle.path, run_id) == version, "the same bundle is not registered twice"
    assert not (tmp_path / "mlruns").exists(), "nothing is left in the working folder"
    assert len(list((tmp_path / "mlartifacts/fkp/models").iterdir())) == 1


def test_a_run_that_cannot_be_the_bundles_own_is_refused(registry: Registry, bundle: Bundle, tiny_bundle: Bundle, run_id: str) -> None:
    with pytest.raises(FkpError, match="there is no MLflow run 0123: name the run"):
        registry.register(bundle.path, "0123")
    registry.register(bundle.path, run_id)
    with pytest.raises(FkpError, match=f"MLflow run {run_id} holds another bundle than {tiny_bundle.path}"):
        registry.register(tiny_bundle.path, run_id)
    with pytest.raises(FkpError, match="is not a bundle"):
        registry.register("nowhere", run_id)
    assert len(registry.versions()) == 1


def test_only_a_version_that_is_not_worse_is_promoted(registry: Registry, make_version: Callable[..., Version]) -> None:
    first, worse, equal, better = (make_version(nme).number for nme in (5.0, 5.1254, 5.0, 4.25))
    assert registry.promote(first).number == first
    with pytest.raises(NotBetter, match=r"version 2 is worse than the champion, version 1: validation NME 5\.125 % against 5\.000 %"):
        registry.promote(worse)
    assert registry.champion_number() == first
    assert not registry.version(worse).marked
    assert registry.promote(equal).number == registry.champion_number() == equal, "not worse: the newest of two equals"
    assert registry.promote(first).number == first, "and back again"
    assert registry.promote(better).number == registry.champion_number() == better
    assert registry.promote(better).number == better, "promoting the champion changes nothing"
    close = make_version(4.2500001).number
    with pytest.raises(FkpError, match=r"4\.250000100 % against 4\.250000000 %"):
        registry.promote(close)


def test_figures_of_other_faces_do_not_compare(registry: Registry, make_version: Callable[..., Version]) -> None:
    first, other, unmeasured = make_version(5.0).number, make_version(1.0, OTHER_SPLIT).number, make_version(None).number
    with pytest.raises(FkpError, match="version 3 has no validation figure"):
        registry.promote(unmeasured)
    registry.promote(first)
    with pytest.raises(
        FkpError, match=r"version 2 was validated on split bbbbbbbbbbbb \(1\.000 %\) .* version 1, on split aaaaaaaaaaaa \(5\.000"
    ):
        registry.promote(other)
    with pytest.raises(FkpError, match="version 3 has no validation figure"):
        registry.promote(unmeasured)
    assert registry.champion_number() == first


def test_force_withdraws_what_stands_in_the_way(registry: Registry, make_version: Callable[..., Version]) -> None:
    best, middle, worst, unmeasured = (make_version(nme).number for nme in (3.0, 4.0, 5.0, None))
    for number in (worst, middle, best):
        registry.promote(number)
    assert registry.promote(middle, force=True).number == registry.champion_number() == middle
    assert [version.number for version in registry.versions() if version.marked] == [worst, middle]
    assert registry.promote(unmeasured, force=True).number == registry.champion_number() == unmeasured
    with pytest.raises(FkpError, match="version 4 has no validation figure"):
        registry.promote(best)
    assert registry.promote(best, force=True).number == registry.champion_number() == best


def test_rollback_goes_to_the_best_one_left(registry: Registry, make_version: Callable[..., Version]) -> None:
    with pytest.raises(FkpError, match="no version of fkp is promoted: there is nothing to roll back"):
        registry.rollback()
    for nme in (5.0, 4.0, 3.0):
        registry.promote(make_version(nme).number)
    make_version(1.0)
    assert registry.rollback().number == registry.champion_number() == 2
    assert registry.promote(3).number == 3, "a withdrawn version can be promoted again"
    assert [registry.rollback().number, registry.rollback().number] == [2, 1]
    with pytest.raises(FkpError, match="version 1 is the only promoted version of fkp"):
        registry.rollback()
    assert registry.champion_number() == 1


def test_a_forced_promotion_that_breaks_off_leaves_the_champion(
    registry: Registry, make_version: Callable[..., Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    best, worse = (make_version(nme).number for nme in (3.0, 4.0))
    registry.promote(best)
    with monkeypatch.context() as broken:
        broken.setattr(registry.client, "delete_model_version_tag", _cut)
        with pytest.raises(FkpError, match="the line is cut"):
            registry.promote(worse, force=True)
    assert registry.champion_number() == best
    with pytest.raises(NotBetter):
        registry.promote(make_version(9.0).number)
    assert registry.promote(worse, force=True).number == registry.champion_number() == worse


@pytest.mark.parametrize("others", [1, 2])
def test_a_rollback_that_breaks_off_goes_on(
    registry: Registry, make_version: Callable[..., Version], monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    """And does not withdraw the next one, too."""
    for nme in (5.0, 4.0, 3.0)[2 - others :]:
        registry.promote(make_version(nme).number)
    with monkeypatch.context() as broken:
        broken.setattr(registry.client, "set_registered_model_alias", _cut)
        with pytest.raises(FkpError, match="the line is cut"):
            registry.rollback()
    assert registry.rollback().number == registry.champion_number() == others


def _cut(*_: object) -> None:
    raise OSError("the line is cut")


def test_unknown_versions_are_named(registry: Registry, make_version: Callable[..., Version]) -> None:
    with pytest.raises(FkpError, match=r"there is no version 7 of fkp in sqlite:.*: nothing is registered"):
        registry.promote(7)
    make_version(1.0), make_version(2.0)
    with pytest.raises(FkpError, match=r"there is no version 7 of fkp in .*: there is 1, 2"):
        registry.promote(7)


def test_a_promotion_that_is_overtaken_yields(
    registry: Registry, make_version: Callable[..., Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: the better one is promoted completely between the other's reading of the marks and its writing."""
    slow, fast = make_version(5.0).number, make_version(4.0).number
    set_alias, overtaken = registry.client.set_registered_model_alias, []

    def late(name: str, alias: str, version: str) -> None:
        if not overtaken:
            overtaken.append(Registry().promote(fast).number)
        set_alias(name, alias, version)

    monkeypatch.setattr(registry.client, "set_registered_model_alias", late)
    assert registry.promote(slow).number == fast, "the caller is told who won"
    assert overtaken == [fast]
    assert registry.champion_number() == fast


_PROMOTER = """
import sys, time
from pathlib import Path
from fkp.errors import FkpError
from fkp.track.registry import Registry
registry = Registry()
mine, rounds = int(sys.argv[1]), int(sys.argv[2])
delays = {"set_model_version_tag": 0.0, "set_registered_model_alias": 0.0}

def slow(name, call):
    def later(*arguments):
        time.sleep(delays[name])
        return call(*arguments)
    return later

for name in delays:
    setattr(registry.client, name, slow(name, getattr(registry.client, name)))
for turn in range(rounds):
    Path(f"ready-{turn}-{mine}").touch()
    while not Path(f"go-{turn}").exists():
        time.sleep(0.001)
    if turn >= rounds // 2:
        # Now they cross: the better one marks and writes between the other's reading of the marks and its writing.
        better = mine == (1 if turn % 2 else 2)
        delays.update(set_model_version_tag=0.1 * better, set_registered_model_alias=0.3 * (not better))
    try:
        registry.promote(2 * turn + mine)
    except FkpError as error:
        assert "worse than the champion" in str(error), error
    Path(f"done-{turn}-{mine}").touch()
"""


@pytest.mark.over_5s("eight rounds, in half of which the two wait for each other")
def test_two_processes_promote_at_once(
    registry: Registry, make_version: Callable[..., Version], tmp_path: Path, start_process: Callable[..., Process]
) -> None:
    rounds = 8
    for turn in range(rounds):
        # Each pair beats the pairs before it; which of the two is the better one changes.
        for nme in (90.0 - 10 * turn, 91.0 - 10 * turn)[:: 1 if turn % 2 else -1]:
            make_version(nme)
    processes = [start_process("-c", _PROMOTER, mine, rounds, cwd=tmp_path) for mine in (1, 2)]

    def wait_for(stage: str) -> None:
        until = time.monotonic() + 60
        while not all((tmp_path / f"{stage}-{mine}").exists() for mine in (1, 2)):
            failed = [process for process in processes if process.poll()]
            assert not failed, failed[0].err
            assert time.monotonic() < until
            time.sleep(0.001)

    for turn in range(rounds):
        wait_for(f"ready-{turn}")
        (tmp_path / f"go-{turn}").touch()
        wait_for(f"done-{turn}")
        marked = [version for version in registry.versions() if version.marked]
        best = min(marked, key=lambda version: version.rank).number
        assert best == 2 * turn + (1 if turn % 2 else 2)
        assert registry.champion_number() == best, f"round {turn}"


def test_a_mark_is_a_time(registry: Registry, make_version: Callable[..., Version]) -> None:
    registry.promote(make_version(1.0).number)
    assert abs(int(registry.version(1).tags[MARK_TAG]) - time.time_ns()) < 60e9
