"""The model as an HTTP endpoint on Ray Serve: `serve run serve.app:build`."""

#: The environment variable with the tokens that are valid, one or two with a comma between them.
TOKEN_VARIABLE = "FKP_API_TOKEN"
