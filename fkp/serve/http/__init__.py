"""The HTTP layer: routes, schemas, security, limits of what is in progress."""
