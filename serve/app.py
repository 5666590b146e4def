"""The endpoint for `serve run serve.app:build`; `serve deploy serve/config.yaml` takes the same from `fkp.serve.app`."""

from fkp.serve.app import build

__all__ = ["build"]
