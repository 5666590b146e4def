"""Many images into one Parquet table, part by part: what was broken off continues with the same command.

Finished parts lie in `OUT.parts` beside the table until it appears, whole and in the order of the images.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from fkp.bundle import Bundle
from fkp.common.files import atomic_replace, exclusive, write_json
from fkp.errors import FkpError, stopping
from fkp.predict.belief import belief_of, told_left_out
from fkp.predict.predictor import Predictor
from fkp.predict.rows import SCHEMA, Chunk, rows_of
from fkp.vision.detect import detector_name

_JOB = "job.json"
_METADATA = b"fkp.job"
#: Columns that are told of when a table is done.
_TOLD = ["face", "left_out", "error"]
#: Rows of a row group of the table: about 16 MB.
_GROUP_ROWS = 16_384


def annotate(
    bundle: Bundle,
    paths: Sequence[str],
    out: Path,
    ray: bool = False,
    actors: int | None = None,
    detector: str | None = None,
    min_quality: float | None = None,
) -> int:
    """Write a table with the faces of many images; see `fkp.predict.rows.SCHEMA`.

    A job is the model, the detector, the least quality and the images with their sizes and times. Broken off, it goes on where
    it was when the same job is asked for again, and another job for the same table is refused; so is a table that exists,
    unless this very job made it.

    Args:
        bundle: The model.
        paths: Images, in the order of the rows.
        out: The table, `NAME.parquet`.
        ray: Whether Ray Data does it, on the cluster; otherwise this process does. The rows are the same.
        actors: Of Ray: how many at most work; without it one a core of the cluster.
        detector: What finds the faces, see `vision.detect.open_detector`.
        min_quality: Of the faces, see `Predictor`.

    Returns:
        The exit status: 1 when any image could not be read.

    Raises:
        FkpError: The table cannot be written, exists, or is begun with another job; or see `on_ray.tables`.
    """
    least = belief_of(bundle).min_quality if min_quality is None else min_quality
    detector = detector_name(detector, bundle.face_boxes)
    job = _job_of(bundle, paths, detector, least)
    if out.exists():
        return _tell(out, _finished(out, job), "was finished before", least)
    folder = out.with_name(f"{out.name}.parts")
    size = part_size(len(paths))
    try:
        with exclusive(folder, str(out), "written", "choose another place"):
            _begin(folder, out, job)
            todo = [part for part in chunks_of(paths, size) if not _file_of(folder, part.first).exists()]
            tables = _on_ray(bundle, todo, actors, detector, least) if ray and todo else here(bundle, todo, detector, least)
            _keep(tables, folder, len(paths), sum(len(part.paths) for part in todo), out.name)
            _join(folder, [part.first for part in chunks_of(paths, size)], out, job)
            shutil.rmtree(folder)
    except OSError as error:
        raise FkpError(f"cannot write {out}: {error.strerror or error}: mend that, and the same command resumes") from error
    return _tell(out, pq.read_table(out, columns=_TOLD), "is written", least)


def part_size(images: int) -> int:
    """Images a part: at least 16, so that parts are few, and at most 256, so that little is lost with one."""
    return min(max(images // 256, 16), 256)


def _job_of(bundle: Bundle, paths: Sequence[str], detector: str, min_quality: float) -> dict[str, Any]:
    """What must be the same for a table to be gone on with."""
    files = hashlib.sha256()
    for path in paths:
        try:
            state = Path(path).stat()
            files.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n".encode(errors="surrogateescape"))
        except OSError as error:  # An image that is not there becomes a row that says so.
            files.update(f"{path}\0{error.errno}\n".encode(errors="surrogateescape"))
    images = {"pictures": len(paths), "files": files.hexdigest()}
    return {"model": bundle.digest, "detector": detector, "min_quality": min_quality, **images, "columns": len(SCHEMA)}


def _finished(out: Path, job: dict[str, Any]) -> pa.Table:
    """The columns `_TOLD` of a table that this job has made.

    Raises:
        FkpError: Something else made it.
    """
    try:
        made_by = json.loads((pq.read_schema(out).metadata or {}).get(_METADATA, b"{}"))
        if made_by == job:
            return pq.read_table(out, columns=_TOLD)
    except (OSError, pa.ArrowInvalid) as error:
        raise FkpError(f"{out} exists and is no table: choose another name for --out") from error
    raise FkpError(f"{out} exists, of {_difference(made_by, job)}: choose another name for --out or remove it")


def _begin(folder: Path, out: Path, job: dict[str, Any]) -> None:
    """Note the job in its folder, or make sure that it is the one noted there."""
    note = folder / _JOB
    if note.exists():
        began = json.loads(note.read_text(encoding="utf-8"))
        if began != job:
            raise FkpError(f"{out} was begun with {_difference(began, job)}: choose another name for --out, or remove {folder}")
    elif any(entry.name != ".lock" for entry in folder.iterdir()):
        raise FkpError(f"{folder} holds something else: choose another name for --out")
    else:
        write_json(note, job)


def _difference(then: dict[str, Any], now: dict[str, Any]) -> str:
    if then.get("model") != now["model"]:
        return f"another model ({str(then.get('model'))[:12]}, this is {now['model'][:12]})"
    if then["detector"] != now["detector"]:
        return f"another detector ({then['detector']}, this is {now['detector']})"
    if then.get("min_quality") != now["min_quality"]:
        return f"another least quality ({then.get('min_quality', 'none')}, this is {now['min_quality']})"
    if then["pictures"] != now["pictures"]:
        return f"other images ({then['pictures']}, these are {now['pictures']})"
    if then.get("columns") != now["columns"]:
        return "the columns of another version of fkp"
    return "other images (as many, but names, sizes or times differ)"


def chunks_of(paths: Sequence[str], size: int) -> Iterator[Chunk]:
    """Cut a list of images into parts of a size."""
    for first in range(0, len(paths), size):
        yield Chunk(first, paths[first : first + size])


def _file_of(folder: Path, first: int) -> Path:
    return folder / f"part-{first:09d}.parquet"


def here(bundle: Bundle, parts: Iterable[Chunk], detector: str | None = None, min_quality: float | None = None) -> Iterator[pa.Table]:
    """Work on parts in this process, on one core, and yield their rows one by one."""
    predictor = Predictor(bundle, detector=detector, min_quality=min_quality)
    _ = predictor.detector  # One that is missing is one error, not one an image.
    for part in parts:
        yield rows_of(predictor, str(Path.cwd()), part.paths, part.first)


def _on_ray(bundle: Bundle, parts: Sequence[Chunk], actors: int | None, detector: str, min_quality: float) -> Iterator[pa.Table]:
    from fkp.predict import on_ray

    return on_ray.tables(bundle, parts, actors, detector, min_quality)


def _keep(tables: Iterator[pa.Table], folder: Path, total: int, left: int, name: str) -> None:
    """Store each part when it is done, in one step, and show how far all are."""
    # Without a terminal (a log file) a line every half minute is enough.
    pause = 0.5 if sys.stderr.isatty() else 30.0
    errors = 0
    with (
        tqdm(total=total, initial=total - left, desc=name, unit="image", mininterval=pause, dynamic_ncols=True) as bar,
        stopping.hint(lambda: f"{bar.n} of {total} images are kept: the same command resumes"),
    ):
        for table in tables:
            first = table["picture"][0].as_py()
            with atomic_replace(_file_of(folder, first)) as draft:
                pq.write_table(table, draft)
            errors += len(table) - table["error"].null_count
            bar.set_postfix_str(f"{errors} broken", refresh=False)
            bar.update(pc.count_distinct(table["picture"]).as_py())


def _join(folder: Path, firsts: Sequence[int], out: Path, job: dict[str, Any]) -> None:
    """Write all parts as one table, which appears whole."""
    schema = SCHEMA.with_metadata({_METADATA: json.dumps(job)})
    with atomic_replace(out) as draft, pq.ParquetWriter(draft, schema, compression="zstd") as writer:
        waiting: list[pa.Table] = []
        for first in firsts:
            waiting.append(pq.read_table(_file_of(folder, first), schema=SCHEMA))
            if sum(map(len, waiting)) >= _GROUP_ROWS or first == firsts[-1]:
                writer.write_table(pa.concat_tables(waiting).cast(schema))
                waiting = []


def _tell(out: Path, table: pa.Table, state: str, min_quality: float) -> int:
    """Print what a table holds; the status says whether any image was broken."""
    broken = len(table) - table["error"].null_count
    faces = len(table) - table["face"].null_count
    with_face = pc.sum(pc.equal(table["face"], 0)).as_py() or 0
    without = len(table) - faces - broken
    # It stands in each row of an image: the first one's counts.
    count = pc.sum(table.filter(pc.fill_null(pc.equal(table["face"], 0), True))["left_out"]).as_py() or 0
    left_out = told_left_out(count, min_quality)
    print(f"{out} {state}: {faces} faces in {with_face} images, {without} without a face, {broken} that could not be read{left_out}")
    if broken:
        print(f"error: {broken} images could not be read: column error of {out} says why", file=sys.stderr)
    return 1 if broken else 0
