"""cluster.yaml, cluster/local.yaml and cluster/kuberay.yaml: what Ray accepts, and what keeps strangers out."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from fkp.cluster import preflight
from fkp.common import storage
from fkp.config import config_from_args

ROOT = Path(__file__).parents[2]
CLOUD, LOCAL, KUBERAY = ROOT / "cluster.yaml", ROOT / "cluster/local.yaml", ROOT / "cluster/kuberay.yaml"


def pinned(package: str) -> str:
    """A version of constraints.txt."""
    found = re.search(rf"^{package}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert found
    return found[1]


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


@pytest.fixture
def cloud() -> dict[str, Any]:
    return read(CLOUD)


@pytest.mark.parametrize("path", [CLOUD, LOCAL], ids=lambda path: path.name)
def test_ray_accepts_the_file_and_all_that_it_copies_is_there(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(preflight, "_host_fault", lambda *host: None)
    for name in (".ray/auth_token", ".ssh/id_ed25519"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("f" * 64)
    preflight.check(path)


@pytest.mark.parametrize("path", [CLOUD, LOCAL], ids=lambda path: path.name)
def test_every_host_gets_the_token_the_pins_and_nothing_private(path: Path) -> None:
    config = read(path)
    mounts = config["file_mounts"]
    assert mounts["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert {"requirements.txt", "constraints.txt", "hatch_build.py"} <= set(mounts.values())
    assert not {".", "data", "runs", ".venv", ".git", "mlflow.db"} & set(mounts.values()), "folders are named one by one"
    assert config["setup_commands"][-1] == "bash ~/fkp/cluster/install.sh"
    start = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert [command.rsplit("bash ", 1)[1] for command in start] == ["~/fkp/cluster/start.sh head", "~/fkp/cluster/start.sh worker"]
    assert config["idle_timeout_minutes"] > 0


def test_what_the_hosts_start_wants_the_token_and_listens_on_loopback() -> None:
    start, env, mlflow = ((ROOT / "cluster" / name).read_text() for name in ("start.sh", "env.sh", "mlflow.sh"))
    assert "export RAY_AUTH_MODE=token" in env
    assert start.index(". ~/fkp/cluster/env.sh") < start.index("exec ray start")
    head = start[start.index("ray start --head") :]
    assert "--dashboard-host=127.0.0.1" in head and "--num-cpus=0" in head
    assert "--host 127.0.0.1" in mlflow and "--serve-artifacts" in mlflow
    assert "0.0.0.0" not in start + mlflow
    assert "-c constraints.txt" in (ROOT / "cluster/install.sh").read_text()


def test_machines_with_gpus_come_when_they_are_asked_for_and_go_when_they_are_idle(cloud: dict[str, Any]) -> None:
    types = cloud["available_node_types"]
    head = types.pop(cloud["head_node_type"])
    assert head["resources"] == {"CPU": 0} and "guestAccelerators" not in head["node_config"]
    for machine in types.values():
        assert machine["min_workers"] == 0 and machine["max_workers"] <= cloud["max_workers"]
        node = machine["node_config"]
        assert machine["resources"]["GPU"] == sum(gpu["acceleratorCount"] for gpu in node["guestAccelerators"])
        assert node["scheduling"]["onHostMaintenance"] == "TERMINATE", "a machine with a GPU cannot be moved"
        assert {"key": "install-nvidia-driver", "value": "True"} in node["metadata"]["items"]
    assert cloud["idle_timeout_minutes"] <= 30
    assert cloud["provider"]["cache_stopped_nodes"] is False
    assert any("nvidia-smi" in command for command in cloud["initialization_commands"]), "Ray must not start before the driver"


def test_spot_machines_are_tried_first_and_others_are_the_same_but_for_that(cloud: dict[str, Any]) -> None:
    spot, other = cloud["available_node_types"]["gpu_spot"], cloud["available_node_types"]["gpu_on_demand"]
    assert spot["node_config"]["scheduling"]["provisioningModel"] == "SPOT"
    assert "provisioningModel" not in other["node_config"]["scheduling"]
    assert spot["priority"] > other.get("priority", 0)
    assert spot["resources"] == other["resources"]
    assert spot["node_config"]["machineType"] == other["node_config"]["machineType"]


def launched(cloud: dict[str, Any], fate: Any) -> dict[str, int]:
    """What Ray's autoscaler starts for eight GPUs, once a spot machine has met a fate."""
    from ray.autoscaler._private.util import prepare_config
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil
    from ray.core.generated.autoscaler_pb2 import ResourceRequestByCount
    from ray.core.generated.instance_manager_pb2 import InstanceUpdateEvent

    config = AutoscalingConfig(prepare_config(cloud))
    monitor = CloudResourceMonitor()
    monitor.notify([InstanceUpdateEvent(instance_id="first", new_instance_status=fate, instance_type="gpu_spot")])
    wanted = ResourceRequestUtil.make({"CPU": 1.0, "GPU": 1.0})
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=[ResourceRequestByCount(request=wanted, count=8)],
        cloud_resource_availabilities=monitor.get_resource_availabilities(),
        recoverable_resource_availabilities=monitor.get_recoverable_resource_availabilities(),
    )
    return {launch.instance_type: launch.count for launch in ResourceDemandScheduler(None).schedule(request).to_launch}


