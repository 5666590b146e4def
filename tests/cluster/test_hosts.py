"""`ray up` on three hosts, and what happens when they are lost: `make cluster-test`. The tests build on each other, in this order."""

from __future__ import annotations

import json
import re
import time

import pytest

from fkp.bundle import open_bundle

from .hosts import HEAD, ROOT, WORKERS, Cluster, Lab, wait_for

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(600)]

EPOCHS = 24
_FACES = "--data.root /mnt/shared/synthetic --data.synthetic_faces 600 --input.size_px 64 --model.arch slim --model.width 16"
_PLAIN = "--augment.strength 0 --optim.global_batch_size 32 --optim.lr 0.01"
TRAIN = f"python -m fkp train {_FACES} {_PLAIN} --train.epochs {EPOCHS} --scale.num_workers 2 --track.storage /mnt/shared/runs"

#: The brackets keep pkill from the shell that calls it.
KILL_MLFLOW = "pkill -f '[m]lflow.server'"


@pytest.fixture(scope="session")
def unbroken(cluster: Cluster) -> float:
    """Validation error of a training on two hosts that nothing happened to, but that another job waits for GPUs meanwhile."""
    cluster.submit("greedy", f"{TRAIN} --track.run_name greedy --scale.use_gpu yes")
    cluster.submit("unbroken", f"{TRAIN} --track.run_name unbroken")
    hosts = set()
    while (status := cluster.status("unbroken")) in ("PENDING", "RUNNING"):
        hosts |= {host for host in WORKERS if "RayTrainWorker" in cluster.lab.on(host, "ps -eo args").stdout}
        time.sleep(2)
    assert status == "SUCCEEDED", cluster.logs("unbroken")[-4000:]
    assert hosts == set(WORKERS), "each host trained"
    return check_whole(cluster, "unbroken")


def check_whole(cluster: Cluster, run: str) -> float:
    """MLflow must have every epoch's error, each at an unbroken run's step; return the last one."""
    found = cluster.epochs(run)
    steps = sorted({step for step, _ in found})
    per_epoch = steps[0] + 1
    assert steps == [per_epoch * (epoch + 1) - 1 for epoch in range(EPOCHS)], f"{run}: {found}"
    note = json.loads((cluster.lab.shared / "runs" / run / "run.json").read_text())
    assert note["finished"]
    return max(found)[1]


def reached(cluster: Cluster, run: str, epoch: int) -> None:
    """Wait until MLflow has so many epochs of a run."""
    wait_for(f"epoch {epoch} of {run}", lambda: len(cluster.epochs(run)) >= epoch, 180, 0.5)


def test_a_wrong_key_is_one_sentence(lab: Lab) -> None:
    lab.operator("ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/other")
    lab.operator("sed s/id_ed25519/other/ cluster/local.yaml > ~/wrong.yaml")
    began = time.monotonic()
    refused = lab.operator("python -m fkp cluster ~/wrong.yaml", check=False)
    assert refused.returncode == 1 and time.monotonic() - began < 60
    assert re.search(r"error: .*10\.77\.0\.1: .*Permission denied", refused.stderr), refused.stderr


def test_a_host_that_is_not_there_is_one_sentence(lab: Lab) -> None:
    lab.operator("sed s/10.77.0.3/10.77.0.9/ cluster/local.yaml > ~/missing.yaml")
    began = time.monotonic()
    refused = lab.operator("python -m fkp cluster ~/missing.yaml", check=False)
    assert refused.returncode == 1 and time.monotonic() - began < 60
    assert re.search(r"error: .*10\.77\.0\.9: .*(No route|timed out)", refused.stderr), refused.stderr


def test_only_ssh_answers_and_the_dashboard_wants_the_token(cluster: Cluster) -> None:
    assert cluster.lab.operator("python -m fkp cluster cluster/local.yaml").returncode == 0
    for port in (8265, 5000):
        refused = cluster.lab.operator(f"curl --silent --max-time 5 http://10.77.0.{HEAD}:{port}/", check=False)
        assert refused.returncode == 7, f"port {port} of the head answers others than the head"
    told = cluster.lab.on(HEAD, "curl --silent -o /dev/null -w '%{http_code}' http://127.0.0.1:8265/api/jobs/")
    assert told.stdout == "401", "the dashboard wants the token"


def test_training_on_two_hosts(unbroken: float) -> None:
    assert unbroken < 20


def test_more_gpus_than_there_are_is_one_sentence(cluster: Cluster, unbroken: float) -> None:
    wait_for("end", lambda: cluster.status("greedy") == "FAILED", 200)
    assert cluster.seconds("greedy") < 200  # 45 s of it for hosts that are about to join; a busy machine doubles it.
    assert "error: scale.use_gpu=yes needs 2 GPUs and the cluster has 0" in cluster.logs("greedy")


def test_training_goes_on_without_a_lost_host(cluster: Cluster, unbroken: float) -> None:
    cluster.submit("lost", f"{TRAIN} --track.run_name lost --scale.min_workers 1")
    reached(cluster, "lost", 5)
    cluster.lab.stop(3)
    try:
        cluster.finish("lost", 300)
    finally:
        cluster.lab.start(3)
    assert abs(check_whole(cluster, "lost") - unbroken) <= 0.3
    wait_for("third host, which Ray restarts over ssh", lambda: cluster.alive() == 3, 180, 2)


