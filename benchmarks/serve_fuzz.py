"""What broken images and an endless stream do to the endpoint: no 5xx, no new replica, and how far memory grows.

python benchmarks/serve_fuzz.py [--mutants 10000] [--seed 0] [--stream-mib 1024]

Starts the endpoint in profile plain, one replica, on loopback, and prints each figure beside its limit; the status is 1 where
one is missed. The images are those of tests/serve/mutants.py: the same seed, the same bytes.
"""

from __future__ import annotations

import argparse
import collections
import socket
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import requests
from serve_load import PHOTO, ROOT, server

from fkp.vision.image import decode_image

sys.path.insert(0, str(ROOT / "tests/serve"))
from mutants import mutants

MIB = 2**20
#: Resident memory grows while threads, caches and the allocator's arenas fill: that is over after so many images.
WARM = 300
FUZZ_GROWTH_MIB, STREAM_GROWTH_MIB = 50, 16
#: Of one process, for one image. Nobody asks for it: there was a PNG of 96 x 96 pixels that took 4,096 MiB.
MOST_AT_ONCE_MIB = 512


def main() -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=10_000, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--stream-mib", type=int, default=1024, help="(default: %(default)s)")
    arguments = parser.parse_args()
    with server("plain") as url:
        base = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        rows = [*fuzz(base, arguments.mutants, arguments.seed), *stream(base, arguments.stream_mib)]
    for what, found, limit, good in rows:
        print(f"{what:58}{found:>14}   asked {limit:10}{'' if good else '   MISSED'}")
    return int(not all(good for *_, good in rows))


def processes() -> dict[str, psutil.Process]:
    """Serve's proxy and replica on this machine, by what they are."""
    found = {}
    for process in psutil.process_iter(["cmdline"]):
        title = " ".join(process.info["cmdline"] or ())
        for name, part in (("proxy", "ray::ProxyActor"), ("replica", "ray::ServeReplica:fkp")):
            if title.startswith(part):
                found[f"{name} {process.pid}"] = process
    return found


def fuzz(base: str, count: int, seed: int) -> list[tuple[str, str, str, bool]]:
    """Send broken images one after the other, to each route of images in turn."""
    session, statuses = requests.Session(), collections.Counter[int]()
    before: dict[str, psutil.Process] = {}
    memory: dict[str, int] = {}
    routes = ("/v1/keypoints", "/v1/keypoints?box=5,5,60,60", "/v1/annotate")
    began = time.monotonic()
    for number, (name, data) in enumerate(mutants(decode_image(PHOTO.read_bytes()), count, seed)):
        if number == min(WARM, count // 2):
            before = processes()
            memory = {who: process.memory_info().rss for who, process in before.items()}
        status = session.post(base + routes[number % len(routes)], data, timeout=60).status_code
        statuses[status] += 1
        if status >= 500:
            print(f"{status}: {name} (number {number} of seed {seed})")
    print(f"{count} broken images in {time.monotonic() - began:.0f} s: {dict(sorted(statuses.items()))}")
    after = processes()
    failed = sum(times for status, times in statuses.items() if status >= 500)
    rows = [
        ("answers of 5xx", str(failed), "0", failed == 0),
        ("the same processes", str(set(after) == set(before)), "True", set(after) == set(before)),
    ]
    for who in sorted(set(after) & set(before)):
        grown = (after[who].memory_info().rss - memory[who]) / MIB
        rows.append((f"growth of the {who}", f"{grown:.1f} MiB", f"< {FUZZ_GROWTH_MIB} MiB", grown < FUZZ_GROWTH_MIB))
        most = (highest_bytes(after[who]) - memory[who]) / MIB
        rows.append((f"most that the {who} took at once", f"{most:.1f} MiB", f"< {MOST_AT_ONCE_MIB} MiB", most < MOST_AT_ONCE_MIB))
    return rows


def highest_bytes(process: psutil.Process) -> int:
    """Resident memory of a process when it was highest."""
    (line,) = (line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def stream(base: str, size_mib: int) -> list[tuple[str, str, str, bool]]:
    """Send one body without a length and watch how far memory grows meanwhile."""
    watched = processes()
    first = {who: process.memory_info().rss for who, process in watched.items()}
    highest, stopped = dict(first), threading.Event()

    def watch() -> None:
        while not stopped.wait(0.005):
            for who, process in watched.items():
                highest[who] = max(highest[who], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    address = urlsplit(base)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(b"POST /v1/keypoints HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < size_mib * MIB:
                connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
                sent += 65536
        except OSError as error:
            print(f"a stream of {size_mib} MiB: hung up after {sent / MIB:.1f} MiB ({error.strerror})")
        status = connection.recv(12)[9:].decode()
    time.sleep(1)
    stopped.set()
    thread.join()
    rows = [("status of the stream", status, "413", status == "413")]
    for who in sorted(watched):
        grown = (highest[who] - first[who]) / MIB
        rows.append((f"growth of the {who} meanwhile", f"{grown:.1f} MiB", f"< {STREAM_GROWTH_MIB} MiB", grown < STREAM_GROWTH_MIB))
    return rows


if __name__ == "__main__":
    if not Path.cwd().samefile(ROOT):
        print(f"run it in {ROOT}: the processes of Serve import from there", file=sys.stderr)
    sys.exit(main())
