"""What the replicas of one running Serve share: small texts in Ray's own key-value store, and where Serve listens.

Ray offers neither publicly, so that the private calls stand here alone.
"""

from __future__ import annotations

from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_list, _internal_kv_put
from ray.serve.context import _get_global_client

_NAMESPACE = b"fkp-serve"


class Store:
    """Texts by name. A Serve that was shut down and started anew on the same cluster begins with none."""

    def __init__(self) -> None:
        client = _get_global_client()
        assert client is not None
        self._prefix = client._controller._actor_id.hex() + "/"

    def put(self, name: str, text: str) -> None:
        """Keep a text, in place of an older one."""
        _internal_kv_put(self._key(name), text.encode(), overwrite=True, namespace=_NAMESPACE)

    def get(self, name: str) -> str | None:
        """Return a text, or None where there is none."""
        return _get(self._key(name))

    def all_but(self, prefix: str, name: str) -> list[str]:
        """Return the texts whose names begin so, without one of them."""
        keys = _internal_kv_list(self._key(prefix), namespace=_NAMESPACE)
        found = (_get(key) for key in keys if key != self._key(name))
        return [text for text in found if text is not None]

    def _key(self, name: str) -> bytes:
        return (self._prefix + name).encode()


def listening_host() -> str | None:
    """Return the address that Serve's proxies listen on; None means all."""
    client = _get_global_client()
    return client.http_config.host if client is not None else None


def _get(key: bytes) -> str | None:
    value = _internal_kv_get(key, namespace=_NAMESPACE)
    return None if value is None else value.decode()
