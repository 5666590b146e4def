"""What an error of an MLflow store means: what is wrong in a clause, what mends it, and whether trying again can help.

Only a request that is wrong in itself (a name or a value that MLflow refuses) is given up. Whatever an operator can undo, a deleted
run, a full disk, an old schema, keeps its place in the write-ahead log.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from fkp.errors import FkpError

#: `final`: it can never be delivered. `operator`: somebody must change the store first. `passes`: it may work in a moment.
Hope = Literal["final", "operator", "passes"]

#: Raise what is no MlflowException and no OSError: databases, their schema, artifact stores.
_LIBRARIES = ("mlflow", "sqlalchemy", "alembic", "sqlite3", "requests", "urllib3", "botocore", "boto3", "google", "azure")
_LONGEST = 200


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a store.

    Attributes:
        kind: Of the row of `ROWS` that recognised it.
        reason: A clause.
        remedy: An imperative.
        hope: Of trying again.
    """

    kind: str
    reason: str
    remedy: str
    hope: Hope

    def __str__(self) -> str:
        return f"{self.reason}: {self.remedy}"


@dataclass(frozen=True)
class Row:
    """How one kind is recognised: by MLflow's error code, where codes are named, and by words of the message.

    `reason` and `remedy` are filled with the words' groups and {said}, {mlflow}, {database}, {files}.
    """

    kind: str
    hope: Hope
    codes: str
    words: str
    reason: str
    remedy: str


_BACKUP = "put a backup of the store back, for nothing else brings back what `mlflow gc` has removed"
_SCHEMA = "make a backup of the database and run `mlflow db upgrade {database}`"
_ANY = ""

# The first row that fits counts. A server in front of the database tells less: whatever fails behind it is a 5xx.
ROWS = (
    Row(
        "deleted experiment",
        "operator",
        "INVALID_PARAMETER_VALUE INVALID_STATE",
        r"[Ee]xperiment '?(?P<id>[\w-]+)'? must be in the 'active' state",
        "MLflow's experiment {id} is deleted",
        "restore it by `{mlflow} experiments restore --experiment-id {id}`",
    ),
    Row(
        "deleted run",
        "operator",
        "INVALID_PARAMETER_VALUE INVALID_STATE",
        r"[Rr]un '?(?P<id>[\w-]+)'? must be in the 'active' state",
        "MLflow's run {id} is deleted",
        "restore it by `{mlflow} runs restore --run-id {id}`",
    ),
    Row(
        "gone run",
        "operator",
        "RESOURCE_DOES_NOT_EXIST",
        r"[Rr]un (with id=)?'?(?P<id>[\w-]+)'? (was )?not found",
        "MLflow has no run {id} any more",
        _BACKUP,
    ),
    Row(
        "gone experiment",
        "operator",
        "RESOURCE_DOES_NOT_EXIST",
        r"[Nn]o [Ee]xperiment with id=(?P<id>[\w-]+)|[Ee]xperiment '?(?P<id2>[\w-]+)'? (does not exist|not found)",
        "MLflow has the run's experiment no more",
        _BACKUP,
    ),
    Row("deleted", "operator", "INVALID_PARAMETER_VALUE INVALID_STATE", r"\b(is|in|state) '?deleted'?", "{said}", "restore it in MLflow"),
    Row("wrong request", "final", "INVALID_PARAMETER_VALUE", _ANY, "{said}", "mend the request"),
    Row(
        "wrong value",
        "final",
        _ANY,
        r"Value out of range|int too large to convert|DataError\)|Invalid artifact path",
        "{said}",
        "mend the request",
    ),
    Row("old schema", "operator", _ANY, r"out-of-date database schema", "MLflow's database has the schema of another version", _SCHEMA),
    Row(
        "newer schema",
        "operator",
        _ANY,
        r"Can't locate revision",
        "MLflow's database was made by a newer version",
        "install that version (`pip install -U mlflow`) or set MLFLOW_TRACKING_URI",
    ),
    Row(
        "other tables",
        "operator",
        _ANY,
        r"no such (table|column)|has no column named|Undefined(Table|Column)|Unknown column|Table '\S+' doesn't exist",
        "MLflow's database has the tables of another version ({said})",
        _SCHEMA,
    ),
    Row(
        "full",
        "operator",
        _ANY,
        r"No space left|[Dd]isk quota|disk is full|File too large|[Qq]uota[ _]?[Ee]xceeded|exceed\w* .{0,40}quota|Insufficient Storage"
        r"|error code 507|too many 507",
        "MLflow's disk or quota is full ({said})",
        "free some space or have the quota raised",
    ),
    Row(
        "failing disk",
        "operator",
        _ANY,
        r"disk I/O error|Input/output error|Stale file handle",
        "MLflow's disk fails or takes no more ({said})",
        "look at its space, its quota and its health",
    ),
    Row(
        "denied",
        "operator",
        "PERMISSION_DENIED CUSTOMER_UNAUTHORIZED UNAUTHENTICATED",
        r"Invalid Host header",
        "MLflow's server does not know itself by this name",
        "start it with `--allowed-hosts` and that name",
    ),
    Row(
        "denied",
        "operator",
        "PERMISSION_DENIED CUSTOMER_UNAUTHORIZED UNAUTHENTICATED",
        _ANY,
        "MLflow refuses access ({said})",
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN, or have its operator let you write",
    ),
    Row(
        "denied",
        "operator",
        _ANY,
        r"40[13] Client Error|Access ?Denied|InvalidAccessKeyId|Unable to locate credentials|permission denied for|command denied",
        "MLflow's store refuses access ({said})",
        "look at the credentials, or have its operator let you write",
    ),
    Row(
        "read-only",
        "operator",
        _ANY,
        r"readonly database|[Rr]ead-only|unable to open database file|Permission denied|Operation not permitted",
        "MLflow's store cannot be written ({said})",
        "make {files} writable",
    ),
    Row(
        "broken database",
        "operator",
        _ANY,
        r"file is not a database|disk image is malformed",
        "MLflow's database is broken ({said})",
        "put a backup of {database} back, or set MLFLOW_TRACKING_URI",
    ),
    Row(
        "too large",
        "operator",
        _ANY,
        r"error code 413|413 Client Error|EntityTooLarge",
        "MLflow's server or a proxy before it refuses so large a request",
        "have its limit raised",
    ),
    Row(
        "too many",
        "passes",
        "RESOURCE_EXHAUSTED REQUEST_LIMIT_EXCEEDED",
        _ANY,
        "MLflow's server has a limit that is reached ({said})",
        "wait, or have the limit raised",
    ),
    Row(
        "too many",
        "passes",
        _ANY,
        r"too many 429|429 Client Error",
        "MLflow's server gets too many requests",
        "wait, or have its limit raised",
    ),
    Row(
        "no MLflow",
        "operator",
        _ANY,
        r"error code (404|30\d)|not in a valid JSON format|No API found",
        "what answers there is no MLflow server",
        "set MLFLOW_TRACKING_URI to the address of one",
    ),
    Row("busy", "passes", _ANY, r"database is locked|QueuePool limit", "MLflow's database is busy ({said})", "wait until it is not"),
    Row(
        "fails",
        "passes",
        _ANY,
        r"(too many|error code) (?P<status>5\d\d)|(?P<status2>5\d\d) Server Error",
        "MLflow's server fails with status {status}",
        "look into its log",
    ),
    Row(
        "away",
        "passes",
        _ANY,
        r"failed with (timeout )?exception|timed out|Connection refused|Connection reset|could not connect",
        "MLflow does not answer",
        "start it",
    ),
    Row("other", "passes", _ANY, _ANY, "{said}", "set MLFLOW_TRACKING_URI"),
)


