"""What errors of a store mean: each row of the table, wherever possible by an error that a real store or client raises."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INVALID_STATE, TEMPORARILY_UNAVAILABLE

from fkp.errors import FkpError
from fkp.track.store import open_client
from fkp.track.trouble import ROWS, Hope, diagnose, store_errors

from .conftest import Front, change, read_only


@dataclass
class Place:
    """A store with one run, and what stands before a server."""

    client: MlflowClient
    database: Path
    experiment: str
    run: str
    front: Front

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.database}"

    def write(self, client: MlflowClient | None = None, key: str = "loss", step: int = 0) -> None:
        (client or self.client).log_batch(self.run, [Metric(key, 1.0, 1_700_000_000_000, step)])

    def opened(self) -> MlflowClient:
        """The store as a new process finds it: MLflow keeps what it has opened once."""
        return MlflowClient(f"sqlite:///{shutil.copyfile(self.database, self.database.with_name('opened.db'))}")

    def answered(self, status: int, text: str = "no") -> None:
        """The error of the real client at an answer."""
        self.front.answer = (status, text)
        self.write(MlflowClient(self.front.uri))


@pytest.fixture
def place(store: MlflowClient, tmp_path: Path, front: Front, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    experiment = store.create_experiment("faces", artifact_location=(tmp_path / "artifacts").as_uri())
    return Place(store, tmp_path / "mlflow.db", experiment, store.create_run(experiment).info.run_id, front)


def _deleted_experiment(place: Place) -> None:
    place.client.delete_experiment(place.experiment)
    place.client.create_run(place.experiment)


def _deleted_run(place: Place) -> None:
    place.client.delete_run(place.run)
    place.write()


def _gone_run(place: Place) -> None:
    change(place.database, f"DELETE FROM runs WHERE run_uuid = '{place.run}'")
    place.write()


def _old_schema(place: Place) -> None:
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    script = ScriptDirectory.from_config(_get_alembic_config(""))
    change(place.database, f"UPDATE alembic_version SET version_num = '{list(script.walk_revisions())[1].revision}'")
    place.opened()


def _newer_schema(place: Place) -> None:
    change(place.database, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    place.opened()


def _newer_schema_with_less_tables(place: Place) -> None:
    change(place.database, "UPDATE alembic_version SET version_num = 'ffffffffffff'", "ALTER TABLE inputs RENAME TO gone")
    place.opened()


def _older_metrics(place: Place) -> None:
    change(place.database, "ALTER TABLE metrics RENAME COLUMN step TO step_of_old")
    place.write()


def _full_artifacts(place: Place) -> None:
    (place.database.parent / "note.txt").write_text("x" * 9999)
    place.client.log_artifact(place.run, str(place.database.parent / "note.txt"))


def _database_without_room(place: Place) -> None:
    for step in range(20):
        place.client.log_batch(place.run, [Metric(f"{step}-{number}-{'x' * 99}", 1.0, 1, 0) for number in range(900)])


def _read_only_database(place: Place) -> None:
    client = place.opened()
    copy = place.database.with_name("opened.db")
    place.write(client)
    client._tracking_client.store.engine.dispose()  # What is open for writing stays so.
    with read_only(copy):
        place.write(client, step=1)


def _read_only_folder(place: Place) -> None:
    with read_only(place.database, place.database.parent):
        place.write()


def _read_only_artifacts(place: Place) -> None:
    (place.database.parent / "note.txt").write_text("x")
    (place.database.parent / "artifacts").mkdir()
    with read_only(place.database.parent / "artifacts"):
        place.client.log_artifact(place.run, str(place.database.parent / "note.txt"))


def _broken_database(place: Place) -> None:
    place.database.write_bytes(b"this is no database" * 1000)
    place.write()


def _closed_bucket(place: Place) -> None:
    from botocore.exceptions import ClientError

    raise ClientError({"Error": {"Code": "AccessDenied", "Message": "Access Denied"}}, "PutObject")


def _raises(error: Exception) -> Callable[[Place], None]:
    def do(place: Place) -> None:
        raise error

    return do


def _away(place: Place) -> None:
    place.write(MlflowClient("http://127.0.0.1:9"))


@dataclass(frozen=True)
class Case:
    kind: str
    hope: Hope
    do: Callable[[Place], None]
    says: str


CASES = {
    "deleted experiment": Case("deleted experiment", "operator", _deleted_experiment, "mlflow experiments restore --experiment-id 1`"),
    "deleted run": Case("deleted run", "operator", _deleted_run, "mlflow runs restore --run-id {run}`"),
    "deleted by other words": Case(
        "deleted", "operator", _raises(MlflowException("Run abc is in 'deleted' state", INVALID_STATE)), "restore it in MLflow"
    ),
    "gone run": Case("gone run", "operator", _gone_run, "MLflow has no run {run} any more: put a backup"),
    "gone experiment": Case("gone experiment", "operator", lambda place: print(place.client.create_run("99")), "put a backup"),
    "a name": Case("wrong request", "final", lambda place: place.write(key="a name? no"), 'Invalid value "a name? no"'),
    "an empty name": Case("wrong request", "final", lambda place: place.write(key=""), "Invalid value"),
    "a long name": Case("wrong request", "final", lambda place: place.write(key="n" * 300), "exceeds the maximum length"),
    "a name like another kind": Case("wrong request", "final", lambda place: place.write(key="quota exceeded?"), "Invalid value"),
    "a step": Case("wrong value", "final", lambda place: place.write(step=2**70), "too large"),
    "a step for a server": Case(
        "wrong value", "final", lambda place: place.write(MlflowClient(place.front.uri), step=2**70), "Value out of range"
    ),
    "a figure of another database": Case(
        "wrong value",
        "final",
        _raises(MlflowException("(psycopg2.DataError) integer out of range [SQL: INSERT ...]", BAD_REQUEST)),
        "integer out of range",
    ),
    "old schema": Case("old schema", "operator", _old_schema, "run `mlflow db upgrade {uri}`"),
    "newer schema": Case("newer schema", "operator", _newer_schema, "install that version"),
    "newer schema, less tables": Case("newer schema", "operator", _newer_schema_with_less_tables, "install that version"),
    "older table": Case(
        "other tables", "operator", _older_metrics, "no column named step): make a backup of the database and run `mlflow db"
    ),
    "full artifacts": Case("full", "operator", _full_artifacts, "free some space"),
    "quota of artifacts": Case("full", "operator", _raises(OSError(122, "Disk quota exceeded", "/a")), "have the quota raised"),
    "full database": Case(
        "full",
        "operator",
        _raises(MlflowException("(sqlite3.OperationalError) database or disk is full [SQL: INSERT ...]", TEMPORARILY_UNAVAILABLE)),
        "free some space",
    ),
    "a database without room": Case("failing disk", "operator", _database_without_room, "(disk I/O error): look at its space"),
    "full server": Case("full", "operator", lambda place: place.answered(507, "Insufficient Storage"), "free some space"),
    "no password": Case("denied", "operator", lambda place: place.answered(401), "MLFLOW_TRACKING_USERNAME"),
    "no right": Case("denied", "operator", lambda place: place.answered(403, '{"error_code": "PERMISSION_DENIED"}'), "let you write"),
    "a name of the server": Case("denied", "operator", lambda place: place.answered(403, "Invalid Host header"), "--allowed-hosts"),
    "a closed bucket": Case("denied", "operator", _closed_bucket, "look at the credentials"),
    "read-only database": Case("read-only", "operator", _read_only_database, "make {database} and its folder writable"),
    "read-only folder": Case("read-only", "operator", _read_only_folder, "make {database} and its folder writable"),
    "read-only artifacts": Case("read-only", "operator", _read_only_artifacts, "/artifacts/"),
    "broken database": Case("broken database", "operator", _broken_database, "put a backup of {uri} back"),
    "large request": Case("too large", "operator", lambda place: place.answered(413), "have its limit raised"),
    "a limit": Case(
        "too many", "passes", lambda place: place.answered(400, '{"error_code": "RESOURCE_EXHAUSTED", "message": "runs"}'), "limit raised"
    ),
    "a limit of requests": Case("too many", "passes", lambda place: place.answered(429), "too many requests"),
    "another server": Case("no MLflow", "operator", lambda place: place.answered(404, "<html>"), "set MLFLOW_TRACKING_URI"),
    "a login page": Case("no MLflow", "operator", lambda place: place.answered(200, "<html>"), "set MLFLOW_TRACKING_URI"),
    "busy": Case(
        "busy", "passes", _raises(MlflowException("(sqlite3.OperationalError) database is locked", TEMPORARILY_UNAVAILABLE)), "wait"
    ),
    **{
        str(status): Case(
            "fails", "passes", lambda place, status=status: place.answered(status), f"with status {status}: look into its log"
        )
        for status in (500, 502, 503, 504, 508)
    },
    "away": Case("away", "passes", _away, "MLflow does not answer: start it"),
    "another error": Case("other", "passes", _raises(OSError("the line is cut")), "the line is cut: set MLFLOW_TRACKING_URI"),
    "an answer of a proxy": Case("other", "passes", lambda place: place.answered(400, "Bad"), "error code 400"),
}


@pytest.mark.parametrize("name", CASES)
def test_an_error_is_told_by_its_kind_and_with_its_remedy(place: Place, name: str, request: pytest.FixtureRequest) -> None:
    case = CASES[name]
    if case.do in (_full_artifacts, _database_without_room):
        request.getfixturevalue("file_limit")(5000 if case.do is _full_artifacts else place.database.stat().st_size)
    with pytest.raises(Exception) as caught:
        case.do(place)
    trouble = diagnose(caught.value, place.uri)
    assert (trouble.kind, trouble.hope) == (case.kind, case.hope), str(caught.value)
    assert case.says.format(run=place.run, uri=place.uri, database=place.database) in str(trouble)
    assert not any(noise in str(trouble) for noise in ("\n", "[SQL", "Background on"))
    if case.hope != "final":
        with pytest.raises(FkpError, match=r"^cannot use the MLflow store sqlite:"), store_errors(place.uri):
            raise caught.value


def test_every_row_has_a_case() -> None:
    assert {case.kind for case in CASES.values()} == {row.kind for row in ROWS}
    assert ROWS[-1].codes == ROWS[-1].words == "", "the last one takes whatever is left"
    assert {row.kind for row in ROWS if row.hope == "final"} == {"wrong request", "wrong value"}, "nothing else is given up"


def test_what_is_no_error_of_a_store_stays_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError), store_errors("sqlite:///mlflow.db"):
        raise ZeroDivisionError


def test_no_error_tells_the_password() -> None:
    uri = "http://name:secret-word@127.0.0.1:5000/mlflow"
    with pytest.raises(FkpError) as caught, store_errors(uri):
        raise OSError(f"API request to {uri}/api/2.0/mlflow failed")
    assert "secret-word" not in str(caught.value) and "127.0.0.1:5000/mlflow/api" in str(caught.value)
    deleted = diagnose(MlflowException("The run abc must be in the 'active' state", INVALID_STATE), uri)
    assert deleted.remedy == "restore it by `MLFLOW_TRACKING_URI=http://127.0.0.1:5000/mlflow mlflow runs restore --run-id abc`"


def test_a_store_that_may_only_be_read_can_be_read(place: Place) -> None:
    with read_only(place.database, place.database.parent):
        assert open_client(place.uri).get_run(place.run).info.status == "RUNNING"
        assert not os.access(place.database, os.W_OK, effective_ids=True)
