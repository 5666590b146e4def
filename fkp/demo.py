"""fkp demo: from nothing to an image with points, in a few minutes, without a network or a GPU."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from fkp.common.ports import free_port
from fkp.config import config_from_args
from fkp.errors import FkpError, run_command, stopping
from fkp.shipped import shipped

SETTINGS = shipped("configs/demo.yaml")
OUT = Path("out/demo")


def main(argv: list[str] | None = None) -> None:
    """Train on synthetic faces, evaluate, annotate an image the training has not seen, ask the endpoint, and say where all is."""
    flags = sys.argv[1:] if argv is None else argv
    config = config_from_args(["--config", str(SETTINGS), *flags], "fkp demo", "Train and try a small model.")
    from fkp.evaluation.evaluate import format_table
    from fkp.train.pipeline import train

    assert config.track.run_name is not None
    # The demo's run is there to be made anew; every other run is kept.
    shutil.rmtree(Path(config.track.storage) / config.track.run_name, ignore_errors=True)
    print("Training on synthetic faces: a stand-in, so that this needs no download. Real faces take one more command.")
    with stopping.hint("the same command begins the demo again"):
        outcome = train(config)
    own = outcome.evaluations[0]
    print(f"\n{format_table(own)}\n")
    photo = own.catalog.path(int(own.rows[0]))
    image = _annotate(photo, outcome.bundle_path)
    print("\nStarting the endpoint with the shipped model, for one image.", flush=True)
    print(f"endpoint   {_ask_endpoint(photo)}")
    print("           try it: .venv/bin/fkp serve, then http://127.0.0.1:8000")
    print(f"image      {image}")
    print(f"report     {outcome.report_path}")
    print(f"model      {outcome.bundle_path}")
    print(f"runs       {outcome.mlflow_uri}, run {outcome.mlflow_run_id}")
    print(f"           see them: .venv/bin/mlflow ui --backend-store-uri {outcome.mlflow_uri}")
    print("next       .venv/bin/fkp data fetch && .venv/bin/fkp train --config configs/ytfaces.yaml")


def _annotate(photo: Path, bundle_path: Path) -> Path:
    """Find the face of an image and draw its points."""
    from fkp.predict.__main__ import main as predict

    predict([str(photo), "--out", str(OUT), "--bundle", str(bundle_path)])
    return OUT / f"{photo.stem}.annotated.png"


def _ask_endpoint(photo: Path) -> str:
    """Start the endpoint as a user would, post an image, end it, and say what it answered.

    Raises:
        FkpError: It does not start.
    """
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "fkp",
        "serve",
        "--bundle",
        str(shipped("saved_models/champion")),
        "--port",
        str(port),
        "--replicas",
        "1",
    ]
    # A file, for its last line says that it was ended, which is no news here.
    with tempfile.TemporaryFile("w+") as told:
        return _ask(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True), port, photo, told)


def _ask(process: subprocess.Popen[str], port: int, photo: Path, told: IO[str]) -> str:
    import requests

    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("http://"):  # Said once it answers.
                break
        else:
            told.seek(0)
            reason = told.read().strip().rpartition("\n")[2].removeprefix("error: ")
            raise FkpError(f"the endpoint did not start: {reason}")
        response = requests.post(f"http://127.0.0.1:{port}/v1/keypoints", photo.read_bytes(), timeout=30)
        response.raise_for_status()
        answer = response.json()
    finally:
        process.terminate()
        process.wait()
    points = sum(len(face["keypoints"]) for face in answer["faces"])
    return (
        f"{len(answer['faces'])} face, {points} points, by model {answer['model']['digest'][:12]}, {answer['milliseconds']['total']:.0f} ms"
    )


if __name__ == "__main__":
    run_command(main)
