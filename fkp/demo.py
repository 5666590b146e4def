"""python -m fkp.demo: from nothing to a picture with points, in a few minutes, without a network or a GPU."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from fkp import config as configs
from fkp.errors import run_command

SETTINGS = Path("configs/demo.yaml")
OUT = Path("out/demo")


def main(argv: list[str] | None = None) -> None:
    """Train on synthetic faces, evaluate, annotate one picture the training has not seen, and say where all is."""
    flags = sys.argv[1:] if argv is None else argv
    config = configs.from_args(["--config", str(SETTINGS), *flags], "python -m fkp.demo", "Train and try a small model.")
    from fkp.evaluate import format_table
    from fkp.train.driver import train

    assert config.track.run_name is not None
    # The demo's run is there to be made anew; every other run is kept.
    shutil.rmtree(Path(config.track.storage) / config.track.run_name, ignore_errors=True)
    print("Training on synthetic faces: a stand-in, so that this needs no download. Real faces take one more command.")
    outcome = train(config)
    own = outcome.evaluations[0]
    print(f"\n{format_table(own)}\n")
    picture = _annotate(own.catalog.path(int(own.rows[0])), outcome.bundle_path)
    print(f"picture    {picture}")
    print(f"report     {outcome.report_path}")
    print(f"model      {outcome.bundle_path}")
    print(f"runs       {outcome.mlflow_uri}, run {outcome.mlflow_run_id}")
    print(f"           see them: .venv/bin/mlflow ui --backend-store-uri {outcome.mlflow_uri}")
    print("next       .venv/bin/python -m fkp.data fetch && .venv/bin/python -m fkp.train --config configs/ytfaces.yaml")


def _annotate(photo: Path, bundle_path: Path) -> Path:
    """Find the face of a picture and draw its points."""
    from fkp.predict.__main__ import main as predict

    predict([str(photo), "--out", str(OUT), "--bundle", str(bundle_path)])
    return OUT / f"{photo.stem}.annotated.png"


if __name__ == "__main__":
    run_command(main)
