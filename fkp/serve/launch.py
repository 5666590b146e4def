"""fkp serve [--host --port --bundle --profile]: Ray, Serve and the endpoint on this machine, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fkp.common import ray_private
from fkp.errors import FkpError, stopping
from fkp.serve import TOKEN_VARIABLE
from fkp.serve.bundle_source import CHAMPION, find_bundle
from fkp.serve.http.security import check_host, token_digests
from fkp.serve.ingress import haproxy
from fkp.serve.settings import CONFIG, Settings, deployment_of, read_config, read_settings

APPLICATION = "fkp"
_START_S = 300.0
_READY_S = 120.0
_LOOK_S = 15.0


def run(arguments: argparse.Namespace) -> None:
    """Serve until interrupted.

    Raises:
        FkpError: The address is open without a token, the model cannot be served, or Ray does not start.
    """
    host, port = arguments.host, arguments.port
    digests = token_digests(os.environ.get(TOKEN_VARIABLE))
    check_host(host, digests)
    against = haproxy.reason_against(host)
    if arguments.profile == "fast" and against:
        raise FkpError(f"profile fast: {against}; use --profile plain")
    fast = arguments.profile != "plain" and not against
    bundle, version = _check_bundle(arguments.bundle)
    chosen = {name: getattr(arguments, name) for name in ("detector", "max_batch_size", "max_in_progress", "allowed_origins")}
    config = settings(CONFIG, host, port, bundle, digests, arguments.replicas, **chosen)
    deployed = read_settings(deployment_of(config)["user_config"], bool(digests))
    with haproxy.exclusive(port) as folder:
        if not os.environ.get("RAY_ADDRESS"):
            haproxy.check_free(host, port)
        if fast:
            os.environ.update(haproxy.settings(folder, deployed))
        down = stopping.hint("the endpoint is down; the same command starts it again")
        with down, connect("local" if fast else None) as cores:
            clamp_replicas(config, cores)
            deploy(config)
            wait_until_ready(host, port)
            profile = "fast" if fast else f"plain: {against}" if against and arguments.profile is None else "plain"
            print(f"http://{host}:{port}  (page; API: /docs; profile {profile})  Ctrl-C ends it", flush=True)
            if arguments.bundle in ("", CHAMPION) and version is not None:
                watch_alias(threading.Event(), config, version)
            threading.Event().wait()  # Until a signal.


@contextlib.contextmanager
def connect(address: str | None = None) -> Iterator[int]:
    """Join the cluster that RAY_ADDRESS names, or start one on this machine; Serve is shut down at the end.

    Args:
        address: "local" starts one even where another runs, which would know nothing of this process's variables.

    Returns:
        How many cores the cluster has.

    Raises:
        FkpError: See `fkp.cluster.ray_session.begin`.
    """
    from fkp.cluster import ray_session  # Before ray: it sets what ray reads when it is imported.

    import ray  # isort: skip
    from ray import serve

    # Ray has its workers yield to everything else on the machine, HAProxy among them: here they are what it is for.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        ray_session.begin(address, namespace="serve")
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        if ray.is_initialized():
            serve.shutdown()
        ray.shutdown()


def settings(
    path: Path,
    host: str,
    port: int,
    bundle: str,
    digests: tuple[str, ...],
    replicas: int | None = None,
    **user_config: Any,
) -> dict[str, Any]:
    """Read config.yaml and put the command line's choices into it.

    Args:
        path: config.yaml.
        host: Address to listen on.
        port: Likewise.
        bundle: See `Settings.bundle`.
        digests: Of the valid tokens.
        replicas: This many, instead of as many as the load asks for.
        **user_config: See `Settings`; what is None is left as it is.
    """
    config = read_config(path)
    config["http_options"] |= {"host": host, "port": port}
    config["applications"][0]["args"] = {"token_digests": list(digests)}
    deployment = deployment_of(config)
    deployment["user_config"]["bundle"] = bundle
    if replicas is not None:
        # Not num_replicas: beside the autoscaling of `fkp.serve.app.build`, which Serve keeps, it would be without effect.
        deployment["autoscaling_config"] |= {"min_replicas": replicas, "max_replicas": replicas}
    deployment["user_config"] |= {name: value for name, value in user_config.items() if value is not None}
    return config


def clamp_replicas(config: Mapping[str, Any], cores: int) -> None:
    """Ask for no more replicas than the cluster has cores: Serve would wait for them for ever."""
    scaling = deployment_of(config)["autoscaling_config"]
    for bound in ("min_replicas", "max_replicas"):
        scaling[bound] = max(min(scaling[bound], cores), 1)


def deploy(config: Mapping[str, Any]) -> None:
    """Deploy a configuration as `serve deploy` does, in this process's cluster, and wait until it runs.

    Where only `user_config` differs from what runs, the replicas are told and go on.

    Raises:
        FkpError: The application cannot start.
    """
    import time

    from ray import serve
    from ray.serve.schema import ApplicationStatus, ServeDeploySchema

    schema = ServeDeploySchema.model_validate(dict(config))
    until = time.monotonic() + _START_S
    while True:
        try:
            client = ray_private.start_serve(schema)
            break
        except TimeoutError as error:  # Ray waits for its proxy for a minute, which is short on a busy machine.
            if time.monotonic() > until:
                raise FkpError(f"the endpoint did not start within {_START_S:g} s: {error}") from error
    ray_private.deploy_apps(client, schema)
    while time.monotonic() < until:
        application = serve.status().applications.get(APPLICATION)
        if application is not None:
            if application.status == ApplicationStatus.RUNNING:
                return
            if application.status == ApplicationStatus.DEPLOY_FAILED:
                lines = [line for line in application.message.splitlines() if "FkpError" in line] or application.message.splitlines()
                raise FkpError(f"the endpoint cannot start: {lines[-1].strip()[:300] if lines else 'no reason given'}")
        time.sleep(0.1)
    raise FkpError(f"the endpoint did not start within {_START_S:g} s: has the cluster a free core? `ray status` says so")


def wait_until_ready(host: str, port: int) -> None:
    """Wait for the first answer: the proxy learns of the replicas a moment after they run."""
    import time
    import urllib.error
    import urllib.request

    name = "127.0.0.1" if host == "0.0.0.0" else "[::1]" if host == "::" else f"[{host}]" if ":" in host else host
    until = time.monotonic() + _READY_S
    while True:
        try:
            with urllib.request.urlopen(f"http://{name}:{port}/readyz", timeout=5):
                return
        except (OSError, urllib.error.HTTPError) as error:
            if time.monotonic() > until:
                raise FkpError(
                    f"http://{name}:{port} does not answer ({error}): the logs are in /tmp/ray/session_latest/logs/serve"
                ) from error
        time.sleep(0.1)


def watch_alias(stopped: threading.Event, config: dict[str, Any], served: str, look_s: float = _LOOK_S) -> None:
    """Serve whatever version the registry's alias names, until the end.

    Args:
        stopped: Set at the end.
        config: What is deployed.
        served: The version that is.
        look_s: How often the registry is asked.
    """
    from fkp.track.registry import Registry

    registry, warned = Registry(), ""
    while not stopped.wait(look_s):
        try:
            number = registry.champion_number()
            if number is None or str(number) == served:
                continue
            print(f"version {number} is the champion: loading it", flush=True)
            address = f"models:/{registry.name}/{number}"
            find_bundle(address)  # What fails here is tried again; in a replica it would be a refusal that stands.
            deployment_of(config)["user_config"]["bundle"] = address
            deploy(config)
            served, warned = str(number), ""
        except FkpError as error:  # The store may be away for a while; what is served stays.
            if str(error) != warned:  # An alias on what cannot be served may stay for days.
                print(f"warning: {error}", file=sys.stderr, flush=True)
            warned = str(error)


def _check_bundle(bundle: str) -> tuple[str, str | None]:
    """Try the model here first, so that what is wrong with it is one sentence and costs no start of Ray.

    Returns:
        The bundle as all replicas must read it, with its number where it is a registered one, and that number.
    """
    from fkp.serve.model import load_model

    if os.environ.get("MLFLOW_TRACKING_URI"):
        from fkp.track.store import tracking_uri

        os.environ["MLFLOW_TRACKING_URI"] = tracking_uri()  # Replicas may run in another folder.
    source = find_bundle(bundle)
    load_model(source, 1, Settings().golden_nme_pct)
    if source.version is None:
        return str(Path(source.path).absolute()), None
    name = (bundle or CHAMPION).removeprefix("models:/").partition("@")[0].partition("/")[0]
    return f"models:/{name}/{source.version}", source.version
