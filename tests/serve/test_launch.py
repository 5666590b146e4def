"""The command around the endpoint: what it refuses before anything starts."""

from __future__ import annotations

import copy
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fkp.bundle import Bundle
from fkp.errors import FkpError
from fkp.serve import launch, limits
from fkp.serve.__main__ import main
from fkp.serve.app import build
from fkp.serve.settings import GPU_BATCH_SIZE, Settings, deployment_of, read_config


def test_an_open_address_without_a_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FKP_API_TOKEN", raising=False)
    with pytest.raises(FkpError, match=r"serving on 0\.0\.0\.0 needs a token: set FKP_API_TOKEN"):
        main(["--host", "0.0.0.0"])
    monkeypatch.setenv("FKP_API_TOKEN", "short")
    with pytest.raises(FkpError, match="is shorter than 16 characters"):
        main([])


def test_settings_that_cannot_be_cost_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = read_config()
    deployment_of(wrong)["user_config"]["allowed_origins"] = ["*"]
    monkeypatch.setattr(launch, "read_config", lambda path: copy.deepcopy(wrong))
    monkeypatch.setattr("fkp.serve.app.read_config", lambda: copy.deepcopy(wrong))
    monkeypatch.setenv("FKP_API_TOKEN", "a-token-of-the-tests")
    with pytest.raises(FkpError, match=r"^user_config of the endpoint: allowed_origins\.1: 'app\.example' is no origin"):
        main(["--allowed-origins", "https://app.example", "app.example"])
    for start in (lambda: main([]), build):
        with pytest.raises(FkpError, match=r"^user_config of the endpoint: allowed_origins: \* is for endpoints without a token"):
            start()


def test_fast_is_not_given_up_in_silence() -> None:
    with pytest.raises(FkpError, match=r"^profile fast: HAProxy reaches the replicas by 127\.0\.0\.1, where none listens with --host ::1"):
        main(["--profile", "fast", "--host", "::1"])


