"""What the endpoint does under overload, while its model changes, while replicas leave, and when one is killed.

python benchmarks/serve_faults.py [--profile fast] [--seconds 60] [--times 20] [--only overload swaps scale kill]

It starts a cluster of its own and sends the golden face to it from a process of its own, on the same cores: at 20
requests/s with `box=`, for the overload with detection at four times what the endpoint can do. Everything stays on
127.0.0.1. A request that is not answered with 200 is failed; only under overload is 429 an answer, too. Prints each figure
beside the asked one.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from serve_client import Client

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("overload", "swaps", "scale", "kill")
RATE = 20.0
REPLICAS = 2
#: More are never open at once, and no load lasts longer.
MOST_OPEN, MOST_S = 512, 600.0
PATIENCE_S = 60.0


class Answer(NamedTuple):
    """When a request was due, in seconds from the start; its status, 0 for none; seconds until it was answered; the model."""

    due: float
    status: int
    seconds: float
    digest: str


def offer(port: int, rate: float | None, seconds: float, stop: str = "", box: str = "", clients: int = 8) -> list[Answer]:
    """Send images at a steady rate, whatever the answers; with none from some connections, as fast as they are answered.

    Args:
        port: Of 127.0.0.1.
        rate: Requests a second.
        seconds: At most so long.
        stop: A file that ends it earlier.
        box: Of the face; with none it is detected.
        clients: How many connections.
    """
    photo = (ROOT / "fkp/serve/golden/face.jpg").read_bytes()
    url = f"http://127.0.0.1:{port}/v1/keypoints" + (f"?box={box}" if box else "")
    answers: list[Answer] = []
    kept: list[Client] = []

    async def send(due: float, began: float) -> None:
        client = kept.pop() if kept else Client(url, photo)
        status, digest = 0, ""
        try:
            async with asyncio.timeout(30):
                status, body = await client.post()
            digest = json.loads(body)["model"]["digest"] if status == 200 else ""
            kept.append(client)
        except (OSError, TimeoutError) as error:
            print(f"no answer: {error!r}", file=sys.stderr)
            client.close()
        answers.append(Answer(due, status, time.perf_counter() - began - due, digest))

    async def run() -> None:
        open_at_once = asyncio.Semaphore(MOST_OPEN)

        async def send_one(due: float, began: float) -> None:
            async with open_at_once:
                await send(due, began)

        async with asyncio.TaskGroup() as group:
            began = time.perf_counter()
            if rate is None:
                for _ in range(clients):
                    group.create_task(again_and_again(began))
                return
            count = 0
            while count / rate < min(seconds, MOST_S) and not (stop and Path(stop).exists()):
                due = count / rate
                await asyncio.sleep(max(began + due - time.perf_counter(), 0))
                group.create_task(send_one(due, began))
                count += 1

    async def again_and_again(began: float) -> None:
        while (due := time.perf_counter() - began) < seconds:
            await send(due, began)

    asyncio.run(run())
    return sorted(answers)


class Bench:
    """A running endpoint and what is done to it."""

    def __init__(self, pool: ProcessPoolExecutor, config: dict[str, Any], folder: Path) -> None:
        self.pool, self.config, self.folder = pool, config, folder
        self.port = config["http_options"]["port"]
        self.models: tuple[Path, Path]
        self.deployment = config["applications"][0]["deployments"][0]

    def deploy(self, replicas: int = REPLICAS, **user_config: Any) -> None:
        """Change the endpoint as `serve deploy` does, and wait for it."""
        from fkp.serve import launch

        self.deployment["autoscaling_config"] |= {"min_replicas": replicas, "max_replicas": replicas}
        self.deployment["user_config"] |= user_config
        launch.deploy(copy.deepcopy(self.config))

    def send(self, rate: float | None, seconds: float) -> list[Answer]:
        """See `offer`. As many connections as the replicas have places: none is refused."""
        places = REPLICAS * self.deployment["user_config"]["max_in_progress"]
        return self.pool.submit(offer, self.port, rate, seconds, clients=places).result()

    def during(self, act: Callable[[], None]) -> list[Answer]:
        """What is answered at the common rate while something is done, and two seconds before and after."""
        stop = self.folder / "stop"
        stop.unlink(missing_ok=True)
        sent: Future[list[Answer]] = self.pool.submit(offer, self.port, RATE, MOST_S, str(stop), box_of_photo())
        time.sleep(2)
        try:
            act()
        finally:
            time.sleep(2)
            stop.touch()
        return sent.result()

    def card(self) -> dict[str, Any]:
        """What one of the replicas says about its model."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/model", timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def wait(self, until: Callable[[], bool]) -> None:
        """Until something has happened.

        Raises:
            TimeoutError: It does not.
        """
        end = time.monotonic() + PATIENCE_S
        while not until():
            if time.monotonic() > end:
                raise TimeoutError(f"it did not happen within {PATIENCE_S:g} s")
            time.sleep(0.05)

    # --- the parts --------------------------------------------------------------------------------------------------

    def overload(self, seconds: float, times: int) -> None:
        """Four times the capacity: what is refused, how long the others wait, and when it is over."""
        capacity = sum(answer.status == 200 for answer in self.send(None, 10)) / 10
        half = self.send(capacity / 2, seconds / 3)
        over = self.send(4 * capacity, seconds)
        after = self.send(capacity / 2, 20)
        statuses, refused = Counter(answer.status for answer in over), sum(answer.status != 200 for answer in half)
        line("capacity, a client for each place", f"{capacity:.0f} requests/s", "")
        line("half load: p50, p99", f"{percentile(half, 50):.0f}, {percentile(half, 99):.0f} ms", "")
        line("  not answered with 200", f"{refused} of {len(half)}", "0", refused == 0)
        line(f"overload of {4 * capacity:.0f} requests/s: statuses", dict(statuses), "only 200 and 429", statuses.keys() <= {200, 429})
        line("  answered with 200", f"{statuses[200] / seconds:.0f} requests/s", "")
        ratio = percentile(over, 99) / percentile(half, 99)
        line("  p99 of the 200s", f"{percentile(over, 99):.0f} ms = {ratio:.1f} x half load", "<= 3 x", ratio <= 3)
        # Normal: no later second has a refusal, or a median above the 99th percentile of before.
        bad = [a.due for a in after if a.status != 200]
        slow = [s for s in range(20) if percentile([a for a in after if s <= a.due < s + 1], 50) > percentile(half, 99)]
        normal = max([0.0, *bad, *(s + 1.0 for s in slow)])
        line("  back to normal after", f"{normal:.1f} s", "<= 10 s", normal <= 10)

    def swaps(self, seconds: float, times: int) -> None:
        """The model changes back and forth, and once to one that must be refused."""
        first, second = self.models
        digests = {digest_of(first), digest_of(second)}

        def act() -> None:
            for number in range(times):
                bundle = first if number % 2 else second
                digest = digest_of(bundle)
                self.deploy(bundle=str(bundle))
                self.wait(lambda digest=digest: self.card()["digest"] == digest)
            self.deploy(bundle=str(self.folder))
            self.wait(lambda: self.card()["refused"] is not None)
            self.deploy(bundle=str(first))

        answers = self.during(act)
        named = {answer.digest for answer in answers if answer.status == 200}
        changes = sum(a.digest != b.digest for a, b in itertools.pairwise(answers))
        failed(f"{times} swaps and a refused model", answers)
        line("  answers name the model that made them", f"{len(named)} models, {changes} changes", "both", named == digests)

    def scale(self, seconds: float, times: int) -> None:
        """A replica more and one less, again and again."""

        def act() -> None:
            for _ in range(times):
                for count in (REPLICAS - 1, REPLICAS):
                    self.deploy(count)
                    self.wait(lambda count=count: len(replicas()) == count)

        failed(f"{times} scale-downs", self.during(act))

    def kill(self, seconds: float, times: int) -> None:
        """`kill -9` of a replica in the middle."""
        took = [0.0]

        def act() -> None:
            before = replicas()
            began = time.monotonic()
            os.kill(before[0], signal.SIGKILL)
            self.wait(lambda: len(set(replicas()) - {before[0]}) == REPLICAS)
            took[0] = time.monotonic() - began
            time.sleep(max(seconds - 4 - took[0], 0))

        answers = self.during(act)
        statuses = Counter(answer.status for answer in answers)
        good = 100 * statuses[200] / len(answers)
        line(f"kill -9, {len(answers)} requests", f"{good:.2f} % answered {dict(statuses)}", ">= 99.5 %", good >= 99.5)
        line("  slowest", f"{percentile(answers, 100):.0f} ms", "")
        line("  replaced after", f"{took[0]:.1f} s", "< 30 s", took[0] < 30)


