"""Write a table of synthetic images in this process and on Ray with 1 and 2 actors: images/s.

    python benchmarks/offline.py [--images 800] [--bundle DIR]

"steady" counts from the first finished part to the last and leaves out what starts once: interpreter, cluster, actors.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from fkp.bundle import Bundle, open_bundle
from fkp.data.synthetic import render
from fkp.errors import run_command
from fkp.predict import DEFAULT_BUNDLE, Predictor, on_ray, table
from fkp.predict.inputs import list_images
from fkp.vision.image import read_image


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    with tempfile.TemporaryDirectory() as folder:
        render.write_set(Path(folder) / "set", arguments.images, seed=11)
        paths = list_images([str(Path(folder) / "set")])
        parts = list(table.chunks_of(paths, table.part_size(len(paths))))
        print(f"{len(paths)} synthetic images in {len(parts)} parts\n")
        print(f"{'way':34s} {'images/s':>10s} {'steady':>8s} {'seconds':>8s}")
        _print("image by image, this process", len(paths), _alone(bundle, paths))
        _print("parts, this process", len(paths), table.here(bundle, parts))
        for actors in (1, 2):
            _print(f"parts, Ray Data, {actors} actor{'s' * (actors > 1)}", len(paths), on_ray.tables(bundle, parts, actors))


def _alone(bundle: Bundle, paths: Iterable[str]) -> Iterator[list[None]]:
    predictor = Predictor(bundle)
    for path in paths:
        predictor(read_image(path))
        yield [None]


def _print(way: str, count: int, tables: Iterator[pa.Table] | Iterator[list[None]]) -> None:
    began, first, done_first, done = time.perf_counter(), 0.0, 0, 0
    for rows in tables:
        done += len(set(rows["picture"].to_pylist())) if isinstance(rows, pa.Table) else len(rows)
        first, done_first = (first, done_first) if first else (time.perf_counter(), done)
        last = time.perf_counter()
    if done != count:
        raise AssertionError(f"{way}: {done} of {count} images came back")
    seconds = time.perf_counter() - began
    print(f"{way:34s} {count / seconds:10.1f} {(count - done_first) / max(last - first, 1e-9):8.1f} {seconds:8.1f}", flush=True)


if __name__ == "__main__":
    run_command(main)
