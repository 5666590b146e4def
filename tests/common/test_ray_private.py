"""What the pinned Ray must still have of what it does not promise, and that nothing else leans on such things."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fkp.common import ray_private

REPO = Path(__file__).parents[2]

#: Module, what of it, and the parameters that are passed to it.
USED = [
    ("ray.experimental.internal_kv", "_internal_kv_put", ("key", "value", "overwrite", "namespace")),
    ("ray.experimental.internal_kv", "_internal_kv_get", ("key", "namespace")),
    ("ray.experimental.internal_kv", "_internal_kv_list", ("prefix", "namespace")),
    ("ray.serve.context", "_get_global_client", ()),
    ("ray.serve.context", "_get_internal_replica_context", ()),
    ("ray.serve._private.client", "ServeControllerClient.http_config", ()),
    ("ray.serve._private.client", "ServeControllerClient.deploy_apps", ("config", "_blocking")),
    ("ray.serve._private.api", "serve_start", ("http_options", "controller_options", "proxy_location")),
    ("ray.autoscaler._private.util", "prepare_config", ("config",)),
    ("ray.autoscaler._private.util", "validate_config", ("config",)),
    ("ray.train", "UserCallback.after_report", ("run_context", "metrics", "checkpoint")),
    ("ray._private.services", "ConsolePopen.wait", ()),
    ("ray._private.worker", "print_to_stdstream.__call__", ()),
    ("ray._private.services", "canonicalize_bootstrap_address", ("addr",)),
    ("ray._private.grpc_utils", "init_grpc_channel", ("address", "options")),
    ("ray._common.utils", "get_default_ray_temp_dir", ()),
    ("ray.train.torch", "TorchTrainer._register_sigint_handler", ("controller",)),
    ("ray.tune.schedulers", "HyperBandScheduler._process_bracket", ("tune_controller", "bracket")),
    ("ray.tune.schedulers.hyperband", "_Bracket.finished", ()),
    ("ray.tune.schedulers.hyperband", "_Bracket.cleanup_full", ("tune_controller",)),
]


def gone(what: str) -> str:
    import ray

    return f"Ray {ray.__version__} has no longer {what}: look at who uses it in fkp/common/ray_private.py"


@pytest.mark.parametrize(("module", "name", "parameters"), USED, ids=[name for _, name, _ in USED])
def test_ray_still_has_what_is_used(module: str, name: str, parameters: tuple[str, ...]) -> None:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
        assert found is not None, gone(f"{module}.{name}")
    if parameters:
        assert set(parameters) <= set(inspect.signature(found).parameters), gone(f"the parameters {parameters} of {module}.{name}")


def test_ray_still_uses_the_names_that_are_known_by_heart() -> None:
    from ray._common.constants import HEAD_NODE_RESOURCE_NAME
    from ray.serve._private.replica import SERVE_BUILD_ASGI_APP_METHOD
    from ray.train.v2._internal import constants

    from fkp.serve.app import Landmarks

    assert ray_private.HEAD_RESOURCE == HEAD_NODE_RESOURCE_NAME, gone(f"the resource {ray_private.HEAD_RESOURCE}")
    assert ray_private.TRAIN_SNAPSHOT == constants.CHECKPOINT_MANAGER_SNAPSHOT_FILENAME, gone(f"the file {ray_private.TRAIN_SNAPSHOT}")
    assert hasattr(Landmarks, SERVE_BUILD_ASGI_APP_METHOD), gone("the hook __serve_build_asgi_app__")
    assert isinstance(constants.ENV_VARS_TO_PROPAGATE, set), gone("the set ENV_VARS_TO_PROPAGATE")


def test_what_ray_train_wraps_around_an_error_is_taken_off() -> None:
    from ray.exceptions import RayTaskError
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

    cause = ValueError("the cause")
    assert ray_private.cause_of(UserExceptionWithTraceback(cause, "")) is cause, gone("_base_exc of its error")
    assert ray_private.cause_of(RayTaskError("worker", "", cause)) is cause, gone("cause of RayTaskError")


def test_asha_still_has_its_metric_and_its_count() -> None:
    from ray.tune.schedulers import ASHAScheduler

    scheduler = ASHAScheduler("epochs", max_t=3)
    scheduler.set_search_properties("error", "min")
    assert getattr(scheduler, "_metric", None) == "error", gone("_metric of ASHAScheduler")
    assert getattr(scheduler, "_num_stopped", None) == 0, gone("_num_stopped of ASHAScheduler")


def test_the_brackets_of_hyperband_are_still_what_they_were() -> None:
    from unittest.mock import Mock

    from ray.tune.schedulers import HyperBandScheduler

    scheduler = HyperBandScheduler("epochs", max_t=3, reduction_factor=3)
    scheduler.set_search_properties("nme", "min")
    trials = [Mock(status="RUNNING") for _ in range(3)]
    assert ray_private.newest_bracket(scheduler) is None, gone('_state["bracket"] of HyperBandScheduler')
    for trial in trials[:2]:
        scheduler.on_trial_add(Mock(), trial)
    bracket = ray_private.newest_bracket(scheduler)
    assert ray_private.bracket_of(scheduler, trials[0]) is bracket is not None, gone("_trial_info of HyperBandScheduler")
    assert ray_private.is_complete(bracket), gone("_all_trials and _n0 of a bracket: two members were planned and have come")
    ray_private.open_another_bracket(scheduler)
    scheduler.on_trial_add(Mock(), trials[2])
    assert ray_private.bracket_of(scheduler, trials[2]) is not bracket
    assert not ray_private.is_complete(ray_private.bracket_of(scheduler, trials[2]))
    assert not bracket.is_being_processed and not list(bracket.trials_to_unpause), gone("what tells the state of a bracket")


def test_a_clusters_file_is_held_against_rays_rules() -> None:
    config = yaml.safe_load((REPO / "cluster.yaml").read_text())
    ray_private.check_cluster_file(config)
    with pytest.raises(Exception, match="no_such_setting"):
        ray_private.check_cluster_file({**config, "no_such_setting": 1})


def test_texts_in_the_clusters_store(ray_cluster: None) -> None:
    assert ray_private.get_text("fkp-test", "a/1") is None
    for key, text in (("a/1", "one"), ("a/2", "zwei"), ("b/1", "other"), ("a/1", "uno")):
        ray_private.put_text("fkp-test", key, text)
    assert sorted(ray_private.text_keys("fkp-test", "a/")) == ["a/1", "a/2"]
    assert (ray_private.get_text("fkp-test", "a/1"), ray_private.get_text("fkp-test", "a/2")) == ("uno", "zwei")
    assert ray_private.text_keys("fkp-other", "a/") == []


def test_an_actor_has_an_id_and_only_a_replica_is_one(ray_cluster: None) -> None:
    import ray

    class Anything:
        pass

    actor: Any = ray.remote(num_cpus=0)(Anything).remote()
    assert re.fullmatch("[0-9a-f]{32}", actor._actor_id.hex()), gone("_actor_id of an actor's handle, by which a start of Serve is known")
    ray.kill(actor)
    assert not ray_private.in_replica()
    assert any(ray_private.HEAD_RESOURCE in node["Resources"] for node in ray.nodes()), gone(f"the resource {ray_private.HEAD_RESOURCE}")


def test_importing_it_does_not_import_ray() -> None:
    code = "import sys, fkp.common.ray_private; sys.exit('ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_no_other_file_imports_what_ray_keeps_to_itself() -> None:
    private = re.compile(r"ray\.(.*\.)?_|ray\.(experimental|train\.v2)\b")
    found = []
    for path in sorted(REPO.glob("fkp/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [(str(path.relative_to(REPO)), name) for name in names if private.match(name)]
    assert {file for file, _ in found} == {"fkp/common/ray_private.py"}, found
    named = {name for _, name in found}
    assert {f"{module}.{name}" for module, name, _ in USED if name.startswith(("_g", "_i")) or "." not in name} <= named


def test_every_variable_that_is_set_for_ray_is_one_that_it_reads() -> None:
    import ray

    root = Path(ray.__file__).parent
    named = {
        name
        for path in REPO.glob("fkp/**/*.py")
        for name in re.findall(r'"((?:RAY|TUNE)_[A-Za-z_]+)"', path.read_text(encoding="utf-8"))
        if name not in ("RAY_ADDRESS", "RAY_AUTH_MODE")
    }
    assert len(named) > 20
    parts = ("_private", "air", "data", "serve", "train", "tune", "util", "_common")
    python = "\n".join(path.read_text(encoding="utf-8") for part in parts for path in (root / part).rglob("*.py"))
    binary = (root / "core/src/ray/raylet/raylet").read_bytes()
    unknown = {name for name in named if name not in python and name.removeprefix("RAY_").encode() not in binary}
    assert not unknown, gone(f"the variables {sorted(unknown)}")
