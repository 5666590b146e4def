"""The model as an HTTP endpoint on Ray Serve: `serve run serve.app:build`."""