def test_no_more_replicas_than_cores() -> None:
    config = launch.settings(launch.CONFIG, "127.0.0.1", 8000, "", (), max_in_progress=5, max_batch_size=None)
    deployment = config["applications"][0]["deployments"][0]
    assert (deployment["user_config"]["max_in_progress"], deployment["user_config"]["max_batch_size"]) == (5, None)
    scaling = deployment["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (2, 4)
    launch.clamp_replicas(config, 3)
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (2, 3)
    launch.clamp_replicas(config, 1)
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (1, 1)
    fixed = launch.settings(launch.CONFIG, "127.0.0.1", 8000, "", (), replicas=3)["applications"][0]["deployments"][0]
    assert (fixed["autoscaling_config"]["min_replicas"], fixed["autoscaling_config"]["max_replicas"]) == (3, 3)


def test_a_bundle_that_cannot_be_served_costs_no_start(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(FkpError, match="misses the golden face"):
        main(["--bundle", str(tiny_bundle.path)])
    with pytest.raises(FkpError, match="is not a bundle"):
        main(["--bundle", str(tmp_path)])


def test_config_yaml_agrees_with_the_limits() -> None:
    from ray.serve.schema import ServeDeploySchema

    config = read_config()
    schema = ServeDeploySchema.model_validate(config)
    (application,) = schema.applications
    (deployment,) = application.deployments
    assert (application.name, application.import_path, deployment.name) == (launch.APPLICATION, "fkp.serve.app:build", "Landmarks")
    assert schema.http_options.host == "127.0.0.1", "nothing is open by default"
    assert Settings.model_validate(deployment.user_config) == Settings()
    assert deployment.max_ongoing_requests >= 2 * GPU_BATCH_SIZE
    assert deployment.max_ongoing_requests > limits.BURST * Settings().max_in_progress, "the refusal with an envelope comes first"
    assert deployment.autoscaling_config["target_ongoing_requests"] < Settings().max_in_progress, "or there is no scaling up"
    assert (deployment.backpressure_config.status_code, deployment.backpressure_config.retry_after_s) == (429, limits.RETRY_AFTER_S)
    assert schema.controller_options.runtime_env["env_vars"]["OPENCV_IO_MAX_IMAGE_PIXELS"] == str(limits.PIXELS)
    assert min(schema.http_options.request_timeout_s, deployment.graceful_shutdown_timeout_s) > limits.REQUEST_S, (
        "the better answer comes first"
    )


def test_build_deploys_what_config_yaml_says() -> None:
    wanted = deployment_of(read_config())
    for args, bundle in (({}, ""), ({"bundle": "/models/a"}, "/models/a")):
        deployment = build(args)._bound_deployment
        found = deployment._deployment_config.model_dump()
        assert (deployment.name, deployment.ray_actor_options) == (wanted["name"], wanted["ray_actor_options"])
        assert deployment.user_config == {**wanted["user_config"], "bundle": bundle}
        for key in set(wanted) - {"name", "ray_actor_options", "user_config"}:
            told = found[key].model_dump() if hasattr(found[key], "model_dump") else found[key]
            assert told | wanted[key] == told if isinstance(told, dict) else told == wanted[key], key
    with pytest.raises(FkpError, match="unknown argument bundel: there are bundle, timeout_s and token_digests"):
        build({"bundel": "x"})


@pytest.mark.parametrize(
    "broken", [{}, {"applications": []}, {"applications": [{"deployments": []}]}, {"applications": [None]}, None], ids=str
)
def test_a_config_without_its_deployment_is_one_sentence(broken: Any) -> None:
    with pytest.raises(FkpError, match=r"^config\.yaml has to name one application with one deployment"):
        deployment_of(broken)


def test_the_command_line_goes_into_the_settings() -> None:
    config = launch.settings(launch.CONFIG, "::1", 9000, "/models/a", ("d",))
    assert (config["http_options"]["host"], config["http_options"]["port"]) == ("::1", 9000)
    assert config["applications"][0]["args"] == {"token_digests": ["d"]}
    assert config["applications"][0]["deployments"][0]["user_config"]["bundle"] == "/models/a"


def test_a_deployment_that_says_a_thing_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("http_options: {port: 1}\napplications: []\nhttp_options: {port: 2}\n")
    with pytest.raises(FkpError, match=r"config\.yaml: http_options stands twice, first in line 1"):
        launch.settings(tmp_path / "config.yaml", "::1", 9000, "/models/a", ("d",))


def test_the_dispatch_keeps_status_and_one_sentence(tmp_path: Path, run_process: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run_process("fkp", "serve", "--bundle", tmp_path / "none")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path / 'none'} is not a bundle (no SHA256SUMS in it): name the folder that training printed\n"


def test_a_champion_that_cannot_be_fetched_for_a_moment_is_fetched_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped, deployed, asked = threading.Event(), list[str](), list[str]()

    class Registry:
        name = "fkp"

        def champion_number(self) -> int:
            return 2

    def fetch(address: str) -> None:
        asked.append(address)
        if len(asked) < 3:
            raise FkpError("the line is cut")

    def deploy(config: dict[str, Any]) -> None:
        deployed.append(config["applications"][0]["deployments"][0]["user_config"]["bundle"])
        stopped.set()

    monkeypatch.setattr("fkp.track.registry.Registry", Registry)
    monkeypatch.setattr(launch, "find_bundle", fetch)
    monkeypatch.setattr(launch, "deploy", deploy)
    launch.watch_alias(stopped, {"applications": [{"deployments": [{"user_config": {"bundle": "models:/fkp/1"}}]}]}, "1", 0.01)
    assert (asked, deployed) == (["models:/fkp/2"] * 3, ["models:/fkp/2"])
    assert capsys.readouterr().err == "warning: the line is cut\n", "once"
