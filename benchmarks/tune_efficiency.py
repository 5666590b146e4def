"""What a search costs: ASHA with Optuna against random search without early stopping, and Tune's own overhead.

python benchmarks/tune_efficiency.py [--root DIR] [--searches 3] [--trials 16]

Both searches draw from tune/space.yaml, blind: neither begins with the hand-set configuration. Small crops and few
faces keep a trial short. Core-seconds are processor time of the trials, one core each, so that other work on the machine
does not change them; what Tune itself costs is the second part.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from fkp.errors import FkpError, run_command

REPO = Path(__file__).resolve().parents[1]
VAL_NME = "val_nme_interocular_pct"

#: How many times the trials of the random search the early-stopping one may begin before it must have found as good a one.
MORE_TRIALS = 3


def main() -> None:
    """Run the searches, print one table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=str(REPO / "data/ytfaces"), help="the YouTube-Faces set (%(default)s)")
    parser.add_argument("--searches", type=int, default=3, help="pairs of searches, each with a seed of its own (%(default)s)")
    parser.add_argument("--trials", type=int, default=16, help="trials of a random search (%(default)s)")
    parser.add_argument("--epochs", type=int, default=9, help="epochs of a whole trial (%(default)s)")
    parser.add_argument("--faces", type=int, default=500, help="faces of each part in the paired searches (%(default)s)")
    parser.add_argument("--size", type=int, default=64, help="side of their crops in pixels (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/tune_efficiency"), help="folder of the searches and the table (%(default)s)")
    parser.add_argument("--only", choices=("search", "overhead"), help="one of the two parts")
    args = parser.parse_args()
    if not (Path(args.root) / "training_frames_keypoints.csv").is_file():
        raise FkpError(f"no YouTube-Faces set in {args.root}: fkp data fetch, or name its folder with --root")
    args.out = args.out.absolute()
    args.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, object] = {}
    if args.only != "overhead":
        found["searches"] = compare_searches(args)
    if args.only != "search":
        found["overhead"] = measure_overhead(args)
    (args.out / "tune_efficiency.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def compare_searches(args: argparse.Namespace) -> list[dict[str, float | None]]:
    """Random search to its end; then ASHA with Optuna until it is as good."""
    common = ["--blind", "--epochs", str(args.epochs), "--input.size_px", str(args.size)]
    common += ["--data.limit", str(args.faces)]
    rows = []
    for seed in range(args.searches):
        plain = ["--algo", "random", "--scheduler", "none", "--trials", str(args.trials)]
        random = search(args, f"random-{seed}", [*common, *plain, "--seed", str(seed)])
        asha = search(args, f"asha-{seed}", [*common, "--trials", str(MORE_TRIALS * args.trials), "--seed", str(seed)])
        target = min(nme for _, nme in random.results)
        reached = next((at for at, nme in asha.results if nme <= target), None)
        rows.append(
            {
                "seed": seed,
                "random_best_nme": target,
                "random_core_s": random.core_seconds,
                "asha_core_s_to_it": reached,
                "asha_core_s_in_all": asha.core_seconds,
                "asha_best_nme": min(nme for _, nme in asha.results),
            }
        )
    print(f"\n{args.trials} random trials of {args.epochs} epochs each, against ASHA + Optuna of up to {MORE_TRIALS * args.trials} trials")
    print("seed | random: best NME % | core-s | ASHA + Optuna: core-s until as good | part | its best NME % | core-s in all")
    for row in rows:
        part = "-" if row["asha_core_s_to_it"] is None else f"{row['asha_core_s_to_it'] / row['random_core_s']:.2f}"
        until = "never" if row["asha_core_s_to_it"] is None else f"{row['asha_core_s_to_it']:.0f}"
        print(
            f"{row['seed']:4} | {row['random_best_nme']:.2f} | {row['random_core_s']:.0f} | {until} | {part} "
            f"| {row['asha_best_nme']:.2f} | {row['asha_core_s_in_all']:.0f}"
        )
    parts = [float("inf") if row["asha_core_s_to_it"] is None else row["asha_core_s_to_it"] / row["random_core_s"] for row in rows]
    print(f"median part of random search's core-seconds: {statistics.median(parts):.2f} (asked: at most 0.33; limit: 0)")
    return rows


def measure_overhead(args: argparse.Namespace) -> dict[str, float]:
    """Sixteen one-epoch trials: the whole command against the trials' own time, spread over the trials at once."""
    (args.out / "rate.yaml").write_text("optim.lr: {log: [0.005, 0.02]}\n", encoding="utf-8")
    flags = ["--space", str(args.out / "rate.yaml"), "--algo", "random", "--scheduler", "none", "--trials", "16", "--epochs", "1"]
    found = search(args, "overhead", flags)
    own = found.trial_seconds / found.concurrent
    print("\n16 one-epoch trials | seconds | ratio (asked: at most 1.3; limit: 1)")
    print(f"the trials' own time / {found.concurrent} at once | {own:.0f} | 1.00")
    print(f"from the first trial's start to the last one's end | {found.trials_s:.0f} | {found.trials_s / own:.2f}")
    print(f"the whole command, cluster and charts included | {found.wall_s:.0f} | {found.wall_s / own:.2f}")
    return {"own_s": own, "trials_s": found.trials_s, "wall_s": found.wall_s}


class Found:
    """What a search left: its outbox has every epoch with its time."""

    def __init__(self, folder: Path, wall_s: float) -> None:
        self.wall_s = wall_s
        lines = [json.loads(line) for line in (folder / "outbox.jsonl").read_text(encoding="utf-8").splitlines()]
        trials = [line for line in lines if line.get("key", "search") != "search"]
        began = min(line["time_ms"] for line in trials if line["op"] == "begin")
        ended = max(line["time_ms"] for line in trials if line["op"] == "end")
        self.concurrent = os.cpu_count() or 1
        self.trials_s = (ended - began) / 1000
        #: After each epoch of any trial: core-seconds of the whole search so far, and the epoch's NME.
        self.results: list[tuple[float, float]] = []
        spent: dict[str, float] = {}
        own: dict[str, float] = {}
        for line in trials:
            if line["op"] == "metrics" and VAL_NME in line["values"]:
                spent[line["key"]], own[line["key"]] = line["values"]["cpu_seconds"], line["values"]["time_total_s"]
                self.results.append((sum(spent.values()), line["values"][VAL_NME]))
        self.core_seconds, self.trial_seconds = sum(spent.values()), sum(own.values())


def search(args: argparse.Namespace, name: str, flags: list[str]) -> Found:
    """Run `tune/search.py` as a user would, unless an earlier run of this script has already done so."""
    folder = args.out / "runs" / name
    timing = args.out / f"{name}.seconds"
    if not timing.is_file():
        command = [sys.executable, str(REPO / "tune/search.py"), "--config", str(REPO / "configs/ytfaces.yaml"), *flags]
        command += ["--name", name, "--data.root", args.root, "--data.cache_dir", str(args.out / "crops")]
        command += ["--track.storage", str(folder.parent), "--scale.use_gpu", "no", *(["--resume"] if folder.exists() else [])]
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{args.out / 'mlflow.db'}"}
        began = time.monotonic()
        with (args.out / f"{name}.log").open("w") as log:
            done = subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise FkpError(f"search {name} failed: see {args.out / f'{name}.log'}")
        timing.write_text(str(time.monotonic() - began))
    return Found(folder, float(timing.read_text()))


if __name__ == "__main__":
    run_command(main)