def test_training_goes_on_when_its_driver_is_lost_and_mlflow_is_away_and_no_stranger_joins(cluster: Cluster, unbroken: float) -> None:
    cluster.submit("driver", f"{TRAIN} --track.run_name driver")
    reached(cluster, "driver", 4)
    cluster.lab.on(HEAD, KILL_MLFLOW)
    time.sleep(5)
    cluster.lab.on(HEAD, "pkill -KILL -f '[f]kp.train .*run_name driver'")
    wait_for("end of the driver", lambda: cluster.status("driver") == "FAILED", 60)
    cluster.lab.on(HEAD, "bash cluster/mlflow.sh")
    cluster.submit("driver-again", f"{TRAIN} --track.run_name driver")
    reached(cluster, "driver", 10)
    cluster.lab.on(HEAD, KILL_MLFLOW)
    back = time.monotonic() + 60
    # Something else that takes its time, meanwhile.
    stranger = "import ray; ray.init('10.77.0.1:6379', log_to_driver=False)"
    refused = cluster.lab.on(2, f'HOME=/tmp RAY_AUTH_MODE=token RAY_AUTH_TOKEN={"0" * 64} timeout 50 python -c "{stranger}"', check=False)
    assert refused.returncode not in (0, 124), "who has another token joins no cluster"
    time.sleep(max(0.0, back - time.monotonic()))
    cluster.lab.on(HEAD, "bash cluster/mlflow.sh")
    cluster.finish("driver-again", 300)
    assert abs(check_whole(cluster, "driver") - unbroken) <= 0.3


def test_a_search_uses_both_hosts(cluster: Cluster) -> None:
    flags = f"{_FACES} --track.storage /mnt/shared/runs"
    cluster.submit("search", f"python tune/search.py {flags} --trials 4 --epochs 2 --name search --algo random")
    cluster.deploy_endpoint()  # For the next test; it starts meanwhile, its replicas when the search leaves them cores.
    cluster.finish("search", 300)
    (state,) = (cluster.lab.shared / "runs/search/tune").glob("experiment_state-*.json")
    assert set(re.findall(r"node_ip\W+(10\.77\.0\.\d)", state.read_text())) == {f"10.77.0.{host}" for host in WORKERS}


def test_the_endpoint_outlives_a_host(cluster: Cluster) -> None:
    cluster.deploy_endpoint()
    ready = "curl --silent -o /dev/null -w '%{http_code}' http://127.0.0.1:8000/readyz"
    wait_for("endpoint", lambda: cluster.lab.on(HEAD, ready, check=False).stdout == "200", 120)
    replicas = [host for host in WORKERS if "ServeReplica" in cluster.lab.on(host, "ps -eo args").stdout]
    assert replicas == list(WORKERS), "a replica on each host"
    digest = cluster.lab.ask("8000/v1/model")["digest"]
    assert digest == open_bundle(ROOT / "saved_models/champion").digest, "the registry's champion, which only the head can fetch"
    script = (ROOT / "tests/cluster/load.py").read_text()
    cluster.lab.on(HEAD, f"cat > /tmp/ray/load.py <<'END'\n{script}\nEND")
    cluster.lab.on(HEAD, "rm -f /tmp/ray/load.json; (setsid python /tmp/ray/load.py 45 > /tmp/ray/load.json 2>&1 < /dev/null &)")
    time.sleep(10)
    cluster.lab.stop(3)
    try:
        told = json.loads(wait_for("load", lambda: cluster.lab.on(HEAD, "cat /tmp/ray/load.json").stdout, 120))
    finally:
        cluster.lab.start(3)
    assert told["asked"] > 300 and told["succeeded"] / told["asked"] >= 0.99, told
    cluster.lab.on(HEAD, "serve shutdown -y --address http://127.0.0.1:8265", 60)


def test_training_goes_on_when_the_head_is_lost(cluster: Cluster, unbroken: float) -> None:
    wait_for("three hosts", lambda: cluster.alive() == 3, 180, 2)
    cluster.submit("head", f"{TRAIN} --track.run_name head")
    reached(cluster, "head", 5)
    cluster.lab.stop(HEAD)
    cluster.lab.start(HEAD)
    cluster.up()
    cluster.submit("head-again", f"{TRAIN} --track.run_name head")
    cluster.finish("head-again", 300)
    assert abs(check_whole(cluster, "head") - unbroken) <= 0.3


def test_ray_down_and_the_workers_stop_command_leave_nothing(cluster: Cluster) -> None:
    cluster.lab.operator("ray down -y cluster/local.yaml", 120)
    for host in WORKERS:
        cluster.lab.on(host, "ray stop --force", 60)
    for host in (HEAD, *WORKERS):
        left = cluster.lab.on(host, "ps -eo args").stdout
        assert "raylet" not in left and "gcs_server" not in left, left