def test_ray_does_not_turn_from_spot_machines_by_itself_and_what_helps(
    cloud: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cluster.yaml says of it. Ray's provider for Google Cloud raises where there is no machine: a launch that failed."""
    from ray.core.generated.instance_manager_pb2 import Instance

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("f" * 64)  # Ray reads what the file mounts name.
    spot = cloud["available_node_types"]["gpu_spot"]
    assert launched(cloud, Instance.RAY_RUNNING) == {"gpu_spot": 8}
    assert launched(cloud, Instance.ALLOCATION_FAILED) == {"gpu_spot": 8}
    assert launched(cloud, Instance.ALLOCATION_TIMEOUT) == {"gpu_on_demand": 8}, "which that provider never reports"
    spot["max_workers"] = 4
    assert launched(cloud, Instance.ALLOCATION_FAILED) == {"gpu_spot": 4, "gpu_on_demand": 4}
    spot["max_workers"] = 0
    assert launched(cloud, Instance.ALLOCATION_FAILED) == {"gpu_on_demand": 8}


def test_the_container_s_user_may_write_beside_what_is_mounted(cloud: dict[str, Any]) -> None:
    """Docker makes the folders above a mount, and makes them root's; install.sh writes into one of them."""
    own, token, _ = cloud["setup_commands"]
    assert own.startswith("sudo chown $(id -u):$(id -g) ")
    assert {word for word in own.split() if word.startswith("~")} == {str(Path(mount).parent) for mount in cloud["file_mounts"]}
    # As its owner the ssh user could no longer bring a new one; and no others on the machine may read it.
    assert "chown" not in token and "chmod 640 ~/.ray/auth_token" in token


def test_every_value_to_change_stands_above_the_line(cloud: dict[str, Any]) -> None:
    own, rest = CLOUD.read_text().split("# --- The same for all", 1)
    assert "my-project" in own and not re.search(r"my-project|my-bucket|us-central1", rest)
    assert cloud["provider"]["project_id"] == "my-project" and "gs://my-bucket" in cloud["head_start_ray_commands"][0]
    for value in cloud["metadata"]:
        assert f"*{value}" in rest, f"{value} is used"
    own, rest = LOCAL.read_text().split("# --- The same for all", 1)
    assert "10.77" in own and "10.77" not in rest


def test_no_port_is_opened(cloud: dict[str, Any]) -> None:
    network = yaml.safe_dump(cloud["available_node_types"])
    assert "tags" not in network and "networkInterfaces" not in network, "Ray's default: the project's own rules, which let ssh in"
    for document in yaml.safe_load_all(KUBERAY.read_text()):
        text = yaml.safe_dump(document)
        assert "LoadBalancer" not in text and "NodePort" not in text and "hostNetwork" not in text


def test_the_images_have_the_pinned_ray_and_python(cloud: dict[str, Any]) -> None:
    python = "py" + "".join(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"][2:6].split("."))
    wanted = f"rayproject/ray:{pinned('ray')}-{python}"
    assert cloud["docker"]["head_image"] == wanted and cloud["docker"]["worker_image"] == f"{wanted}-gpu"
    assert f"ARG BASE={wanted}-gpu" in (ROOT / "cluster/Dockerfile").read_text()


def test_google_s_packages_do_not_contradict_the_pins() -> None:
    lines = [line for line in (ROOT / "cluster/requirements-gcp.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line) for line in lines)
    constrained = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert not constrained & {line.partition("==")[0] for line in lines}


def documented(program: str) -> list[list[str]]:
    """The flags of each command of docs/cluster.md that runs a program on Google's machines."""
    text = (ROOT / "docs/cluster.md").read_text().replace("\\\n", " ")
    commands = [line.partition(f"{program} ")[2] for line in text.splitlines() if line.startswith("on_head ") and f"{program} " in line]
    return [[str(ROOT / word) if word.startswith("configs/") else word for word in shlex.split(command)] for command in commands]


def test_the_documented_search_and_training_are_ones_that_hosts_without_a_share_can_run(cloud: dict[str, Any]) -> None:
    from fkp.tune.options import parse

    (search,) = documented("tune/search.py")
    settings, config = parse(search)
    most = cloud["available_node_types"]["gpu_spot"]["max_workers"]
    assert settings.concurrent == most == 8
    (training,) = documented("fkp train")
    trained = config_from_args(training, "fkp train", "")
    assert trained.scale.num_workers == most and trained.least_workers == 1
    assert trained.data.backend == "stream" and trained.data.root is not None and storage.is_uri(trained.data.root)
    for run in (config, trained):
        assert storage.is_uri(run.track.storage) and run.scale.use_gpu == "yes"
        assert run.scale.wait_minutes >= 15, "a machine takes minutes to come up"
    resources = cloud["available_node_types"]["gpu_spot"]["resources"]
    assert trained.scale.cpus_per_worker + trained.decoders_per_worker <= resources["CPU"]
    (packed,) = documented("fkp data pack")
    assert packed == ["--out", trained.data.root]


# --- Kubernetes -------------------------------------------------------------------------------------------------------


def clusters() -> list[dict[str, Any]]:
    job, service = yaml.safe_load_all(KUBERAY.read_text())
    return [job["spec"]["rayClusterSpec"], service["spec"]["rayClusterConfig"]]


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


@pytest.mark.parametrize("cluster", clusters(), ids=["RayJob", "RayService"])
def test_pods_want_the_token_and_may_do_nothing_else(cluster: dict[str, Any]) -> None:
    assert cluster["rayVersion"] == pinned("ray")
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0" and cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    images = set()
    for pod in pods(cluster):
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        images.add(container["image"])
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert not {"livenessProbe", "readinessProbe", "startupProbe"} & set(container), "one would take the place of all of the operator's"
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
    assert len(images) == 1 and not images.pop().endswith(":latest")


def test_the_job_s_command_is_one_that_training_understands() -> None:
    job, _ = yaml.safe_load_all(KUBERAY.read_text())
    command = shlex.split(job["spec"]["entrypoint"])
    assert command[:4] == ["python", "-m", "fkp", "train"]
    flags = [str(ROOT / word) if word.startswith("configs/") else word for word in command[4:]]
    config = config_from_args(flags, "fkp train", "")
    assert config.least_workers < config.scale.num_workers
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert group["minReplicas"] == 0 and group["maxReplicas"] >= config.scale.num_workers


def test_the_service_is_what_serve_deploys() -> None:
    from ray.serve.schema import ServeDeploySchema

    _, service = yaml.safe_load_all(KUBERAY.read_text())
    found = yaml.safe_load(service["spec"]["serveConfigV2"])
    ServeDeploySchema.model_validate(found)
    own = read(ROOT / "serve/config.yaml")
    (application,), (known,) = found["applications"], own["applications"]
    assert application["import_path"] == known["import_path"]
    (deployment,), (known_deployment,) = application["deployments"], known["deployments"]
    assert deployment["name"] == known_deployment["name"]
    assert set(deployment) == {"name", "autoscaling_config"}, "all else comes from config.yaml by way of `build`"
    assert found["http_options"]["request_timeout_s"] == own["http_options"]["request_timeout_s"]
    wanted = "target_ongoing_requests"  # At the limit of a replica there is no scaling up.
    assert deployment["autoscaling_config"][wanted] == known_deployment["autoscaling_config"][wanted]
    (cluster,) = clusters()[1:]
    for pod in pods(cluster):
        variables = {one["name"]: one for one in pod["containers"][0]["env"]}
        assert "secretKeyRef" in variables["FKP_API_TOKEN"]["valueFrom"], "it listens beyond loopback"
        for name, value in own["controller_options"]["runtime_env"]["env_vars"].items():
            assert variables[name]["value"] == value
