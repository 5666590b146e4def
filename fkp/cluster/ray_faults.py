"""Why a Ray cluster cannot be joined or started, each in one sentence and soon: Ray itself tries for minutes."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ray.exceptions import AuthenticationError

from fkp.common import ray_private
from fkp.common.ports import probe
from fkp.errors import FkpError, full_disk

_ANSWER_S = 5.0
_REMEDY = "set it to the HOST:PORT that `ray start` told (6379 by default), or unset it to start Ray on this machine"
_DASHBOARD = 8265
#: Below it Ray's first process dies and nobody says so for half a minute; Ray itself wishes for 4096.
_FILES = 256
_SHARED = Path("/dev/shm")
#: Longest name of a socket, less what Ray puts behind its folder: `ray/session_<26 characters>_<pid>/sockets/plasma_store`.
_LONGEST_FOLDER = 107 - len("/ray/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store")


def check_address(address: str) -> bool:
    """Whether a cluster is to be joined (or one to be started, for an empty address and for "local"), and it answers.

    Raises:
        FkpError: The address has another form, nothing answers, or what does is no Ray cluster.
    """
    if address in ("", "local"):
        return False
    if address != "auto":
        _check_form(address)
        _check_answer(address, address)
    asked = ray_private.cluster_address(address)  # Ray puts this host's own address in the place of a loopback one.
    if asked is None:
        return False
    if asked != address:
        _check_answer(address, asked)
    return True


def _check_form(address: str) -> None:
    scheme, separator, rest = address.rpartition("://")
    host = rest.partition("/")[0].rpartition(":")[0] or rest.partition("/")[0]
    if scheme in ("http", "https"):
        raise FkpError(f"RAY_ADDRESS={address} is a dashboard, to which jobs are sent, and no cluster that can be joined: {_REMEDY}")
    if scheme == "ray":
        raise FkpError(
            f"RAY_ADDRESS={address} is a Ray Client, with which training and serving do not work: run this on a host of the cluster "
            f"with RAY_ADDRESS={host}:6379, or send it there by `ray job submit`"
        )
    found = re.fullmatch(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})", address)
    if separator or not found:
        raise FkpError(f"RAY_ADDRESS={address} is no address of a Ray cluster: {_REMEDY}")
    if not 1024 <= int(found[1]) <= 65535:
        raise FkpError(f"RAY_ADDRESS={address} has a port that Ray does not take, which are those from 1024 to 65535: {_REMEDY}")


def _check_answer(address: str, asked: str) -> None:
    host, _, port = asked.rpartition(":")
    at = f"the Ray cluster {address}" + (f", which Ray asks for at {asked}," if asked != address else "")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
    except socket.gaierror as error:
        raise FkpError(f"cannot reach {at}: no host is called {host}: {_REMEDY}") from error
    except ConnectionRefusedError as error:
        raise FkpError(f"cannot reach {at}: start it or unset RAY_ADDRESS") from error
    except OSError as error:
        raise FkpError(f"cannot reach {at}: {error.strerror or error}: start it or unset RAY_ADDRESS") from error
    found = ray_private.kind_of_server(asked, _ANSWER_S)
    if found == "other token":
        raise _other_token(address)
    if found != "cluster":
        dashboard = f" ({_DASHBOARD} is the port of Ray's dashboard)" if int(port) == _DASHBOARD else ""
        raise FkpError(f"what answers at RAY_ADDRESS={address} is no Ray cluster but {found}{dashboard}: {_REMEDY}")


def _other_token(address: str) -> FkpError:
    return FkpError(f"the Ray cluster {address} wants another token: copy its ~/.ray/auth_token, and set RAY_AUTH_MODE=token")


def check_machine() -> None:
    """Try what Ray needs to start here: a folder for its sessions, shared memory for its objects, open files, a port that was chosen.

    Raises:
        FkpError: A folder cannot be made or written, its name is too long for a socket, its disk is full, this process may open too few
            files, or the port is taken.
    """
    folder = Path(ray_private.temp_folder())
    remedy = "set RAY_TMPDIR to a short folder that you can write"
    if len(os.fsencode(folder.parent)) > _LONGEST_FOLDER:
        raise FkpError(f"Ray's folder {folder} has a name that is too long for its sockets: {remedy}")
    _check_written(folder, "Ray cannot write its folder", remedy)
    if _SHARED.is_dir():  # Where it is small Ray warns and takes the folder, and that is slower.
        _check_written(_SHARED, "Ray cannot write the shared memory", "mount it writable, in a container with --shm-size", size_bytes=0)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # Ray raises the soft limit to this one.
    if most != resource.RLIM_INFINITY and most < _FILES:
        raise FkpError(f"this process may open {most} files and Ray needs {_FILES}: raise the limit, `ulimit -n 8192`")
    port = os.environ.get("RAY_GCS_SERVER_PORT", "")
    if port.isdecimal():
        try:
            probe("0.0.0.0", int(port))
        except OSError as error:
            raise FkpError(
                f"RAY_GCS_SERVER_PORT={port} cannot be used: {error.strerror or error}: choose another one or unset it"
            ) from error


def _check_written(folder: Path, fault: str, remedy: str, size_bytes: int = 1 << 20) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * size_bytes)
            file.flush()
    except OSError as error:
        raise FkpError(f"{fault} {folder}: {error.strerror or error}: {remedy}") from error


@contextlib.contextmanager
def as_sentences(address: str | None) -> Iterator[None]:
    """Turn what goes wrong while the block joins a cluster, or starts one, into one sentence.

    Args:
        address: Of the cluster that is joined; None where one is started.

    Raises:
        FkpError: Says so.
    """
    try:
        yield
    except AuthenticationError as error:
        raise _other_token(address or "") from error
    except Exception as error:  # Ray tells some of its faults by Exception itself.
        if "Version mismatch" in str(error):
            # Ray tells both sides' versions in indented lines.
            versions = re.findall(r"(?:Ray|Python): (\S+)", str(error))
            cluster, here = (" and Python ".join(pair) for pair in (versions[:2], versions[2:4]))
            raise FkpError(
                f"the Ray cluster {address} has Ray {cluster}, this process Ray {here}: install the same here or there"
            ) from error
        reason = full_disk(error) or " ".join(str(error).split())[:300] or type(error).__name__
        if address is not None:
            raise FkpError(f"cannot join the Ray cluster {address}: {reason}") from error
        logs = Path(ray_private.temp_folder()) / "session_latest/logs"
        raise FkpError(f"cannot start Ray on this machine: {reason}: its logs are in {logs}") from error
