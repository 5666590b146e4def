"""Becomes HAProxy: Ray starts this in its place, with HAProxy's own arguments, through RAY_SERVE_HAPROXY_BINARY_PATH.

Ray's configuration opens two ports on every address of the machine and nothing in Ray can move them, answers failures in
plain text, refuses nothing when there is too much, and lets HAProxy live on when Ray is killed. This corrects the
configuration, binds the process to its parent, writes its number down, and then executes HAProxy under the same process
number. Standard library only: it runs at every change of the replicas.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_HEAD = re.compile(r"^(?=(?:global|defaults|frontend|backend|listen)\b)", re.MULTILINE)
#: The sections with the open ports. The admin socket, which only the owner can open, has the same numbers.
_OPEN = ("frontend prometheus\n", "listen stats\n")
_FRONT = "frontend http_frontend\n"
_MARK = "    # fkp\n"

#: HAProxy's own errors, in the envelope of fkp.serve.http.schemas.Error.
_OVERLOADED = ("overloaded", "more requests are in progress than the replicas take: try again in a moment")
_TOO_LARGE = ("body_too_large", "the body is longer than {} bytes: send a smaller image")
_CLOSED = ("not_found", "/-/routes: Not Found; /docs lists what there is")
_ERRORS = {
    408: ("timeout", "the request did not arrive in time: send a smaller image or try again"),
    502: ("internal_error", "a replica ended in the middle of this request: try again"),
    503: ("not_ready", "no replica answers yet: try again in a few seconds"),
    504: ("timeout", "no replica answered in time: try again"),
}


class UnknownConfiguration(Exception):
    """Ray wrote something that this file was not made for."""


class Limits(NamedTuple):
    """The numbers of fkp.serve.limits that HAProxy holds. The POST request beyond `places` is refused here, before it costs a
    replica anything (a median of 10 ms against 59 ms from the replica, both at 200 requests/s on two busy cores).

    Attributes:
        places: How many POST requests may be in progress for each replica that is up.
        most: The same for a moment.
        crowded_per_s: How many requests may find all places taken within a second, until no more of them are let in.
        retry_after_s: What a refused client is told.
        request_s: From the first byte of a request until HAProxy has its headers and what it holds of the body: Ray bounds
            only the pause between two bytes, so that one header could be sent for ever.
        body_bytes: Longest body. Where a client waits to be told whether it may send a longer one, it is told so.
        origins: Of the pages that may read HAProxy's own answers, too; `*`: all.
        exposed: The headers of them.
    """

    places: int
    most: int
    crowded_per_s: int
    retry_after_s: int
    request_s: int
    body_bytes: int
    origins: Sequence[str]
    exposed: str


def correct(config: str, limits: Limits) -> str:
    """Close what Ray's configuration leaves open; a corrected one stays as it is.

    Args:
        config: As Ray wrote it.
        limits: Of what is in progress.

    Raises:
        UnknownConfiguration: A port other than that of the requests would be open.
    """
    sections = [section for section in _HEAD.split(config) if section and not section.startswith(_OPEN)]
    corrected = "".join(_corrected(section, limits) for section in sections)
    listening = [section.splitlines()[0] for section in sections if re.search(r"^\s*bind\s", section, re.MULTILINE)]
    if listening != [_FRONT.strip()]:
        raise UnknownConfiguration(f"HAProxy would listen in {', '.join(listening) or 'no section'} and not only in {_FRONT.strip()}")
    return corrected


def _corrected(section: str, limits: Limits) -> str:
    if _MARK in section:
        return section
    if section.startswith("global\n"):  # Whoever can write to this socket commands HAProxy.
        # And a datagram to a log for each request is one that hardly anybody reads: /metrics counts.
        kept = re.sub(r"^\s*log .*\n", "", section, flags=re.MULTILINE)
        return kept.replace("global\n", "global\n" + _MARK, 1).replace(" mode 666 level admin ", " mode 600 level admin ")
    if section.startswith("defaults\n"):
        kept = re.sub(r"^\s*errorfile .*\n", "", section, flags=re.MULTILINE)
        errors = "".join(f"    http-error status {status} {_answer(reason, limits.retry_after_s)}\n" for status, reason in _ERRORS.items())
        return f"{kept}{_MARK}    timeout http-request {limits.request_s}s\n{errors}"
    if section.startswith(_FRONT):
        rules = (
            "    http-request set-header x-request-id %[uuid()] unless { req.hdr(x-request-id) -m found }\n"
            "    http-request set-var(txn.request_id) req.hdr(x-request-id)\n"
            # Ray's configuration answers its list of the applications here, without a token.
            f"    http-request deny deny_status 404 {_answer(_CLOSED)} if {{ path -i -m beg /-/routes }}\n"
            f"    http-request deny deny_status 413 {_answer((_TOO_LARGE[0], _TOO_LARGE[1].format(limits.body_bytes)))} "
            # HAProxy compares in 32 bits.
            f"if {{ req.hdr_val(content-length) gt {limits.body_bytes} }} or {{ req.hdr(content-length) -m reg ^0*[1-9][0-9]{{9}} }}\n"
        )
        return section.replace(_FRONT, _FRONT + _MARK + _sharing(limits) + rules, 1)
    if section.startswith("backend ") and "\n    server " in section:
        head, rest = section.split("\n", 1)
        deny = f"http-request deny deny_status 429 {_answer(_OVERLOADED, limits.retry_after_s)} if METH_POST {{ nbsrv gt 0 }}"
        rules = (
            # A request is sent again only if HAProxy has all of it before it sends the first byte. Not in the frontend: its rules,
            # which refuse a long one, would come after "100 Continue".
            "    option http-buffer-request\n"
            "    stick-table type integer size 1 expire 1m store gpc0_rate(1s)\n"
            f"    http-request set-var(txn.places) nbsrv,mul({limits.places})\n"
            f"    http-request set-var(txn.most) nbsrv,mul({limits.most})\n"
            "    acl crowded be_conn,sub(txn.places) gt 0\n"
            "    http-request track-sc0 int(0) if METH_POST crowded\n"
            "    http-request sc-inc-gpc0(0) if METH_POST crowded\n"
            f"    {deny} crowded {{ sc0_gpc0_rate gt {limits.crowded_per_s} }}\n"
            f"    {deny} {{ be_conn,sub(txn.most) gt 0 }}\n"
        )
        return f"{head}\n{_MARK}{rules}{rest}"
    return section


def _sharing(limits: Limits) -> str:
    """Lets pages read what does not come from a replica, which decides for its own answers."""
    if not limits.origins:
        return ""
    known = "found" if "*" in limits.origins else "str " + " ".join(limits.origins)
    condition = f"if {{ var(txn.origin) -m {known} }} !{{ res.hdr(content-security-policy) -m found }}"
    headers = {
        "Access-Control-Allow-Origin": "%[var(txn.origin)]",
        "Access-Control-Expose-Headers": f'"{limits.exposed}"',
        "Vary": "Origin",
    }
    lines = (f"    http-after-response set-header {name} {value} {condition}\n" for name, value in headers.items())
    return "    http-request set-var(txn.origin) req.hdr(origin)\n" + "".join(lines)


def _answer(reason: tuple[str, str], retry_after_s: int | None = None) -> str:
    body = json.dumps({"code": reason[0], "message": reason[1], "request_id": "ID"}).replace('"ID"', '"%[var(txn.request_id),json]"')
    quoted = body.replace('"', '\\"')
    again = () if retry_after_s is None else (f"Retry-After {retry_after_s}",)
    headers = (*again, "Cache-Control no-store", "X-Content-Type-Options nosniff", "X-Request-ID %[var(txn.request_id)]")
    return " hdr ".join((f'content-type application/json lf-string "{quoted}"', *headers))


def main(argv: list[str]) -> None:
    """Correct the file after -f, then become HAProxy.

    Args:
        argv: Folder for the process number, the `Limits` as JSON, HAProxy's binary, and its arguments.
    """
    pids, numbers, binary, *arguments = argv
    limits = Limits(*json.loads(numbers))
    path = Path(arguments[arguments.index("-f") + 1])
    path.write_text(correct(path.read_text(encoding="utf-8"), limits), encoding="utf-8")
    # The kernel ends this process when the one that started it, Ray's proxy actor, is gone.
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    (Path(pids) / str(os.getpid())).write_text(str(path), encoding="utf-8")
    os.execv(binary, [binary, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
