"""What the replicas of one running Serve share: small texts in the cluster's own store."""

from __future__ import annotations

from fkp.common import ray_private

_NAMESPACE = "fkp-serve"


class Store:
    """Texts by name. A Serve that was shut down and started anew on the same cluster begins with none."""

    def __init__(self) -> None:
        self._prefix = ray_private.serve_id() + "/"

    def put(self, name: str, text: str) -> None:
        """Keep a text, in place of an older one."""
        ray_private.put_text(_NAMESPACE, self._prefix + name, text)

    def get(self, name: str) -> str | None:
        """Return a text, or None where there is none."""
        return ray_private.get_text(_NAMESPACE, self._prefix + name)

    def all_but(self, prefix: str, name: str) -> list[str]:
        """Return the texts whose names begin so, without one of them."""
        keys = ray_private.text_keys(_NAMESPACE, self._prefix + prefix)
        found = (ray_private.get_text(_NAMESPACE, key) for key in keys if key != self._prefix + name)
        return [text for text in found if text is not None]
