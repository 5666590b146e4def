"""A write-ahead log for MLflow: every operation goes into a file first, and a thread flushes the file into the store.

A store that is lost in the middle, or that takes nothing until an operator has mended it, stops nothing and loses nothing. What is
left at the end is delivered by `fkp track upload FILE`, or by the next process that opens the file.

`FILE` begins with a header; then it holds an operation a line, as JSON. `FILE.state` says how far they are delivered, and is
replaced in one step after each delivery. One process at a time holds both.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shlex
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from filelock import lock_descriptor

from fkp.common.files import write_json
from fkp.errors import FkpError
from fkp.track.delivery import Delivery, Refused
from fkp.track.store import (
    ANOTHER_EXPERIMENT,
    ATTEMPTS_VARIABLE,
    FEW_ATTEMPTS,
    check_writable,
    experiment_id,
    open_client,
    tracking_uri,
)
from fkp.track.trouble import Trouble, without_password

_LOG = logging.getLogger(__name__)

Status = Literal["FINISHED", "FAILED", "KILLED"]
_KIND = "fkp outbox 1"  # The log's name when the format was made.
_START = f'{{"kind": "{_KIND}"'.encode()
_LONGEST_WAIT_S = 5.0
#: So long the end waits for an operator, who may be at it just now; after that only the file remembers.
_OPERATOR_S = 10.0
#: Whoever waits longer for the end of a delivery is told what for.
_SILENT_S = 2.0
#: The log tries again by itself. MLflow's own seven attempts would hold a delivery, and the end of the process, for
#: four minutes. The timeout is for a server that hangs; storing a large artifact must fit into it. And MLflow would print
#: two lines into the progress of a search whenever a trial ends.
_ENVIRONMENT = {
    ATTEMPTS_VARIABLE: "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

_SLOW = Trouble("slow", "MLflow was not done with them in time", "look after it", "passes")


@dataclass(frozen=True)
class _Header:
    """The file's first line: an id that marks its runs in the store, their experiment, and the store without a password."""

    id: str
    experiment: str
    uri: str


@dataclass
class _State:
    """How far a file was delivered.

    Attributes:
        offset: Bytes of the file that were delivered; 0: nothing, not even the header was looked at.
        delivered: Operations that were delivered, those that were dropped among them.
        dropped: Operations that the store refuses for ever.
        runs: MLflow run of each key.
        uri: Of the store, where it has moved since the file was begun.
    """

    offset: int = 0
    delivered: int = 0
    dropped: int = 0
    runs: dict[str, str] = field(default_factory=dict)
    uri: str | None = None


