"""A place in a bucket, on a real S3 server: what cannot work is one sentence, at once."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fkp.common import storage
from fkp.errors import FkpError


def test_a_place_that_can_be_written_is_left_as_it_was(bucket: str) -> None:
    storage.check_writable(f"{bucket}/probed")
    assert storage.sizes_bytes(f"{bucket}/probed") == {}


@pytest.mark.parametrize(
    ("place", "environment", "sentence"),
    [
        ("s3://nowhere/a", {}, r"cannot use s3://nowhere/a: there is no such bucket"),
        ("s3://forbidden/a", {}, r"cannot use s3://forbidden/a: .* these credentials may not"),
        ("{bucket}/a", {"AWS_ACCESS_KEY_ID": "AKIAUNKNOWN"}, r"the access key is not known there: set AWS_ACCESS_KEY_ID"),
        ("{bucket}/a", {"AWS_SECRET_ACCESS_KEY": "wrong"}, r"the secret key is wrong: set AWS_SECRET_ACCESS_KEY"),
        ("ftp://host/a", {}, r"cannot use ftp://host/a: .*: name a folder, s3://BUCKET/PATH or gs://BUCKET/PATH"),
    ],
)
@pytest.mark.over_5s("Arrow asks again before it gives up")
def test_what_cannot_keep_a_run_is_one_sentence(
    bucket: str, monkeypatch: pytest.MonkeyPatch, place: str, environment: dict[str, str], sentence: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(FkpError, match=sentence):
        storage.check_writable(place.format(bucket=bucket))


def test_a_folder_is_uploaded_with_its_last_file_last(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("SUMS", "inner/a", "z"):
        (tmp_path / name).write_text(name)
    order = []
    write = storage.write_bytes
    monkeypatch.setattr(storage, "write_bytes", lambda path, data: (order.append(path.rsplit("/", 1)[-1]), write(path, data)))
    storage.upload(tmp_path, f"{bucket}/folder", last="SUMS")
    assert order == ["a", "z", "SUMS"]
    assert storage.sizes_bytes(f"{bucket}/folder") == {"SUMS": 4, "z": 1}
    assert storage.read_bytes(f"{bucket}/folder/inner/a") == b"inner/a"


def test_a_server_that_is_silent_is_not_waited_for(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(FkpError, match=r"did not answer within 0\.2 s"):
            storage.check_writable(f"{bucket}/a", seconds=0.2)