def diagnose(error: BaseException, uri: str) -> Trouble:
    """What an error of a store means.

    Args:
        error: MLflow's own, or one of its database or its artifact store.
        uri: Of the store.
    """
    said = _said(error, uri)
    code = getattr(error, "error_code", "")
    for row in ROWS:
        found = re.search(row.words, re.sub(r"https?://\S+", "", said))
        if found and (not row.codes or code in row.codes.split()):
            break
    if row.kind == "old schema" and not _knows_schema(said):
        row = next(other for other in ROWS if other.kind == "newer schema")
    groups = {name.rstrip("2"): value for name, value in found.groupdict().items() if value} if found else {}
    fields = {**groups, "said": said[:_LONGEST], "mlflow": command(uri), "database": _database(uri), "files": _files(error, uri)}
    return Trouble(row.kind, row.reason.format(**fields), row.remedy.format(**fields), row.hope)


@contextlib.contextmanager
def store_errors(uri: str, otherwise: str = "") -> Iterator[None]:
    """Turn an error of the store inside the block into one sentence.

    Args:
        uri: Of the store.
        otherwise: What the user can do instead of the remedy.

    Raises:
        FkpError: The store refused or failed.
    """
    try:
        yield
    except FkpError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _LIBRARIES:
            raise
        raise unusable(uri, diagnose(error, uri), otherwise) from error


def unusable(uri: str, trouble: Trouble, otherwise: str = "") -> FkpError:
    """The sentence for a store that cannot be used."""
    alternative = f", or {otherwise}" if otherwise and trouble.hope == "operator" else ""
    return FkpError(f"cannot use the MLflow store {without_password(uri)}: {trouble}{alternative}")


def deleted(uri: str, what: Literal["experiment", "run"], identity: str) -> Trouble:
    """An experiment or a run of which the store itself says that it is deleted."""
    row = next(row for row in ROWS if row.kind == f"deleted {what}")
    fields = {"id": identity, "mlflow": command(uri)}
    return Trouble(row.kind, row.reason.format(**fields), row.remedy.format(**fields), row.hope)


def command(uri: str) -> str:
    """MLflow's own command line for a store."""
    return f"MLFLOW_TRACKING_URI={shlex.quote(without_password(uri))} mlflow"


def without_password(uri: str) -> str:
    """The address as it may be shown and kept."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def _said(error: BaseException, uri: str) -> str:
    """The error's own words in one line, without the statement and its values, and without the password of the store's address."""
    secret = urlsplit(uri).netloc.rpartition("@")[0]
    text = " ".join(str(error).split())
    text = text.replace(f"{secret}@", "") if secret else text
    text = re.sub(r"^\(raised as a result of Query-invoked autoflush[^)]*\) ", "", re.split(r" \[SQL: | \(Background on", text)[0])
    return re.sub(r"^\(sqlite3\.\w+\) ", "", text)


def _knows_schema(said: str) -> bool:
    """Whether the installed MLflow can upgrade the schema that it has found."""
    import mlflow.store.db_migrations

    found = re.search(r"found version (\w+)", said)
    versions = Path(mlflow.store.db_migrations.__path__[0]) / "versions"
    return found is None or any(versions.glob(f"{found[1]}_*.py"))


def _database(uri: str) -> str:
    return "ADDRESS-OF-ITS-DATABASE" if urlsplit(uri).scheme in ("http", "https") else shlex.quote(without_password(uri))


def _files(error: BaseException, uri: str) -> str:
    """What is to be made writable: the file that an error names, or the database, beside which journal and lock are made."""
    named, database = getattr(error, "filename", None), uri.removeprefix("sqlite:///")
    if named and str(named) != f"{database}.lock":
        return str(named)
    return f"{database} and its folder" if database != uri else "it"
