"""A training that begins from a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fkp.bundle import Bundle, open_bundle, write_bundle
from fkp.config import Config, build_config
from fkp.data.labels import load_labels
from fkp.errors import FkpError
from fkp.evaluation.leakage import DESCENT, leakage
from fkp.model.network import Network
from fkp.scheme import load_scheme
from fkp.track.download import registry_address
from fkp.track.registry import Registry
from fkp.track.store import tracking_uri
from fkp.train.ancestor import find_ancestor, pinned
from fkp.train.pipeline import train


@pytest.fixture
def began_from(small_run: Callable[..., Config], tiny_bundle: Bundle) -> Callable[..., Config]:
    """`began_from(train__init=..., ...)`: a run of the tiny bundle's architecture that hardly moves its weights."""
    return lambda **changes: small_run(
        **{"train__epochs": 1, "optim__lr": 1e-7, "optim__ema_decay": 0.0, "train__init": str(tiny_bundle.path), **changes}
    )


@pytest.mark.over_5s("a training with all that follows it")
def test_it_begins_where_the_model_ends_and_its_bundle_says_so(began_from: Callable[..., Config], tiny_bundle: Bundle) -> None:
    outcome = train(began_from(data__scheme="ibug51"))
    bundle = open_bundle(outcome.bundle_path)
    history = MlflowClient(outcome.mlflow_uri).get_metric_history(outcome.mlflow_run_id, "val_nme_interocular_pct")
    catalog = load_labels(bundle.config.data)
    # The tiny bundle is not trained: where it ends is known from its own answers.
    import torch

    from fkp.bundle import load_network
    from fkp.data.crop_cache import plain_crops
    from fkp.model.lightning_module import nme_pct

    crops, truth = plain_crops(catalog, bundle.config, "val")
    places = list(load_scheme("ibug51").places_in(tiny_bundle.config.scheme).values())
    expected = nme_pct(load_network(tiny_bundle)(torch.from_numpy(crops))[0][:, places], torch.from_numpy(truth), bundle.config.scheme)
    assert history[0].value == pytest.approx(expected.mean().item(), rel=0.05)
    (descent,) = bundle.metrics[DESCENT]
    assert descent["bundle"] == tiny_bundle.digest


def test_another_architecture_or_no_model_is_one_sentence(began_from: Callable[..., Config], tmp_path: Path) -> None:
    assert find_ancestor(began_from(train__init=None)) is None
    with pytest.raises(FkpError, match=r"model.width is 8 there and 16 here: begin with its own settings, `--config .*/config.json`$"):
        train(began_from(model__width=16))
    with pytest.raises(FkpError, match="is not a bundle"):
        train(began_from(train__init=str(tmp_path)))
    assert not (tmp_path / "runs").exists(), "nothing is begun"


def test_an_alias_is_the_version_it_was_when_the_run_began(
    began_from: Callable[..., Config], tiny_config: Config, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FKP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)  # Where a store of SQLite keeps its artifacts.
    registry = Registry()
    run_ids = [MlflowClient(tracking_uri()).create_run("0").info.run_id for _ in range(2)]
    registry.register(tiny_bundle.path, run_ids[0])
    registry.promote(1, force=True)
    assert registry_address("champion") == "models:/fkp@champion"
    first = find_ancestor(began_from(train__init="champion"))
    assert first is not None and first.address == "models:/fkp/1" and first.descent[0]["bundle"] == tiny_bundle.digest
    other = write_bundle(tmp_path / "other", Network(tiny_config), tiny_config, {}, "# Other\n")
    registry.register(other.path, run_ids[1])
    registry.promote(2, force=True)
    moved = find_ancestor(began_from(train__init="champion"))
    assert moved is not None and moved.address == "models:/fkp/2"
    resumed = find_ancestor(began_from(train__init="champion"), noted=first.address)
    assert resumed is not None and resumed.descent == first.descent, "a run that began from it goes on from it"
    assert pinned(began_from(train__init="champion"), first).train.init == "models:/fkp/1", "what a run notes"
    with pytest.raises(FkpError, match="there is no version 9 of fkp"):
        find_ancestor(began_from(train__init="models:/fkp/9"))
    with pytest.raises(FkpError, match="names no model: write models:/NAME@champion or models:/NAME/VERSION"):
        find_ancestor(began_from(train__init="models:/fkp"))


def test_what_the_ancestor_was_trained_on_is_looked_for(tiny_bundle: Bundle, tiny_config: Config) -> None:
    catalog = load_labels(tiny_config.data)
    own = {"labels_sha256": "of another set"}
    data = tiny_config.data.updated({"test_fold": 2, "val_fold": 3})
    entry = {"bundle": "x", "run_name": "old", "labels_sha256": catalog.digest, "data": data.model_dump(mode="json")}
    config = build_config(tiny_config.model_dump(), {"data": {"source": "folder", "root": "elsewhere"}})
    for descent, held_out, words in (
        ([], False, "another set"),
        ([entry], False, "contaminated: the bundle was trained on"),
        ([{**entry, "data": tiny_config.data.model_dump(mode="json")}], True, "held out"),
        ([{**entry, "labels_sha256": "unknown"}], False, "another set"),
    ):
        bundle = Bundle(tiny_bundle.path, config, {**own, DESCENT: descent}, "digest")
        found = leakage(bundle, catalog, tiny_config.data)
        assert (found.held_out, found.note.startswith(words)) == (held_out, True), found
    assert (
        "of 1 other training on the way to it, on other labels"
        in leakage(Bundle(tiny_bundle.path, config, {**own, DESCENT: [entry]}, "digest"), catalog, tiny_config.data).note
    )