class WriteAheadLog:
    """Operations on their way into MLflow. `WriteAheadLog.open` makes it, `close` ends it.

    A run is named by a key of the caller's own. Operations are done in the order in which they were called, also over
    processes: another process that opens the file writes the same runs. All methods may be called by several threads;
    none waits for the store.

    While it is open, the variables of `_ENVIRONMENT` are set for this process, unless the user has set them: start
    whatever inherits the environment before.

    Attributes:
        path: The file.
        uri: Of the store.
    """

    @classmethod
    def open(cls, path: str | Path, experiment: str | None = None, uri: str | None = None) -> WriteAheadLog:
        """Begin a log or resume it.

        Args:
            path: The file; another one, `<path>.state`, appears beside it.
            experiment: Made where it is missing. None: the log must have been begun.
            uri: Where the store is now, if it has moved since. By default the log stays where it was begun, and a new
                one goes to `tracking_uri()`.

        Raises:
            FkpError: The store cannot be reached or used, the log belongs to another store, another process holds the
                file, or it cannot be written. To begin or to resume something the store must also take what is written, and the
                experiment and the log's first run must not be deleted.
        """
        place = Path(path).absolute()
        header = _read_header(place)
        if header is None and experiment is None:
            raise FkpError(f"{path} is missing or empty: name the file that the command printed")
        state = read_state(place) if header else _State()
        chosen = uri or _same_store(state.uri or (header.uri if header else None), resume=experiment is not None, path=place)
        client = open_client(chosen)
        begins = experiment is not None
        experiment_now = experiment_id(
            client, chosen, header.experiment if header else str(experiment), ANOTHER_EXPERIMENT if begins and not header else ""
        )
        if begins:
            check_writable(client, chosen, experiment_now, next(iter(state.runs.values()), None))
        file = File(place, str(experiment), without_password(chosen))
        state.uri = without_password(chosen)
        try:
            return cls(file, state, Delivery(client, chosen, experiment_now, file.header.id, state.runs), chosen)
        except FkpError:
            file.close()
            raise

    def __init__(self, file: File, state: _State, delivery: Delivery, uri: str) -> None:
        self.path = file.path
        self.uri = uri
        self._file = file
        self._state = state
        self._delivery = delivery
        if state.offset > file.end:
            place = state_path(self.path)
            raise FkpError(f"{self.path} is shorter than {place} says: delete {place.name}, everything is delivered again then")
        written = [operation for operation, _ in file.operations(0)]
        self._count = len(written)
        self._keys = {operation["key"] for operation in written if operation["op"] in ("begin", "adopt")}
        self._changed = threading.Condition()
        self._closing = False
        self._stop = threading.Event()
        self._trouble: Trouble | None = None
        self._thread = threading.Thread(target=self._flush, name=f"flush {self.path.name}", daemon=True)
        self._thread.start()

    @property
    def delivered(self) -> int:
        """Operations that are done with, since the file was begun."""
        return self._state.delivered

    @property
    def undelivered(self) -> int:
        """Operations that are not in the store yet."""
        return self._count - self._state.delivered

    @property
    def dropped(self) -> int:
        """Operations among the delivered that the store refused for ever, since the file was begun."""
        return self._state.dropped

    @property
    def trouble(self) -> Trouble | None:
        """What keeps the first undelivered operation out of the store; None while nothing does."""
        return self._trouble

    def missing(self) -> str:
        """What the store has not got, why, and what to do, in one sentence; empty where it has everything."""
        if not self.undelivered:
            return ""
        why = self._trouble or _SLOW
        path = shlex.quote(str(self.path))
        return (
            f"{self.undelivered} entries of the record are only in {path}, because {why.reason}: {why.remedy}, "
            f"then `fkp track upload {path}` delivers them"
        )

    def run_id(self, key: str) -> str | None:
        """MLflow's run of a key; None until its beginning was delivered."""
        return self._state.runs.get(key)

    def begin(
        self,
        key: str,
        name: str,
        parent: str | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin a run, or set a run that was begun before RUNNING again.

        Args:
            key: The caller's own name of the run, unique in the file.
            name: Shown by MLflow.
            parent: Key of the run that this one is nested in; it must have been begun.
            params: As text.
            tags: As text.

        Raises:
            FkpError: The file cannot be written.
            ValueError: The parent was not begun, or the key has a quote in it.
        """
        if "'" in key or "`" in key:
            raise ValueError(f"the key {key!r} of a run has a quote in it")
        if parent is not None:
            self._check_begun(parent)
        self._write("begin", key, name=name, parent=parent, params=_as_text(params), tags=_as_text(tags), time_ms=_now_ms())
        self._keys.add(key)

    def adopt(self, key: str, run_id: str) -> None:
        """Give a key to a run that is in the store already, in the place of `begin`; raises FkpError like it."""
        self._write("adopt", key, run_id=run_id)
        self._keys.add(key)

    def metrics(self, key: str, step: int, values: Mapping[str, float], time_ms: int | None = None) -> None:
        """Log the metrics of one step. The store takes the same value of the same step and time once only.

        Args:
            key: Of the run.
            step: Of the values.
            values: By name.
            time_ms: When they were found, in milliseconds since 1970; now by default.

        Raises:
            FkpError: The file cannot be written.
            ValueError: The run was not begun, or a value is no number.
        """
        self._check_begun(key)
        numbers = {name: float(value) for name, value in values.items()}
        self._write("metrics", key, step=int(step), time_ms=_now_ms() if time_ms is None else time_ms, values=numbers)

    def tags(self, key: str, tags: Mapping[str, Any]) -> None:
        """Set tags; raises like `metrics`."""
        self._check_begun(key)
        self._write("tags", key, tags=_as_text(tags))

    def artifacts(self, key: str, path: str | Path, folder: str) -> None:
        """Upload a file into, or the files of a folder as, the artifact folder; raises like `metrics`.

        The file is read when it is delivered and must still be there then.
        """
        self._check_begun(key)
        self._write("artifacts", key, path=str(Path(path).absolute()), folder=folder)

    def end(self, key: str, status: Status) -> None:
        """End a run; raises like `metrics`."""
        self._check_begun(key)
        if status not in get_args(Status):
            raise ValueError(f"a run ends as one of {', '.join(get_args(Status))}, not as {status!r}")
        self._write("end", key, status=status, time_ms=_now_ms())

    def close(self, timeout_s: float = 30.0) -> int:
        """Deliver what is left and let go of the file.

        Args:
            timeout_s: Give up when so long nothing was delivered, or sooner where only an operator can help.

        Returns:
            How many operations are not delivered; they stay in the file, see `missing`.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        seen, since, say_at = self._state.delivered, time.monotonic(), time.monotonic() + _SILENT_S
        while self._thread.is_alive() and time.monotonic() < since + self._patience_s(timeout_s):
            self._thread.join(min(0.1, timeout_s))
            if time.monotonic() > say_at:
                told = self.undelivered, without_password(self.uri), self._patience_s(timeout_s)
                _LOG.warning("%d entries wait for MLflow at %s; without an answer for %g s they stay in the file", *told)
                say_at = math.inf
            if self._state.delivered > seen:
                seen, since = self._state.delivered, time.monotonic()
        self._stop.set()
        # A request that hangs keeps the thread, and with it the file, until it fails; the process may end before.
        self._thread.join(1.0)
        return self.undelivered

    def _patience_s(self, timeout_s: float) -> float:
        return timeout_s if self._trouble is None or self._trouble.hope == "passes" else min(timeout_s, _OPERATOR_S)

    def _check_begun(self, key: str) -> None:
        if key not in self._keys:
            raise ValueError(f"run {key!r} was not begun")

    def _write(self, kind: str, key: str, **fields: Any) -> None:
        with self._changed:
            if self._closing:
                raise ValueError(f"the log {self.path} is closed")
            self._file.append({"op": kind, "key": key, **fields})
            self._count += 1
            self._changed.notify_all()

    def _flush(self) -> None:
        """The thread: one operation after the other, each until it succeeds or is refused."""
        before = dict(os.environ)
        ours = {ATTEMPTS_VARIABLE: FEW_ATTEMPTS}  # As `open_client` has set it, for whoever waits for an answer.
        set_here = {name: value for name, value in _ENVIRONMENT.items() if before.get(name) == ours.get(name)}
        os.environ.update(set_here)
        try:
            while self._wait_for_more():
                for operation, behind in self._file.operations(self._state.offset):
                    if not self._deliver_one(operation, behind):
                        return
        except FkpError as error:  # The file or its state, and not the store.
            self._trouble = Trouble("log", str(error), "mend that", "operator")
            _LOG.warning("%s; the log %s is not delivered any further", error, self.path)
        except Exception:
            _LOG.exception("the log %s is not delivered any further", self.path)
        finally:
            for name in set_here:
                os.environ.pop(name, None)
                if name in before:
                    os.environ[name] = before[name]
            self._file.close()

    def _wait_for_more(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._state.delivered < self._count)
            return self._state.delivered < self._count

    def _deliver_one(self, operation: dict[str, Any], behind: int) -> bool:
        """Deliver until it succeeds; return False when `close` has given up."""
        wait_s, dropped = 0.0, self._state.dropped
        while not self._stop.is_set():
            try:
                try:
                    self._delivery.deliver(operation)
                except Refused as refusal:
                    _LOG.warning("MLflow refuses for ever, left out: %s of run %s: %s", operation["op"], operation["key"], refusal)
                    dropped = self._state.dropped + 1
                self._advance(behind, dropped)
            # Whatever it is, the operation stays first in the file and the warning names the error: an artifact store
            # raises what its own library raises.
            except Exception as error:
                trouble = self._delivery.explain(error)
                if self._trouble is None or trouble.kind != self._trouble.kind:
                    told = without_password(self.uri), trouble, self.path
                    _LOG.warning("MLflow at %s: %s; going on, the record is kept in %s", *told)
                self._trouble = trouble
                wait_s = min(2 * wait_s or 0.2, _LONGEST_WAIT_S)
                self._stop.wait(wait_s)
            else:
                if self._trouble:
                    _LOG.warning("MLflow at %s answers again", without_password(self.uri))
                self._trouble = None
                return True
        return False

    def _advance(self, behind: int, dropped: int) -> None:
        state = _State(behind, self._state.delivered + 1, dropped, self._state.runs, self._state.uri)
        write_json(state_path(self.path), asdict(state))
        self._state = state


class Uploaded(NamedTuple):
    """What became of the operations of a file: how many were delivered, how many of them were refused for ever, how many are left."""

    delivered: int
    refused: int
    left: int
    trouble: Trouble | None = None


def upload(path: str | Path, uri: str | None = None, timeout_s: float = 30.0) -> Uploaded:
    """Deliver what a training or a search has left in its file.

    Args:
        path: The file.
        uri: Where the store is now, if it has moved.
        timeout_s: Give up when so long nothing was delivered, or sooner where only an operator can help.

    Raises:
        FkpError: See `WriteAheadLog.open`.
    """
    before = read_state(Path(path).absolute())
    log = WriteAheadLog.open(path, uri=uri)
    left = log.close(timeout_s)
    return Uploaded(log.delivered - before.delivered, log.dropped - before.dropped, left, log.trouble if left else None)


class File:
    """The file of a log, held by this process; it is made where it is missing.

    Args:
        path: Of the file.
        experiment: For the header of a new one.
        uri: The same.

    Attributes:
        end: Size in bytes: whole lines.

    Raises:
        FkpError: Another process holds it, it is something else, or it cannot be written.
    """

    def __init__(self, path: Path, experiment: str, uri: str) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise FkpError(f"cannot write {path}: {error.strerror}: choose another place") from error
        try:
            if not lock_descriptor(self._descriptor, blocking=False):
                raise FkpError(f"{path} is held by another process: it delivers the record itself, wait until it ends")
            _read_header(path)  # Refuses a file that is not ours before a byte of it is touched.
            content = path.read_bytes()
            self.end = content.rfind(b"\n") + 1
            if self.end < len(content):  # A kill tore the last line off: its operation was never acknowledged.
                os.ftruncate(self._descriptor, self.end)
            if not self.end:
                self.append({"kind": _KIND, **asdict(_Header(uuid.uuid4().hex, experiment, uri))})
            header = _read_header(path)
            assert header is not None
            self.header = header
        except BaseException:
            os.close(self._descriptor)
            raise

    def append(self, content: dict[str, Any]) -> None:
        """Write one line.

        Raises:
            FkpError: The disk is full or gone. The file keeps only whole lines.
            ValueError: The content is no JSON.
        """
        line = (json.dumps(content) + "\n").encode()
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):
                os.ftruncate(self._descriptor, self.end)
                raise OSError(0, "No space left on device")
        except OSError as error:
            raise FkpError(f"cannot write {self.path}: {error.strerror}: free some space") from error
        self.end += len(line)

    def operations(self, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
        """Each operation from a place in the file to its present end, with the place behind it.

        Raises:
            FkpError: A line is broken, or the place is not the beginning of one.
        """
        with self.path.open("rb") as file:
            file.seek(offset)
            lines = file.read(self.end - offset).splitlines(keepends=True)
        for line in lines:
            try:
                content = json.loads(line)
                is_header = content.get("kind") == _KIND
            except (ValueError, AttributeError) as error:
                raise FkpError(f"{self.path} is broken at byte {offset}: it was changed by something else") from error
            offset += len(line)
            if not is_header:
                yield content, offset

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


def state_path(path: Path) -> Path:
    """Where the state of a log lies."""
    return path.with_name(f"{path.name}.state")


def read_state(path: Path) -> _State:
    """State of a log; a new one where there is none, because delivering twice does no harm.

    Raises:
        FkpError: It cannot be read.
    """
    place = state_path(path)
    try:
        return _State(**json.loads(place.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return _State()
    except (OSError, ValueError, TypeError) as error:
        raise FkpError(f"cannot read {place} ({error}): delete it, everything is delivered again then") from error


def _read_header(path: Path) -> _Header | None:
    """Header of a file; None where none was begun.

    Raises:
        FkpError: The file is something else, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            line = file.readline()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FkpError(f"cannot read {path}: {error.strerror}") from error
    if not line.endswith(b"\n") and line[: len(_START)] == _START[: len(line)]:
        return None  # A kill tore the header off: nothing was written behind it.
    try:
        fields = json.loads(line)
        assert fields.pop("kind") == _KIND
        return _Header(**fields)
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise FkpError(f"{path} is not the record of a training or a search: name the file that the command printed") from error


def _same_store(begun: str | None, resume: bool, path: Path) -> str:
    """The store to use for a log that was begun in a store, with the password that only the environment knows.

    Raises:
        FkpError: A search goes on in another store.
    """
    now = tracking_uri()
    if begun is None or begun == without_password(now):
        return now
    if resume:
        raise FkpError(
            f"{path} was begun in the MLflow store {begun}, MLFLOW_TRACKING_URI is {without_password(now)} now: set it back, or, if the "
            f"store has moved, run `fkp track upload {path} --store {without_password(now)}` first"
        )
    return begun


def _as_text(values: Mapping[str, Any] | None) -> dict[str, str]:
    return {str(name): str(value) for name, value in (values or {}).items()}


def _now_ms() -> int:
    return int(time.time() * 1000)
