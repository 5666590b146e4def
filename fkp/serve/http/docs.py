"""The page at /docs, written from the OpenAPI document: no script and nothing from elsewhere, as the content policy asks."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

#: In the commands of the document; on the page it is the endpoint's own.
EXAMPLE_URL = "http://127.0.0.1:8000/"

_STYLE = "docs.css"
CSS = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1e21;background:#fff}
h2{margin-top:2.5rem;border-top:1px solid #ccc;padding-top:1rem}code,pre{font:14px/1.4 ui-monospace,monospace}
pre{background:#f4f4f4;padding:.8rem;overflow:auto;border-radius:4px}table{border-collapse:collapse}
th,td{text-align:left;padding:.25rem 1rem .25rem 0;vertical-align:top;border-bottom:1px solid #e5e5e5}
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#17181a}pre{background:#232528}th,td,h2{border-color:#444}a{color:#8ab4f8}}
"""


def page(openapi: Mapping[str, Any], url: str) -> str:
    """Write the page of an OpenAPI document.

    Args:
        openapi: The document.
        url: Where the endpoint was asked, with the path prefix before it and `/` at the end.
    """
    info = openapi["info"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{_e(info["title"])}</title><link rel="stylesheet" href="{_STYLE}"></head><body><h1>{_e(info["title"])}</h1>',
        f'<p>{_e(info["description"])}</p><p><a href="openapi.json">openapi.json</a> · <a href="./">try it</a></p>',
    ]
    schemas = openapi.get("components", {}).get("schemas", {})
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(method.upper(), path, operation, schemas, url))
    return "".join([*parts, "</body></html>"])


def _operation(method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any], url: str) -> str:
    parts = [f"<h2><code>{method} {_e(path)}</code></h2><p>{_e(operation.get('description') or operation.get('summary', ''))}</p>"]
    if operation.get("x-curl"):
        parts.append(f"<pre>{_e(operation['x-curl'].replace(EXAMPLE_URL, url))}</pre>")
    if operation.get("parameters"):
        rows = "".join(
            f"<tr><td><code>{_e(one['name'])}</code></td><td>{_e(one.get('description', ''))}</td>"
            f"<td><code>{_e(json.dumps(one['schema'].get('default')))}</code></td></tr>"
            for one in operation["parameters"]
        )
        parts.append(f"<table><tr><th>query</th><th>meaning</th><th>default</th></tr>{rows}</table>")
    for status, answer in operation.get("responses", {}).items():
        parts.append(f"<p><strong>{_e(status)}</strong> {_e(answer.get('description', ''))}</p>")
        reference = answer.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
        example = schemas.get(reference.rpartition("/")[2], {}).get("example")
        if example is not None:
            parts.append(f"<pre>{_e(json.dumps(example, indent=1))}</pre>")
    return "".join(parts)


def _e(text: object) -> str:
    return html.escape(str(text))