def replicas() -> list[int]:
    """Process numbers of the replicas that live, as soon as all of them answer."""
    import ray
    from ray import serve
    from ray.util.state import list_actors

    running = serve.status().applications["fkp"].deployments["Landmarks"].replica_states.get("RUNNING", 0)
    alive = [("state", "=", "ALIVE"), ("class_name", "=", "ServeReplica:fkp:Landmarks")]
    actors = list_actors(ray.get_runtime_context().gcs_address, filters=alive)
    return [actor.pid for actor in actors] if running == len(actors) else []


def box_of_photo() -> str:
    """The tight box of the golden face."""
    points = np.array(json.loads((ROOT / "fkp/serve/golden/points.json").read_text(encoding="utf-8")))
    return ",".join(f"{value:.2f}" for value in [*points.min(axis=0), *points.max(axis=0)])


def digest_of(bundle: Path) -> str:
    """Its digest."""
    from fkp.bundle import open_bundle

    return open_bundle(bundle).digest


def percentile(answers: list[Answer], part: float) -> float:
    """Milliseconds, of the requests answered with 200."""
    times = [1000 * answer.seconds for answer in answers if answer.status == 200]
    return float(np.percentile(times, part)) if times else float("nan")


def failed(name: str, answers: list[Answer]) -> None:
    """The row of a part where nothing may fail."""
    bad = Counter(answer.status for answer in answers if answer.status != 200)
    line(f"{name}, {len(answers)} requests", f"{sum(bad.values())} failed {dict(bad) or ''}", "0 failed", not bad)
    line("  p50, p99, slowest", ", ".join(f"{percentile(answers, part):.0f}" for part in (50, 99, 100)) + " ms", "")


