"""A cluster's file is looked at before `ray up`; hosts themselves are tested by `make cluster-test`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fkp.cluster import preflight
from fkp.errors import FkpError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """cluster/local.yaml with a token, a key, and changes of its text."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    for name, content in ((".ray/auth_token", "f" * 64), (".ssh/id_ed25519", "no key")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(content)

    def make(*changes: tuple[str, str]) -> Path:
        text = (ROOT / "cluster/local.yaml").read_text()
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        path = tmp_path / "cluster.yaml"
        path.write_text(text)
        return path

    return make


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("cluster_name: fkp", "cluster_name: ["), "is no YAML file"),
        (("provider:", "provide:"), "refused by Ray: 'provider' is missing"),
        (("head_ip:", "head:"), "Please supply a `head_ip`"),
        (("max_workers: 2", "most_workers: 2"), "Additional properties are not allowed .'most_workers' was unexpected"),
        (("~/fkp/tune: tune", "~/fkp/tune: tunes"), "file_mounts: tunes is missing"),
        (("  ~/.ray/auth_token: ~/.ray/auth_token\n", ""), "anyone who reaches a host runs code on it"),
        (("ssh_private_key: ~/.ssh/id_ed25519", "ssh_private_key: ~/.ssh/other"), "the key ~/.ssh/other is missing"),
    ],
)
def test_a_broken_file_is_one_sentence(changed: Callable[..., Path], change: tuple[str, str], told: str) -> None:
    with pytest.raises(FkpError, match=told) as caught:
        preflight.check(changed(change))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_holds_no_names(tmp_path: Path) -> None:
    with pytest.raises(FkpError, match=r"cannot read .*nothing"):
        preflight.check(tmp_path / "nothing")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(FkpError, match="it must hold names and values"):
        preflight.check(tmp_path / "list.yaml")


def test_a_short_token_is_refused(changed: Callable[..., Path], tmp_path: Path) -> None:
    path = changed()
    (tmp_path / ".ray/auth_token").write_text("secret")
    with pytest.raises(FkpError, match="shorter than 32 bytes"):
        preflight.check(path)


def test_every_host_that_does_not_answer_is_named(changed: Callable[..., Path]) -> None:
    """Addresses of this machine where nothing listens for ssh, or refuses this key."""
    path = changed(("10.77.0.1", "127.0.0.1"), ("[10.77.0.2, 10.77.0.3]", "[127.0.0.2, 127.0.0.3]"))
    with pytest.raises(FkpError, match=r"127\.0\.0\.1: .+; 127\.0\.0\.2: .+; 127\.0\.0\.3: .+"):
        preflight.check(path)
