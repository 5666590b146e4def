"""fkp cluster CLUSTER.yaml: what `ray up` would wait for without a word, as sentences, within a minute.

`ray up` tries a host that refuses its key for a quarter of an hour, and names a missing program only when it has begun to
change the host. Here nothing is changed anywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fkp.common.ray_private import check_cluster_file
from fkp.config import read_yaml
from fkp.errors import FkpError, run_command

_CONNECT_S = 10
_LONGEST_S = 30
#: What the hosts need before anything is installed on them, see cluster/.
_PROGRAMS = ("bash", "rsync", "curl", "python3.11")
#: Bytes of a token below which it could be guessed; Ray's own are 64 hexadecimal digits.
_TOKEN_BYTES = 32


def main(argv: list[str] | None = None) -> None:
    """Check one file and its hosts."""
    parser = argparse.ArgumentParser(prog="fkp cluster", description="Check a cluster's file and its hosts before `ray up`.")
    parser.add_argument("file", type=Path, help="a cluster's YAML file")
    found = check(parser.parse_args(sys.argv[1:] if argv is None else argv).file)
    print(f"{len(found)} hosts can be set up: {', '.join(found)}" if found else "the file is valid; its hosts do not exist yet")


def check(path: Path) -> list[str]:
    """Look at a cluster's file, at what it copies, and at the hosts that it names.

    Returns:
        The hosts' addresses; none for a cloud, which has yet to make them.

    Raises:
        FkpError: Names everything that is wrong with the file, else everything that is wrong with the hosts.
    """
    config = _read(path)
    wrong = [f"file_mounts: {source} is missing" for source in config["file_mounts"].values() if not Path(source).expanduser().exists()]
    wrong += _token_faults(config["file_mounts"].get("~/.ray/auth_token"))
    provider, auth = config["provider"], config["auth"]
    hosts: list[str] = [provider["head_ip"], *provider["worker_ips"]] if provider["type"] == "local" else []
    key = auth.get("ssh_private_key")
    if hosts and key and not Path(key).expanduser().is_file():
        wrong.append(f"auth: the key {key} is missing")
    if wrong:
        raise FkpError(f"{path}: {'; '.join(wrong)}")
    with ThreadPoolExecutor(32) as pool:
        faults = list(pool.map(lambda host: _host_fault(host, auth["ssh_user"], key), hosts))
    wrong = [f"{host}: {fault}" for host, fault in zip(hosts, faults, strict=True) if fault]
    if wrong:
        raise FkpError("; ".join(wrong))
    return hosts


def _read(path: Path) -> dict[str, Any]:
    """A cluster's file, by the rules of the installed Ray."""
    import ray  # noqa: F401  Where it is missing, that is the sentence.

    config = read_yaml(path)
    printed = io.StringIO()  # Advice, and the reason where Ray ends the process.
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            check_cluster_file(config)
    except KeyError as error:
        raise FkpError(f"{path} is refused by Ray: {error} is missing") from error
    except (Exception, SystemExit) as error:  # Ray tells most of its rules by Exception itself.
        told = getattr(error, "message", None) or f"{printed.getvalue()}\n{'' if isinstance(error, SystemExit) else error}"
        raise FkpError(f"{path} is refused by Ray: {told.strip().splitlines()[-1].strip()}") from error
    return {"file_mounts": {}, **config}


def _token_faults(source: str | None) -> list[str]:
    if source is None:
        return ["file_mounts: ~/.ray/auth_token is missing, and without it anyone who reaches a host runs code on it"]
    path = Path(source).expanduser()
    if path.is_file() and len(path.read_bytes().strip()) < _TOKEN_BYTES:
        return [f"the token in {source} is shorter than {_TOKEN_BYTES} bytes"]
    return []


def _host_fault(host: str, user: str, key: str | None) -> str | None:
    """What is wrong with a host, in a few words; None for nothing."""
    options: Mapping[str, Any] = {
        "BatchMode": "yes",
        "ConnectTimeout": _CONNECT_S,
        "StrictHostKeyChecking": "no",  # As `ray up` itself connects.
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
    }
    command = ["ssh", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    if key is not None:
        command += ["-i", str(Path(key).expanduser()), "-o", "IdentitiesOnly=yes"]
    asked = f"for name in {' '.join(_PROGRAMS)}; do command -v $name >/dev/null || echo $name; done"
    try:
        done = subprocess.run([*command, f"{user}@{host}", asked], capture_output=True, text=True, timeout=_LONGEST_S, check=False)
    except FileNotFoundError:
        return "this machine has no ssh: install an OpenSSH client"
    except subprocess.TimeoutExpired:
        return f"ssh gave no answer in {_LONGEST_S} s"
    if done.returncode:
        return " ".join(done.stderr.split()) or f"ssh ended with {done.returncode}"
    return f"has no {', '.join(done.stdout.split())}" if done.stdout.strip() else None


if __name__ == "__main__":
    run_command(main)
