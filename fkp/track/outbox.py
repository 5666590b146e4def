"""The record of a search, written ahead: first into a file, then, by a thread, into MLflow.

A store that is lost in the middle stops nothing and loses nothing. What is left at the end is delivered by
`fkp track upload FILE`, or by the next process that opens the file.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from fkp.errors import FkpError
from fkp.track import journal as journals
from fkp.track.delivery import Delivery, Refused
from fkp.track.journal import Journal
from fkp.track.store import experiment_id, open_client, reason_of, tracking_uri, without_password

_LOG = logging.getLogger(__name__)

Status = Literal["FINISHED", "FAILED", "KILLED"]
_LONGEST_WAIT_S = 5.0
#: The outbox tries again by itself. MLflow's own seven attempts would hold a delivery, and the end of the process, for
#: four minutes. The timeout is for a server that hangs; storing a large artifact must fit into it. And MLflow would print
#: two lines into the progress of a search whenever a trial ends.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Outbox:
    """Runs of a search on their way into MLflow. `Outbox.open` makes it, `close` ends it.

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
    def open(cls, path: str | Path, experiment: str | None = None, uri: str | None = None) -> Outbox:
        """Begin a record or go on with it.

        Args:
            path: The file; another one, `<path>.state`, appears beside it.
            experiment: Made where it is missing. None: the record must have been begun.
            uri: Where the store is now, if it has moved since. By default the record stays where it was begun, and a new
                one goes to `tracking_uri()`.

        Raises:
            FkpError: The store cannot be reached or used, the record belongs to another store, another process holds the
                file, or it cannot be written.
        """
        place = Path(path).absolute()
        header = journals.read_header(place)
        if header is None and experiment is None:
            raise FkpError(f"{path} is missing or empty: name the file that the search printed")
        state = journals.read_state(place) if header else journals.State()
        chosen = uri or _same_store(state.uri or (header.uri if header else None), resume=experiment is not None, path=place)
        client = open_client(chosen)
        experiment_now = experiment_id(client, chosen, header.experiment if header else str(experiment))
        journal = Journal(place, str(experiment), without_password(chosen))
        state.uri = without_password(chosen)
        try:
            return cls(journal, state, Delivery(client, experiment_now, journal.header.id, state.runs), chosen)
        except FkpError:
            journal.close()
            raise

    def __init__(self, journal: Journal, state: journals.State, delivery: Delivery, uri: str) -> None:
        self.path = journal.path
        self.uri = uri
        self._journal = journal
        self._state = state
        self._delivery = delivery
        if state.offset > journal.end:
            place = journals.state_path(self.path)
            raise FkpError(f"{self.path} is shorter than {place} says: delete {place.name}, everything is delivered again then")
        written = [operation for operation, _ in journal.operations(0)]
        self._count = len(written)
        self._keys = {operation["key"] for operation in written if operation["op"] == "begin"}
        self._changed = threading.Condition()
        self._closing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._deliver_all, name=f"outbox {self.path.name}", daemon=True)
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

    def metrics(self, key: str, step: int, values: Mapping[str, float]) -> None:
        """Log the figures of one step.

        Raises:
            FkpError: The file cannot be written.
            ValueError: The run was not begun, or a value is no number.
        """
        self._check_begun(key)
        numbers = {name: float(value) for name, value in values.items()}
        self._write("metrics", key, step=int(step), time_ms=_now_ms(), values=numbers)

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

    def close(self, timeout_s: float) -> int:
        """Deliver what is left and let go of the file.

        Args:
            timeout_s: Give up when so long nothing was delivered.

        Returns:
            How many operations are not delivered; they stay in the file.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        seen, until = self._state.delivered, time.monotonic() + timeout_s
        while self._thread.is_alive() and time.monotonic() < until:
            self._thread.join(min(0.1, timeout_s))
            if self._state.delivered > seen:
                seen, until = self._state.delivered, time.monotonic() + timeout_s
        self._stop.set()
        # A request that hangs keeps the thread, and with it the file, until it fails; the process may end before.
        self._thread.join(1.0)
        return self.undelivered

    def _check_begun(self, key: str) -> None:
        if key not in self._keys:
            raise ValueError(f"run {key!r} was not begun")

    def _write(self, kind: str, key: str, **fields: Any) -> None:
        with self._changed:
            if self._closing:
                raise ValueError(f"the record {self.path} is closed")
            self._journal.append({"op": kind, "key": key, **fields})
            self._count += 1
            self._changed.notify_all()

    def _deliver_all(self) -> None:
        """The thread: one operation after the other, each until it succeeds or is refused."""
        set_here = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
        os.environ.update(set_here)
        try:
            while self._wait_for_more():
                for operation, behind in self._journal.operations(self._state.offset):
                    if not self._deliver_one(operation, behind):
                        return
        except Exception:
            _LOG.exception("the record %s is not delivered any further", self.path)
        finally:
            for name in set_here:
                os.environ.pop(name, None)
            self._journal.close()

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
                if not wait_s:
                    told = without_password(self.uri), reason_of(error, self.uri), self.path
                    _LOG.warning("MLflow at %s: %s; going on, the record is kept in %s", *told)
                wait_s = min(2 * wait_s or 0.2, _LONGEST_WAIT_S)
                self._stop.wait(wait_s)
            else:
                if wait_s:
                    _LOG.warning("MLflow at %s answers again", without_password(self.uri))
                return True
        return False

    def _advance(self, behind: int, dropped: int) -> None:
        state = journals.State(behind, self._state.delivered + 1, dropped, self._state.runs, self._state.uri)
        journals.write_state(self.path, state)
        self._state = state


def upload(path: str | Path, uri: str | None = None, timeout_s: float = 30.0) -> tuple[int, int, int]:
    """Deliver what a search has left in its file.

    Args:
        path: The file.
        uri: Where the store is now, if it has moved.
        timeout_s: Give up when so long nothing was delivered.

    Returns:
        How many operations were delivered, how many of them the store refused for ever, how many are left.

    Raises:
        FkpError: See `Outbox.open`.
    """
    before = journals.read_state(Path(path).absolute())
    outbox = Outbox.open(path, uri=uri)
    left = outbox.close(timeout_s)
    return outbox.delivered - before.delivered, outbox.dropped - before.dropped, left


def _same_store(begun: str | None, resume: bool, path: Path) -> str:
    """The store to use for a record that was begun in a store, with the password that only the environment knows.

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
