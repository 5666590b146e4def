"""One archive over HTTP into one file: tries again, continues where it stopped, stops what cannot be the set's archive."""

from __future__ import annotations

import contextlib
import errno
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from fkp.errors import FkpError

#: Upstream's archive and its unpacked set are below 0.5 GB each. More is not that archive.
MAX_BYTES = 2 * 1024**3

_CHUNK = 1 << 16
_TIMEOUT_S = (10.0, 60.0)  # to connect, between two pieces
_TRANSIENT = {408, 429, 500, 502, 503, 504}
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class BadArchive(FkpError):
    """The archive is whole but not what it should be: going on with the same bytes cannot help."""


class _Cut(Exception):
    """The transfer ended early; asking again may help."""


def download(url: str, part: Path, retries: int, pause_s: float) -> None:
    """Bring `part` to a whole zip archive; continue what is there if the server can, else start again.

    Raises:
        FkpError: The transfer kept breaking (what has come is kept), the server refuses, or the disk is full.
        BadArchive: What came is no zip archive; `part` is gone.
    """
    reason = ""
    for attempt in range(retries + 1):
        if _is_whole(part):
            return
        if attempt:
            time.sleep(pause_s * 2 ** (attempt - 1))
        try:
            _receive(url, part)
        except _Cut as cut:
            reason = str(cut)
        else:
            # A server that names no length can break off unnoticed; then the archive's directory is not there yet.
            reason = "the archive ended early"
    if not _is_whole(part):
        raise FkpError(
            f"cannot download {url}: {reason} ({retries + 1} tries): check network and proxy and run the same command again, "
            "or use a copy of the set with --source"
        )


def _is_whole(part: Path) -> bool:
    if not part.exists() or not part.stat().st_size:
        return False
    with part.open("rb") as content:
        start = content.read(16)
    if not start.startswith(b"PK"):
        part.unlink()
        raise BadArchive(f"the download is no zip archive (it starts with {start!r}): check --url, or a login page of your network")
    return zipfile.is_zipfile(part)


def _receive(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    # A URL with a commit names bytes that do not change, so no If-Range; if they did, the check throws the file away.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
            if answer.status_code in (206, 416) and not _continues(answer, have):
                part.unlink(missing_ok=True)
                raise _Cut("the server could not continue the download where it stopped")
            if answer.status_code not in (200, 206):
                raise _refusal(url, answer)
            _store(answer, part, have if answer.status_code == 206 else 0)
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema) as error:
        raise FkpError(f"{url} is no address to download from: it must start with https:// or http://") from error
    except requests.exceptions.Timeout as error:
        raise _Cut(f"{urlsplit(url).netloc} gave no answer in time") from error
    except requests.exceptions.SSLError as error:
        raise _Cut(f"the certificate of {urlsplit(url).netloc} cannot be checked") from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise _Cut(f"the connection broke after {part.stat().st_size / 1e6:.1f} MB") from error
    except requests.exceptions.RequestException as error:
        raise _Cut(f"{urlsplit(url).netloc} cannot be reached") from error


def _continues(answer: requests.Response, have: int) -> bool:
    return answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _refusal(url: str, answer: requests.Response) -> Exception:
    said = f"{answer.status_code} {answer.reason}"
    if answer.status_code in _TRANSIENT:
        return _Cut(f"the server answered {said}")
    return FkpError(f"{url} answered {said}: check --url, or use a copy of the set with --source")


def _store(answer: requests.Response, part: Path, have: int) -> None:
    length = answer.headers.get("Content-Length", "")
    total = have + int(length) if length.isdigit() else None
    bar = tqdm(desc="download", initial=have, total=total, unit="B", unit_scale=True, disable=None)
    with clear_disk_errors(part), part.open("ab" if have else "wb") as out, bar:
        for chunk in answer.iter_content(_CHUNK):
            have += out.write(chunk)
            bar.update(len(chunk))
            if have > MAX_BYTES:
                break
    if have > MAX_BYTES:
        part.unlink()
        raise BadArchive(f"the download is longer than {MAX_BYTES / 1e9:.1f} GB, which the set's archive is not: check --url")
    if total is not None and have < total:
        raise _Cut(f"the connection broke after {have / 1e6:.1f} of {total / 1e6:.1f} MB")


@contextlib.contextmanager
def clear_disk_errors(path: Path) -> Iterator[None]:
    """Say in one sentence that, and why, `path` cannot be written; errors of the network pass."""
    try:
        yield
    except requests.exceptions.RequestException:
        raise  # an OSError by descent, but of the network
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise FkpError(f"the disk is full: free some space and run the same command again (while writing {path})") from error
        raise FkpError(f"cannot write {path}: {error.strerror or error}") from error
