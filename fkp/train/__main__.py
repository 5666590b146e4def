"""fkp train [--config FILE.yaml] [--section.key VALUE ...]"""

from __future__ import annotations

import sys

from fkp.common import storage
from fkp.config import config_from_args
from fkp.errors import run_command


def main(argv: list[str] | None = None) -> None:
    """Train, evaluate, write the bundle and say where everything is."""
    config = config_from_args(sys.argv[1:] if argv is None else argv, "fkp train", "Train a face landmark model.")
    from fkp.train.pipeline import train

    outcome = train(config)
    if storage.is_uri(outcome.place):
        print(f"kept in    {outcome.place}")
    print(f"model      {outcome.bundle_path}")
    print(f"report     {outcome.report_path}")
    print(f"record     {outcome.mlflow_uri}, run {outcome.mlflow_run_id}")
    if outcome.mlflow_uri.startswith("sqlite:"):
        print(f"see it     mlflow ui --backend-store-uri {outcome.mlflow_uri}")
    flag = "--detector" if config.task == "detect" else "--bundle"
    print(f"use it     fkp predict PHOTO --out out {flag} {outcome.bundle_path}")
    if outcome.undelivered:
        print(f"warning: {outcome.undelivered}", file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
