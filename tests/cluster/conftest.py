"""Three hosts on this machine, and the cluster on them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.needs import missing

from .hosts import Cluster, Lab, reason_against


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    against = reason_against()
    if against is not None:
        missing(f"no three hosts on one machine: {against}")
    hosts = Lab(tmp_path_factory.mktemp("shared"))
    try:
        hosts.operator("(umask 77; mkdir -p ~/.ray; python -c 'import secrets; print(secrets.token_hex(32))' > ~/.ray/auth_token)")
        yield hosts
    finally:
        hosts.close()


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> Cluster:
    found = Cluster(lab)
    found.up()
    return found
