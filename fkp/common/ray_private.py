"""Every use of what Ray (2.60) keeps to itself, and what it is for; tests/common/test_ray_private.py tells what a later one lacks.

Beyond these, five classes have what Ray calls or lets be replaced: `HyperBand._process_bracket`, `ASHA` (`_metric`, `_num_stopped`),
`KeepCheckpointList`, `ray_backend.Trainer._register_sigint_handler` and `Landmarks.__serve_build_asgi_app__`; and fkp.serve.ingress lives
on the configuration that Ray writes for HAProxy.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from fkp.errors import stopping

#: Resource that only the head has: what must run there asks for a little of it.
HEAD_RESOURCE = "node:__internal_head__"

#: Ray Train's list of a run's checkpoints, in the run's folder: a torn one is mended before Ray reads it.
TRAIN_SNAPSHOT = "checkpoint_manager_snapshot.json"


@contextlib.contextmanager
def beside_the_terminal() -> Iterator[None]:
    """Ray's processes that the block starts are no part of this process's group: Ctrl-C in the terminal, and `timeout`, signal to all
    of a group, and a cluster that ends together with its driver leaves that one to die of it. They end with this process all the same.
    Elsewhere than on Linux nothing is changed: there Ray ends them by their group.
    """
    if sys.platform != "linux":
        yield
        return
    from ray._private import services

    before = services.ConsolePopen
    services.ConsolePopen = functools.partial(before, process_group=0)  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        services.ConsolePopen = before  # type: ignore[misc]


def print_no_end() -> None:
    """A thread of Ray's prints every task and actor that is lost. Of a command that was stopped they all are, which is no news."""
    from ray._private import worker

    told = worker.print_to_stdstream
    if told.__module__ == __name__:
        return

    def tell(data: Any, ignore_prefix: bool) -> None:
        if stopping.received() is None:
            told(data, ignore_prefix)

    worker.print_to_stdstream = tell


def temp_folder() -> str:
    """The folder in which Ray keeps its sessions."""
    from ray._common.utils import get_default_ray_temp_dir

    return str(get_default_ray_temp_dir())


def cluster_address(address: str) -> str | None:
    """Where Ray looks for a cluster that is named so, "auto" among the names; None where it would start one."""
    from ray._private.services import canonicalize_bootstrap_address

    found: str | None = canonicalize_bootstrap_address(address)
    return found


def kind_of_server(address: str, answer_s: float) -> str:
    """What listens at HOST:PORT: "cluster", "other token" for one that does not know ours, else it in a few words."""
    import grpc
    from ray._private.grpc_utils import init_grpc_channel

    with init_grpc_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId", request_serializer=bytes, response_deserializer=bytes)
        try:
            ask(b"", timeout=answer_s)
        except grpc.RpcError as error:
            kinds = {
                grpc.StatusCode.UNAUTHENTICATED: "other token",
                grpc.StatusCode.UNIMPLEMENTED: "another gRPC server",
                grpc.StatusCode.DEADLINE_EXCEEDED: f"a program that said nothing for {answer_s:g} s",
                grpc.StatusCode.UNAVAILABLE: "a program of another kind, such as a web server",
            }
            return kinds.get(error.code(), f"a server that answered {error.code().name}")
    return "cluster"


def put_text(namespace: str, key: str, text: str) -> None:
    """Keep a text in the cluster's own store, which every process of it reads without an actor to ask."""
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(key.encode(), text.encode(), overwrite=True, namespace=namespace.encode())


def get_text(namespace: str, key: str) -> str | None:
    """Read one of those; None where there is none."""
    from ray.experimental.internal_kv import _internal_kv_get

    value = _internal_kv_get(key.encode(), namespace=namespace.encode())
    return None if value is None else value.decode()


def text_keys(namespace: str, prefix: str) -> list[str]:
    """The keys of those that begin so."""
    from ray.experimental.internal_kv import _internal_kv_list

    return [key.decode() for key in _internal_kv_list(prefix.encode(), namespace=namespace.encode())]


def serve_id() -> str:
    """Names this start of Serve: one that was shut down and started anew on the same cluster has another."""
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    assert client is not None
    return client._controller._actor_id.hex()


def listening_host() -> str | None:
    """The address that Serve's proxies listen on, by which a replica knows whether it needs tokens; None means all."""
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    return client.http_config.host if client is not None else None


def in_replica() -> bool:
    """Whether this process is a replica, which Ray's own HTTP server asks about in it and in a proxy alike."""
    from ray.serve.context import _get_internal_replica_context

    return _get_internal_replica_context() is not None


def start_serve(schema: Any) -> Any:
    """Start Serve, or join it: with its client settings change without new replicas, as `serve deploy` does it."""
    from ray.serve._private.api import serve_start

    http_options = schema.http_options.model_dump()
    return serve_start(http_options=http_options, controller_options=schema.controller_options, proxy_location=schema.proxy_location)


def deploy_apps(client: Any, schema: Any) -> None:
    """Deploy without waiting: who waits wants to say why it failed."""
    client.deploy_apps(schema, _blocking=False)


def check_cluster_file(config: dict[str, Any]) -> None:
    """Hold the content of a cluster's YAML file against Ray's rules; it tells what is wrong in errors of every kind."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


def hand_to_train_processes(variables: Mapping[str, str]) -> None:
    """Add environment variables to those that Ray Train hands on to the processes it starts."""
    from ray.train.v2._internal import constants

    os.environ.update(variables)
    constants.ENV_VARS_TO_PROPAGATE.update(variables)


def cause_of(error: BaseException) -> BaseException | None:
    """What a worker raised, out of the errors that Ray Train wraps around it."""
    return getattr(error, "cause", None) or getattr(error, "_base_exc", None) or error.__cause__


def newest_bracket(hyperband: Any) -> Any:
    """The bracket that `HyperBandScheduler` fills; None where the next trial opens one."""
    return hyperband._state["bracket"]


def open_another_bracket(hyperband: Any) -> None:
    """Have the next trial open a bracket."""
    hyperband._state["bracket"] = None


def bracket_of(hyperband: Any, trial: Any) -> Any:
    """The bracket of a trial."""
    return hyperband._trial_info[trial][0]


def is_complete(bracket: Any) -> bool:
    """Whether a bracket has had all its members, ended ones among them."""
    return len(bracket._all_trials) >= bracket._n0
