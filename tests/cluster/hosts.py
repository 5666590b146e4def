"""Three hosts on this machine, and the cluster that `ray up cluster/local.yaml` makes of them, as objects."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAD, WORKERS = 1, (2, 3)
#: Ray's default autoscaler starts one of two machines of one's own only (docs/cluster.md).
_OPERATOR = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "HOME": "/mnt/operator",
    "USER": "root",
    "LANG": "C.UTF-8",
    "TMPDIR": "/mnt/operator/tmp",
    "RAY_UP_enable_autoscaler_v2": "0",
}
_SSH = "ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"


def reason_against() -> str | None:
    """Why there can be no hosts on this machine."""
    missing = [tool for tool in ("ip", "unshare", "nsenter", "ssh", "rsync", "curl", "/usr/sbin/sshd") if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)}: install iproute2, util-linux, openssh-server, openssh-client, rsync and curl"
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "ip", "link", "add", "fkp0", "type", "bridge"], capture_output=True
    )
    return None if tried.returncode == 0 else f"cannot make a bridge here: {tried.stderr.decode().strip()}"


def wait_for(what: str, check: Callable[[], Any], timeout_s: float, every_s: float = 1.0) -> Any:
    """The first true answer of `check`."""
    until = time.monotonic() + timeout_s
    while not (found := check()):
        if time.monotonic() > until:
            pytest.fail(f"after {timeout_s:g} s there is still no {what}")
        time.sleep(every_s)
    return found


class Lab:
    """The hosts, while the object is open; see lab.sh.

    Attributes:
        shared: What all hosts see as /mnt/shared.
    """

    def __init__(self, shared: Path) -> None:
        self.shared = shared
        script = [str(Path(__file__).with_name("lab.sh")), sys.prefix, str(shared)]
        self._process = subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self._answer("ready")
        (self._first,) = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text(encoding="ascii").split()

    def close(self) -> None:
        """End the hosts and all that runs on them."""
        self._process.kill()  # unshare takes its namespaces along.
        self._process.wait(20)

    def stop(self, host: int) -> None:
        """Cut a host's power."""
        self._say(f"stop {host}", f"stopped {host}")

    def start(self, host: int) -> None:
        """Give it back."""
        self._say(f"start {host}", f"started {host}")

    def operator(self, command: str, timeout_s: float = 60.0, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command where the operator sits, in the project's folder."""
        environment = [f"{name}={value}" for name, value in {**_OPERATOR, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}.items()]
        enter = ["nsenter", "--target", self._first, "--mount", "--pid", "--net", "--ipc", "--uts", "env", "-i", *environment]
        script = ["bash", "-c", f"cd {shlex.quote(str(ROOT))} && {command}"]
        done = subprocess.run([*enter, *script], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s)
        assert not check or done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def on(self, host: int, command: str, timeout_s: float = 60.0, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on a host, over ssh, as its shell would after `. ~/fkp/cluster/env.sh`."""
        return self.operator(f"{_SSH} 10.77.0.{host} {shlex.quote(f'. ~/fkp/cluster/env.sh && {command}')}", timeout_s, check)

    def ask(self, url: str, method: str = "GET", body: Any = None) -> Any:
        """The JSON that an address of the head's loopback answers, as one with the cluster's token."""
        data = f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}" if body is not None else ""
        token = '-H "Authorization: Bearer $(cat ~/.ray/auth_token)"'
        found = self.on(HEAD, f"curl --silent --show-error --fail -X {method} {token} {data} {shlex.quote('http://127.0.0.1:' + url)}")
        return json.loads(found.stdout)

    def _say(self, line: str, answer: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._answer(answer)

    def _answer(self, wanted: str) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line == wanted, f"lab.sh answered {line!r} and not {wanted!r}"


class Cluster:
    """What runs on the hosts.

    Attributes:
        lab: The hosts.
        serving: Whether the endpoint is deployed.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.serving = False

    def up(self) -> None:
        """`ray up`, until all workers have joined."""
        self.lab.operator("ray up -y cluster/local.yaml", 150)
        wait_for("cluster of three hosts", lambda: self.alive() == 3, 120, 2)

    def deploy_endpoint(self) -> None:
        """Serve the shipped champion from the registry, once."""
        if not self.serving:
            self.lab.on(HEAD, "python -m fkp track register saved_models/champion --promote", 120)
            self.lab.on(HEAD, "serve deploy serve/config.yaml --address http://127.0.0.1:8265", 120)
            self.serving = True

    def alive(self) -> int:
        """How many hosts Ray counts."""
        nodes = self.lab.ask("8265/nodes?view=summary")["data"]["summary"]
        return sum(node["raylet"].get("state") == "ALIVE" for node in nodes)

    def submit(self, job: str, command: str) -> None:
        """Start a job and come back."""
        self.lab.on(HEAD, f"ray job submit --address http://127.0.0.1:8265 --no-wait --submission-id {job} -- {command}")

    def status(self, job: str) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
        return str(self.lab.ask(f"8265/api/jobs/{job}")["status"])

    def seconds(self, job: str) -> float:
        """How long a job that has ended ran."""
        told = self.lab.ask(f"8265/api/jobs/{job}")
        return (told["end_time"] - told["start_time"]) / 1000

    def logs(self, job: str) -> str:
        """What a job printed."""
        return str(self.lab.ask(f"8265/api/jobs/{job}/logs")["logs"])

    def finish(self, job: str, timeout_s: float) -> str:
        """Wait for the end of a job that must end well; return what it printed."""
        status = wait_for(f"end of {job}", lambda: (found := self.status(job)) not in ("PENDING", "RUNNING") and found, timeout_s)
        logs = self.logs(job)
        assert status == "SUCCEEDED", logs[-4000:]
        return logs

    def epochs(self, run: str) -> list[tuple[int, float]]:
        """(step, validation error) of each epoch that MLflow knows of a run, in the order in which they were logged."""
        note = self.lab.shared / "runs" / run / "run.json"
        run_id = json.loads(note.read_text(encoding="utf-8"))["mlflow_run_id"] if note.is_file() else None
        if run_id is None:
            return []
        found = self.lab.ask(f"5000/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key=val_nme_interocular_pct&max_results=1000")
        return [(int(metric.get("step", 0)), float(metric["value"])) for metric in found.get("metrics", [])]