def line(name: str, found: object, asked: str, holds: bool | None = None) -> None:
    """One row of the table."""
    print(f"{name:44}{found!s:38}{asked:18}{'' if holds is None else 'yes' if holds else 'NO'}", flush=True)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=("fast", "plain"), default="fast")
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload, and around the kill")
    parser.add_argument("--times", type=int, default=20, help="swaps and scale-downs")
    parser.add_argument("--max-in-progress", type=int, help="instead of what serve/config.yaml says")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from fkp.bundle import open_bundle, update_bundle
    from fkp.common.ports import free_port
    from fkp.serve import launch
    from fkp.serve.ingress import haproxy
    from fkp.serve.settings import deployment_of, read_settings

    threading.Thread(target=_end_after, args=(1800.0,), daemon=True).start()
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        folder, port = Path(name), free_port()
        champion = open_bundle(ROOT / "saved_models/champion")
        shutil.copytree(champion.path, folder / "other")
        update_bundle(folder / "other", {**champion.metrics, "copy": "other"}, champion.card)
        chosen = {"max_in_progress": arguments.max_in_progress}
        config = launch.settings(launch.CONFIG, "127.0.0.1", port, str(champion.path), (), REPLICAS, **chosen)
        with haproxy.exclusive(port) as claim:
            if arguments.profile == "fast":
                os.environ.update(haproxy.settings(claim, read_settings(deployment_of(config)["user_config"])))
            with launch.connect("local"):
                bench = Bench(pool, config, folder)
                bench.models = (Path(champion.path), folder / "other")
                bench.deploy()
                launch.wait_until_ready("127.0.0.1", port)
                bench.send(RATE, 3)
                print(f"profile {arguments.profile}, {REPLICAS} replicas, {os.cpu_count()} cores")
                line("", "measured", "asked")
                for part in arguments.only:
                    getattr(bench, part)(arguments.seconds, arguments.times)


def _end_after(seconds: float) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main()
